"""`searchctl eval word`: what the token states of a model know about words."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ...training.probing.word_data import WordTask
from ...training.recipe import Step
from ..invocation import terminal_of
from ..settings import (
    Adapters,
    BatchTokens,
    Color,
    Debug,
    Device,
    MaxTokens,
    Model,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    Verbose,
)
from .eval_run import DEFAULT_RESULTS, Results


class Compare(StrEnum):
    """Published numbers to put beside ours."""

    PAPER = "paper"


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="SEARCHCTL_EVAL_WORDS",
        metavar="DIR",
        help="Folder with eng.train, eng.testa and eng.testb: CoNLL-2003 columns WORD POS CHUNK NER.",
    ),
]
Tasks = Annotated[
    list[WordTask] | None,
    typer.Option("--task", "-t", help="Which labels to learn; repeatable. [dim]Default: all three.[/dim]"),
]
Rivals = Annotated[
    list[Step] | None,
    typer.Option(
        "--rival",
        "-r",
        help="Which steps of the model run; repeatable. [dim]Default: every step that it has.[/dim]",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, metavar="N", help="Steps of training the classifier. [dim]Default: 4000.[/dim]"),
]
CompareOption = Annotated[
    Compare | None, typer.Option("--compare", help="Put the paper's numbers (Table 4) beside these.")
]


def word(
    ctx: typer.Context,
    *,
    data: Data,
    task: Tasks = None,
    rival: Rivals = None,
    results: Results = DEFAULT_RESULTS,
    steps: Steps = None,
    compare: CompareOption = None,
    form: Report = ReportFormat.TABLE,
    model: Model = None,
    adapter: Adapters = None,
    max_tokens: MaxTokens = None,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Measure a linear classifier of words on the frozen token states of each step of a model.

    What is computed is kept: the same command goes on after Ctrl-C or a kill, and another task needs no new pass.

    [bold]Examples[/bold]

      searchctl eval word --data conll2003
      searchctl eval word --data conll2003 --task chunk --rival uni --rival bi --compare paper
      searchctl eval word --data conll2003 --model runs/mine --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..encoders import choice_of
    from ..eval_word import WordRequest, run_word

    run_word(
        terminal,
        WordRequest(
            data=data,
            tasks=tuple(dict.fromkeys(task or WordTask)),
            steps=tuple(rival or ()),
            results=results,
            training_steps=steps,
            paper=compare is Compare.PAPER,
        ),
        choice_of(
            model=model,
            adapter=adapter,
            pooling=None,
            attention=None,
            method=None,
            dim=None,
            max_tokens=max_tokens,
            precision=precision,
            device=device,
            batch_tokens=batch_tokens,
        ),
        form,
    )
