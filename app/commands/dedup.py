"""`searchctl dedup`: what is said twice; each sub-command in a module of its own."""

from __future__ import annotations

import typer

from ..default_group import DefaultGroup
from .dedup_apply import apply
from .dedup_undo import undo

dedup = typer.Typer(
    add_completion=False,
    cls=DefaultGroup,
    help="Find what is said twice: exact, near and by meaning; plan what is to go, apply the plan, and undo it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
dedup.command("apply")(apply)
dedup.command("undo")(undo)
