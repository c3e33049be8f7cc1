"""A table of text that the terminal, Markdown and a page each draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .console import Terminal, printable

_GAP = 2
"""Spaces between columns of the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    cells: tuple[str, ...]
    kind: Literal["row", "heading", "mean"] = "row"
    best: frozenset[int] = frozenset()
    """Positions of the highest values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    title: str
    note: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    """Each with as many cells as the header; the first names the line, the others are numbers."""


def show_table(terminal: Terminal, table: TextTable) -> None:
    """Print a table with its title and note, in parts where it is too wide, each with the first column again."""
    terminal.show(Text(printable(table.title), style="bold"))
    for part in _parts(table, terminal.width):
        terminal.show(part)
    terminal.show(Text(printable(table.note), style="dim"))


def _parts(table: TextTable, width: int) -> Iterator[Table]:
    widths = [
        max(cell_len(printable(cells[at])) for cells in (table.header, *(line.cells for line in table.lines)))
        for at in range(len(table.header))
    ]
    columns: list[int] = []
    for at in range(1, len(widths)):
        if columns and widths[0] + sum(_GAP + widths[one] for one in (*columns, at)) > width:
            yield _drawn(table, columns)
            columns = []
        columns.append(at)
    yield _drawn(table, columns)


def _drawn(table: TextTable, columns: list[int]) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    drawn.add_column(Text(printable(table.header[0])))
    for at in columns:
        drawn.add_column(Text(printable(table.header[at])), justify="left" if "[" in _column(table, at) else "right")
    for line in table.lines:
        cells = [Text(printable(line.cells[at]), style=_style(line, at)) for at in (0, *columns)]
        drawn.add_row(*cells, style="italic" if line.kind == "mean" else "")
    return drawn


def _column(table: TextTable, at: int) -> str:
    return "".join(line.cells[at] for line in table.lines)


def _style(line: Line, at: int) -> str:
    if line.kind == "heading":
        return "cyan"
    return "bold" if at in line.best else ""
