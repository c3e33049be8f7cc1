"""Documents and chunks to and from their rows in SQLite; every function works inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .catalogue import check_stored_text, signed, unsigned, vector_ids
from .documents import Anchor, Chunk
from .errors import CollectionDamagedError, IndexRoomError
from .filters import Candidate, microseconds
from .protocol import DocumentRecord, FileRecord, StoredChunk

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def replace_document(connection: sqlite3.Connection, document: DocumentRecord) -> None:
    """Store a document with all its chunks in place of the one at its path.

    Raises ValueError when a chunk has no stored vector, an ordinal is not its position, or the date is naive.
    """
    path = document.file.path
    _check_document(document)
    ids = vector_ids(connection, {chunk.hash for chunk in document.chunks})
    lacking = [chunk.ordinal for chunk in document.chunks if chunk.hash not in ids]
    if lacking:
        raise ValueError(
            f"{path}: {len(lacking)} of {len(document.chunks)} chunks have no vector (the first is chunk "
            f"{lacking[0]}): commit the vectors of all its chunks with or before a document"
        )
    drop_documents(connection, [path])
    cursor = connection.execute(
        "INSERT INTO documents (path, size, mtime_ns, inode, content_hash, format, title, date, metadata,"
        " chunk_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            path,
            document.file.size,
            document.file.mtime_ns,
            signed(document.file.inode),
            document.file.content_hash,
            document.format,
            document.title,
            None if document.date is None else document.date.isoformat(),
            json.dumps(dict(document.metadata)),
            len(document.chunks),
        ],
    )
    assert cursor.lastrowid is not None
    _insert_chunks(connection, cursor.lastrowid, document.chunks, ids)
    index_words(connection, cursor.lastrowid)


def _check_document(document: DocumentRecord) -> None:
    path = document.file.path
    check_stored_text(path, "the path")
    if document.date is not None and document.date.tzinfo is None:
        raise ValueError(f"{path}: the date {document.date.isoformat()} has no time zone: expected an aware one")
    for position, chunk in enumerate(document.chunks):
        if chunk.ordinal != position:
            raise ValueError(f"{path}: chunk {position} has ordinal {chunk.ordinal}: expected 0, 1, 2 ... in order")
        check_stored_text(chunk.text, f"the text of {path}")


def _insert_chunks(
    connection: sqlite3.Connection, document_id: int, chunks: Sequence[Chunk], ids: Mapping[str, int]
) -> None:
    connection.executemany(
        "INSERT INTO chunks (document_id, ordinal, text, context, headings, anchor_kind, anchor_value, line_start,"
        " line_end, char_start, char_end, tokens, vector_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                document_id,
                chunk.ordinal,
                chunk.text,
                chunk.context,
                json.dumps(chunk.headings),
                None if chunk.anchor is None else chunk.anchor.kind,
                None if chunk.anchor is None else chunk.anchor.value,
                chunk.line_start,
                chunk.line_end,
                chunk.char_start,
                chunk.char_end,
                chunk.tokens,
                ids[chunk.hash],
            )
            for chunk in chunks
        ),
    )


def index_words(connection: sqlite3.Connection, document_id: int) -> None:
    """Put a document's chunks into FTS5."""
    connection.execute(
        "INSERT INTO chunk_fts (rowid, text, context, path)"
        " SELECT id, text, context, path FROM chunk_texts WHERE document_id = ?",
        [document_id],
    )


def forget_words(connection: sqlite3.Connection, document_id: int) -> None:
    """Take a document's chunks out of FTS5; must come before any change of their texts or path."""
    connection.execute(
        "INSERT INTO chunk_fts (chunk_fts, rowid, text, context, path)"
        " SELECT 'delete', id, text, context, path FROM chunk_texts WHERE document_id = ?",
        [document_id],
    )


def drop_documents(connection: sqlite3.Connection, paths: Iterable[str]) -> int:
    """Drop the documents at these paths with their chunks and return how many were there; vectors stay."""
    dropped = 0
    for path in paths:
        row = connection.execute("SELECT id FROM documents WHERE path = ?", [path]).fetchone()
        if row is not None:
            forget_words(connection, row[0])
            connection.execute("DELETE FROM documents WHERE id = ?", row)
            dropped += 1
    return dropped


def document_paths(connection: sqlite3.Connection) -> list[str]:
    """Return the paths of all documents in the order they were stored."""
    return [path for (path,) in connection.execute("SELECT path FROM documents ORDER BY id")]


