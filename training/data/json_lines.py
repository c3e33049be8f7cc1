"""Data files of one JSON object or one row of cells a line: read as a stream, hashed, and every error has its line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from ..errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz")
_BOM = b"\xef\xbb\xbf"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a file, whose fields are asked for by name and type."""

    path: Path
    line: int
    fields: Mapping[str, Any]

    def error(self, what: str) -> DataError:
        """Return the error that says `what` of this line."""
        return DataError(self.path, what, line=self.line)

    def string(self, key: str) -> str:
        """Return a string, which may be empty. Raises DataError for anything else."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self.error(f"{key} is {shown(value)}, expected a string")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.error(f"{key} holds half of a surrogate pair, which is no letter: {shown(value)}")
        return value

    def text(self, key: str) -> str:
        """Return a string with something in it. Raises DataError for anything else."""
        value = self.string(key)
        if not value or value.isspace():
            raise self.error(f"{key} is {shown(value)}, expected a text that is not empty")
        return value

    def name(self, key: str) -> str:
        """Return an identifier or a label: a string that is not empty, or a whole number, as a string."""
        value = self._value(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return self.string(key)
        raise self.error(f"{key} is {shown(value)}, expected a string that is not empty or a whole number")

    def number(self, key: str) -> float:
        """Return a finite number. Raises DataError for anything else."""
        value = self._value(key)
        try:
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
        raise self.error(f"{key} is {shown(value)}, expected a finite number")

    def _value(self, key: str) -> Any:
        if key not in self.fields:
            raise self.error(f"{key} is missing. The line has {', '.join(self.fields) or 'no field'}")
        return self.fields[key]


class Source:
    """A file of lines in UTF-8, plain or .gz; what is read from it is hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hasher = blake3()
        self._fields: dict[str, None] = {}

    @property
    def digest(self) -> str:
        """Hex digest of what was read so far, unpacked; of the file once it was read to its end."""
        return self._hasher.hexdigest()

    def unread(self, known: Collection[str]) -> tuple[str, ...]:
        """Return the fields of the objects read so far that are not among those `known`."""
        return tuple(field for field in self._fields if field not in known)

    def raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line with its number from 1. Only a line feed ends one: a text may hold any other separator.

        Raises DataError when the file cannot be read.
        """
        try:
            with gzip.open(self.path, "rb") if self.path.name.endswith(".gz") else self.path.open("rb") as stream:
                for line, raw in enumerate(stream, start=1):
                    self._hasher.update(raw)
                    yield line, raw
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(self.path, f"cannot be read ({error})") from error

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield each line without its end. Raises DataError for an empty file and for what is no UTF-8."""
        line = 0
        for line, raw in self.raw_lines():
            written = raw.removeprefix(_BOM) if line == 1 else raw
            try:
                yield line, written.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(self.path, f"is no UTF-8 ({error})", line=line) from error
        if not line:
            raise DataError(self.path, "is empty")

    def rows(self) -> Iterator[Row]:
        """Yield each line's object. Raises DataError for a line that is none."""
        for line, written in self.lines():
            try:
                value = json.loads(written)
            except (ValueError, RecursionError) as error:
                raise DataError(self.path, f"is no valid JSON ({error})", line=line) from error
            if not isinstance(value, dict):
                raise DataError(self.path, f"holds {shown(value)}, expected an object", line=line)
            self._fields.update(dict.fromkeys(value))
            yield Row(self.path, line, value)


def shown(value: Any) -> str:
    """Return a value as a message has it: in ASCII, cut where it is long."""
    written = ascii(value) if isinstance(value, str) else json.dumps(value)
    return written if len(written) <= _SHOWN else written[:_SHOWN] + "..."
