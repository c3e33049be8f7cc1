"""`searchctl dedup`: run, plan, apply and undo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from ...index.dedup_settings import Keep, Level
from ..command_groups import DEFAULT, DefaultGroup
from ..errors import AppError
from ..options import (
    DEDUP_NEAR_THRESHOLD,
    DEDUP_THRESHOLD,
    OUTPUT,
    Collection,
    Color,
    Debug,
    Exclude,
    Form,
    GroupFormat,
    PathGlobs,
    Quiet,
    Report,
    ReportFormat,
    Types,
    Verbose,
)
from ..terminal.invocation import file_types, terminal_of, was_given

if TYPE_CHECKING:
    from typer._click import Context


LevelOption = Annotated[
    Level, typer.Option("--level", envvar="SEARCHCTL_LEVEL", help="Compare passages, or whole documents.")
]
Threshold = Annotated[
    float,
    typer.Option(
        "--threshold",
        envvar="SEARCHCTL_THRESHOLD",
        metavar="COSINE",
        help="From which cosine on two texts mean the same; it depends on the encoder, see --curve.",
    ),
]
NearThreshold = Annotated[
    float,
    typer.Option(
        "--near-threshold",
        envvar="SEARCHCTL_NEAR_THRESHOLD",
        metavar="SHARE",
        help="From which share of common five-word runs on two texts are nearly the same, 0.5 to 1.",
    ),
]
KeepOption = Annotated[
    Keep,
    typer.Option(
        "--keep",
        metavar="RULE",
        help="Which one of a group stays: longest, newest, oldest, shortest-path, or medoid, the one that is most like "
        "the others. Ties: first path.",
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="COLLECTION",
        help="Find what is in another collection too, as test data in training data; its documents are never touched.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SEARCHCTL_DEVICE",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where vectors are compared; auto takes a GPU from 20,000 on.",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-k", min=0, rich_help_panel=OUTPUT, help="How many groups the table shows.")
]
Curve = Annotated[
    bool,
    typer.Option("--curve", rich_help_panel=OUTPUT, help="Print what each threshold would find instead of groups."),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", rich_help_panel=OUTPUT, help="Write a report to look through in a browser, too."
    ),
]


def run(
    ctx: typer.Context,
    *,
    level: LevelOption = Level.CHUNK,
    threshold: Threshold = DEDUP_THRESHOLD,
    near_threshold: NearThreshold = DEDUP_NEAR_THRESHOLD,
    keep: KeepOption = Keep.LONGEST,
    against: Against = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    form: Form = GroupFormat.TABLE,
    limit: Limit = 10,
    curve: Curve = False,
    html: Html = None,
    device: Device = "auto",
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Find what a collection says twice: in the same words, in nearly the same, or by meaning. Changes nothing.

    It compares the vectors that are stored: no text is embedded again.

    [bold]Examples[/bold]

      searchctl dedup
      searchctl dedup --curve
      searchctl dedup --level document --keep newest --html duplicates.html
      searchctl dedup run --against ../test-set --format jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.protocol import Filter
    from ..collection.talk import Talk
    from ..pages.files import check_target
    from .find import DedupRequest, present, run_dedup, store_groups

    if html is not None:
        check_target("--html", html, drawn=False)
    if form is not GroupFormat.TABLE and (curve or was_given(ctx, "limit")):
        said = "--curve" if curve else "--limit"
        raise AppError(
            f"{said} is for the table, and --format is {form}, which holds all groups"
            f"{' and the curve' if form is GroupFormat.JSON else ''}: leave one of them out"
        )
    if curve and was_given(ctx, "limit"):
        raise AppError("--limit counts groups, and --curve shows none: leave one of them out")
    request = DedupRequest(
        level=level,
        threshold=threshold,
        near_threshold=near_threshold,
        keep=keep,
        where=Filter(types=file_types(types), paths=tuple(paths or ()), exclude=tuple(exclude or ())),
        against=against,
        device=device,
    )
    talk = Talk()
    report = run_dedup(collection, request, talk=talk, bar=terminal.progress)
    if not curve:
        store_groups(report, talk)
    present(terminal, report, form, most=limit, curve=curve, html=html)


PlanFile = Annotated[
    Path,
    typer.Argument(metavar="PLAN", help="The plan, as `searchctl dedup plan` wrote it.", show_default=False),
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

      searchctl dedup apply plan.json
      searchctl dedup apply plan.json --yes
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .apply_report import ApplyRequest, run_apply

    code = run_apply(
        terminal,
        ApplyRequest(plan=plan, yes=yes, skip_changed=skip_changed, form=form),
        collection,
    )
    if code:
        raise typer.Exit(code)


Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the plan.", show_default=False)
]


def plan(
    ctx: typer.Context,
    *,
    output: Output,
    threshold: Threshold = DEDUP_THRESHOLD,
    near_threshold: NearThreshold = DEDUP_NEAR_THRESHOLD,
    keep: KeepOption = Keep.LONGEST,
    against: Against = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    device: Device = "auto",
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Write down which documents could go, and which one is kept for each. Changes nothing.

    The plan is a JSON file: read it, take out what should stay, then give it to `searchctl dedup apply`.

    [bold]Examples[/bold]

      searchctl dedup plan --output plan.json
      searchctl dedup plan --keep newest --exclude archive/ --output plan.json
      searchctl dedup plan --against ../test-set --output plan.json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.protocol import Filter
    from ..collection.talk import Talk
    from ..pages.files import check_target
    from .find import DedupRequest, plan_of, run_dedup, tell_plan
    from .plan import write_plan

    check_target("--output", output, drawn=False)
    request = DedupRequest(
        level=Level.DOCUMENT,
        threshold=threshold,
        near_threshold=near_threshold,
        keep=keep,
        where=Filter(types=file_types(types), paths=tuple(paths or ()), exclude=tuple(exclude or ())),
        against=against,
        device=device,
    )
    talk = Talk()
    made = plan_of(run_dedup(collection, request, talk=talk, bar=terminal.progress))
    write_plan(output, made)
    tell_plan(terminal, made, output)


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
    from .apply_report import run_list, run_undo

    if list_:
        if id_ is not None:
            raise AppError(f"both {id_} and --list were given: expected one of them")
        run_list(terminal, collection, form)
        return
    code = run_undo(terminal, id_, collection, form)
    if code:
        raise typer.Exit(code)


class _Dedup(DefaultGroup):
    """Runs without any argument, too. A word that is no command is a mistyped one: `run` takes options only."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-"):
            return TyperGroup.parse_args(self, ctx, args)
        return super().parse_args(ctx, args or [DEFAULT])


dedup = typer.Typer(
    add_completion=False,
    cls=_Dedup,
    help="Find what is repeated, plan what could go, and take it away and back. `searchctl dedup ...` is "
    "`dedup run ...`.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
dedup.command("run")(run)
dedup.command("plan")(plan)
dedup.command("apply")(apply)
dedup.command("undo")(undo)
