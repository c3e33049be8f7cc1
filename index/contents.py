"""What a catalogue holds beyond what a search needs: to copy, compare and measure, and keys that outlive ids."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from .catalogue import read_state, vector_ids
from .errors import CollectionDamagedError, IndexRoomError
from .faiss_file import vector_blocks
from .protocol import ChunkKey, ChunkPlace, DocumentRecord, Ids, StoredChunk, Vectors
from .rows import document_paths, read_chunks, read_document

_BLOCK = 2000


def all_chunks(connection: sqlite3.Connection) -> Iterator[StoredChunk]:
    rows = connection.execute(
        "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id ORDER BY d.path, c.ordinal"
    ).fetchall()
    for at in range(0, len(rows), _BLOCK):
        yield from read_chunks(connection, [row[0] for row in rows[at : at + _BLOCK]])


def chunk_places(connection: sqlite3.Connection) -> list[ChunkPlace]:
    rows = connection.execute(
        "SELECT c.id, d.path, c.anchor_value, c.vector_id FROM chunks c JOIN documents d ON d.id = c.document_id"
        " ORDER BY c.id"
    )
    return [ChunkPlace(id=id_, path=path, row=int(row), vector=vector) for id_, path, row, vector in rows]


def differing_documents(here: sqlite3.Connection, there: sqlite3.Connection) -> dict[str, int]:
    differing = {}
    for path in document_paths(here):
        document = read_document(here, path)
        assert document is not None
        if _uncounted(document) != _uncounted(_whole(there, path)):
            differing[path] = sum(chunk.tokens for chunk in document.chunks)
    return differing


def _whole(connection: sqlite3.Connection, path: str) -> DocumentRecord | None:
    with suppress(CollectionDamagedError):
        return read_document(connection, path)
    return None


def _uncounted(document: DocumentRecord | None) -> DocumentRecord | None:
    if document is None:
        return None
    return replace(document, chunks=[replace(chunk, tokens=0) for chunk in document.chunks])


def documents_at(connection: sqlite3.Connection, paths: Sequence[str]) -> Iterator[DocumentRecord]:
    for path in paths:
        document = read_document(connection, path)
        if document is None:
            raise KeyError(path)
        yield document


def hashed_vectors(connection: sqlite3.Connection, dim: int) -> Iterator[tuple[list[str], Vectors]]:
    for ids, vectors in vector_blocks(connection, dim):
        hashes = dict(
            connection.execute("SELECT id, hash FROM vectors WHERE id BETWEEN ? AND ?", [int(ids[0]), int(ids[-1])])
        )
        yield [hashes[id_] for id_ in ids.tolist()], vectors


def stored_vectors(connection: sqlite3.Connection, hashes: Sequence[str], dim: int) -> dict[str, Vectors]:
    hash_of = {id_: hash_ for hash_, id_ in vector_ids(connection, hashes).items()}
    blocks = vector_blocks(connection, dim, ids=np.array(sorted(hash_of), dtype=np.int64))
    return {hash_of[int(id_)]: row for ids, rows in blocks for id_, row in zip(ids, rows, strict=True)}


def lineage(connection: sqlite3.Connection) -> dict[str, str | int]:
    state = read_state(connection)
    return {"created": "" if state.created is None else state.created.isoformat(), "changes": state.changes}


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
