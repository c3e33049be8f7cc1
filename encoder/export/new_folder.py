"""A folder that appears whole under its name or not at all, whatever ends the process that fills it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExportError


def require_new(target: Path) -> None:
    """Raise ExportError unless `target` is not there or an empty folder."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file: expected a new folder to write to. Choose another one with -o.")
    if any(target.iterdir()):
        raise ExportError(
            f"{target} is not empty, and an export overwrites nothing: choose a new folder with -o, or remove that one."
        )


def leftovers(target: Path) -> list[Path]:
    """Return the hidden folders beside `target` that an earlier process was filling: killed, or still at it."""
    return sorted(target.parent.glob(f".{target.name}.part-*"))


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that takes its name when the body ends, and is removed when it fails.

    All files are on the disk before the name is: a power cut leaves no hollow files. Raises ExportError for a target
    that has come to hold something, and for a full disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        # A folder inside: mkdtemp's own can be read by nobody else, and would stay so under the new name.
        inner = staging / "model"
        inner.mkdir()
        yield inner
        for path in (*inner.rglob("*"), inner):
            _sync(path)
        require_new(target)
        # Takes the place of an empty folder, and fails for one that is filled in this very moment.
        inner.replace(target)
        _sync(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"disk full: {target.parent} has no room for the model, nothing was left there. Free space, or choose "
                "a folder on another disk with -o."
            ) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_room(folder: Path, need: int) -> None:
    """Raise ExportError naming both unless the disk of `folder` has `need` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ExportError(
            f"disk full: the weights take {need / 1e6:,.0f} MB and there are {free / 1e6:,.0f} MB free. Free space, "
            "choose a folder on another disk with -o, or write half as much with --precision bf16."
        )


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name != "posix":  # Windows cannot open a folder, and journals renames
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
