"""`searchctl embed`: texts in, vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision, Runtime
from ..options import (
    Adapters,
    AttentionOption,
    BatchTokens,
    Color,
    Debug,
    Device,
    Dim,
    InputFormat,
    MaxTokens,
    MethodOption,
    Model,
    PoolingOption,
    PrecisionOption,
    Quiet,
    RoleName,
    RuntimeOption,
    VectorFormat,
    Verbose,
)
from ..terminal.invocation import terminal_of

Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="Text files, one text a line; - or none is stdin.")
]
Out = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write; .npy or .jsonl by its name. - is stdout."),
]
Format = Annotated[
    VectorFormat | None,
    typer.Option(
        "--format",
        "-f",
        envvar="SEARCHCTL_EMBED_FORMAT",
        help="A NumPy array, or JSON lines. [dim]Default: by --output, else npy.[/dim]",
    ),
]
Input = Annotated[
    InputFormat,
    typer.Option(
        "--input",
        envvar="SEARCHCTL_EMBED_INPUT",
        help="What the lines are; auto takes files named .jsonl for JSON, and everything with --field.",
    ),
]
Field = Annotated[
    str | None,
    typer.Option("--field", metavar="NAME", help="Field of a JSON line that holds the text. [dim]Default: text.[/dim]"),
]
RoleOption = Annotated[
    RoleName, typer.Option("--role", envvar="SEARCHCTL_ROLE", help="Side of the search that the texts stand on.")
]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction",
        "-i",
        envvar="SEARCHCTL_INSTRUCTION",
        metavar="TEXT",
        help="What kind of nearness is meant; '' for none. [dim]Default: the model's own for the role.[/dim]",
    ),
]


def embed(
    ctx: typer.Context,
    *,
    files: Files = None,
    out: Out = None,
    form: Format = None,
    input_form: Input = InputFormat.AUTO,
    field: Field = None,
    role: RoleOption = RoleName.DOCUMENT,
    instruction: Instruction = None,
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
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Turn texts into unit vectors: the bare encoder, for pipes. One row per text, in the order of the input.

    A file is written under a temporary name and renamed when it is whole. Memory does not grow with the input.

    [bold]Examples[/bold]

      searchctl embed sentences.txt -o vectors.npy
      echo "one text a line" | searchctl embed --role query -f jsonl
      searchctl embed corpus.jsonl --field body --dim 256 > vectors.npy
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import choice_of
    from .embed import EmbedRequest, run_embed

    run_embed(
        terminal,
        EmbedRequest(
            files=tuple(files or ()),
            out=None if out == Path("-") else out,
            form=form,
            input=input_form,
            field=field,
            role=role,
            instruction=instruction,
        ),
        choice_of(
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
    )
