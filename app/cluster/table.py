"""Clusters for a person: how many, how large, what about, and one passage of each."""

from __future__ import annotations

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ..collection.items import place
from ..terminal.console import Terminal, printable
from ..terminal.wording import many, preview
from .report import ClusterReport, ReportedCluster

_BAR = 12
_COLUMNS = 38
"""Of the table, beside what a cluster is about."""


def show_clusters(terminal: Terminal, report: ClusterReport, *, most: int) -> None:
    """Print the summary and the `most` largest clusters."""
    terminal.show(_summary(report))
    largest = len(report.clusters[0].rows) if report.clusters else 1
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=True, padding=(0, 1))
    for name, justify in (("id", "right"), ("size", "right"), ("", "left"), ("cohesion", "right"), ("about", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for cluster in report.clusters[:most]:
        table.add_row(
            Text(str(cluster.id), "bold"),
            f"{len(cluster.rows):,}",
            Text("\u2588" * max(1, round(_BAR * len(cluster.rows) / largest)), "cyan"),
            f"{cluster.shape.cohesion:.2f}",
            _about(terminal, report, cluster),
        )
    if report.clusters:
        terminal.show(Text(""))
        terminal.show(table)
    if len(report.clusters) > most:
        terminal.show(
            Text(f"and {many(len(report.clusters) - most, 'smaller cluster')}: --limit {len(report.clusters)}", "dim")
        )
    if report.clusters and not report.filtered:
        terminal.say(
            Text(f"search in one: {terminal.command('query', 'TEXT', '--cluster', str(report.clusters[0].id))}", "dim")
        )


def _summary(report: ClusterReport) -> Text:
    found, count = report.clustering, len(report.items.items)
    chosen = ""
    if found.choice is not None and len(found.choice) > 1:
        chosen = f", the number chosen by silhouette among {len(found.choice)}"
    line = Text.assemble(
        (many(len(report.clusters), "cluster"), "bold"),
        f" of {many(count, report.items.level.value)} by {found.method.value}{chosen}",
    )
    if found.silhouette is not None:
        line.append(f", silhouette {found.silhouette:.3f}")
    if found.noise:
        line.append(f"; {found.noise:,} in none ({found.noise / count:.0%})")
    if report.instruction is not None:
        line.append(f"\nunder the instruction {report.instruction!r}", "dim")
    return line


def _about(terminal: Terminal, report: ClusterReport, cluster: ReportedCluster) -> Text:
    item = report.items.items[cluster.shape.medoid]
    words = ", ".join(word for word, _ in cluster.keywords) or cluster.title
    where = f"{printable(place(item, report.root))}  "
    beside = _COLUMNS + cell_len(where)
    return Text.assemble(
        (printable(words), "green"),
        "\n",
        (where, "dim"),
        (preview(item.text, terminal, beside=beside), "dim"),
    )
