"""Which folders are searchctl's own: beside a collection a person's folder may have any name, and is never touched."""

from __future__ import annotations

from pathlib import Path

from ..index.catalogue import CATALOGUE_FILE
from ..index.errors import StorageError
from .stored_groups import CLUSTERS_FILE, DUPLICATES_FILE

_FILES = frozenset(
    {
        *(".gitignore", "lock", "owner.json", "owner.json.tmp", "sources.json", "sources.json.tmp"),
        *("promotion.json", "successor.json", DUPLICATES_FILE, CLUSTERS_FILE),
        # Of dedup and cluster, named where they are made (app/pair_store.py, map_store.py, cluster_vectors.py).
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
