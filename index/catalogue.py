"""The SQLite file of a collection: connections, transactions, state, and its errors in our words."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import lexical
from .errors import CollectionDamagedError, CollectionNotFoundError, IndexRoomError, StorageError
from .protocol import CollectionSettings, FileRecord

_PAGE_BYTES = 16384
"""A vector of 576 float32 wastes half of SQLite's default page of 4096 bytes, and 15 % of this."""

_BUSY_TIMEOUT_S = 30.0

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_STORAGE = {
    sqlite3.SQLITE_FULL: "the disk is full. Free space, then run the command again: what was committed is kept",
    sqlite3.SQLITE_READONLY: "the collection is read-only. Make it writable, or name another with --collection PATH",
    sqlite3.SQLITE_PERM: "access is denied. Make the collection's files yours",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened. Check that the collection's folder exists and is yours",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write. Check the disk, then the collection",
    sqlite3.SQLITE_BUSY: "another program keeps the file locked. End it, then run the command again",
    sqlite3.SQLITE_LOCKED: "another program keeps the file locked. End it, then run the command again",
}


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises about its file into StorageError or CollectionDamagedError; our own bugs pass."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """Return the error of this room for one of SQLite, or the error itself when it is a mistake of ours."""
    # Errors the sqlite3 module raises by itself, such as use after close, have no code.
    primary = int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF
    if primary in _DAMAGE:
        return CollectionDamagedError(
            f"{path} is damaged ({error}): it cannot be fixed from what it holds. Move {path.parent} away, then index "
            "again",
            next_command=("index", "PATH"),
        )
    if primary in _STORAGE:
        check = ("verify",) if primary == sqlite3.SQLITE_IOERR else ()
        return StorageError(f"{path}: {error}: {_STORAGE[primary]}", next_command=check)
    return error


class ReadConnection:
    """A connection that cannot write, not even a checkpoint: only the writer moves the log into the file.

    SQLite before 3.51.3 may corrupt a WAL file when two connections write or checkpoint together. The connection may
    be closed by another thread than the one that uses it, and is closed with this object.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CollectionNotFoundError(f"there is no collection in {path.parent}", next_command=("index", "PATH"))
        self.frozen = False
        """The file is read as one that nobody changes: the caller must open it again for each use."""
        self.connection = _open_read_only(path, "mode=ro")
        try:
            self.connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            self.connection.close()
            # WAL needs a file beside the catalogue for its readers; in a folder where we may not make one, and
            # without a log, the catalogue alone is the whole and last commit.
            log = path.with_name(f"{path.name}-wal")
            if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
                raise
            self.connection = _open_read_only(path, "mode=ro&immutable=1")
            self.frozen = True
        except sqlite3.Error:
            self.connection.close()
            raise
        lexical.register(self.connection)

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()


def _open_read_only(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def connect_writer(path: Path) -> sqlite3.Connection:
    """Return the connection of the one writer; the caller holds the write lock. Every commit is on the disk."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # counts only for a new file
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        lexical.register(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what happens inside as one, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # does nothing when a full disk has rolled back already
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let every read inside see one and the same commit; inside another snapshot, that one."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaissRecord:
    """The FAISS file as it was when published; any other bytes under its name are not it."""

    generation: int
    file: str
    count: int
    dim: int
    bytes: int
    checksum: str
    """blake3 hex of the file."""
    vector_changes: int
    """`State.vector_changes` that the file reflects."""
    faiss_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The few values that change with every commit."""

    settings: CollectionSettings | None
    generation: int
    changes: int
    """Raised by every commit that changes documents or chunks."""
    vector_changes: int
    """Raised by every commit that adds or drops a vector."""
    finished_changes: int
    """`changes` at the last finish."""
    complete: bool
    created: datetime | None
    updated: datetime | None
    faiss: FaissRecord | None


def read_state(connection: sqlite3.Connection) -> State:
    """Return the state as the connection's snapshot has it."""
    values = dict(connection.execute("SELECT key, value FROM meta"))
    settings = values.get("settings")
    faiss = values.get("faiss")
    return State(
        settings=None if settings is None else CollectionSettings(**json.loads(settings)),
        generation=int(values["generation"]),
        changes=int(values["changes"]),
        vector_changes=int(values["vector_changes"]),
        finished_changes=int(values.get("finished_changes", "0")),
        complete=values["complete"] == "1",
        created=_date(values.get("created")),
        updated=_date(values.get("updated")),
        faiss=None if faiss is None else FaissRecord(**json.loads(faiss)),
    )


def write_state(connection: sqlite3.Connection, **values: object) -> None:
    """Set values of `State` by name inside the caller's transaction; dataclasses are kept as JSON."""
    for key, value in values.items():
        if isinstance(value, (CollectionSettings, FaissRecord)):
            text = json.dumps(asdict(value))
        elif isinstance(value, datetime):
            text = value.isoformat()
        else:
            assert isinstance(value, int), key
            text = str(int(value))
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, text])


def bump(connection: sqlite3.Connection, *counters: str) -> None:
    """Raise counters of `State` inside the caller's transaction, and note the time."""
    connection.executemany(
        "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = ?", [[counter] for counter in counters]
    )
    write_state(connection, updated=datetime.now(UTC))


def _date(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def signed(inode: int) -> int:
    """Return an unsigned 64-bit inode as the signed integer SQLite stores."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def unsigned(inode: int) -> int:
    """Return the inode that `signed` was given."""
    return inode + (1 << 64) if inode < 0 else inode


def read_files(connection: sqlite3.Connection) -> dict[str, FileRecord]:
    """Return every document's file by path, ascending."""
    rows = connection.execute("SELECT path, size, mtime_ns, inode, content_hash FROM documents ORDER BY path")
    return {
        path: FileRecord(path=path, size=size, mtime_ns=mtime_ns, inode=unsigned(inode), content_hash=hash_)
        for path, size, mtime_ns, inode, hash_ in rows
    }


def vector_ids(connection: sqlite3.Connection, hashes: Iterable[str]) -> dict[str, int]:
    """Return the ids of those hashes that have a committed vector."""
    rows = connection.execute(
        "SELECT hash, id FROM vectors WHERE hash IN (SELECT value FROM json_each(?))", [json.dumps(list(hashes))]
    )
    return dict(rows)


def check_stored_text(text: str, what: str) -> None:
    """Raise IndexRoomError for a text SQLite cannot hold: half of a surrogate pair, as undecodable file names have."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise IndexRoomError(
            f"{what} {text[:80]!r} is not valid Unicode at character {error.start}: expected UTF-8. Rename the file, "
            "or exclude it in .searchctlignore"
        ) from error
