"""JSONL and NDJSON by records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .decoding import decode

_TEXT_FIELDS = ("text", "body", "content", "abstract")
_ID_FIELDS = ("_id", "id")
_TITLE_FIELDS = ("title", "headline", "name", "subject")


def read_jsonl(data: bytes, name: str) -> Document:
    """Return one section per record, anchor "row" with its line.

    A record with a text field (text, body, content, abstract) gives that, its title as heading, or, where that is
    blank, lines "key: value" of its other fields but for the id, nested keys joined by dots, or the title alone. A
    record without a text field gives such lines of all fields. Raises ReadError naming the line of a record that is no
    JSON."""
    decoded = decode(data, name)
    sections: list[Section] = []
    for number, line in enumerate(decoded.text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ReadError(
                f"{name}: line {number}: not JSON ({error}). Expected one JSON value per line; correct the line."
            ) from error
        section = _section(record, number)
        if section is not None:
            sections.append(section)
    return Document(format="jsonl", sections=tuple(sections), metadata=decoded.metadata)


def _section(record: Any, number: int) -> Section | None:
    """Return the section of a record, None for one without any text."""
    anchor = Anchor(kind="row", value=str(number))
    fields = {str(key).lower(): value for key, value in record.items()} if isinstance(record, dict) else {}
    texts = [text for key in _TEXT_FIELDS if isinstance(text := fields.get(key), str) and text.strip()]
    named = next((key for key in _TITLE_FIELDS if isinstance(fields.get(key), str)), "")
    title = " ".join(fields[named].split()) if named else ""
    text = "\n\n".join(texts)
    if not texts and not fields.keys().isdisjoint(_TEXT_FIELDS):
        others = {key: value for key, value in record.items() if str(key).lower() not in (*_ID_FIELDS, named)}
        text = "\n".join(_flat(others, "")) or title
    elif not texts:
        text, title = "\n".join(_flat(record, "")), ""
    if not text.strip():
        return None
    return Section(text=text, anchor=anchor, headings=(title,) if title else (), line=number)


def _flat(value: Any, key: str) -> Iterator[str]:
    """Yield "key: value" for each value that is neither null nor blank."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _flat(item, f"{key}.{inner}" if key else str(inner))
    elif isinstance(value, list):
        if all(isinstance(item, str | int | float) for item in value):
            yield from _flat(", ".join(_scalar(item) for item in value), key)
        else:
            for item in value:
                yield from _flat(item, key)
    elif value is not None and not (isinstance(value, str) and not value.strip()):
        yield f"{key}: {_scalar(value)}" if key else _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
