"""`searchctl dedup`: what is said twice; each sub-command in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from ..default_group import DEFAULT, DefaultGroup
from .dedup_apply import apply
from .dedup_find import run
from .dedup_plan import plan
from .dedup_undo import undo

if TYPE_CHECKING:
    from typer._click import Context


class _Dedup(DefaultGroup):
    """Runs without any argument, too. A word that is no command is a mistyped one: `run` takes options only."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-"):
            return TyperGroup.parse_args(self, ctx, args)
        return super().parse_args(ctx, args or [DEFAULT])


dedup = typer.Typer(
    add_completion=False,
    cls=_Dedup,
    help="Find what is said twice, plan what could go, and take it away and back. `searchctl dedup ...` is "
    "`dedup run ...`.",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
dedup.command("run")(run)
dedup.command("plan")(plan)
dedup.command("apply")(apply)
dedup.command("undo")(undo)
