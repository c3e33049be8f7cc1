"""`searchctl dedup undo`: take back what `searchctl dedup apply` did."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import AppError
from ..invocation import terminal_of
from ..settings import Collection, Color, Debug, Quiet, Report, ReportFormat, Verbose

Id = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="Which apply, as --list names it. [dim]Default: the latest not undone.[/dim]"),
]
ListAll = Annotated[bool, typer.Option("--list", "-l", help="List what was applied, and whether it is undone.")]


def undo(
    ctx: typer.Context,
    *,
    id_: Id = None,
    list_: ListAll = False,
    form: Report = ReportFormat.TABLE,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Take back what `searchctl dedup apply` did: the files to their places, the documents into the index.

    Nothing is embedded again. Also takes back an apply that was killed; an undo that was killed
    is continued by the same command. A file whose place is taken by something else stays in the
    trash, and is named.

    [bold]Examples[/bold]

      searchctl dedup undo
      searchctl dedup undo --list
      searchctl dedup undo 2026-11-25-193604-3fa9c1
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..dedup_undo_run import run_list, run_undo

    if list_:
        if id_ is not None:
            raise AppError(f"both {id_} and --list were given: expected one of them")
        run_list(terminal, collection, form)
        return
    code = run_undo(terminal, id_, collection, form)
    if code:
        raise typer.Exit(code)
