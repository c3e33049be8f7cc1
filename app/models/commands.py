"""`searchctl models`: list, pull, info, compile, export, promote and rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import ExportFormat, Precision, Runtime
from ..options import (
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
    PoolingOption,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    RuntimeOption,
    Verbose,
    model_names,
)
from ..terminal.invocation import terminal_of

Exported = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=model_names,
        help="A name of `searchctl models list`, a folder, or a hub name owner/name.",
    ),
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
    from .export import ExportWish, run_export

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


models = typer.Typer(
    help="The encoders known by name: list, fetch, describe, export, promote.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=model_names,
        help="A name of `searchctl models list`, a folder, or a hub name owner/name.",
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
    from .report import list_to_json, show_list

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
    from ...encoder.models.pull import discard_damaged, pull
    from ..options import cache_folder
    from ..terminal.progress import pull_bar
    from .report import folder_of

    _no_builtin(name)
    folder_of(name)  # says what a misspelt name may mean
    damage = discard_damaged(name, cache=cache_folder())
    if damage is not None:
        terminal.notice(f"{damage} It is fetched again.")
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
    from ..collection.encoder_choice import choice_of
    from .report import describe, show_model

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


@models.command("compile")
def compile_model(
    ctx: typer.Context,
    name: Name,
    *,
    adapter: Adapters = None,
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Make the graph of a model that a CPU runs without torch, prove it, and print its folder.

    Commands do so by themselves when they first need it. Where torch is installed, both are compared.

    [bold]Examples[/bold]

      searchctl models compile smollm2-135m
      searchctl models compile ./my-encoder --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import choice_of
    from .compile import run_compile

    _no_builtin(name)
    choice = choice_of(
        model=name,
        adapter=adapter,
        pooling=None,
        attention=None,
        method=None,
        dim=None,
        max_tokens=None,
        precision=Precision.AUTO,
        device="auto",
        batch_tokens=None,
    )
    run_compile(terminal, choice.config(), form=form)


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
    from .report import folder_of

    _no_builtin(name)
    folder: Path | None = folder_of(name)
    if folder is None:
        raise AppError(f"{name} is not on this machine", next_command=("models", "pull", name))
    terminal.write(f"{folder}\n")


Promoted = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        autocompletion=model_names,
        help="A name of `searchctl models list`, a folder, or a hub name owner/name.",
    ),
]
Rollback = Annotated[
    bool, typer.Option("--rollback", help="Go back to the encoder before, and forth again; embeds nothing.")
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Drop an unfinished promotion to another encoder or in another precision; with --rollback: go back "
        "although the collection has changed since.",
    ),
]


@models.command("promote")
def promote_model(
    ctx: typer.Context,
    *,
    model: Promoted = None,
    rollback: Rollback = False,
    yes: Yes = False,
    form: Report = ReportFormat.TABLE,
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
    """Make a model the encoder of a collection: its stored chunks are embedded again, no file is read.

    The collection answers with its old encoder until the new vectors are whole; then the two change places at once,
    and the old generation is kept for --rollback. Ctrl-C or a kill loses at most one batch: the same command goes on.

    [bold]Examples[/bold]

      searchctl models promote ./trained-smollm2-135m
      searchctl models promote qwen3-0.6b --dim 256 --collection notes/.searchctl
      searchctl models promote --rollback
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import choice_of
    from ..collection.promote_report import run_promotion, run_rollback

    choice = choice_of(
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
    )
    _check_direction(ctx, model, rollback=rollback)
    if rollback:
        run_rollback(terminal, collection, confirmed=yes, form=form)
    else:
        run_promotion(terminal, choice, collection, confirmed=yes, form=form)


_OF_ENCODER = (
    *("adapter", "pooling", "attention", "method", "dim", "max_tokens"),
    *("precision", "runtime", "device", "batch_tokens"),
)


def _check_direction(ctx: typer.Context, model: str | None, *, rollback: bool) -> None:
    """Raise AppError unless there is either a model, with its options, or --rollback."""
    from ..errors import AppError

    if rollback:
        said = [] if model is None else [model]
        for name in _OF_ENCODER:
            source = ctx.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                said.append(f"--{name.replace('_', '-')}")
        if said:
            raise AppError(
                f"{', '.join(said)} are not available with --rollback, which goes back to the encoder before",
                next_command=("models", "promote", "--rollback"),
            )
    elif model is None:
        raise AppError(
            "no model was given: expected one, or --rollback for the encoder before",
            next_command=("models", "promote", "MODEL"),
        )


def _no_builtin(name: str) -> None:
    """Raise AppError for an empty name, and for a model that is code and has no files."""
    from ...encoder.models.registry import find
    from ..collection.encoder_choice import require_model
    from ..errors import AppError

    require_model(name)
    entry = find(name)
    if entry is not None and entry.source == "builtin":
        raise AppError(f"{name} is part of searchctl and has no files: use it with --model {name}")


models.command("export")(export)
