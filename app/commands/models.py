"""`searchctl models`: the encoders known by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import ExportFormat, Precision
from ..invocation import terminal_of
from ..settings import (
    Adapters,
    AttentionOption,
    Color,
    Debug,
    Dim,
    MaxTokens,
    MethodOption,
    PoolingOption,
    Quiet,
    Report,
    ReportFormat,
    Verbose,
)

models = typer.Typer(
    help="The encoders known by name: list, fetch, describe.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Name = Annotated[
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


@models.command("list")
def list_models(
    ctx: typer.Context,
    *,
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """List the models known by name: their size, licence, and whether they are on this machine.

    Any other decoder LLM works too: give --model a folder, or a hub name owner/name.

    [bold]Examples[/bold]

      searchctl models list
      searchctl models list --format json | jq -r '.models[].name'
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..model_report import list_to_json, show_list

    if form is ReportFormat.JSON:
        terminal.write(list_to_json())
    else:
        show_list(terminal)


@models.command("pull")
def pull_model(
    ctx: typer.Context,
    name: Name,
    *,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Fetch a model now, so that nothing needs the network later; prints its folder.

    [bold]Examples[/bold]

      searchctl models pull smollm2-135m
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...encoder.pull import pull
    from ..model_report import folder_of
    from ..pulling import pull_bar
    from ..settings import cache_folder

    _no_builtin(name)
    folder_of(name)  # says what a misspelt name may mean
    with pull_bar(terminal, name) as pulling:
        folder = pull(name, progress=pulling, cache=cache_folder())
    terminal.write(f"{folder}\n")


@models.command("info")
def model_info(
    ctx: typer.Context,
    name: Name,
    *,
    adapter: Adapters = None,
    pooling: PoolingOption = None,
    attention: AttentionOption = None,
    method: MethodOption = None,
    dim: Dim = None,
    max_tokens: MaxTokens = None,
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Tell all about one model: size, licence, prompt format, and, when it is on this machine, its fingerprint.

    [bold]Examples[/bold]

      searchctl models info smollm2-135m
      searchctl models info ./my-model --adapter ./mntp
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...encoder.config import Precision
    from ..encoders import choice_of
    from ..model_report import describe, show_model

    choice = choice_of(
        model=name,
        adapter=adapter,
        pooling=pooling,
        attention=attention,
        method=method,
        dim=dim,
        max_tokens=max_tokens,
        precision=Precision.AUTO,
        device="auto",
        batch_tokens=None,
    )
    described = describe(choice)
    if form is ReportFormat.JSON:
        import json

        terminal.write(json.dumps(described, ensure_ascii=False, indent=2) + "\n")
    else:
        show_model(terminal, described)


@models.command("path")
def model_path(
    ctx: typer.Context,
    name: Name,
    *,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Print the folder of a model that is on this machine; nothing is fetched.

    [bold]Examples[/bold]

      searchctl models path smollm2-135m
      du -sh "$(searchctl models path smollm2-135m)"
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..errors import AppError
    from ..model_report import folder_of

    _no_builtin(name)
    folder: Path | None = folder_of(name)
    if folder is None:
        raise AppError(f"{name} is not on this machine: fetch it with `searchctl models pull {name}`")
    terminal.write(f"{folder}\n")


@models.command("export")
def export(
    ctx: typer.Context,
    name: Name,
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


def _no_builtin(name: str) -> None:
    """Raise AppError for an empty name, and for a model that is code and has no files."""
    from ...encoder.registry import find
    from ..encoders import require_model
    from ..errors import AppError

    require_model(name)
    entry = find(name)
    if entry is not None and entry.source == "builtin":
        raise AppError(f"{name} is part of searchctl and has no files: use it with --model {name}")
