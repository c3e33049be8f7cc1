"""All that a collection holds, to measure it or to make another of it: documents, chunks, and vectors by their text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from ...encoder.protocol import EncodeProgress, Role
from ...index.catalogue import CATALOGUE_FILE, ReadConnection, read_state, snapshot, sqlite_errors, vector_ids
from ...index.errors import CollectionDamagedError
from ...index.faiss_file import vector_blocks
from ...index.items import embedded_texts as read_embedded_texts
from ...index.rows import document_paths, read_chunks, read_document

if TYPE_CHECKING:
    import sqlite3

    from tokenizers import Tokenizer

    from ...encoder.protocol import EncoderInfo, ProgressCallback
    from ...index.collection import FolderCollection
    from ...index.protocol import DocumentRecord, Ids, StoredChunk, Vectors
    from .encoder_choice import LazyEncoder


_BLOCK = 2000


@contextmanager
def _reading(collection: FolderCollection) -> Iterator[sqlite3.Connection]:
    """Hold one commit of the catalogue for reading."""
    path = collection.path / CATALOGUE_FILE
    with sqlite_errors(path):
        reader = ReadConnection(path)
        with snapshot(reader.connection):
            yield reader.connection


def all_chunks(collection: FolderCollection) -> Iterator[StoredChunk]:
    """Yield every chunk, in the order of paths and then of the chunks in their document."""
    with _reading(collection) as connection:
        rows = connection.execute(
            "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id ORDER BY d.path, c.ordinal"
        ).fetchall()
        for at in range(0, len(rows), _BLOCK):
            yield from read_chunks(connection, [row[0] for row in rows[at : at + _BLOCK]])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPlace:
    """Where a chunk of a JSONL document comes from."""

    id: int
    path: str
    row: int
    """1-based line of its record."""
    vector: int


def chunk_places(collection: FolderCollection) -> list[ChunkPlace]:
    """Return the place of every chunk, by ascending id; all documents must be JSONL."""
    with _reading(collection) as connection:
        rows = connection.execute(
            "SELECT c.id, d.path, c.anchor_value, c.vector_id FROM chunks c JOIN documents d ON d.id = c.document_id"
            " ORDER BY c.id"
        )
        return [ChunkPlace(id=id_, path=path, row=int(row), vector=vector) for id_, path, row, vector in rows]


def all_vectors(collection: FolderCollection, dim: int) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids and vectors of the catalogue, not of the FAISS file, in blocks."""
    with _reading(collection) as connection:
        yield from vector_blocks(connection, dim)


def differing_documents(collection: FolderCollection, other: FolderCollection) -> dict[str, int]:
    """Return the documents that the other collection lacks or has otherwise: paths, as they were stored, with tokens.

    Token counts are each encoder's own, and make no difference. What is damaged in the other collection counts as
    lacking there; damage in this one raises CollectionDamagedError.
    """
    differing = {}
    with _reading(collection) as here, _reading(other) as there:
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


def documents_at(collection: FolderCollection, paths: Sequence[str]) -> Iterator[DocumentRecord]:
    """Yield the documents at these paths in this order. Raises KeyError for one that is not there."""
    with _reading(collection) as connection:
        for path in paths:
            document = read_document(connection, path)
            if document is None:
                raise KeyError(path)
            yield document


def hashed_vectors(collection: FolderCollection, dim: int) -> Iterator[tuple[list[str], Vectors]]:
    """Yield vectors with the hashes of their texts, in blocks and in the order they were stored."""
    with _reading(collection) as connection:
        for ids, vectors in vector_blocks(connection, dim):
            hashes = dict(
                connection.execute("SELECT id, hash FROM vectors WHERE id BETWEEN ? AND ?", [int(ids[0]), int(ids[-1])])
            )
            yield [hashes[id_] for id_ in ids.tolist()], vectors


def embedded_texts(collection: FolderCollection, hashes: Sequence[str]) -> list[str]:
    """Return the texts that were embedded under these hashes, context included."""
    with _reading(collection) as connection:
        return read_embedded_texts(connection, hashes)


