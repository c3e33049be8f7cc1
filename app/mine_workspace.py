"""The folder beside an output where `searchctl train mine` keeps what a kill should not cost, and what it leaves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..training.data.corpus import source_name
from .errors import AppError

PART = "part"
"""The output until it is whole."""
_LOCK = "lock"


def workspace_of(output: Path) -> Path:
    """Return where the workspace of an output is."""
    return output.with_name(f".{source_name(output)}.mining")


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """Hold the workspace of `output`, one process at a time; it goes when the work is done.

    When the work fails it stays as far as something is in it, and the next run goes on with that. Raises AppError while
    another process holds it.
    """
    folder = workspace_of(output)
    folder.mkdir(exist_ok=True)
    # The operating system drops the lock with its process: a killed run holds nothing.
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise AppError(
            f"another `searchctl train mine` is making {output}: wait for its end, or name another --output"
        ) from None
    try:
        (folder / PART).unlink(missing_ok=True)  # a killed run's
        yield folder
    except BaseException:
        (folder / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: there are vectors to go on with
            folder.rmdir()
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
