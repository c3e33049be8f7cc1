"""The items of a collection for dedup and cluster: whether there is room for them, and what a person should know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..index.collection import FolderCollection
from ..index.items import needed_memory
from ..index.memory import check_memory
from ..index.protocol import CollectionStatus
from .console import Terminal
from .engine import Engine, Talk
from .page_files import write_whole
from .places import shown_path

INCOMPLETE = "the index is incomplete, a run is going on or was ended early: `searchctl index` completes it"

Bar = Callable[[str], AbstractContextManager[Callable[[float, str], None]]]
"""Shows that something named goes on; told the share done and a few words."""


@contextmanager
def opened(path: Path, talk: Talk) -> Iterator[FolderCollection]:
    """Open the collection in this folder, and close it."""
    collection = Engine(path, talk).open()
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
            instead="free memory, or index less into one collection: `searchctl index PATH --collection FOLDER`",
        )


def write_page(terminal: Terminal, path: Path, page: str) -> None:
    """Put a report's page in its place and say where; a name that is no Unicode is shown by its codes."""
    write_whole(path, page.encode("utf-8", "backslashreplace"))
    terminal.say(f"report: {shown_path(path)}")
