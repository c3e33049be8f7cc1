"""The commands of searchctl, each imported when it is called; groups with a command that runs when none is named.

`searchctl --help` imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter


COMMANDS: dict[str, tuple[str, str]] = {
    "index": ("collection.commands", "Bring a collection up to date with files and folders."),
    "query": ("search.command", "Find passages by meaning and by words."),
    "dedup": ("dedup.commands", "Find what is repeated: exact, near and by meaning; plan, apply, undo."),
    "cluster": (
        "cluster.command",
        "Say what a collection is about: clusters with words, sizes and passages, and a map.",
    ),
    "status": ("collection.commands", "Say what is indexed, with which encoder, how fresh and how large."),
    "embed": ("models.embed_command", "Turn texts into unit vectors: the bare encoder, for pipes."),
    "models": ("models.commands", "The encoders known by name: list, fetch, describe, compile, export, promote."),
    "eval": (
        "evaluate.commands",
        "Measure encoders beside baselines, on standard tasks, local data or your own collection.",
    ),
    "probe": (
        "probe.command",
        "Say whether a decoder model can attend in both directions, and whether it needs MNTP first.",
    ),
    "train": ("train.commands", "Train a text encoder from a decoder LLM by the LLM2Vec recipe."),
    "verify": ("collection.commands", "Check a collection against itself; nothing is changed."),
    "repair": ("collection.commands", "Rebuild everything derived from the catalogue; embeds nothing."),
}
"""Name to its module in app and one line about it, in the order to show them."""


class LazyCommands(MutableMapping[str, Any]):
    """The commands by name; one that is looked up is imported."""

    def __init__(self) -> None:
        self._loaded: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._loaded:
            module, _ = COMMANDS[name]
            found = getattr(import_module(f".{module}", __package__), name)
            if not isinstance(found, typer.Typer):
                single = typer.Typer(rich_markup_mode="rich", add_completion=False)
                single.command(name)(found)
                found = single
            self._loaded[name] = get_command(found)
            self._loaded[name].name = name
            _dress_when_shown(self._loaded[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __setitem__(self, name: str, command: Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]


def _dress_when_shown(command: Command) -> None:
    """Let the help of a command, and of those below it, be laid out when it is asked for: other runs pay nothing."""
    plain = command.format_help

    def format_help(ctx: Context, formatter: HelpFormatter) -> None:
        from .terminal.help import dressed, show_whole_names

        show_whole_names()
        command.help = dressed(command.help or "")
        plain(ctx, formatter)

    command.format_help = format_help  # type: ignore[method-assign]
    for below in getattr(command, "commands", {}).values():
        _dress_when_shown(below)


OTHER_WORDS = {
    "search": "query",
    "find": "query",
    "ask": "query",
    "grep": "query",
    "add": "index",
    "update": "index",
    "encode": "embed",
    "evaluate": "eval",
    "duplicates": "dedup",
    "info": "status",
    "fix": "repair",
    "check": "verify",
}
"""What people type for a command from the habit of other programs."""


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()
        self._in_brief = False

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if self._in_brief:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1], rich_markup_mode="rich")
        return self.commands[cmd_name] if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that is meant. Raises UsageError with the one that was likely meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            words = {**{name: name for name in COMMANDS}, **OTHER_WORDS}
            close = get_close_matches(args[0].lower(), words, n=1)
            meant = f": did you mean {words[close[0]]!r}?" if close else ""
            ctx.fail(f"no command is called {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help of the program, for which one line about each command is enough."""
        self._in_brief = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._in_brief = False


DEFAULT = "run"


class DefaultGroup(TyperGroup):
    """Takes `searchctl eval stsb-test` for `searchctl eval run stsb-test`."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help of the group, and that of the command that runs when none is named."""
        super().format_help(ctx, formatter)
        default = self.commands[DEFAULT]
        default.format_help(type(ctx)(default, info_name=DEFAULT, parent=ctx), formatter)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
