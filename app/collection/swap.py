"""A new collection takes the place of the old one: folders are renamed, and a crash between is completed later.

A rebuild (`index --rebuild`) drops the old one:

1. The new one is built in NAME.rebuild, beside the old.
2. When finished it is renamed to NAME.rebuilt: from here on the swap is completed, whatever happens.
3. The old one is renamed to NAME.replaced, the new one to NAME, and the old one deleted.

A promotion (`models promote`) keeps it:

1. The new one is built in NAME.promote, beside the old; to roll back, NAME.previous is the new one.
2. When finished it is renamed to NAME.promoted: from here on the swap is completed, whatever happens.
3. One kept before is renamed to NAME.replaced, the old one to NAME.previous, the new one to NAME; NAME.replaced is
   deleted.

Steps 2 and 3 hold the lock NAME.swap.lock, beside the folders because those are what is renamed. Where NAME is a link,
all this is beside the folder it leads to. A person's folders may have these names too: they are left alone,
and where a name is needed the command ends before it changes anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...index.durable import sync
from ...index.errors import StorageError
from ...index.file_names import CATALOGUE_FILE, OWNER_FILE
from .stored_groups import CLUSTERS_FILE, DUPLICATES_FILE

_FILES = frozenset(
    {
        *(".gitignore", "lock", "owner.json", "owner.json.tmp", "sources.json", "sources.json.tmp"),
        *("promotion.json", "successor.json", DUPLICATES_FILE, CLUSTERS_FILE),
        # Of dedup and cluster, named where they are made (caches.py, app/cluster/run.py).
        *("pairs", "maps", "instructed.sqlite", "instructed.sqlite-wal", "instructed.sqlite-shm"),
    }
)


def is_own_file(name: str) -> bool:
    """Return whether searchctl puts a file or folder of this name into a collection's folder."""
    # What a kill leaves of a file that was being written (index/durable.py) has the process in its name.
    whole = name[1:].rpartition(".")[0] if name.startswith(".") else ""
    return bool({name, whole} & _FILES) or name.startswith(CATALOGUE_FILE) or _is_vector_file(name)


def _is_vector_file(name: str) -> bool:
    return name.startswith("vectors-") and ".faiss" in name


def holds_catalogue(folder: Path) -> bool:
    """Return whether a collection is in the folder itself."""
    return (folder / CATALOGUE_FILE).is_file()


def foreign_entry(folder: Path) -> Path | None:
    """Return what shows that something is not searchctl's to delete, None when it is or when nothing is there.

    A collection is, and so is one of which a deletion that was killed has left some files.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return folder
    if not folder.is_dir() or holds_catalogue(folder):
        return None
    try:
        return next((entry for entry in sorted(folder.iterdir()) if not is_own_file(entry.name)), None)
    except OSError:
        return folder  # What cannot be looked into is nobody's to delete.


def require_own(*folders: Path) -> None:
    """Raise StorageError for the first of these that is there and not searchctl's own."""
    for folder in folders:
        entry = foreign_entry(folder)
        if entry is not None:
            what = "is no folder of searchctl" if entry == folder else f"holds {entry.name}, which is not searchctl's"
            raise StorageError(
                f"{folder} {what}, and the name is needed for what searchctl keeps beside the collection. Nothing was "
                "changed: give it another name or move it away, then run the command again"
            )


_WAIT_S = 10.0
"""Renames take an instant; only the old folder's deletion may take longer, and nobody waits for that alone."""

Step = Callable[[str], None]

SUFFIXES = (".rebuild", ".rebuilt", ".replaced", ".promote", ".promoted", ".previous")
"""What the names beside a collection have after its own."""

SWAP_DECIDED = "swap:decided"
"""The step of `swap_keeping` from which on the new collection takes the place, whatever happens."""


def _silent(name: str) -> None:
    """Take a step that nobody watches."""


def _beside(collection: Path, suffix: str) -> Path:
    folder = _folder(collection)
    return folder.with_name(folder.name + suffix)


def _folder(collection: Path) -> Path:
    """Return what is renamed: never a link, whose target would stay where it is."""
    return Path(os.path.realpath(collection)) if collection.is_symlink() else collection


def rebuild_folder(collection: Path) -> Path:
    """Return where the new collection of a rebuild is built."""
    return _beside(collection, ".rebuild")


def _rebuilt_folder(collection: Path) -> Path:
    """Return the name of a rebuild that is about to be put in place."""
    return _beside(collection, ".rebuilt")


def _replaced_folder(collection: Path) -> Path:
    """Return the name of what is deleted as soon as the collection is in its place."""
    return _beside(collection, ".replaced")


def companions(collection: Path) -> tuple[Path, ...]:
    """Return the folders beside a collection that a rebuild may leave."""
    return rebuild_folder(collection), _rebuilt_folder(collection), _replaced_folder(collection)


def promote_folder(collection: Path) -> Path:
    """Return where the new collection of a promotion is built."""
    return _beside(collection, ".promote")


def previous_folder(collection: Path) -> Path:
    """Return where the collection is kept that a promotion took the place of."""
    return _beside(collection, ".previous")


