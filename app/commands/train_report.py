"""`searchctl train report`: what a training run did, as tables, pictures and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..invocation import terminal_of
from ..settings import Color, Debug, Quiet, Report, ReportFormat, Verbose

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Output folders of `searchctl train`; several are drawn over each other.",
        show_default=False,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with the curves: one file, no network needed."),
]
Png = Annotated[
    Path | None,
    typer.Option("--png", metavar="DIR", help="Write each plot as a PNG into this folder, which is made if need be."),
]


def report(
    ctx: typer.Context,
    *,
    folders: Folders,
    html: Html = None,
    png: Png = None,
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Show how a training run went, also one that is unfinished or under way: losses, held-out scores, speed.

    Reads what `searchctl train run` wrote; nothing is computed anew.

    [bold]Examples[/bold]

      searchctl train report my-encoder
      searchctl train report my-encoder --html report.html --png pictures
      searchctl train report with-simcse without-simcse --html both.html
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..train_report import TrainReportRequest, run_train_report

    run_train_report(terminal, TrainReportRequest(folders=tuple(folders), html=html, png=png, form=form))