def read_document(connection: sqlite3.Connection, path: str) -> DocumentRecord | None:
    """Return the document at `path` as `replace_document` was given it, None when there is none.

    Raises CollectionDamagedError when one of its chunks, or a chunk's vector, is gone.
    """
    row = connection.execute(
        "SELECT id, size, mtime_ns, inode, content_hash, format, title, date, metadata, chunk_count FROM documents"
        " WHERE path = ?",
        [path],
    ).fetchone()
    if row is None:
        return None
    id_, size, mtime_ns, inode, content_hash, format_, title, date, metadata, expected = row
    chunks = connection.execute(
        "SELECT ordinal, text, context, anchor_kind, anchor_value, headings, line_start, line_end, char_start,"
        " char_end, tokens, hash FROM chunks LEFT JOIN vectors ON vectors.id = vector_id WHERE document_id = ?"
        " ORDER BY ordinal",
        [id_],
    ).fetchall()
    _check_whole(path, chunks, expected)
    return DocumentRecord(
        file=FileRecord(path=path, size=size, mtime_ns=mtime_ns, inode=unsigned(inode), content_hash=content_hash),
        format=format_,
        title=title,
        date=None if date is None else datetime.fromisoformat(date),
        metadata=json.loads(metadata),
        chunks=[_chunk(chunk) for chunk in chunks],
    )


def _check_whole(path: str, chunks: Sequence[tuple[Any, ...]], expected: int) -> None:
    """Raise CollectionDamagedError, as `verify` would find, unless all chunks are there and each has its vector."""
    lacking = next((chunk[0] for chunk in chunks if chunk[-1] is None), None)
    if lacking is not None:
        why = f"chunk {lacking} has no vector"
    elif len(chunks) != expected:
        why = f"it has {len(chunks)} chunks, expected {expected}"
    else:
        return
    raise CollectionDamagedError(
        f"{path}: {why}: expected a repair, then another run of index", next_command=("repair",)
    )


# One row of read_document; sqlite3 gives no types.
def _chunk(row: tuple[int, str, str, str | None, str | None, str, int | None, int | None, int | None, int | None,
                      int, str]) -> Chunk:  # fmt: skip
    ordinal, text, context, kind, value, headings, line_start, line_end, char_start, char_end, tokens, hash_ = row
    return Chunk(
        ordinal=ordinal,
        text=text,
        context=context,
        anchor=None if kind is None or value is None else Anchor(kind=kind, value=value),
        headings=tuple(json.loads(headings)),
        line_start=line_start,
        line_end=line_end,
        char_start=char_start,
        char_end=char_end,
        tokens=tokens,
        hash=hash_,
    )


def read_candidates(connection: sqlite3.Connection) -> list[Candidate]:
    """Return what a filter looks at, for every document."""
    rows = connection.execute("SELECT id, path, format, date, mtime_ns FROM documents")
    return [
        Candidate(id_, path, format_, mtime_ns // 1000 if date is None else microseconds(datetime.fromisoformat(date)))
        for id_, path, format_, date, mtime_ns in rows
    ]


def read_chunks(connection: sqlite3.Connection, ids: Sequence[int]) -> list[StoredChunk]:
    """Return these chunks in this order. Raises IndexRoomError for one that is not there."""
    rows = connection.execute(
        "SELECT c.id, c.document_id, d.path, d.format, d.title, d.date, d.size, d.mtime_ns, d.content_hash, c.ordinal,"
        " c.text, c.context, c.anchor_kind, c.anchor_value, c.headings, c.line_start, c.line_end, c.char_start,"
        " c.char_end FROM chunks c JOIN documents d ON d.id = c.document_id"
        " WHERE c.id IN (SELECT value FROM json_each(?))",
        [json.dumps([int(id_) for id_ in ids])],
    )
    found = {row[0]: _stored_chunk(row) for row in rows}
    for id_ in ids:
        if int(id_) not in found:
            raise IndexRoomError(
                f"chunk {id_} is not in the collection any more: its file was indexed again meanwhile. "
                "Run the query again"
            )
    return [found[int(id_)] for id_ in ids]


# One row of read_chunks; sqlite3 gives no types.
def _stored_chunk(row: tuple[int, int, str, str, str | None, str | None, int, int, str, int, str, str,
                             str | None, str | None, str, int | None, int | None, int | None, int | None]
                  ) -> StoredChunk:  # fmt: skip
    (id_, document_id, path, format_, title, date, size, mtime_ns, content_hash, ordinal, text, context, kind, value,
     headings, line_start, line_end, char_start, char_end) = row  # fmt: skip
    return StoredChunk(
        id=id_,
        document_id=document_id,
        path=path,
        format=format_,
        title=title,
        date=_EPOCH + timedelta(microseconds=mtime_ns // 1000) if date is None else datetime.fromisoformat(date),
        size=size,
        mtime_ns=mtime_ns,
        content_hash=content_hash,
        ordinal=ordinal,
        text=text,
        context=context,
        anchor=None if kind is None or value is None else Anchor(kind=kind, value=value),
        headings=tuple(json.loads(headings)),
        line_start=line_start,
        line_end=line_end,
        char_start=char_start,
        char_end=char_end,
    )
