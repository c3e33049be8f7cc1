"""`searchctl verify` and `searchctl repair`: a collection against itself."""

from __future__ import annotations

import json

import typer

from ..errors import ExitCode
from ..invocation import terminal_of
from ..settings import Collection, Color, Debug, Quiet, Report, ReportFormat, Verbose

SCHEMA = 1


def verify(
    ctx: typer.Context,
    *,
    form: Report = ReportFormat.TABLE,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Check a collection against itself; nothing is changed. Ends with 0 when it is sound.

    Ends with 3 when `searchctl repair` mends everything that is wrong, and with 5 when something is lost.

    [bold]Examples[/bold]

      searchctl verify
      searchctl verify --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..engine import Engine, Talk
    from ..places import existing_collection

    opened = Engine(existing_collection(collection), Talk(notice=terminal.detail)).open()
    try:
        problems = opened.verify()
    finally:
        opened.close()
    if form is ReportFormat.JSON:
        found = [{"what": problem.what, "repairable": problem.repairable} for problem in problems]
        terminal.write(json.dumps({"schema": SCHEMA, "sound": not problems, "problems": found}, indent=2) + "\n")
    else:
        for problem in problems:
            terminal.write(f"{'repairable' if problem.repairable else 'lost'}: {problem.what}\n")
        if not problems:
            terminal.say("sound: catalogue, vectors, lexical index and FAISS file agree")
    if problems:
        mended = all(problem.repairable for problem in problems)
        terminal.say(
            "run `searchctl repair`"
            if mended
            else "run `searchctl repair` for what can be mended, then `searchctl index` for the rest"
        )
        raise typer.Exit(ExitCode.INCOMPLETE if mended else ExitCode.DAMAGED)


def repair(
    ctx: typer.Context,
    *,
    form: Report = ReportFormat.TABLE,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Rebuild everything derived from the catalogue: the FAISS file and the lexical index. Embeds nothing.

    Ends with 0 when the collection is sound afterwards, and with 5 when something is lost.

    [bold]Examples[/bold]

      searchctl repair
      searchctl repair --collection backup/.searchctl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..engine import Engine, Talk
    from ..places import existing_collection

    opened = Engine(existing_collection(collection), Talk(notice=terminal.detail)).open()
    try:
        report = opened.repair()
    finally:
        opened.close()
    if form is ReportFormat.JSON:
        left = [problem.what for problem in report.left]
        terminal.write(json.dumps({"schema": SCHEMA, "mended": list(report.mended), "left": left}, indent=2) + "\n")
    else:
        for what in report.mended:
            terminal.write(f"mended: {what}\n")
        for problem in report.left:
            terminal.write(f"left: {problem.what}\n")
        if not report.mended and not report.left:
            terminal.say("nothing to mend")
    if report.left:
        raise typer.Exit(ExitCode.DAMAGED)
