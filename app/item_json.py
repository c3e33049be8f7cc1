"""Chunks and documents as reports name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..index.items import Item
from .places import absolute_path, shown_path


def place(item: Item, root: Path) -> str:
    """Return where an item is, as a person in the working directory would write it."""
    shown = shown_path(absolute_path(item.path, root))
    if item.ordinal is None:
        return shown
    if item.lines is not None:
        return f"{shown}:{item.lines[0]}" + (f"-{item.lines[1]}" if item.lines[1] != item.lines[0] else "")
    return f"{shown} ({item.anchor})" if item.anchor else f"{shown} (chunk {item.ordinal})"


def item_json(item: Item, root: Path) -> dict[str, Any]:
    """Return an item; every key is always there, null where it does not apply."""
    return {
        "key": item.key,
        "path": item.path,
        "file": str(absolute_path(item.path, root)),
        "place": place(item, root),
        "lines": None if item.lines is None else list(item.lines),
        "title": item.title,
        "date": item.date.isoformat(),
        "bytes": item.bytes,
        "text": item.text,
    }
