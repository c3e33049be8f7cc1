"""The items of a collection for dedup and cluster, and how reports name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ...index.items import needed_memory
from ...index.memory import check_memory
from ...index.protocol import Collection, CollectionStatus, Item
from .opening import open_collection
from .paths import absolute_path, shown_path
from .talk import Talk

INCOMPLETE = "the index is incomplete: a run of index is going on, or was ended early and the next one completes it"

Bar = Callable[[str], AbstractContextManager[Callable[[float, str], None]]]
"""Shows that something named goes on; told the share done and a few words."""


@contextmanager
def opened(path: Path, talk: Talk) -> Iterator[Collection]:
    """Open the collection in this folder, and close it."""
    collection = open_collection(path, talk)
    try:
        yield collection
    finally:
        collection.close()


def check_room(*collections: CollectionStatus) -> None:
    """Raise NotEnoughMemoryError, before anything is read, when the items of these need more than there is."""
    chunks = sum(status.chunks for status in collections)
    settings = collections[0].settings
    if settings is not None:
        check_memory(
            f"comparing {chunks:,} chunks of {settings.dim} numbers",
            needed_memory(chunks, settings.dim),
            instead="free memory, or index less into one collection: --collection names another",
        )


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
