"""`searchctl eval`: measure encoders; each sub-command in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from .eval_mine import init, mine
from .eval_report import report
from .eval_run import run
from .eval_word import word

if TYPE_CHECKING:
    from typer._click import Context

DEFAULT = "run"


class EvalGroup(TyperGroup):
    """Takes `searchctl eval stsb-test` for `searchctl eval run stsb-test`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


eval = typer.Typer(
    add_completion=False,
    cls=EvalGroup,
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
