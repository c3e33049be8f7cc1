"""What a chunk is known by from one run to the next: the hash of its text, and the path of its document."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import IndexRoomError
from .protocol import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkKey:
    """Where a chunk stands and what it says; ids change when a file is indexed again, these do not."""

    id: int
    hash: str
    """Of its text as it was embedded: chunks that say the same word for word share it."""
    path: str
    ordinal: int
    lines: tuple[int, int] | None
    """First and last line, counted from 1."""


def read_keys(connection: sqlite3.Connection, ids: Sequence[int]) -> list[ChunkKey]:
    """Return the keys of these chunks in this order. Raises IndexRoomError for one that is not there."""
    rows = connection.execute(
        "SELECT c.id, v.hash, d.path, c.ordinal, c.line_start, c.line_end FROM chunks c"
        " JOIN documents d ON d.id = c.document_id JOIN vectors v ON v.id = c.vector_id"
        " WHERE c.id IN (SELECT value FROM json_each(?))",
        [json.dumps([int(id_) for id_ in ids])],
    )
    found = {
        id_: ChunkKey(
            id=id_,
            hash=hash_,
            path=path,
            ordinal=ordinal,
            lines=None if start is None or end is None else (start, end),
        )
        for id_, hash_, path, ordinal, start, end in rows
    }
    for id_ in ids:
        if int(id_) not in found:
            raise IndexRoomError(f"chunk {id_} is not in the collection any more: run the query again")
    return [found[int(id_)] for id_ in ids]


def find_chunks(connection: sqlite3.Connection, *, hashes: Sequence[str] = (), paths: Sequence[str] = ()) -> Ids:
    """Return the ascending ids of the chunks that have one of these hashes or stand in one of these documents."""
    rows = connection.execute(
        "SELECT c.id FROM vectors v JOIN chunks c ON c.vector_id = v.id"
        " WHERE v.hash IN (SELECT value FROM json_each(?))"
        " UNION SELECT c.id FROM documents d JOIN chunks c ON c.document_id = d.id"
        " WHERE d.path IN (SELECT value FROM json_each(?))",
        [json.dumps(hashes), json.dumps(paths)],
    ).fetchall()
    return np.sort(np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows)))
