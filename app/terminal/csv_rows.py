"""A table as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence


class _Rows(list[str]):
    """Takes what a csv writer writes: a row at a time."""

    def write(self, row: str) -> None:
        self.append(row.removesuffix("\r\n") + "\n")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the table with its columns' names first; each row ends with a newline, and None is an empty cell."""
    text = _Rows()
    # Python quotes a carriage return in a cell only if the line ending has one, and a bare one ends a row for readers.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return "".join(text)
