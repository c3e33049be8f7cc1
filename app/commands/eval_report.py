"""`searchctl eval report`: what was measured, side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..invocation import terminal_of
from ..settings import Color, Debug, Quiet, Verbose
from .eval_run import DEFAULT_RESULTS


class ComparisonFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


class Reference(StrEnum):
    """Published numbers to put beside one's own."""

    PAPER = "paper"


Results = Annotated[
    Path,
    typer.Option("--results", envvar="SEARCHCTL_RESULTS", metavar="DIR", help="Where `searchctl eval` keeps scores."),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="LABEL",
        help="Contender that the others are compared with. [dim]Default: the first column.[/dim]",
    ),
]
Contenders = Annotated[
    list[str] | None,
    typer.Option(
        "--contender",
        metavar="LABEL",
        help="Only this contender; repeatable, in the order of the columns. [dim]Default: all.[/dim]",
    ),
]
TaskNames = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME", help="Only this task; repeatable. [dim]Default: all.[/dim]"),
]
Compare = Annotated[
    Reference | None,
    typer.Option("--compare", help="Put the published scores of the LLM2Vec paper beside those measured."),
]
Format = Annotated[
    ComparisonFormat,
    typer.Option("--format", "-f", envvar="SEARCHCTL_REPORT_FORMAT", help="How to print the comparison."),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with plots as well: one file, no network needed."),
]


def report(
    ctx: typer.Context,
    *,
    results: Results = DEFAULT_RESULTS,
    baseline: Baseline = None,
    contender: Contenders = None,
    task: TaskNames = None,
    compare: Compare = None,
    form: Format = ComparisonFormat.TABLE,
    html: Html = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Compare what was measured: scores, differences to a baseline with 95 % intervals, means and costs.

    Reads results only; nothing is encoded.

    [bold]Examples[/bold]

      searchctl eval report
      searchctl eval report --baseline bm25 --task scifact --task cranfield
      searchctl eval report --compare paper --html report.html
      searchctl eval report --format csv > scores.csv
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..eval_report import ReportRequest, run_report

    run_report(
        terminal,
        ReportRequest(
            results=results,
            baseline=baseline,
            contenders=tuple(contender or ()),
            tasks=tuple(task or ()),
            paper=compare is Reference.PAPER,
            form=form.value,
            html=html,
        ),
    )
