"""Rows of documents that leave a collection for a while: copied into a file of their own, and put back from it.

The file is SQLite: the documents, chunks and vectors as the catalogue has them, ids included, and the settings and the
date of the catalogue they are from. Every function but `kept_paths` works inside the caller's lock and transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .catalogue import bump, read_state, sqlite_errors, vector_ids
from .durable import sync
from .errors import KeptRowsError
from .faiss_file import Step
from .keeper import PutBack
from .rows import drop_documents, index_words

_SELECTS = {
    "documents": "SELECT * FROM documents WHERE path IN (SELECT value FROM json_each(:paths)) ORDER BY id",
    "chunks": (
        "SELECT chunks.* FROM chunks JOIN documents ON documents.id = document_id"
        " WHERE path IN (SELECT value FROM json_each(:paths)) ORDER BY chunks.id"
    ),
    "vectors": (
        "SELECT * FROM vectors WHERE id IN (SELECT vector_id FROM chunks JOIN documents ON documents.id = document_id"
        " WHERE path IN (SELECT value FROM json_each(:paths))) ORDER BY id"
    ),
}


def save_rows(connection: sqlite3.Connection, paths: Iterable[str], file: Path, *, step: Step) -> int:
    """Copy the rows of the documents at these paths into `file` and return how many documents there are.

    The file is on the disk when it has its name; one that is there already stays as it is.
    """
    if file.exists():
        return len(kept_paths(file))
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)  # left by a killed process
    wanted = {"paths": json.dumps(list(paths))}
    with sqlite_errors(part), closing(sqlite3.connect(part, isolation_level=None)) as kept:
        kept.execute("PRAGMA journal_mode=OFF")  # it counts only once it is whole and has its name
        kept.execute("BEGIN")
        kept.execute("CREATE TABLE source (key TEXT PRIMARY KEY, value TEXT)")
        kept.executemany("INSERT INTO source VALUES (?, ?)", _source(connection).items())
        for table, select in _SELECTS.items():
            rows = connection.execute(select, wanted)
            names = [column[0] for column in rows.description]
            # Without types: a value comes back exactly as it went in.
            kept.execute(f"CREATE TABLE {table} ({', '.join(names)})")
            kept.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", rows)
            step(f"keep:{table}")
        # Each document is put back by a look at its chunks, and at their vectors.
        kept.execute("CREATE INDEX chunks_of_document ON chunks (document_id)")
        kept.execute("CREATE INDEX vectors_by_id ON vectors (id)")
        kept.execute("COMMIT")
    sync(part)
    step("keep:synced")
    part.replace(file)
    sync(file.parent)
    return len(kept_paths(file))


def kept_paths(file: Path) -> dict[str, str]:
    """Return the content hash of each document in a file of `save_rows` by path, in the order of their ids."""
    with _opened(file) as kept:
        return dict(kept.execute("SELECT path, content_hash FROM documents ORDER BY id"))


def drop_kept(connection: sqlite3.Connection, file: Path, paths: AbstractSet[str]) -> int:
    """Drop those of `paths` that are in `file` and indexed as they are there, and return how many were.

    A vector of theirs goes with them when no other chunk uses it; other unused vectors stay.
    """
    indexed = dict(connection.execute("SELECT path, content_hash FROM documents"))
    kept = kept_paths(file)
    dropped = drop_documents(connection, [p for p, hash_ in kept.items() if p in paths and indexed.get(p) == hash_])
    if dropped:
        bump(connection, "changes")
    with _opened(file) as rows:
        hashes = json.dumps([hash_ for (hash_,) in rows.execute("SELECT hash FROM vectors")])
    unused = connection.execute(
        "DELETE FROM vectors WHERE hash IN (SELECT value FROM json_each(?))"
        " AND NOT EXISTS (SELECT 1 FROM chunks WHERE vector_id = vectors.id)",
        [hashes],
    ).rowcount
    if unused:
        bump(connection, "vector_changes")
    return dropped


def put_back(connection: sqlite3.Connection, file: Path, paths: AbstractSet[str]) -> PutBack:
    """Put back those documents of `file` that are among `paths`; see `Keeper.put_back`."""
    indexed = dict(connection.execute("SELECT path, content_hash FROM documents"))
    here = _source(connection)
    with _opened(file) as kept:
        wanted = [row for row in _rows(kept, "documents", connection) if row["path"] in paths]
        absent = [row for row in wanted if row["path"] not in indexed]
        source = dict(kept.execute("SELECT key, value FROM source"))
        fits = source["settings"] == here["settings"]
        if fits and absent:
            # An id belongs to one row for good, but only in the catalogue that gave it.
            _Putting(connection, kept, same_ids=source["created"] == here["created"]).run(absent)
            bump(connection, "changes")
    return PutBack(
        restored=tuple(row["path"] for row in absent) if fits else (),
        present=tuple(row["path"] for row in wanted if indexed.get(row["path"]) == row["content_hash"]),
        conflicting=tuple(
            row["path"] for row in wanted if indexed.get(row["path"], row["content_hash"]) != row["content_hash"]
        ),
        foreign=() if fits else tuple(row["path"] for row in absent),
    )


class _Putting:
    """Rows on their way from a kept file into the catalogue."""

    def __init__(self, connection: sqlite3.Connection, kept: sqlite3.Connection, *, same_ids: bool) -> None:
        self._connection = connection
        self._kept = kept
        self._same_ids = same_ids

    def run(self, documents: Sequence[dict[str, Any]]) -> None:
        for document in documents:
            old = document["id"]
            vectors = self._vectors(old)
            new = self._insert("documents", document)
            for chunk in _rows(self._kept, "chunks", self._connection, where="document_id = ?", values=[old]):
                self._insert("chunks", chunk | {"document_id": new, "vector_id": vectors[chunk["vector_id"]]})
            index_words(self._connection, new)

    def _vectors(self, document: int) -> dict[int, int]:
        """Put back the vectors of a document that are not there, and return the id of each by its old one."""
        rows = list(
            _rows(
                self._kept,
                "vectors",
                self._connection,
                where="id IN (SELECT vector_id FROM chunks WHERE document_id = ?)",
                values=[document],
            )
        )
        there = vector_ids(self._connection, [row["hash"] for row in rows])
        found = {row["id"]: there[row["hash"]] for row in rows if row["hash"] in there}
        lacking = [row for row in rows if row["id"] not in found]
        for row in lacking:
            found[row["id"]] = self._insert("vectors", row)
        if lacking:
            bump(self._connection, "vector_changes")
        return found

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        """Insert a row, under its old id where that is still its own, and return its id."""
        taken = self._connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", [row["id"]]).fetchone()
        if taken or not self._same_ids:
            row = row | {"id": None}
        names = ", ".join(row)
        values = ", ".join("?" * len(row))
        cursor = self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", list(row.values()))
        assert cursor.lastrowid is not None
        return cursor.lastrowid


def _rows(
    kept: sqlite3.Connection,
    table: str,
    connection: sqlite3.Connection,
    *,
    where: str = "1",
    values: Sequence[Any] = (),
) -> Iterator[dict[str, Any]]:
    """Yield rows of a kept table by column. Raises KeptRowsError when the catalogue's table has other columns."""
    cursor = kept.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY id", values)
    names = [column[0] for column in cursor.description]
    expected = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if names != expected:
        raise KeptRowsError(
            f"the kept rows of {table} have the columns {', '.join(names)}, this version of searchctl has "
            f"{', '.join(expected)}: put them back with the version that kept them, or index the files again"
        )
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _source(connection: sqlite3.Connection) -> dict[str, str | None]:
    """Return which catalogue this is, and how its chunks and vectors are made."""
    state = read_state(connection)
    return {
        "created": None if state.created is None else state.created.isoformat(),
        "settings": None if state.settings is None else json.dumps(asdict(state.settings), sort_keys=True),
    }


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a file of kept rows to read."""
    if not file.is_file():
        raise KeptRowsError(f"{file} is missing: the rows that were kept in it cannot be put back")
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as kept:
        try:
            tables = {name for (name,) in kept.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables >= {"source", *_SELECTS}:
                raise KeptRowsError(f"{file} is damaged (it lacks tables): the rows kept in it cannot be put back")
            yield kept
        except sqlite3.DatabaseError as error:
            damage = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            if damage and not _is_sound(kept):  # else it is the catalogue that the caller works on with these rows
                raise KeptRowsError(f"{file} is damaged ({error}): the rows kept in it cannot be put back") from error
            raise


def _is_sound(kept: sqlite3.Connection) -> bool:
    try:
        return list(kept.execute("PRAGMA quick_check(1)")) == [("ok",)]
    except sqlite3.DatabaseError:
        return False
