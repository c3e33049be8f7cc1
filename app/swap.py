"""A rebuilt collection takes the place of the old one: folders are renamed, and a crash between is completed later.

1. The new one is built in NAME.rebuild, beside the old.
2. When finished it is renamed to NAME.rebuilt: from here on the swap is completed, whatever happens.
3. The old one is renamed to NAME.replaced, the new one to NAME, and the old one deleted.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def rebuild_folder(collection: Path) -> Path:
    """Return where the new collection is built."""
    return collection.with_name(collection.name + ".rebuild")


def companions(collection: Path) -> tuple[Path, ...]:
    """Return the folders beside a collection that a rebuild may leave."""
    return tuple(collection.with_name(collection.name + suffix) for suffix in (".rebuild", ".rebuilt", ".replaced"))


def swap_in(collection: Path) -> None:
    """Put the finished rebuild in the collection's place; both must be closed, and the caller keeps writers out."""
    _, rebuilt, _ = companions(collection)
    rebuild_folder(collection).rename(rebuilt)
    complete_swap(collection)


def complete_swap(collection: Path) -> None:
    """Finish a swap that was begun; nothing to do in the usual case."""
    _, rebuilt, replaced = companions(collection)
    if rebuilt.is_dir():
        if collection.is_dir():
            if replaced.is_dir():
                shutil.rmtree(replaced)
            collection.rename(replaced)
        rebuilt.rename(collection)
    if replaced.is_dir() and collection.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)
