"""Groups of commands with one that is meant when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context

DEFAULT = "run"


class DefaultGroup(TyperGroup):
    """Takes `searchctl eval stsb-test` for `searchctl eval run stsb-test`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
