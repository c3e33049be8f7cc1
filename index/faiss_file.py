"""The FAISS file as a copy of the vectors in SQLite: loaded, caught up, rebuilt, and published."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from blake3 import blake3

from .catalogue import FaissRecord, ReadConnection, State, read_state, transaction, write_state
from .cosine import check_unit
from .errors import CollectionDamagedError
from .faiss_store import FaissStore, load_faiss
from .file_names import CATALOGUE_FILE
from .protocol import Ids, Vectors

Step = Callable[[str], None]
_log = logging.getLogger(__name__)

_BLOCK_ROWS = 4096


def vector_blocks(
    connection: sqlite3.Connection, dim: int, *, after: int = 0, ids: Ids | None = None
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids and vectors in blocks, ascending: those with an id above `after`, or just `ids`.

    Raises CollectionDamagedError for a vector that is not `dim` finite numbers of norm 1.
    """
    if ids is None:
        cursor = connection.execute("SELECT id, CAST(vector AS BLOB) FROM vectors WHERE id > ? ORDER BY id", [after])
    else:
        cursor = connection.execute(
            "SELECT id, CAST(vector AS BLOB) FROM vectors WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
            [str(ids.tolist())],
        )
    while rows := cursor.fetchmany(_BLOCK_ROWS):
        yield np.array([row[0] for row in rows], dtype=np.int64), _vectors(rows, dim)


def _vectors(rows: list[tuple[int, bytes]], dim: int) -> Vectors:
    for id_, blob in rows:
        if len(blob) != 4 * dim:
            raise _damaged(f"vector {id_} has {len(blob)} bytes, expected {4 * dim}")
    vectors: Vectors = np.frombuffer(b"".join(blob for _, blob in rows), dtype="<f4").reshape(len(rows), dim)
    try:
        return check_unit(vectors, dim, what=f"vectors {rows[0][0]} to {rows[-1][0]}:")
    except ValueError as error:
        raise _damaged(str(error)) from error


def _damaged(what: str) -> CollectionDamagedError:
    return CollectionDamagedError(f"{what}: expected a repair, then another run of index", next_command=("repair",))


def load_store(connection: sqlite3.Connection, folder: Path, dim: int) -> FaissStore:
    """Return the vectors of the connection's snapshot as a store, from the FAISS file as far as that is sound.

    A missing or damaged file is logged as a warning with its reason, and all vectors are read from SQLite instead:
    nothing is embedded again, nothing is written.
    """
    record = read_state(connection).faiss
    store = None
    if record is not None:
        try:
            store = read_published(folder, record, dim)
        except (OSError, ValueError) as error:
            reason = f"{folder / record.file} is missing" if isinstance(error, FileNotFoundError) else str(error)
            if not _is_superseded(folder, record):
                _log.warning(
                    "%s: its %d vectors are read from the catalogue instead, which is slower. A repair writes the file "
                    "again",
                    reason,
                    record.count,
                )
    store = FaissStore(dim) if store is None else store
    catch_up(connection, store)
    return store


def _is_superseded(folder: Path, record: FaissRecord) -> bool:
    """Return whether a writer has published another file, and removed this one, since our snapshot was taken."""
    reader = ReadConnection(folder / CATALOGUE_FILE)
    return read_state(reader.connection).faiss != record


def read_published(folder: Path, record: FaissRecord, dim: int) -> FaissStore:
    """Return the published file as a store. Raises ValueError or OSError saying why it is not what was published."""
    path = folder / record.file
    size = path.stat().st_size
    if size != record.bytes:
        raise ValueError(f"{path} has {size} bytes, expected {record.bytes}")
    checksum = blake3().update_mmap(path).hexdigest()
    if checksum != record.checksum:
        raise ValueError(f"{path} has checksum {checksum[:12]}, expected {record.checksum[:12]}")
    if record.dim != dim:
        raise ValueError(f"{path} holds vectors of width {record.dim}, expected {dim}")
    store = FaissStore.read(path, dim)
    if store.info.count != record.count:
        raise ValueError(f"{path} holds {store.info.count} vectors, expected {record.count}")
    return store


def catch_up(connection: sqlite3.Connection, store: FaissStore) -> None:
    """Make `store` hold exactly the vectors of the connection's snapshot.

    An id is never given to another vector, but one that was dropped may come back (`kept_rows.put_back`): so the ids
    are compared one by one, and not by their number or the highest.
    """
    dim = store.info.dim
    # Without a WHERE, SQLite reads the ids from the index on the hashes and not from between the vectors.
    rows = connection.execute("SELECT id FROM vectors")
    known = np.sort(np.fromiter((row[0] for row in rows), dtype=np.int64))
    store.remove(np.setdiff1d(store.ids, known, assume_unique=True))
    newest = int(store.ids[-1]) if len(store.ids) else 0
    lacking = np.setdiff1d(known, store.ids, assume_unique=True)
    back = lacking[lacking < newest]
    if len(back):
        for ids, vectors in vector_blocks(connection, dim, ids=back):
            store.add(ids, vectors)
    if len(back) < len(lacking):
        for ids, vectors in vector_blocks(connection, dim, after=newest):
            store.add(ids, vectors)


def is_published(folder: Path, state: State) -> bool:
    """Return whether the FAISS file is there, of the recorded size, and reflects the vectors of today."""
    record = state.faiss
    if record is None or record.vector_changes != state.vector_changes:
        return False
    path = folder / record.file
    return path.is_file() and path.stat().st_size == record.bytes


def publish(connection: sqlite3.Connection, folder: Path, dim: int, step: Step, *, complete: bool = True) -> None:
    """Write the FAISS file of this generation, record it and whether the collection is complete, drop older files.

    `step` is told each step as it is done. Ended at any of them, the collection opens as before or as after.
    """
    state = read_state(connection)
    store = load_store(connection, folder, dim)
    name = f"vectors-{state.generation}.faiss"
    store.write(folder / name, step=lambda done: step(f"publish:{done}"))
    record = FaissRecord(
        generation=state.generation,
        file=name,
        count=store.info.count,
        dim=dim,
        bytes=(folder / name).stat().st_size,
        checksum=blake3().update_mmap(folder / name).hexdigest(),
        vector_changes=state.vector_changes,
        faiss_version=str(load_faiss().__version__),
    )
    with transaction(connection):
        write_state(connection, faiss=record, complete=complete)
        write_state(connection, finished_changes=state.changes, updated=datetime.now(UTC))
        step("publish:recording")
    step("publish:recorded")
    # A reader in a long snapshot keeps the log from shrinking, which can wait for the next run.
    connection.execute("PRAGMA busy_timeout=1000")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    step("publish:checkpointed")
    for path in leftovers(folder, record):
        path.unlink(missing_ok=True)
    step("publish:cleaned")


def leftovers(folder: Path, record: FaissRecord | None) -> list[Path]:
    """Return the files an interrupted publisher left behind: temporary ones, and generations that are not recorded."""
    kept = None if record is None else record.file
    return sorted(path for path in folder.glob("vectors-*.faiss*") if path.name != kept)
