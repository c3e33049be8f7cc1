"""What duplicates and clusters are made of: the chunks or the documents of a collection, with texts and vectors."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from blake3 import blake3

from .catalogue import read_state
from .dedup_settings import Level
from .errors import CollectionDamagedError, IndexRoomError
from .faiss_file import vector_blocks
from .filters import matching_documents
from .protocol import Filter, Ids, Item, Items, Vectors
from .rows import read_candidates

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk as it was read."""

    document: tuple[Any, ...]
    ordinal: int
    text: str
    anchor: str | None
    lines: tuple[int, int] | None
    chars: tuple[int, int] | None
    vector: int
    hash: str


def needed_memory(chunks: int, dim: int) -> int:
    """Return about how many bytes the items of a collection, their words and a scan for pairs take at the peak."""
    return 400 * 2**20 + chunks * (3 * 4 * dim + 6000)


def read_items(connection: sqlite3.Connection, level: Level, where: Filter | None = None) -> Items:
    """Return the items of the connection's snapshot; documents without text are none.

    A document's vector is the mean of its chunks', weighted by their characters and normalised. Raises IndexRoomError
    for a collection without settings and CollectionDamagedError for a chunk without a vector.
    """
    assert where is None or where.chunks is None, "a filter on single chunks would be ignored here"
    state = read_state(connection)
    if state.settings is None:
        raise IndexRoomError("the collection is empty", next_command=("index", "PATH"))
    allowed = None if where is None or where.is_empty else set(matching_documents(read_candidates(connection), where))
    pieces = [piece for piece in _pieces(connection) if allowed is None or piece.document[0] in allowed]
    if level is Level.CHUNK:
        groups = [[piece] for piece in pieces]
        items = tuple(_chunk_item(piece) for piece in pieces)
    else:
        groups = [list(group) for _, group in groupby(pieces, key=lambda piece: piece.document[0])]
        items = tuple(_document_item(group) for group in groups)
    nodes, parts, names = _nodes(groups)
    ids = {piece.hash: piece.vector for piece in pieces}
    return Items(
        level=level,
        items=items,
        nodes=nodes,
        vectors=_means(parts, *_vectors(connection, ids, state.settings.dim)),
        names=names,
        parts=parts,
        changes=state.changes,
    )


def with_vectors(items: Items, hashes: Sequence[str], vectors: Vectors) -> Items:
    """Return the same items with other vectors (h, dim) of what they embed, such as those under an instruction."""
    return replace(items, vectors=_means(items.parts, {hash_: row for row, hash_ in enumerate(hashes)}, vectors))


def embedded_texts(connection: sqlite3.Connection, hashes: Sequence[str]) -> list[str]:
    """Return what was embedded under each of these hashes: context and text. Raises KeyError for an unknown hash."""
    rows = connection.execute(
        "SELECT v.hash, c.context, c.text FROM vectors v JOIN chunks c ON c.vector_id = v.id"
        " WHERE v.hash IN (SELECT value FROM json_each(?)) GROUP BY v.id",
        [json.dumps(list(hashes))],
    )
    found = {hash_: f"{context}\n{text}" if context else text for hash_, context, text in rows}
    return [found[hash_] for hash_ in hashes]


def _pieces(connection: sqlite3.Connection) -> Iterator[_Piece]:
    rows = connection.execute(
        "SELECT d.id, d.path, d.format, d.title, d.date, d.mtime_ns, d.size, d.content_hash, c.ordinal, c.text,"
        " c.anchor_kind, c.anchor_value, c.line_start, c.line_end, c.char_start, c.char_end, c.vector_id, v.hash"
        " FROM chunks c JOIN documents d ON d.id = c.document_id LEFT JOIN vectors v ON v.id = c.vector_id"
        " ORDER BY d.path, c.ordinal"
    )
    for row in rows:
        ordinal, text, kind, value, line_start, line_end, char_start, char_end, vector, hash_ = row[8:]
        if hash_ is None:
            raise CollectionDamagedError(
                f"{row[1]}: chunk {ordinal} has no vector: expected a repair, then another run of index",
                next_command=("repair",),
            )
        yield _Piece(
            row[:8],
            ordinal,
            text,
            None if kind is None else f"{kind} {value}",
            None if line_start is None else (line_start, line_end),
            None if char_start is None else (char_start, char_end),
            vector,
            hash_,
        )


