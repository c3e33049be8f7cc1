"""`searchctl dedup apply`: do what a plan says, into a trash folder or out of the index alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..invocation import terminal_of
from ..settings import Collection, Color, Debug, Quiet, Report, ReportFormat, Verbose


class From(StrEnum):
    """`trash.Origin` by value: that module needs more than --help does."""

    FILES = "files"
    INDEX = "index"


PlanFile = Annotated[
    Path,
    typer.Option("--plan", metavar="FILE", help="The plan, as `searchctl dedup plan` wrote it.", show_default=False),
]
FromOption = Annotated[
    From,
    typer.Option(
        "--from",
        help="files: move each file to the trash folder, and take it out of the index. index: take it out of the "
        "index alone; the file stays, and a line in .searchctlignore keeps it out.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it; without it nothing is changed.")]
SkipChanged = Annotated[
    bool,
    typer.Option("--skip-changed", help="Leave out actions that do not fit any more, and do the others."),
]


def apply(
    ctx: typer.Context,
    *,
    plan: PlanFile,
    from_: FromOption = From.FILES,
    yes: Yes = False,
    skip_changed: SkipChanged = False,
    form: Report = ReportFormat.TABLE,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Take away the files that a plan names: shows what would happen, and does it with --yes.

    Nothing is deleted: files are moved to .searchctl-trash/ beside the collection, and
    `searchctl dedup undo` takes everything back. Each file, and the one that is kept for it, is
    compared with the plan first; if anything has changed, nothing is done. A killed run is
    continued by the same command.

    [bold]Examples[/bold]

      searchctl dedup apply --plan plan.json
      searchctl dedup apply --plan plan.json --yes
      searchctl dedup apply --plan plan.json --from index --yes
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..dedup_apply_run import ApplyRequest, run_apply
    from ..trash import Origin

    code = run_apply(
        terminal,
        ApplyRequest(plan=plan, origin=Origin(from_.value), yes=yes, skip_changed=skip_changed, form=form),
        collection,
    )
    if code:
        raise typer.Exit(code)
