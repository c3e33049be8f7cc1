"""The write lock of a collection: one writer at a time, known by pid and start."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import CollectionLockedError, StorageError
from .file_names import OWNER_FILE

LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who holds, or was killed while holding, the write lock."""

    pid: int
    host: str
    started: str
    """ISO time at which the lock was taken."""


def read_owner(folder: Path) -> Owner | None:
    """Return who wrote the owner file of `folder`, None when there is none or it is unreadable."""
    with suppress(OSError, ValueError, TypeError):
        return Owner(**json.loads((folder / OWNER_FILE).read_text(encoding="utf-8")))
    return None


@contextmanager
def write_lock(folder: Path, *, timeout_s: float = 0.0) -> Iterator[bool]:
    """Hold the write lock of a collection's folder; yields True when the last owner died without releasing it.

    The operating system drops the lock with its process, so a killed owner leaves only its owner file behind.
    Raises CollectionLockedError naming the owner when another writer, of this or another process, lives.
    """
    lock = _acquired(folder, timeout_s)
    owner = Owner(pid=os.getpid(), host=socket.gethostname(), started=datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        unclean = (folder / OWNER_FILE).exists()
        _write_owner(folder, owner)
        yield unclean
    finally:
        # After a swap another collection is in the folder's place, and the name in it may be its own writer's.
        if read_owner(folder) in (owner, None):
            with suppress(OSError):
                (folder / OWNER_FILE).unlink(missing_ok=True)
        lock.release()


@contextmanager
def writers_kept_out(folder: Path) -> Iterator[None]:
    """Hold the write lock of a collection's folder for one who changes nothing in it, and leaves no name.

    What a killed owner left stays for the next writer to see. Raises like `write_lock`.
    """
    lock = _acquired(folder, 0.0)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, timeout_s: float) -> FileLock:
    # thread_local=False: the lock may be released by another thread than the one that took it (a server's shutdown).
    lock = FileLock(folder / LOCK_FILE, timeout=timeout_s, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise _locked(folder) from None
    except OSError as error:
        raise StorageError(
            f"cannot take the write lock {folder / LOCK_FILE}: {error.strerror or error}. Make the folder writable, "
            "or name another collection with --collection PATH"
        ) from error
    return lock


def _write_owner(folder: Path, owner: Owner) -> None:
    temporary = folder / f"{OWNER_FILE}.tmp"
    try:
        temporary.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        temporary.replace(folder / OWNER_FILE)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder / OWNER_FILE}: {error.strerror or error}. Free disk space or make the folder "
            "writable, then run the command again"
        ) from error


def _locked(folder: Path) -> CollectionLockedError:
    owner = read_owner(folder)
    deadline = time.monotonic() + 0.3
    # The owner writes its name just after it took the lock: give it that moment.
    while owner is None and time.monotonic() < deadline:
        time.sleep(0.02)
        owner = read_owner(folder)
    if owner is None:
        return CollectionLockedError(
            f"{folder} is being written by another process that has not left its name: run the command again "
            "when it has ended",
            pid=None,
        )
    return CollectionLockedError(
        f"{folder} is being written by process {owner.pid} on {owner.host}, started {owner.started}: only one writer "
        f"may live at a time (searching is not blocked). Wait for it, or stop it with `kill {owner.pid}`, "
        "then run the command again",
        pid=owner.pid,
    )