def _vectors(connection: sqlite3.Connection, ids: Mapping[str, int], dim: int) -> tuple[dict[str, int], Vectors]:
    """Return the row of each hash, and the vectors."""
    row_of = {id_: row for row, id_ in enumerate(sorted(set(ids.values())))}
    table = np.empty((len(row_of), dim), dtype=np.float32)
    at = 0
    for _, block in vector_blocks(connection, dim, ids=np.array(list(row_of), dtype=np.int64)):
        table[at : at + len(block)] = block
        at += len(block)
    return {hash_: row_of[id_] for hash_, id_ in ids.items()}, table


def _nodes(
    groups: Sequence[Sequence[_Piece]],
) -> tuple[Ids, tuple[tuple[tuple[str, int], ...], ...], tuple[str, ...]]:
    """Return the node of each group of chunks, what each node is made of, and the nodes' names."""
    parts: dict[tuple[str, ...], tuple[tuple[str, int], ...]] = {}
    node_of: dict[tuple[str, ...], int] = {}
    nodes = np.empty(len(groups), dtype=np.int64)
    for row, group in enumerate(groups):
        embedded = tuple(piece.hash for piece in group)
        if embedded not in node_of:
            node_of[embedded] = len(node_of)
            parts[embedded] = tuple((piece.hash, max(len(piece.text), 1)) for piece in group)
        nodes[row] = node_of[embedded]
    names = tuple(
        embedded[0] if len(embedded) == 1 else blake3("\n".join(embedded).encode()).hexdigest() for embedded in node_of
    )
    return nodes, tuple(parts.values()), names


def _means(parts: Sequence[Sequence[tuple[str, int]]], rows: Mapping[str, int], table: Vectors) -> Vectors:
    means = np.empty((len(parts), table.shape[1]), dtype=np.float32)
    for node, chunks in enumerate(parts):
        means[node] = table[rows[chunks[0][0]]]
        if len(chunks) > 1:
            weights = np.array([weight for _, weight in chunks], dtype=np.float64)
            total = weights @ table[[rows[hash_] for hash_, _ in chunks]].astype(np.float64)
            norm = float(np.linalg.norm(total))
            if norm >= 1e-6 * weights.sum():  # chunks that point in opposite directions have no mean: the first stands
                means[node] = total / norm
    return means


def _date(document: tuple[Any, ...]) -> datetime:
    date, mtime_ns = document[4], document[5]
    return _EPOCH + timedelta(microseconds=mtime_ns // 1000) if date is None else datetime.fromisoformat(date)


def _chunk_item(piece: _Piece) -> Item:
    _, path, format_, title, _, _, _, content_hash = piece.document
    return Item(
        key=f"{path}#{piece.ordinal}",
        path=path,
        ordinal=piece.ordinal,
        format=format_,
        title=title,
        date=_date(piece.document),
        bytes=len(piece.text.encode()),
        content_hash=content_hash,
        member=piece.hash,
        text=piece.text,
        anchor=piece.anchor,
        lines=piece.lines,
    )


def _document_item(group: Sequence[_Piece]) -> Item:
    _, path, format_, title, _, _, size, content_hash = group[0].document
    spans = [piece.lines for piece in group if piece.lines is not None]
    return Item(
        key=path,
        path=path,
        ordinal=None,
        format=format_,
        title=title,
        date=_date(group[0].document),
        bytes=size,
        content_hash=content_hash,
        member=path,
        text=_joined(group),
        anchor=None,
        lines=(min(start for start, _ in spans), max(end for _, end in spans)) if spans else None,
    )


def _joined(group: Sequence[_Piece]) -> str:
    """Return the text of a document: chunks in a row without what they share, on lines of their own where apart.

    Where a format has no places in its source, what they share stays: whether a chunk repeats the end of the one before
    or the document does cannot be told.
    """
    text = group[0].text
    for before, piece in pairwise(group):
        shared = 0
        if before.chars is not None and piece.chars is not None:
            shared = max(0, min(before.chars[1] - piece.chars[0], len(piece.text)))
        text += piece.text[shared:] if shared else f"\n{piece.text}"
    return text
