"""`searchctl probe`: look inside a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..options import (
    Adapters,
    Color,
    Debug,
    Device,
    MaxTokens,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    Verbose,
    model_names,
)
from ..terminal.invocation import terminal_of

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=model_names,
        help="A name of `searchctl models list`, a folder, or a hub name owner/name.",
    ),
]
Chain = Annotated[
    int | None,
    typer.Option(
        "--chain",
        metavar="N",
        min=0,
        help="Only the first N of the model's own adapters; 0 is the bare base. [dim]Default: all.[/dim]",
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        "--text",
        metavar="FILE",
        help="A paragraph of your own for the tolerance test. [dim]Default: a built-in one.[/dim]",
    ),
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write all of it as one page with pictures.")
]
PngFile = Annotated[
    Path | None,
    typer.Option("--png", metavar="FILE", help="Write the heat map, or with --depth the curve, as a picture."),
]
DEPTH = "Options of --depth"
Depth = Annotated[
    bool,
    typer.Option(
        "--depth",
        help="Instead of all that: what the first layers alone score, for every number of them, to choose "
        "`train run --layers N` by.",
        rich_help_panel=DEPTH,
    ),
]
Dev = Annotated[
    list[Path] | None,
    typer.Option(
        "--dev",
        metavar="FILE",
        help='Sentence pairs {"a", "b", "score"} that each depth is scored on by Spearman correlation; several times '
        "for their mean.",
        rich_help_panel=DEPTH,
    ),
]
TeacherOption = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="NAME|FOLDER",
        help="Score each depth after a map to the vectors of this encoder too, as for `train run --teacher`.",
        rich_help_panel=DEPTH,
    ),
]
TextsFile = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        metavar="FILE",
        help='What the map is fitted on: {"text"} in JSON lines, also .gz, or a text a line.',
        rich_help_panel=DEPTH,
    ),
]


def probe(
    ctx: typer.Context,
    model: ModelName,
    *,
    text: TextFile = None,
    html: HtmlFile = None,
    png: PngFile = None,
    depth: Depth = False,
    dev: Dev = None,
    teacher: TeacherOption = None,
    texts: TextsFile = None,
    chain: Chain = None,
    adapter: Adapters = None,
    max_tokens: MaxTokens = None,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Say whether a decoder model can attend in both directions, and whether it needs MNTP first.

    Three looks, as in the LLM2Vec paper: the proof, layer by layer, that every token sees the ones after it; how much
    the states change when they do; and whether the states of a prefix then know what follows it. A finished probe ends
    with 0 whatever the verdict. A model that brings adapters is probed with them: --chain 0 takes its bare base, which
    the verdict on MNTP is about.

    [bold]Examples[/bold]

      searchctl probe smollm2-135m --chain 0
      searchctl probe ./my-model --html probe.html
      searchctl probe qwen3-0.6b --text paragraph.txt --format json
      searchctl probe smollm2-135m --depth --dev pairs.jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .run import ProbeRequest, run_probe

    request = ProbeRequest(
        model=model,
        chain=chain,
        adapters=tuple(adapter or ()),
        max_tokens=max_tokens,
        precision=precision,
        device=device,
        text=text,
        html=html,
        png=png,
        form=form,
    )
    if not (depth or dev or teacher or texts):
        run_probe(terminal, request)
        return
    from .depth import DepthOptions, run_depth

    run_depth(
        terminal, request, DepthOptions(depth=depth, dev=tuple(dev or ()), teacher=tuple(teacher or ()), texts=texts)
    )