def _promoted_folder(collection: Path) -> Path:
    """Return the name of a collection that a promotion or a rollback is about to put in place."""
    return _beside(collection, ".promoted")


def promotion_folders(collection: Path) -> tuple[Path, ...]:
    """Return the folders beside a collection that a promotion may leave."""
    return promote_folder(collection), _promoted_folder(collection), previous_folder(collection)


def swap_lock_file(collection: Path) -> Path:
    """Return the lock beside a collection that whoever renames it holds; it is there only while it is held."""
    return _beside(collection, ".swap.lock")


def require_rebuild_room(collection: Path) -> None:
    """Raise StorageError when a name that a rebuild needs is taken by something of the person's own."""
    require_own(*companions(collection))


def require_promotion_room(collection: Path) -> None:
    """Raise StorageError when a name that a promotion needs is taken by something of the person's own."""
    require_own(*promotion_folders(collection), _replaced_folder(collection))


def swap_in(collection: Path) -> None:
    """Put the finished rebuild in the collection's place; both must be closed, and the caller keeps writers out."""
    with _swap_lock(collection, _WAIT_S):
        require_rebuild_room(collection)
        rebuild_folder(collection).rename(_rebuilt_folder(collection))
        _complete(collection, _silent)


def swap_keeping(collection: Path, new: Path, *, step: Step | None = None) -> None:
    """Put `new`, the promotion's folder or the kept one, in the collection's place and keep the collection.

    Both must be closed, and the caller holds the collection's write lock. `step` is told each step as it is done.
    """
    with _swap_lock(collection, _WAIT_S):
        require_promotion_room(collection)
        new.rename(_promoted_folder(collection))
        sync(new.parent)
        told = step or _silent
        told(SWAP_DECIDED)
        _complete(collection, told)


def complete_swap(collection: Path) -> None:
    """Finish a swap that was begun, or wait for the process that does; nothing to do in the usual case."""
    if is_swap_begun(collection):
        with _swap_lock(collection, _WAIT_S):
            _complete(collection, _silent)
    elif _is_to_delete(_replaced_folder(collection)) and collection.is_dir():
        # Only the old folder is left to delete: whoever holds the lock is doing it, or a later command will.
        with suppress(StorageError), _swap_lock(collection, 0.0):
            _complete(collection, _silent)


def is_collection(folder: Path) -> bool:
    """Return whether a collection is in `folder`, also while another process swaps it."""
    while True:
        complete_swap(folder)
        if holds_catalogue(folder):
            return True
        if not is_swap_begun(folder):
            # Looked at again: the swap may have ended between the two looks.
            return holds_catalogue(folder)


def discard(collection: Path, folder: Path) -> None:
    """Delete a folder beside the collection so that a kill leaves all of it or nothing under its name."""
    replaced = _replaced_folder(collection)
    with _swap_lock(collection, _WAIT_S):
        _set_aside(folder, replaced)
        shutil.rmtree(replaced, ignore_errors=True)


def is_swap_begun(collection: Path) -> bool:
    """Return whether a swap is decided and not completed."""
    return holds_catalogue(_rebuilt_folder(collection)) or holds_catalogue(_promoted_folder(collection))


def _complete(collection: Path, step: Step) -> None:
    """Do what is left of the swap; the caller holds its lock, under which the folders are looked at again."""
    collection = _folder(collection)
    rebuilt, replaced = _rebuilt_folder(collection), _replaced_folder(collection)
    promoted, previous = _promoted_folder(collection), previous_folder(collection)
    if holds_catalogue(promoted):
        if collection.is_dir():
            if previous.is_dir():
                _set_aside(previous, replaced)
                step("swap:kept-aside")
            collection.rename(previous)
            step("swap:kept")
        promoted.rename(collection)
        # The swap's process held the lock of the kept one: it was not killed in the middle of writing to it.
        (previous / OWNER_FILE).unlink(missing_ok=True)
        sync(collection.parent)
        step("swap:swapped")
    if holds_catalogue(rebuilt):
        if collection.is_dir():
            _set_aside(collection, replaced)
        rebuilt.rename(collection)
    if _is_to_delete(replaced) and collection.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)


def _is_to_delete(replaced: Path) -> bool:
    return replaced.is_dir() and foreign_entry(replaced) is None


def _set_aside(folder: Path, replaced: Path) -> None:
    """Give a folder the name of one that is deleted as soon as the collection is in its place."""
    require_own(folder, replaced)
    if replaced.is_dir():
        shutil.rmtree(replaced)
    folder.rename(replaced)


@contextmanager
def _swap_lock(collection: Path, timeout_s: float) -> Iterator[None]:
    path = swap_lock_file(collection)
    lock = FileLock(path, timeout=timeout_s, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"{collection} is being swapped for its new version by another process, which holds {path}: run the "
            "command again in a moment"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot take the lock {path} to finish the swap of a collection: {error.strerror or error}. Make "
            f"{collection.parent} writable, then run the command again"
        ) from error
    try:
        yield
    finally:
        # While it is held, so that nobody waits on a name that is gone; Windows refuses, and the empty file stays.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()
