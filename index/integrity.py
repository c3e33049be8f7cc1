"""Is a collection whole, and what can be fixed without embedding: `verify` and `repair`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from .catalogue import State, bump, read_state, transaction, write_state
from .cosine import UNIT_TOLERANCE
from .errors import CollectionDamagedError
from .faiss_file import Step, is_published, leftovers, publish, read_published, vector_blocks
from .faiss_store import FaissStore
from .file_names import CATALOGUE_FILE
from .protocol import Problem, RepairReport
from .schema import SQL_FTS

_SHOWN = 5
"""Problems of one kind named one by one; the rest is a count."""


def verify(connection: sqlite3.Connection, folder: Path) -> list[Problem]:
    """Return what is wrong with a collection, [] when it is clean; the connection is the writer's, nothing changes.

    Vectors that no chunk uses are no problem: an interrupted run left them, and the next one uses them.
    """
    damage = _sqlite_damage(connection)
    if damage:
        # What rests on a damaged file cannot be judged.
        return [Problem(what=f"{folder / CATALOGUE_FILE}: {line}", repairable=False) for line in damage]
    problems = [
        Problem(what=f"chunk {id_} belongs to no document", repairable=True) for id_ in _stray_chunks(connection)
    ]
    broken = _broken_documents(connection, _bad_vectors(connection))
    problems += [Problem(what=f"{path}: {why}", repairable=False) for path, why in broken.items()]
    if not _words_are_sound(connection):
        problems.append(Problem(what="the word index differs from the chunks", repairable=True))
    if (faiss := _faiss_problem(connection, folder)) is not None:
        problems.append(Problem(what=faiss, repairable=True))
    problems += [
        Problem(what=f"{path} is left from an interrupted run", repairable=True)
        for path in leftovers(folder, read_state(connection).faiss)
    ]
    return problems


def repair(connection: sqlite3.Connection, folder: Path, *, step: Step) -> RepairReport:
    """Fix what can be fixed from SQLite and say what was; the connection is the writer's.

    A document that lacks a sound vector or a chunk is dropped, and named in `left`: the next `searchctl index` finds
    its file as new and embeds just the vectors that are lacking. Vectors that no chunk uses are kept for that run.
    Raises CollectionDamagedError when SQLite itself is damaged.
    """
    if damage := _sqlite_damage(connection):
        raise CollectionDamagedError(
            f"{folder / CATALOGUE_FILE} is damaged ({damage[0]}): it cannot be fixed from what it holds. "
            f"Move {folder} away, then index again",
            next_command=("index", "PATH"),
        )
    fixed: list[str] = []
    bad = _bad_vectors(connection)
    broken = _broken_documents(connection, bad)
    stray = _stray_chunks(connection)
    sound = _words_are_sound(connection)
    faiss = _faiss_problem(connection, folder)
    left = tuple(
        Problem(what=f"{path}: {why}: dropped, and embedded again by the next run of index", repairable=False)
        for path, why in broken.items()
    )
    if stray or broken or bad or not sound:
        _drop(connection, list(broken), list(bad))
        fixed.append("rebuilt the word index")
    if stray:
        fixed.append(f"dropped {len(stray)} chunks that belonged to no document")
    if bad:
        fixed.append(f"dropped {len(bad)} damaged vectors")
    for path in leftovers(folder, read_state(connection).faiss):
        path.unlink(missing_ok=True)
        fixed.append(f"removed {path.name}, left from an interrupted run")
    if faiss is not None or bad:
        fixed.append(_publish_anew(connection, folder, step))
    return RepairReport(fixed=tuple(fixed), left=left)


def _sqlite_damage(connection: sqlite3.Connection) -> list[str]:
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    # Rows that break a constraint are judged one by one; NULLs and foreign keys are not damage to the file.
    return [] if lines == ["ok"] else lines


def _stray_chunks(connection: sqlite3.Connection) -> list[int]:
    return [
        id_
        for (id_,) in connection.execute(
            "SELECT id FROM chunks WHERE document_id NOT IN (SELECT id FROM documents) ORDER BY id"
        )
    ]


def _bad_vectors(connection: sqlite3.Connection) -> dict[int, str]:
    """Return the ids of vectors that are not finite numbers of the right width and norm 1, each with the reason."""
    settings = read_state(connection).settings
    bad: dict[int, str] = {}
    if settings is None:
        return bad
    width = 4 * settings.dim
    for id_, blob in connection.execute("SELECT id, CAST(vector AS BLOB) FROM vectors ORDER BY id"):
        if len(blob) != width:
            bad[id_] = f"vector {id_} has the wrong width"
            continue
        vector = np.frombuffer(blob, dtype="<f4").astype(np.float64)
        norm = float(np.sqrt(vector @ vector))
        if not np.isfinite(norm):
            bad[id_] = f"vector {id_} is not finite"
        elif abs(norm - 1.0) > UNIT_TOLERANCE:
            bad[id_] = f"vector {id_} has norm {norm:.4g}, expected 1"
    return bad


def _broken_documents(connection: sqlite3.Connection, bad: dict[int, str]) -> dict[str, str]:
    """Return the paths of documents that are not whole, each with the first reason."""
    broken: dict[str, str] = {}
    for path, expected, found in connection.execute(
        "SELECT path, chunk_count, (SELECT count(*) FROM chunks WHERE document_id = documents.id) AS found"
        " FROM documents WHERE chunk_count <> found ORDER BY path"
    ):
        broken[path] = f"it has {found} chunks, expected {expected}"
    uses = "SELECT path, ordinal, vector_id FROM chunks JOIN documents ON documents.id = document_id"
    for path, ordinal, id_ in connection.execute(
        f"{uses} WHERE vector_id NOT IN (SELECT id FROM vectors) ORDER BY path, ordinal"
    ):
        broken.setdefault(path, f"chunk {ordinal} has no vector ({id_} is gone)")
    for id_, why in bad.items():
        for path, ordinal, _ in connection.execute(f"{uses} WHERE vector_id = ? ORDER BY path, ordinal", [id_]):
            broken.setdefault(path, f"chunk {ordinal} has no sound vector ({why})")
    return broken


def _words_are_sound(connection: sqlite3.Connection) -> bool:
    """Return whether FTS5 holds exactly the words of the chunks."""
    try:
        # rank = 1 compares with the content table too; without it only the index itself is checked.
        connection.execute("INSERT INTO chunk_fts (chunk_fts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
            return False
        raise
    return True


def _faiss_problem(connection: sqlite3.Connection, folder: Path) -> str | None:
    """Return how the FAISS file differs from the vectors of SQLite; a merely older one is caught up on, and sound."""
    state = read_state(connection)
    if state.settings is None:
        return None
    if state.faiss is None:
        return "the FAISS file was never published" if state.complete else None
    try:
        store = read_published(folder, state.faiss, state.settings.dim)
    except FileNotFoundError:
        return f"{folder / state.faiss.file} is missing"
    except (OSError, ValueError) as error:
        return str(error)
    return _faiss_difference(connection, folder, store, state)


def _faiss_difference(connection: sqlite3.Connection, folder: Path, store: FaissStore, state: State) -> str | None:
    assert state.faiss is not None
    path, dim = folder / state.faiss.file, store.info.dim
    rows = connection.execute("SELECT id FROM vectors")
    known = np.fromiter((row[0] for row in rows), dtype=np.int64)
    if is_published(folder, state) and not np.array_equal(np.sort(known), store.ids):
        return f"{path} holds other ids than the catalogue"
    try:
        for ids, vectors in vector_blocks(connection, dim):
            there = np.isin(ids, store.ids)
            if not np.array_equal(store.fetch(ids[there]), vectors[there]):
                return f"{path} holds other values than the catalogue"
    except CollectionDamagedError:
        pass  # reported vector by vector
    return None


def _drop(connection: sqlite3.Connection, paths: list[str], vectors: list[int]) -> None:
    """Drop documents, vectors and stray chunks in one transaction, and index the words of what stays again."""
    # What is deleted here is what violates foreign keys.
    connection.execute("PRAGMA foreign_keys=OFF")
    with transaction(connection):
        connection.executemany("DELETE FROM documents WHERE path = ?", [[path] for path in paths])
        connection.execute("DELETE FROM chunks WHERE document_id NOT IN (SELECT id FROM documents)")
        connection.executemany("DELETE FROM vectors WHERE id = ?", [[id_] for id_ in vectors])
        # Dropped and made again rather than 'rebuild' alone: that reads its own damaged segments first.
        connection.execute("DROP TABLE IF EXISTS chunk_fts")
        connection.execute(SQL_FTS)
        connection.execute("INSERT INTO chunk_fts (chunk_fts) VALUES ('rebuild')")
        bump(connection, "changes")
        if vectors:
            bump(connection, "vector_changes")
        if paths:
            write_state(connection, complete=False)
    connection.execute("PRAGMA foreign_keys=ON")


def _publish_anew(connection: sqlite3.Connection, folder: Path, step: Step) -> str:
    state = read_state(connection)
    assert state.settings is not None
    with transaction(connection):
        # Without a record nothing of the old file is used: its checksum may be right and its values wrong.
        connection.execute("DELETE FROM meta WHERE key = 'faiss'")
        write_state(connection, generation=state.generation + 1)
    publish(connection, folder, state.settings.dim, step, complete=state.complete)
    return f"published the FAISS file vectors-{state.generation + 1}.faiss from the catalogue"
