"""`searchctl train curve`: what the checkpoints of a training run score on tasks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..invocation import Invocation, terminal_of
from ..settings import BatchTokens, Color, Debug, Device, PrecisionOption, Quiet, Report, ReportFormat, Verbose
from .eval_run import Again, Instructions, Local, NoInstructions, SuiteOption


class StageName(StrEnum):
    """`training.recipe.Stage` by value: that module needs more than --help does."""

    MNTP = "mntp"
    SIMCSE = "simcse"
    SUPERVISED = "supervised"
    DISTILL = "distill"


Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Output folder of `searchctl train`.", show_default=False),
]
Tasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK]...", help="Names of local tasks (with --local) or of mteb; none needs --suite."),
]
StageOption = Annotated[
    StageName | None,
    typer.Option("--stage", help="Whose checkpoints. [dim]Default: the last stage that was trained.[/dim]"),
]
Every = Annotated[
    int | None,
    typer.Option(
        "--every",
        min=1,
        metavar="N",
        help="Only checkpoints at multiples of N steps, with start and end. [dim]Default: all.[/dim]",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        help="Where scores are kept, and read back from. [dim]Default: curve-results in FOLDER.[/dim]",
    ),
]


def curve(
    ctx: typer.Context,
    *,
    folder: Folder,
    tasks: Tasks = None,
    suite: SuiteOption = None,
    local: Local = None,
    stage: StageOption = None,
    every: Every = None,
    instructions: Instructions = None,
    no_instructions: NoInstructions = False,
    results: Results = None,
    again: Again = False,
    form: Report = ReportFormat.TABLE,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Score the checkpoints of a training run against its steps.

    The sample-efficiency curve of the LLM2Vec paper's Figure 6. It goes into curve.json of FOLDER,
    which `searchctl train report` draws. Every score is kept as soon as it is had: the same
    command goes on after a kill, and reads what is there.

    [bold]Examples[/bold]

      searchctl train curve my-encoder stsb-test scifact --local data
      searchctl train curve my-encoder --suite paper15 --stage supervised --every 100
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..train_curve import CurveRequest, run_train_curve

    code = run_train_curve(
        terminal,
        CurveRequest(
            folder=folder,
            names=tuple(tasks or ()),
            suite=None if suite is None else suite.value,
            local=local,
            stage=None if stage is None else stage.value,
            every=every,
            instructions=instructions,
            no_instructions=no_instructions,
            results=results,
            again=again,
            form=form,
            precision=precision,
            device=device,
            batch_tokens=batch_tokens,
            debug=ctx.ensure_object(Invocation).debug,
        ),
    )
    if code:
        raise typer.Exit(code)
