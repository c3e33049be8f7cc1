"""Dense search: chunks by cosine, over a FAISS store that follows the catalogue."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from threading import Lock

import numpy as np

from .catalogue import read_state
from .cosine import check_k, check_unit, exact_cosines, ranked
from .errors import IndexRoomError
from .faiss_file import catch_up, load_store, vector_blocks
from .faiss_store import FaissStore
from .filters import Restriction
from .protocol import Ids, Scored, Vectors

_SPARE = 16
"""Vectors asked for beyond k: some belong to no chunk yet, or to chunks the filter excludes."""


class DenseIndex:
    """The store of one open collection: loaded at the first search, caught up when another process has committed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._store: FaissStore | None = None
        self._vector_changes = -1
        self._allowed: tuple[Restriction, Ids] | None = None

    def search(
        self, connection: sqlite3.Connection, query: Vectors, k: int, *, only: Restriction | None = None
    ) -> Scored:
        """Return the k best chunks by cosine in the connection's snapshot, of those the restriction lets through.

        Equal to comparing every chunk: chunks with the same text share a vector and follow each other by id.
        """
        check_k(k)
        row = one_query(connection, query)
        allowed = None if only is None else self._vectors_of(connection, only)
        with self._lock:  # a store must not grow while it is searched; one scan uses all cores anyway
            store = self._current(connection, row.shape[1])
            fetch = k + _SPARE
            while True:
                near = store.search(row, min(fetch, max(store.info.count, 1)), allowed=allowed)
                found = near.ids[0] >= 0
                ids, scores = _chunks_of(connection, near.ids[0][found], near.scores[0][found], only)
                ids, scores = ranked(ids, scores, k)
                all_seen = not found.all() or fetch >= store.info.count
                # Only when the k-th chunk is nearer than the last vector can no unseen one tie with it.
                if all_seen or (len(ids) == k and scores[-1] > near.scores[0][-1]):
                    return Scored(ids=ids, scores=scores)
                fetch *= 4

    def _current(self, connection: sqlite3.Connection, dim: int) -> FaissStore:
        changes = read_state(connection).vector_changes
        if self._store is None or self._store.info.dim != dim:
            self._store = load_store(connection, self._folder, dim)
            self._vector_changes = changes
        elif changes > self._vector_changes:  # never back: another thread's snapshot may be older by a moment
            catch_up(connection, self._store)
            self._vector_changes = changes
        return self._store

    def _vectors_of(self, connection: sqlite3.Connection, only: Restriction) -> Ids:
        """Return the vectors of what is let through, remembered for this very object: one filter at one commit."""
        remembered = self._allowed
        if remembered is None or remembered[0] is not only:
            remembered = (only, _vectors_of(connection, only))
            self._allowed = remembered
        return remembered[1]

    def forget(self) -> None:
        """Drop the store; the next search loads it again."""
        with self._lock:
            self._store = None


def one_query(connection: sqlite3.Connection, query: Vectors) -> Vectors:
    """Return a query (dim,) as (1, dim). Raises ValueError unless it is a unit vector of the collection's width."""
    settings = read_state(connection).settings
    if settings is None:
        raise IndexRoomError("the collection is empty", next_command=("index", "PATH"))
    array = np.asarray(query, dtype=np.float32)
    if array.shape != (settings.dim,):
        raise ValueError(f"the query must have shape ({settings.dim},), got {array.shape}")
    return check_unit(array[None], settings.dim, what="query")


def cosines(connection: sqlite3.Connection, query: Vectors, chunk_ids: Ids) -> Vectors:
    """Return the cosine of the query (dim,) to each of these chunks; the same numbers as `DenseIndex.search` gives.

    Raises IndexRoomError for a chunk that is not there.
    """
    row = one_query(connection, query)
    wanted = [int(id_) for id_ in chunk_ids]
    if not wanted:
        return np.empty(0, dtype=np.float32)
    vector_of = dict(
        connection.execute(
            "SELECT id, vector_id FROM chunks WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(wanted)]
        ).fetchall()
    )
    for id_ in wanted:
        if id_ not in vector_of:
            raise IndexRoomError(f"chunk {id_} is not in the collection any more: run the query again")
    score_of: dict[int, float] = {}
    for ids, vectors in vector_blocks(connection, row.shape[1], ids=np.array(sorted(set(vector_of.values())))):
        score_of.update(zip(ids.tolist(), exact_cosines(vectors, row[0]).tolist(), strict=True))
    return np.array([score_of[vector_of[id_]] for id_ in wanted], dtype=np.float32)


def _vectors_of(connection: sqlite3.Connection, only: Restriction) -> Ids:
    condition, arguments = only.sql("id")
    rows = connection.execute(f"SELECT DISTINCT vector_id FROM chunks WHERE TRUE{condition}", arguments).fetchall()
    return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))


def _chunks_of(
    connection: sqlite3.Connection, vectors: Ids, scores: Vectors, only: Restriction | None
) -> tuple[Ids, Vectors]:
    """Return the chunks that have these vectors, each with its vector's score, in no order."""
    rows = connection.execute(
        "SELECT id, vector_id, document_id FROM chunks WHERE vector_id IN (SELECT value FROM json_each(?))",
        [json.dumps(vectors.tolist())],
    ).fetchall()
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    for column, allowed in () if only is None else ((2, only.documents), (0, only.chunks)):
        if allowed is not None:
            table = table[np.isin(table[:, column], allowed)]
    order = np.argsort(vectors)
    places = order[np.searchsorted(vectors[order], table[:, 1])] if len(table) else np.empty(0, dtype=np.int64)
    return table[:, 0], scores[places]
