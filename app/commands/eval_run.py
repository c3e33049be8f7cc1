"""`searchctl eval run`: encoders and their rivals on tasks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..invocation import Invocation, terminal_of
from ..settings import (
    Adapters,
    AttentionOption,
    BatchTokens,
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

DEFAULT_RESULTS = Path(".searchctl-eval")


class Suite(StrEnum):
    """Lists of tasks known by name."""

    PAPER15 = "paper15"
    PAPER56 = "paper56"
    MTEB_ENG_V2 = "mteb-eng-v2"
    NANOBEIR = "nanobeir"
    LOCAL = "local"


Tasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK]...", help="Names of local tasks (with --local) or of mteb; none needs --suite."),
]
SuiteOption = Annotated[
    Suite | None,
    typer.Option(
        "--suite",
        "-s",
        help="A list of tasks; local is all that --local holds. [dim]Default: local with --local.[/dim]",
    ),
]
Rivals = Annotated[
    list[str] | None,
    typer.Option(
        "--rival",
        "-r",
        metavar="SPEC",
        help=(
            "Who else runs: bm25; hybrid, lexical or dense (this program's own search); uni, bi, echo, mntp, simcse, "
            "supervised, distill (steps of the model; uni:last pools one in another way); a model; a "
            "sentence-transformers folder or package. "
            "LABEL=SPEC names its column; repeatable."
        ),
    ),
]
OnlyRivals = Annotated[bool, typer.Option("--only-rivals", help="Leave the model itself out.")]
Local = Annotated[
    Path | None,
    typer.Option(
        "--local",
        envvar="SEARCHCTL_EVAL_DATA",
        metavar="DIR",
        help="Folder with retrieval/, sts/, pairs/, clustering/, classification/.",
    ),
]
Instructions = Annotated[
    Path | None,
    typer.Option("--instructions", metavar="FILE", help="TOML table of instructions that win over the built-in ones."),
]
NoInstructions = Annotated[bool, typer.Option("--no-instructions", help="Encode every text without an instruction.")]
Results = Annotated[
    Path,
    typer.Option(
        "--results", envvar="SEARCHCTL_RESULTS", metavar="DIR", help="Where scores are kept, and read back from."
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Compute what is there already once more.")]


def run(
    ctx: typer.Context,
    *,
    tasks: Tasks = None,
    suite: SuiteOption = None,
    rival: Rivals = None,
    only_rivals: OnlyRivals = False,
    local: Local = None,
    instructions: Instructions = None,
    no_instructions: NoInstructions = False,
    results: Results = DEFAULT_RESULTS,
    again: Again = False,
    form: Report = ReportFormat.TABLE,
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
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Measure an encoder, and rivals beside it, with the evaluators of mteb.

    Every score is kept as soon as it is had: the same command goes on after a kill, and reads what is there.

    [bold]Examples[/bold]

      searchctl eval run --local data --rival bm25 --rival uni --rival hybrid
      searchctl eval run --local data --rival uni:mean --rival uni:last --rival bi:last
      searchctl eval stsb-test scifact --local data --model qwen3-0.6b
      searchctl eval --suite paper15 --rival small=models/all-MiniLM-L6-v2
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..encoders import choice_of
    from ..eval_run import EvalRequest, run_eval

    code = run_eval(
        terminal,
        EvalRequest(
            names=tuple(tasks or ()),
            suite=None if suite is None else suite.value,
            rivals=tuple(rival or ()),
            only_rivals=only_rivals,
            local=local,
            instructions=instructions,
            no_instructions=no_instructions,
            results=results,
            again=again,
            debug=ctx.ensure_object(Invocation).debug,
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
            device=device,
            batch_tokens=batch_tokens,
        ),
        form,
    )
    if code:
        raise typer.Exit(code)
