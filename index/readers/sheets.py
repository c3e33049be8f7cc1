"""XLSX by blocks of rows."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .archives import MAX_TOTAL_BYTES, open_archive

_BLOCK_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One row as text, with its place."""

    text: str
    row: int
    left: int
    right: int


def read_xlsx(data: bytes, name: str) -> Document:
    """Return blocks of rows, anchor "sheet" with their range ("Q1!A5:D9"), each row a line "header: value; ...".

    Values are those the spreadsheet program last computed; a formula never computed has none."""
    import openpyxl

    open_archive(data, name, max_markup_bytes=MAX_TOTAL_BYTES)
    sections: list[Section] = []
    with warnings.catch_warnings():
        # openpyxl warns about styles and extensions that do not concern text.
        warnings.simplefilter("ignore")
        try:
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            for sheet in book.worksheets:
                # Programs write wrong dimensions; openpyxl would believe them and stop early.
                sheet.reset_dimensions()
                sections.extend(_sheet(sheet.title, sheet.iter_rows()))
            title = " ".join((book.properties.title or "").split())
            book.close()
        except Exception as error:  # openpyxl raises KeyError, ValueError, ParseError, BadZipFile and its own
            raise ReadError(
                f"{name}: cannot be read as xlsx: {error}. The file is damaged or of another format."
            ) from error
    return Document(format="xlsx", sections=tuple(sections), title=title or None)


def _sheet(title: str, rows: Iterable[Sequence[Any]]) -> Iterator[Section]:
    """Yield the blocks of one sheet; its header, the first row with several names, is put before the values."""
    header: dict[int, str] = {}
    header_row = 0
    titles_only = True
    block: list[_Line] = []
    size = 0
    for number, row in enumerate(rows, start=1):
        cells = {column: text for column, cell in enumerate(row, start=1) if (text := _value(cell.value))}
        if not cells:
            continue
        if not header and titles_only and _is_header(row, cells):
            if block:
                yield _section(title, block)
            header, header_row, block, size = cells, number, [], 0
            continue
        titles_only = titles_only and len(cells) == 1
        text = "; ".join(f"{header[column]}: {text}" if column in header else text for column, text in cells.items())
        if block and size + len(text) > _BLOCK_CHARS:
            yield _section(title, block)
            block, size = [], 0
        block.append(_Line(text=text, row=number, left=min(cells), right=max(cells)))
        size += len(text)
    if not block and header:
        block.append(_Line(text="; ".join(header.values()), row=header_row, left=min(header), right=max(header)))
    if block:
        yield _section(title, block)


def _is_header(row: Sequence[Any], cells: dict[int, str]) -> bool:
    """Return whether a row names columns: several short texts, all different."""
    texts = all(isinstance(cell.value, str) for cell in row if _value(cell.value))
    return texts and len(cells) > 1 and len(set(cells.values())) == len(cells) and max(map(len, cells.values())) <= 80


def _section(title: str, block: Sequence[_Line]) -> Section:
    from openpyxl.utils import get_column_letter

    first = f"{get_column_letter(min(line.left for line in block))}{block[0].row}"
    last = f"{get_column_letter(max(line.right for line in block))}{block[-1].row}"
    anchor = Anchor(kind="sheet", value=f"{title}!{first}:{last}" if first != last else f"{title}!{first}")
    return Section(text="\n".join(line.text for line in block), anchor=anchor, headings=(title,))


def _value(value: object) -> str:
    """Return a cell as a person would write it; "" for an empty one."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return " ".join(str(value).split())
