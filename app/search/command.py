"""`searchctl query`: find passages by meaning and by words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision, Runtime
from ..errors import AppError
from ..options import (
    BatchTokens,
    Collapse,
    Collection,
    Color,
    Debug,
    Device,
    HitFormat,
    Model,
    PrecisionOption,
    Quiet,
    RuntimeOption,
    SearchMode,
    Verbose,
    type_names,
)
from ..terminal.invocation import file_types, terminal_of

FILTER = "Which documents"
OUTPUT = "Output"
RANK = "Ranking"

Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TEXT]...", help="What to look for; several words are one query. - reads stdin."),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        "--queries",
        metavar="FILE.jsonl",
        help='Queries from a file: one {"query": TEXT, "id": ID, "instruction": TEXT} a line.',
    ),
]
K = Annotated[int, typer.Option("-k", "--limit", envvar="SEARCHCTL_K", min=1, help="How many hits.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Pass over the first hits.")]
Mode = Annotated[
    SearchMode,
    typer.Option("--mode", envvar="SEARCHCTL_MODE", rich_help_panel=RANK, help="By meaning, by words, or by both."),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction",
        "-i",
        envvar="SEARCHCTL_INSTRUCTION",
        metavar="TEXT",
        rich_help_panel=RANK,
        help="What kind of nearness is meant; '' for none. [dim]Default: the model's own.[/dim]",
    ),
]
DenseWeight = Annotated[
    float | None,
    typer.Option(
        "--dense-weight",
        envvar="SEARCHCTL_DENSE_WEIGHT",
        min=0.0,
        max=1.0,
        rich_help_panel=RANK,
        help="Share of meaning in hybrid mode, 0 to 1. [dim]Default: the model's own.[/dim]",
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option("--min-score", envvar="SEARCHCTL_MIN_SCORE", rich_help_panel=RANK, help="Drop hits below this score."),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        envvar="SEARCHCTL_TYPE",
        metavar="TYPE",
        rich_help_panel=FILTER,
        autocompletion=type_names,
        help="Only this type: an extension (md) or a format (markdown); repeatable, or with commas.",
    ),
]
PathGlobs = Annotated[
    list[str] | None,
    typer.Option(
        "--path",
        "-p",
        envvar="SEARCHCTL_PATH",
        metavar="GLOB",
        rich_help_panel=FILTER,
        help="Only this file, below this folder, or matching this pattern as in .gitignore; repeatable.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        envvar="SEARCHCTL_EXCLUDE",
        metavar="GLOB",
        rich_help_panel=FILTER,
        help="Not what matches this pattern; repeatable.",
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        "--after",
        envvar="SEARCHCTL_AFTER",
        metavar="DATE",
        rich_help_panel=FILTER,
        help="Only since this date (2024, 2024-06-30) or age (12h, 7d, 2w).",
    ),
]
Before = Annotated[
    str | None,
    typer.Option("--before", envvar="SEARCHCTL_BEFORE", metavar="DATE", rich_help_panel=FILTER, help="Only before it."),
]
Clusters = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster",
        envvar="SEARCHCTL_CLUSTER",
        metavar="ID",
        rich_help_panel=FILTER,
        help="Only this cluster of `searchctl cluster`, or noise: what is in none; repeatable, or with commas.",
    ),
]
Collapsed = Annotated[
    Collapse | None,
    typer.Option(
        "--collapse",
        envvar="SEARCHCTL_COLLAPSE",
        rich_help_panel=RANK,
        help="Show hits that say the same once, by what `searchctl dedup` found.",
    ),
]
Format = Annotated[
    HitFormat,
    typer.Option("--format", "-f", envvar="SEARCHCTL_FORMAT", rich_help_panel=OUTPUT, help="How to print hits."),
]
FilesOnly = Annotated[
    bool,
    typer.Option("--files-with-matches", "-l", rich_help_panel=OUTPUT, help="Only file names: --format files."),
]
Nul = Annotated[
    bool,
    typer.Option("--null", "-0", rich_help_panel=OUTPUT, help="File names that end with NUL, for xargs -0."),
]
Explain = Annotated[bool, typer.Option("--explain", rich_help_panel=OUTPUT, help="Show how each score came about.")]
Full = Annotated[bool, typer.Option("--full", rich_help_panel=OUTPUT, help="Show the whole chunk.")]
NoSnippet = Annotated[bool, typer.Option("--no-snippet", rich_help_panel=OUTPUT, help="Show no passage.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        envvar="SEARCHCTL_STRICT",
        rich_help_panel=OUTPUT,
        help="End with 3 when the index is incomplete or a hit's file has changed.",
    ),
]


def query(
    ctx: typer.Context,
    *,
    text: Texts = None,
    queries: Queries = None,
    k: K = 10,
    offset: Offset = 0,
    mode: Mode = SearchMode.HYBRID,
    instruction: Instruction = None,
    dense_weight: DenseWeight = None,
    min_score: MinScore = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    after: After = None,
    before: Before = None,
    clusters: Clusters = None,
    collapse: Collapsed = None,
    form: Format = HitFormat.TABLE,
    files_only: FilesOnly = False,
    nul: Nul = False,
    explain: Explain = False,
    full: Full = False,
    no_snippet: NoSnippet = False,
    strict: Strict = False,
    model: Model = None,
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
    """Find passages by meaning and by words. Ends with 0 for a hit and 1 for none.

    Filters decide which documents take part before the best are chosen. The encoder is the collection's own.

    [bold]Examples[/bold]

      searchctl query "how do I undo a commit"
      searchctl query "kill -9" --mode lexical --type md -k 3
      searchctl query "open questions" --path notes/ --after 2w
      searchctl query "open questions" --cluster 3 --collapse duplicates
      searchctl query crash -l | xargs grep -n WAL
      cat questions.txt | searchctl query - --format jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from datetime import datetime

    from ...index.protocol import Filter
    from ..collection.encoder_choice import EncoderChoice, require_model
    from ..terminal.text_input import require_unicode
    from .dates import parse_date
    from .hits import SearchRequest
    from .run import AskedGroups, QueryOutput, read_questions, run_query

    require_model(model)
    if min_score is not None and not math.isfinite(min_score):
        raise AppError(f"--min-score is {min_score}: expected a number such as 0.5")
    if instruction is not None:
        require_unicode(instruction, "--instruction")
    now = datetime.now().astimezone()
    request = SearchRequest(
        mode=mode,
        k=k,
        offset=offset,
        where=Filter(
            types=file_types(types),
            paths=tuple(paths or ()),
            exclude=tuple(exclude or ()),
            after=None if after is None else parse_date(after, option="--after", now=now),
            before=None if before is None else parse_date(before, option="--before", now=now),
        ),
        instruction=instruction,
        dense_weight=dense_weight,
        min_score=min_score,
        snippets=not no_snippet and not files_only and form is not HitFormat.FILES,
    )
    output = QueryOutput(
        form=HitFormat.FILES if files_only or nul else form, nul=nul, explain=explain, full=full, strict=strict
    )
    choice = EncoderChoice(model=model, precision=precision, runtime=runtime, device=device, batch_tokens=batch_tokens)
    questions = read_questions(text or [], queries)
    asked = AskedGroups(clusters=tuple(clusters or ()), collapse=collapse is not None)
    code = run_query(terminal, questions, request, choice=choice, output=output, given=collection, asked=asked)
    raise typer.Exit(code)
