"""`searchctl train`: make encoders; each sub-command in a module of its own."""

from __future__ import annotations

import typer

from ..default_group import DefaultGroup
from .train_curve import curve
from .train_mine import mine
from .train_pairs import pairs
from .train_report import report
from .train_run import run

train = typer.Typer(
    add_completion=False,
    cls=DefaultGroup,
    help="Train a text encoder from a decoder LLM by the LLM2Vec recipe. `searchctl train ...` is `train run ...`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
train.command("run")(run)
train.command("pairs")(pairs)
train.command("mine")(mine)
train.command("report")(report)
train.command("curve")(curve)
