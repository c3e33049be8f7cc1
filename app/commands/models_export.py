"""`searchctl models export`: an encoder as a plain folder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import ExportFormat, Precision
from ..invocation import terminal_of
from ..settings import Adapters, Color, Debug, Dim, MaxTokens, PoolingOption, Quiet, Verbose

Exported = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of `searchctl models list`, a folder, or a hub name owner/name.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder, or an empty one; nothing is overwritten.")
]
Form = Annotated[
    ExportFormat,
    typer.Option(
        "--format",
        "-f",
        help="A folder for sentence-transformers, or the merged model for transformers and searchctl.",
    ),
]
WeightPrecision = Annotated[
    Precision,
    typer.Option(
        "--precision", help="Number format of the weights; auto is fp32 below 2 billion weights and bf16 above."
    ),
]


def export(
    ctx: typer.Context,
    name: Exported,
    *,
    output: Output,
    form: Form,
    precision: WeightPrecision = Precision.AUTO,
    adapter: Adapters = None,
    pooling: PoolingOption = None,
    dim: Dim = None,
    max_tokens: MaxTokens = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Write an encoder, adapters merged, as a plain folder that other programs load without code of ours.

    A sentence-transformers folder gives the encoder's own vectors, or is refused with the reason. A merged folder is
    the model in transformers' format, and --model opens it. Prints the folder.

    [bold]Examples[/bold]

      searchctl models export smollm2-135m -o my-model --format sentence-transformers
      searchctl models export ./my-encoder -o merged --format merged --precision bf16
      searchctl models export ./base --adapter ./mntp -o out --format merged
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..export_run import ExportWish, run_export

    run_export(
        terminal,
        ExportWish(
            model=name,
            output=output,
            form=form,
            precision=precision,
            adapters=tuple(adapter or ()),
            pooling=pooling,
            dim=dim,
            max_tokens=max_tokens,
        ),
    )
