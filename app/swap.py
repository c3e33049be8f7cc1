"""A rebuilt collection takes the place of the old one: folders are renamed, and a crash between is completed later.

1. The new one is built in NAME.rebuild, beside the old.
2. When finished it is renamed to NAME.rebuilt: from here on the swap is completed, whatever happens.
3. The old one is renamed to NAME.replaced, the new one to NAME, and the old one deleted.

Steps 2 and 3 hold the lock NAME.swap.lock, beside the folders because those are what is renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..index.catalogue import CATALOGUE_FILE
from ..index.errors import StorageError

_WAIT_S = 10.0
"""Renames take an instant; only the old folder's deletion may take longer, and nobody waits for that alone."""


def rebuild_folder(collection: Path) -> Path:
    """Return where the new collection is built."""
    return collection.with_name(collection.name + ".rebuild")


def companions(collection: Path) -> tuple[Path, ...]:
    """Return the folders beside a collection that a rebuild may leave."""
    return tuple(collection.with_name(collection.name + suffix) for suffix in (".rebuild", ".rebuilt", ".replaced"))


def swap_lock_file(collection: Path) -> Path:
    """Return the lock beside a collection that whoever renames it holds; it is there only while it is held."""
    return collection.with_name(collection.name + ".swap.lock")


def swap_in(collection: Path) -> None:
    """Put the finished rebuild in the collection's place; both must be closed, and the caller keeps writers out."""
    _, rebuilt, _ = companions(collection)
    with _swap_lock(collection, _WAIT_S):
        rebuild_folder(collection).rename(rebuilt)
        _complete(collection)


def complete_swap(collection: Path) -> None:
    """Finish a swap that was begun, or wait for the process that does; nothing to do in the usual case."""
    _, rebuilt, replaced = companions(collection)
    if rebuilt.is_dir():
        with _swap_lock(collection, _WAIT_S):
            _complete(collection)
    elif replaced.is_dir() and collection.is_dir():
        # Only the old folder is left to delete: whoever holds the lock is doing it, or a later command will.
        with suppress(StorageError), _swap_lock(collection, 0.0):
            _complete(collection)


def is_collection(folder: Path) -> bool:
    """Return whether a collection is in `folder`, also while another process swaps it."""
    while True:
        complete_swap(folder)
        if (folder / CATALOGUE_FILE).is_file():
            return True
        if not companions(folder)[1].is_dir():
            # Looked at again: the swap may have ended between the two looks.
            return (folder / CATALOGUE_FILE).is_file()


def _complete(collection: Path) -> None:
    """Do what is left of the swap; the caller holds its lock, under which the folders are looked at anew."""
    _, rebuilt, replaced = companions(collection)
    if rebuilt.is_dir():
        if collection.is_dir():
            if replaced.is_dir():
                shutil.rmtree(replaced)
            collection.rename(replaced)
        rebuilt.rename(collection)
    if replaced.is_dir() and collection.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _swap_lock(collection: Path, timeout_s: float) -> Iterator[None]:
    path = swap_lock_file(collection)
    lock = FileLock(path, timeout=timeout_s, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"{collection} is being swapped for its rebuilt version by another process, which holds {path}: run the "
            "command again in a moment"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot take the lock {path} to finish the swap of a rebuilt collection: {error.strerror or error}. Make "
            f"{collection.parent} writable, then run the command again"
        ) from error
    try:
        yield
    finally:
        # While it is held, so that nobody waits on a name that is gone; Windows refuses, and the empty file stays.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()
