"""How `--help` reads at 80 columns: whole names of options, whole paragraphs, and examples that can be pasted."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from rich.table import Table

WIDTH = 76
"""Columns of an example: 80, less what is drawn around the text."""


class _WholeNames(Table):
    """A table whose columns of names are never cut: the text beside them wraps instead."""

    def add_row(self, *cells: object, **settings: object) -> None:
        super().add_row(*cells, **settings)  # type: ignore[arg-type]
        for column in self.columns[:-2]:
            column.no_wrap = True
        self.columns[-1].overflow = "fold"  # a long name of a variable is one word


def show_whole_names() -> None:
    """Let Typer draw its tables of options with whole names: at 80 columns it cut `--gradient-checkpointing`."""
    import typer.rich_utils

    typer.rich_utils.Table = _WholeNames  # type: ignore[attr-defined]


def dressed(text: str) -> str:
    """Return the help of a command with a line a paragraph; lines that begin with two spaces are examples.

    An example that is longer than WIDTH goes on in the next line, as a shell reads it.
    """
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.split("\n")
        if all(line.startswith("  ") for line in lines):
            paragraphs.append("\n".join(part for line in lines for part in _broken(line)))
        else:
            paragraphs.append(" ".join(line.strip() for line in lines))
    return "\n\n".join(paragraphs)


def _broken(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    pieces: list[str] = []
    for word in line.split():
        if pieces and pieces[-1].startswith("-") and " " not in pieces[-1] and not word.startswith("-"):
            pieces[-1] += f" {word}"  # a value stays with its option
        else:
            pieces.append(word)
    parts = [""]
    for piece in pieces:
        if parts[-1] and len(parts[-1]) + len(piece) + 9 > WIDTH:  # the indent, two spaces and the backslash
            parts.append("")
        parts[-1] += f" {piece}" if parts[-1] else piece
    return [f"  {parts[0]} \\", *(f"      {part} \\" for part in parts[1:-1]), f"      {parts[-1]}"]


def every_command(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield a command and all below it that help shows, groups too, each by its words ("models list")."""
    yield " ".join(words), command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from every_command(child, (*words, name))
