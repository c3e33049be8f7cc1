"""`searchctl index`, `status`, `verify` and `repair`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...encoder.config import Precision, Runtime
from ..errors import AppError, ExitCode
from ..options import (
    CHUNK_OVERLAP,
    CHUNK_TOKENS,
    MAX_MIB,
    Adapters,
    AttentionOption,
    BatchTokens,
    Collection,
    Color,
    Debug,
    Device,
    Dim,
    MaxTokens,
    MethodOption,
    Model,
    PoolingOption,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    RuntimeOption,
    Verbose,
    type_names,
)
from ..terminal.invocation import file_types, terminal_of

if TYPE_CHECKING:
    from ...index.walk import WalkOptions
    from .indexer import Place


SELECT = "Which files"
CHUNKS = "Chunks"

Paths = Annotated[
    # Not Path: that would make the empty word of an unset shell variable the working directory.
    list[str] | None,
    typer.Argument(metavar="[PATH]...", help="Files and folders. Without any, those of earlier runs again."),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        envvar="SEARCHCTL_INDEX_TYPE",
        metavar="TYPE",
        rich_help_panel=SELECT,
        autocompletion=type_names,
        help="Only this type: an extension (md) or a format (markdown); repeatable, or with commas.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        envvar="SEARCHCTL_INDEX_EXCLUDE",
        metavar="GLOB",
        rich_help_panel=SELECT,
        help="Leave out what matches, as in .gitignore; repeatable.",
    ),
]
Hidden = Annotated[
    bool,
    typer.Option(
        "--hidden",
        envvar="SEARCHCTL_HIDDEN",
        rich_help_panel=SELECT,
        help="Take files and folders whose name begins with a dot.",
    ),
]
NoIgnore = Annotated[
    bool,
    typer.Option(
        "--no-ignore",
        envvar="SEARCHCTL_NO_IGNORE",
        rich_help_panel=SELECT,
        help="Pay no heed to .gitignore, .ignore and .searchctlignore.",
    ),
]
MaxSize = Annotated[
    float,
    typer.Option(
        "--max-size",
        envvar="SEARCHCTL_MAX_SIZE",
        metavar="MIB",
        min=0.001,
        rich_help_panel=SELECT,
        help="Skip files larger than this many MiB.",
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Forget files even where a whole folder has vanished or is empty.")
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Make the collection again beside the old one, and swap when it is whole."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Index the home folder or / without being asked to confirm.")]
ChunkTokens = Annotated[
    int | None,
    typer.Option(
        "--chunk-tokens",
        envvar="SEARCHCTL_CHUNK_TOKENS",
        min=16,
        rich_help_panel=CHUNKS,
        help=f"Most tokens of a chunk. [dim]Default: the collection's, else {CHUNK_TOKENS}.[/dim]",
    ),
]
ChunkOverlap = Annotated[
    int | None,
    typer.Option(
        "--chunk-overlap",
        envvar="SEARCHCTL_CHUNK_OVERLAP",
        min=0,
        rich_help_panel=CHUNKS,
        help=f"Tokens that neighbours share. [dim]Default: the collection's, else {CHUNK_OVERLAP}.[/dim]",
    ),
]


def index(
    ctx: typer.Context,
    *,
    paths: Paths = None,
    types: Types = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    no_ignore: NoIgnore = False,
    max_size: MaxSize = MAX_MIB,
    prune: Prune = False,
    rebuild: Rebuild = False,
    yes: Yes = False,
    form: Report = ReportFormat.TABLE,
    chunk_tokens: ChunkTokens = None,
    chunk_overlap: ChunkOverlap = None,
    model: Model = None,
    adapter: Adapters = None,
    pooling: PoolingOption = None,
    attention: AttentionOption = None,
    method: MethodOption = None,
    dim: Dim = None,
    max_tokens: MaxTokens = None,
    precision: PrecisionOption = Precision.AUTO,
    runtime: RuntimeOption = Runtime.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Bring a collection up to date with files and folders: only what changed is read and embedded.

    Ends with 3 when a file could not be read or a whole folder has vanished, and with 4 while another run writes.
    Ctrl-C keeps everything that was committed; run the same command again to go on.

    [bold]Examples[/bold]

      searchctl index docs
      searchctl index notes mail --exclude 'drafts/' --type md --type eml
      searchctl index                  [dim]look at the same places again[/dim]
      searchctl index --rebuild --model qwen3-0.6b
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.walk import WalkOptions
    from .encoder_choice import choice_of
    from .index_report import run_index
    from .indexer import IndexRequest

    if not paths:
        _require_no_selection(ctx)
    if not math.isfinite(max_size):
        raise AppError(f"--max-size is {max_size}: expected a number of MiB, as in --max-size 1000")
    options = WalkOptions(
        hidden=hidden,
        no_ignore=no_ignore,
        max_bytes=round(max_size * 2**20),
        types=file_types(types),
        exclude=tuple(exclude or ()),
    )
    request = IndexRequest(
        places=_places(paths or [], options, yes=yes),
        choice=choice_of(
            model=model,
            adapter=adapter,
            pooling=pooling,
            attention=attention,
            method=method,
            dim=dim,
            max_tokens=max_tokens,
            precision=precision,
            runtime=runtime,
            device=device,
            batch_tokens=batch_tokens,
        ),
        chunk_tokens=chunk_tokens,
        chunk_overlap=chunk_overlap,
        prune=prune,
    )
    summary = run_index(terminal, request, collection, rebuild=rebuild, form=form)
    if not summary.complete:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _require_no_selection(ctx: typer.Context) -> None:
    """Raise AppError for options that say which files, typed without a path they could be for."""
    for name in ("types", "exclude", "hidden", "no_ignore", "max_size"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = {"types": "type"}.get(name, name).replace("_", "-")
            raise AppError(
                f"--{option} without a path: earlier places are indexed as they were. Name the path it is for",
                next_command=("index", "PATH", f"--{option}"),
            )


def _places(paths: list[str], options: WalkOptions, *, yes: bool) -> tuple[Place, ...]:
    """Return the paths as the indexer takes them.

    Raises AppError for an empty path, and for the home folder or / without --yes.
    """
    from .paths import resolved

    places = []
    for path in paths:
        if not path.strip():
            raise AppError(f"the path is {path!r}: expected a file or a folder", next_command=("index", "PATH"))
        place = resolved(Path(path))
        if place in (Path.home().resolve(), Path(place.anchor)) and not yes:
            raise AppError(
                f"{path} is {'the home folder' if place != Path(place.anchor) else 'the whole disk'}: expected "
                "a folder of documents; --yes indexes it all the same",
                next_command=("index", "--yes", str(path)),
            )
        places.append((place, options))
    return tuple(places)


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

    Ends with 3 when `searchctl repair` fixes everything that is wrong, and with 5 when something is lost.

    [bold]Examples[/bold]

      searchctl verify
      searchctl verify --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .opening import open_collection
    from .paths import existing_collection
    from .talk import Talk

    opened = open_collection(existing_collection(collection), Talk())
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
        fixed = all(problem.repairable for problem in problems)
        repair, index = terminal.command("repair"), terminal.command("index")
        terminal.say(f"run {repair}" if fixed else f"run {repair} for what can be fixed, then {index} for the rest")
        raise typer.Exit(ExitCode.INCOMPLETE if fixed else ExitCode.DAMAGED)


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
    from .opening import open_collection
    from .paths import existing_collection
    from .talk import Talk

    opened = open_collection(existing_collection(collection), Talk())
    try:
        report = opened.repair()
    finally:
        opened.close()
    if form is ReportFormat.JSON:
        left = [problem.what for problem in report.left]
        terminal.write(json.dumps({"schema": SCHEMA, "fixed": list(report.fixed), "left": left}, indent=2) + "\n")
    else:
        for what in report.fixed:
            terminal.write(f"fixed: {what}\n")
        for problem in report.left:
            terminal.write(f"left: {problem.what}\n")
        if not report.fixed and not report.left:
            terminal.say("nothing to fix")
    if report.left:
        raise typer.Exit(ExitCode.DAMAGED)


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
    from .indexer import Indexer
    from .paths import existing_collection
    from .status import read_report, report_to_json, show_report
    from .talk import Talk

    if check_ready and no_scan:
        raise typer.BadParameter("--check-ready looks at the files: leave --no-scan out", param_hint="--no-scan")
    report = read_report(Indexer(existing_collection(collection), Talk()), scan=not no_scan)
    if form is ReportFormat.JSON:
        terminal.write(report_to_json(report))
    elif not (check_ready and terminal.quiet):  # there the exit code is the whole answer
        show_report(terminal, report)
    if check_ready and not report.ready:
        raise typer.Exit(ExitCode.INCOMPLETE)
