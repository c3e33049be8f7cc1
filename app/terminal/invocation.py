"""What one run of the program carries from its options to its error boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AppError
from ..options import ColorMode

if TYPE_CHECKING:
    import typer

    from .console import Terminal


@dataclass(slots=True)
class Invocation:
    """Options that hold for the whole program; they may stand before or after the command's name."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    color: ColorMode | None = None
    collection: Path | None = None
    """The --collection of the command, where one was given."""

    def add(self, *, quiet: bool, verbose: bool, debug: bool, color: ColorMode | None) -> None:
        self.quiet |= quiet
        self.verbose |= verbose
        self.debug |= debug
        self.color = color or self.color

    def terminal(self) -> Terminal:
        from .console import Terminal

        return Terminal(quiet=self.quiet, verbose=self.verbose, color=self.color, collection=self.collection)


def file_types(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the types of --type, which takes several with commas between. Raises AppError for an empty one."""
    types = tuple(part.strip() for value in values or () for part in value.split(","))
    if not all(type_.removeprefix(".") for type_ in types):
        said = ", ".join(map(repr, values or ()))
        raise AppError(f"--type is {said}: expected an extension (md) or a format (markdown), as in --type md,txt")
    return types


def was_given(ctx: typer.Context, name: str) -> bool:
    """Return whether a parameter was given on the command line, be it with its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def terminal_of(ctx: typer.Context, *, quiet: bool, verbose: bool, debug: bool, color: ColorMode | None) -> Terminal:
    """Return the terminal of this invocation, with the command's own common options counted in."""
    invocation = ctx.ensure_object(Invocation)
    invocation.add(quiet=quiet, verbose=verbose, debug=debug, color=color)
    invocation.collection = ctx.params.get("collection")
    terminal = invocation.terminal()
    terminal.listen()
    return terminal
