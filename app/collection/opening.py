"""A collection, opened or made: the one place that knows what kind of collection it is."""

from __future__ import annotations

from pathlib import Path

from ...index.protocol import Collection
from .swap import is_collection
from .talk import Step, Talk


def open_collection(path: Path, talk: Talk) -> Collection:
    """Return the collection in its own folder. Raises CollectionNotFoundError when there is none."""
    is_collection(path)  # completes a swap that was killed, and waits for one that another process is in the middle of
    return open_folder(path, step=talk.step)


def open_folder(path: Path, *, step: Step | None = None) -> Collection:
    """Return the collection in the folder `path` as it is. Raises CollectionNotFoundError when there is none."""
    # Here, since FAISS and SQLite's side of a collection are a hundred modules: the rest of app/ knows the protocol.
    from ...index.collection import FolderCollection

    return FolderCollection.open(path, step=step)


def create_collection(path: Path, *, step: Step | None = None) -> Collection:
    """Return a collection in the folder `path`, made if it is not there; one that is there is opened."""
    from ...index.collection import FolderCollection

    return FolderCollection.create(path, step=step)
