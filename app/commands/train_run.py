"""`searchctl train run`: from a decoder LLM to a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..invocation import terminal_of
from ..settings import ENCODER, Color, Debug, Device, Model, PrecisionOption, Quiet, Verbose

Stages = Annotated[
    str,
    typer.Option("--stages", metavar="STAGE,...", help="Which of mntp, simcse, supervised, distill, in this order."),
]
DataPlaces = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="FILE|FOLDER",
        help='JSON lines, also .gz: {"text"} for mntp and simcse, {"query", "positive"} (+"negative") for supervised; '
        "distill reads pairs, else texts.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="A shipped recipe or a TOML file. [dim]Default: the model's.[/dim]"
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="N|LIST",
        help="Keep the first N decoder layers, or those of a list as in 0,2,4,7. "
        "[dim]Default: the recipe's, else all.[/dim]",
    ),
]
TeacherOption = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="NAME|FOLDER",
        help="Encoder that distill learns from, named as for --model, or a sentence-transformers model; several times "
        "for several together. [dim]Default: the recipe's.[/dim]",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where the encoder goes. [dim]Default: trained-MODEL.[/dim]"),
]
Dev = Annotated[
    list[Path] | None,
    typer.Option(
        "--dev",
        metavar="FILE",
        help='Sentence pairs {"a", "b", "score"} whose Spearman correlation is told beside the held-out loss; '
        "\\[dev.NAME] of the recipe gives both sides an instruction.",
    ),
]
MaxMinutes = Annotated[
    float | None,
    typer.Option("--max-minutes", metavar="N", help="Stop and save when this time is over; --resume goes on."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --output holds.")]
SaveEvery = Annotated[int, typer.Option("--save-every", min=1, metavar="STEPS", help="Steps between two checkpoints.")]
EvaluateEvery = Annotated[
    int, typer.Option("--evaluate-every", min=1, metavar="STEPS", help="Steps between two looks at held-out data.")
]
KeepAll = Annotated[bool, typer.Option("--keep-checkpoints", help="Keep every checkpoint, for curves over them.")]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Compute activations twice instead of keeping them: a third slower, much less memory.",
        rich_help_panel=ENCODER,
    ),
]


def run(
    ctx: typer.Context,
    *,
    model: Model = None,
    stages: Stages = "mntp,simcse",
    data: DataPlaces = None,
    recipe: RecipeOption = None,
    layers: LayersOption = None,
    teacher: TeacherOption = None,
    output: Output = None,
    dev: Dev = None,
    max_minutes: MaxMinutes = None,
    resume: Resume = False,
    save_every: SaveEvery = 50,
    evaluate_every: EvaluateEvery = 50,
    keep_checkpoints: KeepAll = False,
    gradient_checkpointing: Checkpointing = False,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Train a text encoder from a decoder LLM by the LLM2Vec recipe (arXiv 2404.05961).

    mntp teaches it to use what comes after a word, simcse to tell texts apart, supervised to find
    answers, and distill to find texts as near to each other as another encoder does, its teacher.
    Data is checked whole before the first step. A run that ends early is saved, and --resume ends
    with the weights of an unbroken one.

    [bold]Examples[/bold]

      searchctl train run --stages mntp,simcse --data notes.jsonl -o my-encoder
      searchctl train --stages mntp,simcse,supervised --data texts.jsonl --data pairs.jsonl.gz --max-minutes 60
      searchctl train --stages mntp,distill --data pairs.jsonl --teacher ./large-encoder -o small-encoder
      searchctl train -o my-encoder --resume --stages mntp,simcse --data notes.jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..train_run import TrainWish, run_train

    code = run_train(
        terminal,
        TrainWish(
            model=model,
            stages=stages,
            data=tuple(data or ()),
            recipe=recipe,
            layers=layers,
            teacher=tuple(teacher or ()),
            output=output,
            dev=tuple(dev or ()),
            max_minutes=max_minutes,
            resume=resume,
            save_every=save_every,
            evaluate_every=evaluate_every,
            keep_checkpoints=keep_checkpoints,
            gradient_checkpointing=gradient_checkpointing,
            precision=precision,
            device=device,
        ),
    )
    if code:
        raise typer.Exit(code)
