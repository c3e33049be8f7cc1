"""The probe in a terminal: layers as a table, similarity as a heat map of blocks, the prefix test as two histograms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ...training.probing.prefix_test import Histogram, histogram
from ...training.probing.probe import RULE, Answer, Probe, layer_failures
from ...training.probing.tolerance import Tolerance
from ..terminal.console import Terminal, printable
from .report import Subject, influence, proof_line, scores_line, tolerance_line

WIDTH = 100
"""Widest layout off a terminal and on a wide one."""
_LABEL = 11
_BAR = 22
# Viridis at 0, 1/8 ... 1: even in lightness, so it reads without colour vision and in grey.
_VIRIDIS = (
    *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
    *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
)
_UPPER = "\N{UPPER HALF BLOCK}"
_FULL = "\N{FULL BLOCK}"
_STYLES = {Answer.CANNOT: "bold red", Answer.NEEDS_MNTP: "bold yellow", Answer.TOLERATES: "bold green"}


def show_probe(terminal: Terminal, subject: Subject) -> None:
    """Print the probe for a person."""
    probe = subject.probe
    width = min(terminal.width, WIDTH)
    terminal.show(Text.assemble((printable(subject.title), "bold"), f"  {subject.facts}"))
    answer = probe.verdict.answer
    terminal.show(Text.assemble(("verdict", "dim"), "  ", (printable(subject.sentence), _STYLES.get(answer, "bold"))))
    _heading(terminal, "Proof", "does every layer see the tokens after each one?")
    terminal.show(layer_table(probe))
    terminal.show(Text(proof_line(probe), style="dim"))
    tolerance = probe.tolerance
    _heading(terminal, "Tolerance", "cosine of causal and bidirectional state; layers down, tokens across")
    terminal.show(heat_map(tolerance, width=width, colored=terminal.has_color))
    terminal.show(Text(tolerance_line(tolerance), style="dim"))
    _heading(terminal, "Prefix test", "bidirectional: is the prefix of q nearer to that of s+ (same meaning) or s-?")
    terminal.show(_histogram_table(histogram(probe.bidirectional)))
    for scores in (probe.bidirectional, probe.causal):
        terminal.show(Text(scores_line(scores), style="dim"))
    terminal.show(Text(f"\n{RULE}", style="dim"))


def _heading(terminal: Terminal, name: str, question: str) -> None:
    terminal.show(Text.assemble("\n", (name, "bold"), "  ", (question, "dim")))


def layer_table(probe: Probe) -> Table:
    """Return the proof of each layer beside the mean similarity of its states."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("layer", "left"), ("kind", "left"), ("influence of the future", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("bidirectional", overflow="fold")
    table.add_column("similarity", no_wrap=True)
    for layer, mean in zip(probe.proof.layers, probe.tolerance.by_row[1:], strict=True):
        reasons = layer_failures(layer)
        table.add_row(
            printable(layer.name),
            Text(layer.kind, style="dim"),
            influence(layer.least_influence, layer.most_influence),
            Text("; ".join(reasons), style="red") if reasons else Text("yes", style="green"),
            f"{mean:.2f} " + _FULL * round(10 * max(0.0, float(mean))),
        )
    return table


def heat_map(tolerance: Tolerance, *, width: int, colored: bool) -> Text:
    """Return the cosines in `width` columns: two layers a line in colour, else a digit a cell (9 is 0.9 and more).

    More tokens than columns: neighbours share a column, which shows their mean.
    """
    columns = max(1, min(len(tolerance.tokens), width - _LABEL))
    bounds = [round(i * len(tolerance.tokens) / columns) for i in range(columns + 1)]
    cells = [[float(row[a:b].mean()) for a, b in pairwise(bounds)] for row in tolerance.cosines]
    labels = [printable(name)[: _LABEL - 1].ljust(_LABEL) for name in tolerance.rows]
    lines = _colored_lines(cells, labels) if colored else _digit_lines(cells, labels)
    axis = f"{'token':<{_LABEL}}1{len(tolerance.tokens):>{columns - 1}}" if columns > 4 else "token"
    legend = (
        _legend() if colored else Text("a digit is tenths of the cosine: 9 is 0.9 to 1, 0 is below 0.1, - is negative")
    )
    return Text("\n").join([*lines, Text(axis, style="dim"), Text.assemble(("scale".ljust(_LABEL), "dim"), legend)])


def _colored_lines(cells: Sequence[Sequence[float]], labels: Sequence[str]) -> list[Text]:
    lines = []
    for row in range(0, len(cells), 2):
        line = Text(labels[row], style="dim")
        below = cells[row + 1] if row + 1 < len(cells) else [None] * len(cells[row])
        for upper, lower in zip(cells[row], below, strict=True):
            background = None if lower is None else _color(lower)
            line.append(_UPPER, Style(color=_color(upper), bgcolor=background, dim=False))
        lines.append(line)
    return lines


def _digit_lines(cells: Sequence[Sequence[float]], labels: Sequence[str]) -> list[Text]:
    return [
        Text(label + "".join("-" if c < 0 else str(min(9, int(10 * c + 1e-9))) for c in line))
        for label, line in zip(labels, cells, strict=True)
    ]


def _color(value: float) -> Color:
    """Return the colour of a cosine; below 0 as 0."""
    place = min(max(value, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    low = min(int(place), len(_VIRIDIS) - 2)
    share = place - low
    mixed = (round(a + share * (b - a)) for a, b in zip(_VIRIDIS[low], _VIRIDIS[low + 1], strict=True))
    return Color.from_triplet(ColorTriplet(*mixed))


def _legend() -> Text:
    legend = Text("0 or less ")
    for step in range(32):
        legend.append(_FULL, Style(color=_color(step / 31)))
    return legend.append(" 1: as if causal")


def _histogram_table(counts: Histogram) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("cos(q, s+)", no_wrap=True, min_width=_BAR + 4)
    table.add_column("cos(q, s-)", no_wrap=True, min_width=_BAR + 4)
    most = max(*counts.positive, *counts.negative)
    for number, (positive, negative) in enumerate(zip(counts.positive, counts.negative, strict=True)):
        table.add_row(
            f"{counts.edges[number]:.3f} to {counts.edges[number + 1]:.3f}",
            _bar(positive, most, "dodger_blue1"),
            _bar(negative, most, "dark_orange"),
        )
    return table


def _bar(count: int, most: int, style: str) -> Text:
    if count == 0:
        return Text("")
    return Text.assemble((_FULL * max(1, round(_BAR * count / most)), style), f" {count}")
