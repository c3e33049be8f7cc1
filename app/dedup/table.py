"""Duplicates for a person: how much is repeated, the groups, and where the threshold cuts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ...index.dedup_settings import Level, Tier
from ...index.groups.duplicate_groups import Group
from ..collection.items import place
from ..terminal.console import Terminal, printable
from ..terminal.wording import many, preview, size
from .report import CurvePoint, DedupReport

_SHOWN_ITEMS = 6
_BORDER = 3
_TIER_STYLE = {Tier.EXACT: "green", Tier.NEAR: "cyan", Tier.SEMANTIC: "yellow"}


def show_dedup(terminal: Terminal, report: DedupReport, *, most: int) -> None:
    """Print the summary, the `most` largest groups and the pairs beside the threshold."""
    _summary(terminal, report)
    for number, group in enumerate(report.groups[:most], start=1):
        terminal.show(Text(""))
        _group(terminal, report, group, number)
    if len(report.groups) > most:
        terminal.show(Text(""))
        terminal.show(Text(f"and {many(len(report.groups) - most, 'more group')}: --limit {len(report.groups)}", "dim"))
    _border(terminal, report)


def show_curve(terminal: Terminal, report: DedupReport) -> None:
    """Print what each threshold would find."""
    points = report.curve()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cosine", "pairs", "groups", "dropped", "saved", ""):
        table.add_column(name, justify="left" if not name else "right")
    most = max((point.dropped for point in points), default=0)
    for point in _thinned(points, report.thresholds.semantic):
        chosen = abs(point.threshold - report.thresholds.semantic) < 1e-9
        bar = "\u2588" * round(24 * point.dropped / most) if most else ""
        table.add_row(
            f"{point.threshold:.2f}",
            f"{point.pairs:,}",
            f"{point.groups:,}",
            f"{point.dropped:,}",
            size(point.bytes_saved),
            Text.assemble((bar, "cyan"), ("  chosen" if chosen else "", "bold")),
            style="bold" if chosen else "",
        )
    terminal.show(table)
    terminal.show(
        Text(
            f"exact and near pairs (Jaccard similarity >= {report.thresholds.near:g}) count at each; pairs are known "
            f"down to a cosine of {report.graph.pairs.floor:g}",
            "dim",
        )
    )


def _thinned(points: Sequence[CurvePoint], chosen: float) -> list[CurvePoint]:
    """Return each fifth hundredth, each one from 0.9 on, and the one that is chosen."""
    return [
        point
        for point in points
        if point.threshold >= 0.9 or round(point.threshold * 100) % 5 == 0 or abs(point.threshold - chosen) < 1e-9
    ]


def _summary(terminal: Terminal, report: DedupReport) -> None:
    noun = report.level.value
    dropped = sum(len(group.dropped) for group in report.groups)
    if not dropped:
        where = "" if report.against is None else f" is in {report.against}"
        said = f"no {noun} of {report.own:,}{where}" if where else f"no {noun} of {report.own:,} is repeated"
        terminal.show(Text(said))
    else:
        saved = size(report.saved(report.groups))
        what = (
            f" of {many(report.own, noun)} are said elsewhere too, in {many(len(report.groups), 'group')}: "
            if report.against is None
            else f" of {many(report.own, noun)} are in {report.against} too, beside {many(len(report.groups), noun)} "
            "of it: "
        )
        terminal.show(Text.assemble((f"{dropped:,}", "bold"), what, (saved, "bold"), " could go"))
    pairs = report.graph.pair_counts(report.thresholds)
    counts = {tier: sum(found.tier is tier for group in report.groups for found in group.dropped) for tier in Tier}
    line = Text()
    for tier in Tier:
        line.append(f"{tier.value} {counts[tier]:,}", _TIER_STYLE[tier])
        line.append(f" ({many(pairs[tier], 'pair')})  ", "dim")
    line.append(
        f"near: Jaccard >= {report.thresholds.near:g}, semantic: cosine >= {report.thresholds.semantic:g}", "dim"
    )
    terminal.show(line)


def _group(terminal: Terminal, report: DedupReport, group: Group, number: int) -> None:
    kept = report.items[group.kept]
    noun = "kept" if report.against is None else "theirs"
    terminal.show(
        Text.assemble(
            (f"{number:>3}  ", "bold"),
            (printable(place(kept, report.root_of(group.kept))), "bold"),
            (f"  {noun}", "dim"),
        )
    )
    if report.level is Level.CHUNK:
        terminal.show(Text(f"     {preview(kept.text, terminal, beside=5)}", "dim"))
    for found in group.dropped[:_SHOWN_ITEMS]:
        item = report.items[found.item]
        terminal.show(
            Text.assemble(
                (f"     {found.tier.value:<8} ", _TIER_STYLE[found.tier]),
                f"{found.score:.3f}  ",
                printable(place(item, report.root_of(found.item))),
            )
        )
    if len(group.dropped) > _SHOWN_ITEMS:
        terminal.show(Text(f"     and {len(group.dropped) - _SHOWN_ITEMS:,} more", "dim"))


def _border(terminal: Terminal, report: DedupReport) -> None:
    accepted, rejected = report.graph.border(report.thresholds, _BORDER)
    if not accepted and not rejected:
        return
    terminal.show(Text(""))
    terminal.show(Text(f"beside the threshold of {report.thresholds.semantic:g}", "bold"))
    for word, style, rows in (("same", "green", accepted), ("apart", "red", rejected)):
        for row in rows:
            first, second = report.graph.first_items(row)
            for at, item in enumerate((first, second)):
                head = f"{word:<6} {float(report.graph.pairs.cosines[row]):.3f}  " if not at else " " * 14
                terminal.show(Text.assemble((head, style), preview(report.items[item].text, terminal, beside=14)))
