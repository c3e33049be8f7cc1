"""Jupyter notebooks by cells."""

from __future__ import annotations

import json
from typing import Any

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .decoding import decode
from .markdown import headings_of
from .outline import Trail


def read_ipynb(data: bytes, name: str) -> Document:
    """Return one section per cell with something in it, anchor "cell" from 1, under the headings of its Markdown.

    Sources only: outputs are results that running the notebook makes again, mostly tables and pictures."""
    decoded = decode(data, name)
    try:
        book = json.loads(decoded.text)
    except ValueError as error:
        raise ReadError(f"{name}: not JSON ({error}), as a notebook is. The file may be cut short.") from error
    if not isinstance(book, dict) or not isinstance(cells := _cells(book), list):
        raise ReadError(f"{name}: JSON without a list of cells, so no notebook.")
    trail = Trail()
    sections: list[Section] = []
    title: str | None = None
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell, dict):
            raise ReadError(f"{name}: cell {number} is {type(cell).__name__}, expected an object.")
        source = cell.get("source", cell.get("input", ""))
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        here: tuple[str, ...] | None = None
        if cell.get("cell_type") == "markdown":
            for heading in headings_of(text):
                trail.push(heading.level, heading.text)
                title = title or (heading.text if heading.level == 1 else None)
                # A cell that goes through several headings stands below the first, what follows it below the last.
                here = here or trail.headings
        if text.strip():
            anchor = Anchor(kind="cell", value=str(number))
            sections.append(Section(text=text, anchor=anchor, headings=here or trail.headings))
    return Document(format="ipynb", sections=tuple(sections), title=title, metadata=decoded.metadata)


def _cells(book: dict[str, Any]) -> Any:
    """Return the cells of a notebook; format 3 keeps them in worksheets."""
    if "cells" not in book and isinstance(book.get("worksheets"), list):
        return [cell for sheet in book["worksheets"] for cell in sheet.get("cells", [])]
    return book.get("cells")
