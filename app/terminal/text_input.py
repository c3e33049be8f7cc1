"""Texts to embed from files and stdin: one a line, or in a field of a JSON line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import AppError
from ..options import InputFormat

_JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """One text and what its line says of it."""

    text: str
    id: Any
    """The field "id" or "_id" of a JSON line, None without one."""
    size: int
    """Bytes of its line."""


def total_bytes(files: Sequence[Path]) -> int | None:
    """Return the size of all files together, None where it cannot be known beforehand."""
    if not files or any(str(file) == "-" or not file.is_file() for file in files):
        return None
    return sum(file.stat().st_size for file in files)


def read_rows(files: Sequence[Path], form: InputFormat, field: str | None) -> Iterator[TextRow]:
    """Yield every text, in order. Raises AppError naming file and line for one that is empty or no JSON."""
    if form is InputFormat.LINES and field is not None:
        raise AppError(f"--field is {field!r} and --input is lines: a field is of JSON lines, expected --input jsonl")
    for file in files:
        if str(file) != "-" and not file.exists():
            raise AppError(f"{file}: no such file, expected one with a text on each line, or - for stdin")
    return _rows(files or (Path("-"),), form, field)


def _rows(files: Sequence[Path], form: InputFormat, field: str | None) -> Iterator[TextRow]:
    for file in files:
        is_stdin = str(file) == "-"
        name = "stdin" if is_stdin else str(file)
        as_json = form is InputFormat.JSONL or (
            form is InputFormat.AUTO and (field is not None or file.suffix.lower() in _JSON_SUFFIXES)
        )
        if is_stdin:
            yield from _lines(sys.stdin.buffer, name, field or "text", as_json=as_json)
        else:
            with file.open("rb") as stream:
                yield from _lines(stream, name, field or "text", as_json=as_json)


def decoded_lines(stream: BinaryIO, name: str) -> Iterator[tuple[str, str, int]]:
    """Yield where each line is, its text without the line end, and its bytes. Raises AppError for other than UTF-8."""
    for number, line in enumerate(stream, start=1):
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise AppError(f"{where}: not UTF-8 at byte {error.start}: expected text in UTF-8") from error
        yield where, text, len(line)


def parsed_json(line: str, where: str, expected: str) -> Any:
    """Return the JSON of a line. Raises AppError for what is none, is nested too deeply, or holds half a character."""
    try:
        item = json.loads(line)
        # A lone surrogate is written \ud800 in JSON, and only shows when it has to become bytes.
        json.dumps(item, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise AppError(f"{where}: no valid JSON ({error.msg}): expected {expected}") from error
    except UnicodeEncodeError as error:
        raise AppError(f"{where}: {_lone(error)}: expected {expected} in valid Unicode") from error
    except RecursionError as error:
        raise AppError(f"{where}: JSON nested too deeply to read: expected {expected}") from error
    except ValueError as error:
        raise AppError(f"{where}: JSON that cannot be read ({error}): expected {expected}") from error
    return item


def require_unicode(text: str, what: str) -> None:
    """Raise AppError naming `what` for text that cannot be encoded, as an argument in another encoding than UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise AppError(f"{what} is {text!r}: {_lone(error)}: expected text in UTF-8") from error


def own_id(item: Mapping[str, Any], where: str) -> str | int | float | None:
    """Return what a JSON line calls itself in "id" or "_id", None without one. Raises AppError for what is no name."""
    key = "id" if "id" in item else "_id"
    id_ = item.get(key)
    if id_ is None or isinstance(id_, str | int) or (isinstance(id_, float) and math.isfinite(id_)):
        return id_
    raise AppError(f"{where}: {key} is {id_!r}, expected a string or a number")


def _lone(error: UnicodeEncodeError) -> str:
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of an argument that is not UTF-8
        return f"not UTF-8, with byte 0x{code - 0xDC00:02x}"
    return f"not valid Unicode, with half a surrogate pair (U+{code:04X})"


def _lines(stream: BinaryIO, name: str, field: str, *, as_json: bool) -> Iterator[TextRow]:
    for where, line, size in decoded_lines(stream, name):
        text, id_ = line, None
        if as_json:
            text, id_ = _from_json(text, where, field)
        if not text.strip():
            raise AppError(f"{where}: the text is empty: an encoder needs at least one character. Remove the line")
        yield TextRow(text=text, id=id_, size=size)


def _from_json(line: str, where: str, field: str) -> tuple[str, Any]:
    item = parsed_json(line, where, f'{{"{field}": TEXT}}')
    text = item.get(field) if isinstance(item, dict) else None
    if not isinstance(text, str):
        keys = ", ".join(map(repr, item)) if isinstance(item, dict) else type(item).__name__
        raise AppError(f"{where}: no text in field {field!r} (it has {keys or 'no fields'}): name another with --field")
    return text, own_id(item, where)