def lineage(collection: FolderCollection) -> dict[str, str | int]:
    """Return what differs once documents or chunks have changed, or another collection has taken the place."""
    with _reading(collection) as connection:
        state = read_state(connection)
    return {"created": "" if state.created is None else state.created.isoformat(), "changes": state.changes}


def stored_hashes(collection: FolderCollection, hashes: Sequence[str]) -> set[str]:
    """Return which of these hashes of embedded texts have a vector."""
    with _reading(collection) as connection:
        return set(vector_ids(connection, hashes))


def text_hash(text: str) -> str:
    """Return the hash under which a collection keeps the vector of `text` as it is embedded, context included."""
    return blake3(text.encode()).hexdigest()


@dataclass(slots=True)
class Reuse:
    """What became of the texts of documents, and how long encoding took."""

    taken: int = 0
    """Vectors taken from the collection."""
    encoded: int = 0
    queries: int = 0
    queries_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class StoredVectors:
    """An encoder that takes the vectors of documents from a collection that has them, and encodes the rest.

    Queries are encoded once, however often they are asked.
    """

    lazy: LazyEncoder
    collection: FolderCollection | None
    """This encoder's own; None where there is none."""
    reuse: Reuse = field(default_factory=Reuse)
    _queries: dict[tuple[str, str | None], Vectors] = field(default_factory=dict)

    @property
    def info(self) -> EncoderInfo:
        return self.lazy.info()

    @property
    def tokenizer(self) -> Tokenizer:
        return self.lazy.open().tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim) as the protocol says; the progress is of what is encoded."""
        if role is Role.QUERY:
            return self._encode_queries(texts, instruction, progress)
        hashes = [text_hash(text) for text in texts]
        found = {} if instruction is not None else self._stored(hashes)
        missing = {hash_: text for hash_, text in zip(hashes, texts, strict=True) if hash_ not in found}
        self.reuse.taken += len(found)
        self.reuse.encoded += len(missing)
        if missing:
            rows = self.lazy.open().encode(
                list(missing.values()), role=role, instruction=instruction, progress=progress
            )
            found.update(zip(missing, rows, strict=True))
        elif progress is not None:
            progress(_nothing_encoded(len(texts)))
        return _stacked([found[hash_] for hash_ in hashes], self.info.dim)

    def _encode_queries(
        self, texts: Sequence[str], instruction: str | None, progress: ProgressCallback | None
    ) -> Vectors:
        missing = [text for text in dict.fromkeys(texts) if (text, instruction) not in self._queries]
        if missing:
            encoder = self.lazy.open()
            began = time.perf_counter()
            rows = encoder.encode(missing, role=Role.QUERY, instruction=instruction, progress=progress)
            self.reuse.queries_s += time.perf_counter() - began
            self.reuse.queries += len(missing)
            self._queries.update(((text, instruction), row) for text, row in zip(missing, rows, strict=True))
        elif progress is not None:
            progress(_nothing_encoded(len(texts)))
        return _stacked([self._queries[text, instruction] for text in texts], self.info.dim)

    def _stored(self, hashes: Sequence[str]) -> dict[str, Vectors]:
        if self.collection is None:
            return {}
        with _reading(self.collection) as connection:
            hash_of = {id_: hash_ for hash_, id_ in vector_ids(connection, hashes).items()}
            blocks = vector_blocks(connection, self.info.dim, ids=np.array(sorted(hash_of), dtype=np.int64))
            return {hash_of[int(id_)]: row for ids, rows in blocks for id_, row in zip(ids, rows, strict=True)}


def _stacked(rows: Sequence[Vectors], dim: int) -> Vectors:
    return np.array(rows, dtype=np.float32).reshape(len(rows), dim)


def _nothing_encoded(texts: int) -> EncodeProgress:
    return EncodeProgress(texts_done=texts, texts_total=texts, tokens_done=0, tokens_total=0, texts_truncated=0)
