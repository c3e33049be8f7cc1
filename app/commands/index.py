"""`searchctl index`: bring a collection up to date with files and folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...encoder.config import Precision
from ..errors import AppError, ExitCode
from ..invocation import file_types, terminal_of
from ..settings import (
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
    Verbose,
)

if TYPE_CHECKING:
    from ...index.walk import WalkOptions
    from ..engine import Place

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
    typer.Option("--rebuild", help="Make the collection anew beside the old one, and swap when it is whole."),
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
    from ..encoders import choice_of
    from ..engine import IndexRequest
    from ..index_run import run_index

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
                f"--{option} without a path: earlier places are indexed as they were. Name the path it is for, as in "
                f"`searchctl index PATH --{option} ...`"
            )


def _places(paths: list[str], options: WalkOptions, *, yes: bool) -> tuple[Place, ...]:
    """Return the paths as the engine takes them.

    Raises AppError for an empty path, and for the home folder or / without --yes.
    """
    from ..places import resolved

    places = []
    for path in paths:
        if not path.strip():
            raise AppError(f"the path is {path!r}: expected a file or a folder, as in `searchctl index PATH`")
        place = resolved(Path(path))
        if place in (Path.home().resolve(), Path(place.anchor)) and not yes:
            raise AppError(
                f"{path} is {'the home folder' if place != Path(place.anchor) else 'the whole disk'}: expected "
                f"a folder of documents. If you mean it: `searchctl index --yes {path}`"
            )
        places.append((place, options))
    return tuple(places)
