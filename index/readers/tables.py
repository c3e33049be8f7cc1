"""CSV and TSV by rows."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .decoding import decode

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_MAX_FIELD_CHARS = 2**31 - 1


def read_csv(data: bytes, name: str) -> Document:
    """Return one section per row, lines "column: value", anchor "row" with its number in the table (header is 1).

    `line` is where the row begins, quoted newlines counted. Raises ReadError for a quote that is never closed."""
    decoded = decode(data, name)
    is_tsv = name.lower().endswith((".tsv", ".tab"))
    delimiter = "\t" if is_tsv else _delimiter(decoded.text)
    rows = _rows(decoded.text, delimiter, name)
    header = _header(rows[0].cells) if len(rows) > 1 else None
    sections = tuple(_section(row, header or []) for row in (rows[1:] if header else rows))
    return Document(format="tsv" if is_tsv else "csv", sections=sections, metadata=decoded.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    number: int
    line: int
    cells: list[str]


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts most of the first rows into the same number of cells, above one."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        counts: Counter[int] = Counter()
        try:
            for _, row in zip(range(_SAMPLE_ROWS), csv.reader(_lines(text), delimiter=delimiter), strict=False):
                counts[len(row)] += bool(row)
        except csv.Error:
            continue
        width, rows = max(counts.items(), key=lambda item: (item[0] > 1) * item[1], default=(1, 0))
        score = 0.0 if width < 2 else rows / counts.total() + min(width, 20) / 1000
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _lines(text: str) -> Iterator[str]:
    """Yield lines with their ends; only a file without any newline is cut at carriage returns (old Macintosh)."""
    end = "\n" if "\n" in text or "\r" not in text else "\r"
    at = 0
    while at < len(text):
        found = text.find(end, at)
        stop = len(text) if found < 0 else found + 1
        yield text[at:stop]
        at = stop


def _rows(text: str, delimiter: str, name: str) -> list[_Row]:
    """Return the rows that are not empty; a blank line counts as a row, as in a spreadsheet."""
    lines = list(_lines(text))
    limit = csv.field_size_limit(_MAX_FIELD_CHARS)
    rows: list[_Row] = []
    last = 0
    try:
        reader = csv.reader(lines, delimiter=delimiter)
        for number, cells in enumerate(reader, start=1):
            line, last = last + 1, reader.line_num
            if last == len(lines):
                _check_closed(lines[line - 1 :], delimiter, f"{name}: line {line}")
            if any(cell.strip() for cell in cells):
                rows.append(_Row(number=number, line=line, cells=cells))
    except csv.Error as error:
        raise ReadError(
            f"{name}: line {last + 1}: {error}. Expected rows of cells divided by {delimiter!r}."
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _check_closed(lines: list[str], delimiter: str, place: str) -> None:
    """Raise ReadError when the last row ends inside a quote: it has swallowed the rest of the file."""
    try:
        for _ in csv.reader(lines, delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise ReadError(f"{place}: a quote is opened and never closed. Close it or remove it.") from error


def _header(cells: list[str]) -> list[str] | None:
    """Return the names of the columns when a first row looks like names: filled, different, short, no numbers."""
    names = [" ".join(cell.split()) for cell in cells]
    looks = all(names) and len(set(names)) == len(names) and max(map(len, names)) <= 80
    return names if looks and not any(_is_number(name) for name in names) else None


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _section(row: _Row, header: list[str]) -> Section:
    lines: list[str] = []
    for column, cell in enumerate(row.cells):
        if cell.strip():
            label = header[column] if column < len(header) else f"column {column + 1}"
            lines.append(f"{label}: {cell.strip()}")
    return Section(text="\n".join(lines), anchor=Anchor(kind="row", value=str(row.number)), line=row.line)
