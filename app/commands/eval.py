"""`searchctl eval`: measure encoders; each sub-command in a module of its own."""

from __future__ import annotations

import typer

from ..default_group import DefaultGroup
from .eval_mine import init, mine
from .eval_report import report
from .eval_run import run
from .eval_word import word

eval = typer.Typer(
    add_completion=False,
    cls=DefaultGroup,
    help="Measure encoders beside their rivals, on standard tasks, local data or your own collection.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
eval.command("run")(run)
eval.command("report")(report)
eval.command("word")(word)
eval.command("init")(init)
eval.command("mine")(mine)
