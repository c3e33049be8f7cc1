"""The cache folder of models: where one lies, and how a new one gets there in one step."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import PullError
from .registry import find

Stage = Literal["wait", "download", "check", "convert", "compile"]
# A commit of the hub at the end of a folder's name.
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far one pull has come. Stages come in the order wait (for another process), download, check, convert; compile
    is the making of a graph from files that are there."""

    stage: Stage
    done: int
    """Bytes; steps of "compile"."""
    total: int | None
    """As many as there are; None when not known."""


PullCallback = Callable[[PullProgress], None]


def cache_root(override: Path | None) -> Path:
    """Return the folder for models and hashes: `override`, else the user's cache folder for searchctl."""
    if override is not None:
        return override
    import platformdirs

    return Path(platformdirs.user_cache_dir("searchctl", appauthor=False))


def models_folder(cache: Path | None) -> Path:
    """Return the folder that holds one folder per pulled model."""
    return cache_root(cache) / "models"


def pulled(name: str, *, cache: Path | None = None) -> Path | None:
    """Return the folder of a model that was pulled, None when it was not. Asks no network."""
    entry = find(name)
    stem = entry.name if entry else name.replace("/", "--")
    root = models_folder(cache)
    if entry is not None and entry.version is not None:
        folder = root / f"{stem}-{entry.version}"
        return folder if folder.is_dir() else None
    if not root.is_dir():
        return None
    # The whole rest of the name: "qwen--qwen3-base-<commit>" is not a pull of "qwen--qwen3".
    found = [path for path in root.iterdir() if COMMIT.fullmatch(path.name.removeprefix(f"{stem}-"))]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def revision_of(folder: Path) -> str:
    """Return the version or commit at the end of a pulled model's folder name."""
    return folder.name.rpartition("-")[2]


@contextmanager
def placing(target: Path, progress: PullCallback | None) -> Iterator[Path | None]:
    """Give a fresh folder whose sub-folder "model" becomes `target` in one step, or None when `target` is there.

    Holds a lock for the whole body: a second process waits. What an earlier, killed run left is removed first. OSError
    leaves as PullError. The lock file stays, since removing it would let two processes hold locks on two files.
    """
    if target.is_dir():
        yield None
        return
    # After the way out of a model that is there: identify() goes it at each command.
    from filelock import FileLock, Timeout

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".{target.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress is not None:
                progress(PullProgress(stage="wait", done=0, total=None))
            lock.acquire()
    except OSError as error:
        raise disk_error(error, target) from error
    part = f".{target.name}.part-"
    try:
        if target.is_dir():
            yield None
            return
        _clear(target.parent, part)
        # A name of its own: a converter that outlived its killed parent may still be writing to the old one.
        staging = Path(tempfile.mkdtemp(prefix=part, dir=target.parent))
        yield staging
        _settle(staging / "model")
        (staging / "model").replace(target)
    except PullError:
        raise
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        _clear(target.parent, part)
        lock.release()


def _clear(folder: Path, prefix: str) -> None:
    for path in folder.iterdir():
        if path.name.startswith(prefix):
            shutil.rmtree(path, ignore_errors=True)


def disk_error(error: OSError, target: Path) -> PullError:
    """Return the PullError for a file operation that failed under the cache folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PullError(
            f"disk full: {target.parent} has no room for {target.name}. Free space there, or set SEARCHCTL_CACHE to a "
            "folder on another disk, and run it again."
        )
    return PullError(
        f"{target.parent}: {error.strerror or error}. Expected a folder that can be written: set SEARCHCTL_CACHE to "
        "one."
    )


def require_space(folder: Path, need: int) -> None:
    """Raise PullError naming both unless `folder`'s disk has `need` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise PullError(
            f"disk full: {folder} has {free / 1e6:,.0f} MB free and {need / 1e6:,.0f} MB are needed. Free space there, "
            "or set SEARCHCTL_CACHE to a folder on another disk."
        )


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below `folder`, a link to a file as that file; those that vanish count nothing."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue
    return total


def _settle(folder: Path) -> None:
    """Write the folder's files through to the disk, so that a power cut after the rename leaves no hollow files."""
    for path in folder.iterdir():
        # A second name of a file in the hub's cache was settled by the hub's library, and may belong to another user.
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            # r+b: Windows refuses fsync on a file open for reading only.
            with path.open("r+b") as file:
                os.fsync(file.fileno())
