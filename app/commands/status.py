"""`searchctl status`: what is indexed, with which encoder, how fresh, how large."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ExitCode
from ..invocation import terminal_of
from ..settings import Collection, Color, Debug, Quiet, Report, ReportFormat, Verbose

CheckReady = Annotated[
    bool,
    typer.Option("--check-ready", help="End with 3 unless the index is complete and the files are as indexed."),
]
NoScan = Annotated[bool, typer.Option("--no-scan", help="Do not look at the files, only at the collection.")]


def status(
    ctx: typer.Context,
    *,
    check_ready: CheckReady = False,
    no_scan: NoScan = False,
    form: Report = ReportFormat.TABLE,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Say what is indexed, with which encoder, how fresh and how large.

    Files are compared by size and time, and by content where these differ. --verbose names each one that changed.
    With --check-ready and --quiet nothing is printed: the exit code is the answer.

    [bold]Examples[/bold]

      searchctl status
      searchctl status --check-ready -q || searchctl index
      searchctl status --format json | jq .documents
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..encoders import collection_option
    from ..engine import Engine, Talk
    from ..places import existing_collection
    from ..status_report import read_report, report_to_json, show_report

    if check_ready and no_scan:
        raise typer.BadParameter("--check-ready looks at the files: leave --no-scan out", param_hint="--no-scan")
    report = read_report(Engine(existing_collection(collection), Talk(notice=terminal.notice)), scan=not no_scan)
    if form is ReportFormat.JSON:
        terminal.write(report_to_json(report))
    elif not (check_ready and terminal.quiet):  # there the exit code is the whole answer
        show_report(terminal, report, named=collection_option(collection))
    if check_ready and not report.ready:
        raise typer.Exit(ExitCode.INCOMPLETE)
