"""What a report page carries for its scripts: JSON that no text in it can end, and texts cut so that it stays small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..terminal.console import harmless

MOST_BYTES = 14_000_000
"""A page may grow to this; its texts are cut before it would. Below 15 MB, which mail and browsers take well."""
LENGTHS = (20_000, 10_000, 5_000, 3_000, 2_000, 1_400, 1_000, 700, 500, 350, 250, 180, 120, 80, 40, 0)
"""Characters that texts may be cut to."""

_SCRIPTS = Path(__file__).parent / "scripts"


def asset(name: str) -> str:
    """Return a style sheet or a script of report pages."""
    return (_SCRIPTS / name).read_text(encoding="utf-8")


def script(names: Sequence[str]) -> str:
    """Return scripts in this order as one, whose names are its own."""
    return '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in names) + "})();\n"


def data_block(value: Any) -> str:
    """Return `value` as the page's JSON element "data"; `<` is written as its code, so that nothing in it ends it."""
    text = _json(value).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>'


def text_limit(texts: Iterable[str], room: int, *, most: int = LENGTHS[0]) -> int:
    """Return the largest of LENGTHS up to `most` at which all texts together take at most `room` bytes of JSON.

    0 where none does: then no text is shown.
    """
    whole = list(texts)
    for limit in LENGTHS:
        if limit <= most and sum(_bytes(text[:limit]) for text in whole) <= room:
            return limit
    return 0


def room_for_texts(rest: Any) -> int:
    """Return the bytes that a page with the data `rest`, texts left out, has for texts."""
    return MOST_BYTES - len(data_block(rest).encode("utf-8", "replace"))


def shown_text(text: str, limit: int) -> tuple[str, int]:
    """Return a text as the page has it, and its whole length where it was cut, else 0."""
    return harmless(text[:limit]), len(text) if len(text) > limit else 0


def page_item(item: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return an item of a report as the page's scripts read it."""
    text, cut = shown_text(item["text"], limit)
    title = item["title"]
    return {
        "path": harmless(item["path"]),
        "place": harmless(item["place"]),
        "title": None if title is None else harmless(title),
        "date": harmless(item["date"] or "")[:10],
        "bytes": item["bytes"],
        "text": text,
        "cut": cut,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _bytes(text: str) -> int:
    """Return the bytes of a text in `data_block`, without writing it: quotes, line ends and `<` take more than one."""
    marks = text.count('"') + text.count("\\") + text.count("\n") + text.count("\t")
    return len(text.encode("utf-8", "replace")) + marks + 5 * text.count("<") + 3
