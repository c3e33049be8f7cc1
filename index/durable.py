"""Files that are whole and on the disk, or not there: a kill or a power cut leaves the old one or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object], *, part: Path | None = None) -> None:
    """Put `content`, or what it writes into an open file, in the place of `path` in one step.

    Two processes may do so at once: the last one wins. `part`, on the same disk, is where the file stands until it is
    whole, for a caller that lets no second process do so: what a kill leaves there the next run writes over. Without
    it the name has the process in it, and stays after a kill.
    """
    temporary = part or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name != "posix":  # Windows cannot open a folder, and journals renames
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring a folder to the disk with all that is in it, before it is renamed or said to be finished."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
