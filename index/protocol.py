"""The seams of the index room: vector stores and collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .dedup_settings import Level
    from .documents import Anchor, Chunk
    from .keeper import Keeper

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbors:
    """Result of a search: row q belongs to queries[q]."""

    ids: Ids
    """(q, k) int64; -1 where fewer than k vectors qualify."""
    scores: Vectors
    """(q, k) float32 cosine, descending, ties by ascending id; -inf where the id is -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a vector store holds."""

    backend: str
    dim: int
    count: int


class VectorStore(Protocol):
    """Keeps unit vectors under int64 ids and finds the nearest by cosine."""

    @property
    def info(self) -> StoreInfo: ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Store vectors (n, dim). Raises ValueError for a wrong shape, a non-finite value or an id that is there."""
        ...

    def remove(self, ids: Ids) -> int:
        """Forget these ids and return how many were there."""
        ...

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Neighbors:
        """Return the k nearest per query, among `allowed` only when given (empty: nothing qualifies)."""
        ...

    def fetch(self, ids: Ids) -> Vectors:
        """Return the vectors (n, dim) of these ids in this order. Raises KeyError for one that is not there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """Chosen when a collection is made; changing one means a new generation."""

    encoder_name: str
    encoder_revision: str
    encoder_fingerprint: str
    encoder_config: str
    """JSON of the EncoderConfig that made it, so that a query loads the same encoder by itself."""
    dim: int
    chunk_tokens: int
    chunk_overlap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One indexed file as the catalogue remembers it."""

    path: str
    """POSIX path relative to the folder that holds `.searchctl/`, or absolute for files outside of it."""
    size: int
    mtime_ns: int
    inode: int
    content_hash: str
    """blake3 hex of the file's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRecord:
    """A whole document ready to be stored: it becomes visible only with all its chunks and vectors."""

    file: FileRecord
    format: str
    title: str | None
    date: datetime | None
    metadata: Mapping[str, str]
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction stores. Vectors may come ahead of their document (a document longer than a batch)."""

    hashes: Sequence[str] = ()
    vectors: Vectors | None = None
    """(len(hashes), dim)"""
    documents: Sequence[DocumentRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which documents and chunks qualify; an empty field means all. Applied before top-k."""

    types: tuple[str, ...] = ()
    """File extensions without dot ("md") or format names ("markdown"), case-insensitive; any may match."""
    paths: tuple[str, ...] = ()
    """Gitignore-style globs on the stored path; a plain folder name matches what lies below it. Any may match."""
    exclude: tuple[str, ...] = ()
    """Globs; none may match."""
    after: datetime | None = None
    before: datetime | None = None
    """On the document's date, else the file's mtime; aware; after inclusive, before exclusive."""
    chunks: tuple[int, ...] | None = None
    """Only chunks with these ids; () lets none through, None all. Ids that are gone are no error."""

    @property
    def is_empty(self) -> bool:
        return self == Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Chunks in descending order of score, ties by ascending id."""

    ids: Ids
    """(n,) chunk ids"""
    scores: Vectors
    """(n,) BM25 (higher is nearer) or cosine"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk with its file, as a hit shows it."""

    id: int
    document_id: int
    path: str
    format: str
    title: str | None
    date: datetime
    """The document's own date, else the file's mtime."""
    size: int
    mtime_ns: int
    content_hash: str
    ordinal: int
    text: str
    context: str
    anchor: Anchor | None
    headings: tuple[str, ...]
    line_start: int | None
    line_end: int | None
    char_start: int | None
    char_end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A chunk, or a whole document."""

    key: str
    """Unique in its collection: the path, with "#" and the ordinal of a chunk."""
    path: str
    ordinal: int | None
    """Of a chunk; None for a document."""
    format: str
    title: str | None
    date: datetime
    """The document's own, else the file's mtime."""
    bytes: int
    """Of a document its file's, of a chunk those of its text in UTF-8."""
    content_hash: str
    """blake3 hex of the file's bytes."""
    member: str
    """What a stored result calls it: the hash of a chunk's embedded text, the path of a document."""
    text: str
    anchor: str | None
    """"page 3", where the chunk's format has no lines."""
    lines: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Items in ascending order of path and ordinal, whatever the order they were indexed in.

    Items whose embedded texts are equal share a node, so that what is said a thousand times is compared once.
    """

    level: Level
    items: tuple[Item, ...]
    nodes: Ids
    """(n,) row of each item in `vectors`"""
    vectors: Vectors
    """(m, dim) float32 unit rows, one per node, in the order of their first items"""
    names: tuple[str, ...]
    """(m,) hex digest of what each node embeds: equal nodes of two collections have equal names"""
    parts: tuple[tuple[tuple[str, int], ...], ...]
    """(m,) the chunks of each node: the hash of what is embedded, and its weight in the mean"""
    changes: int
    """`State.changes` of the catalogue they were read from."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPlace:
    """Where a chunk of a JSONL document comes from."""

    id: int
    path: str
    row: int
    """1-based line of its record."""
    vector: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionStatus:
    """What a collection holds, how large and how fresh."""

    path: Path
    settings: CollectionSettings | None
    generation: int
    documents: int
    chunks: int
    vectors: int
    """Distinct vectors: identical chunks share one."""
    bytes_sqlite: int
    bytes_faiss: int
    formats: Mapping[str, int]
    """Documents per format."""
    created: datetime | None
    updated: datetime | None
    complete: bool
    """False while a run was begun and not finished: re-run `index`."""
    skipped: int
    """Files the last run could not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing `verify` found wrong."""

    what: str
    repairable: bool
    """True when `repair` fixes it from what SQLite holds, without embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    fixed: tuple[str, ...] = field(default=())
    left: tuple[Problem, ...] = field(default=())


class Writer(Protocol):
    """The single writer of a collection, alive inside `Collection.writer()`."""

    def configure(self, settings: CollectionSettings) -> None:
        """Set the settings of an empty collection. Raises EncoderMismatchError if others are set already."""
        ...

    def files(self) -> Mapping[str, FileRecord]:
        """Return all indexed files by path."""
        ...

    def missing(self, hashes: Iterable[str]) -> list[str]:
        """Return those hashes, each once and in order, that have no committed vector."""
        ...

    def commit(self, batch: Batch) -> None:
        """Store a batch in one transaction; a document replaces the one at its path. Durable on return.

        Raises ValueError when a document's chunk has no vector, or a vector is not finite or of the wrong width."""

    def touch(self, files: Sequence[FileRecord]) -> None:
        """Renew size, mtime and inode of files whose content is unchanged."""
        ...

    def move(self, old: str, new: FileRecord) -> None:
        """Give a document a new path, keeping chunks and vectors."""

    def remove(self, paths: Iterable[str]) -> int:
        """Drop documents in one transaction and return how many were there."""
        ...

    def finish(self, *, skipped: Mapping[str, str], whole: bool = True) -> None:
        """End a run: drop vectors no chunk uses, raise the generation, publish the FAISS file, mark complete.

        `skipped` maps unreadable files to reasons and is kept for `status`. With `whole` False, an earlier run
        over other paths is still to be repeated: unused vectors stay for it, and the collection stays incomplete."""
        ...


class Collection(Protocol):
    """Documents, chunks, vectors and lexical search under one crash contract."""

    @property
    def root(self) -> Path:
        """Folder that stored relative paths start from."""
        ...

    @property
    def settings(self) -> CollectionSettings | None: ...

    def status(self) -> CollectionStatus: ...

    def skipped(self) -> Mapping[str, str]: ...

    def files(self) -> Mapping[str, FileRecord]:
        """Return all indexed files by path, as committed."""
        ...

    def writer(self) -> AbstractContextManager[Writer]:
        """Take the write lock. Raises CollectionLockedError naming the owner's pid. Readers are not blocked."""
        ...

    def keeper(self) -> AbstractContextManager[Keeper]:
        """Take the write lock as `writer` does, to set documents aside and put them back."""

    def lexical(self, query: str, k: int, *, where: Filter | None = None) -> Scored:
        """Return the k best chunks by BM25 over any of the query's words; punctuation is never syntax."""
        ...

    def dense(self, query: Vectors, k: int, *, where: Filter | None = None) -> Scored:
        """Return the k best chunks by cosine to one query (dim,)."""
        ...

    def cosines(self, query: Vectors, chunk_ids: Ids) -> Vectors:
        """Return the cosine of one query (dim,) to each of these chunks, in their order."""
        ...

    def chunks(self, chunk_ids: Sequence[int]) -> list[StoredChunk]:
        """Return these chunks in this order."""
        ...

    @property
    def path(self) -> Path:
        """The collection's own folder, for what is kept beside it."""
        ...

    @property
    def changes(self) -> int:
        """How many commits have changed documents or chunks."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let every search of this thread inside see one commit, so that a hit's chunk is there when it is shown."""
        ...

    def items(self, level: Level, where: Filter | None = None) -> Items:
        """Return the chunks or documents of one commit, by path and ordinal, to be compared with each other."""
        ...

    def keys(self, chunk_ids: Sequence[int]) -> list[ChunkKey]:
        """Return what these chunks are known by outside of the collection, in this order."""
        ...

    def find_chunks(self, *, hashes: Sequence[str] = (), paths: Sequence[str] = ()) -> Ids:
        """Return the ascending ids of the chunks with one of these hashes or in one of these documents."""
        ...

    def all_chunks(self) -> Iterator[StoredChunk]:
        """Yield every chunk of one commit, in the order of paths and then of the chunks in their document."""
        ...

    def chunk_places(self) -> list[ChunkPlace]:
        """Return the place of every chunk, by ascending id; all documents must be JSONL."""
        ...

    def documents_at(self, paths: Sequence[str]) -> Iterator[DocumentRecord]:
        """Yield the documents at these paths in this order. Raises KeyError for one that is not there."""
        ...

    def differing_documents(self, other: Self) -> dict[str, int]:
        """Return the documents that `other` lacks or has otherwise: paths, as they were stored, with tokens.

        Token counts are each encoder's own, and make no difference. What is damaged in the other collection counts as
        lacking there; damage in this one raises CollectionDamagedError.
        """
        ...

    def all_vectors(self, dim: int) -> Iterator[tuple[Ids, Vectors]]:
        """Yield ids and vectors as they were stored, not as an index has them, in blocks."""
        ...

    def hashed_vectors(self, dim: int) -> Iterator[tuple[list[str], Vectors]]:
        """Yield vectors with the hashes of their texts, in blocks and in the order they were stored."""
        ...

    def stored_hashes(self, hashes: Sequence[str]) -> set[str]:
        """Return which of these hashes of embedded texts have a vector."""
        ...

    def stored_vectors(self, hashes: Sequence[str], dim: int) -> dict[str, Vectors]:
        """Return the vectors (dim,) of those of these hashes that have one."""
        ...

    def embedded_texts(self, hashes: Sequence[str]) -> list[str]:
        """Return the texts that were embedded under these hashes, context included."""
        ...

    def lineage(self) -> dict[str, str | int]:
        """Return what differs once documents or chunks have changed, or another collection has taken the place."""
        ...

    def verify(self) -> list[Problem]:
        """Check SQLite, foreign keys, vectors, FTS and the FAISS file against each other; [] when clean."""

    def repair(self) -> RepairReport:
        """Rebuild everything derived (FAISS, FTS, orphans) from SQLite; embeds nothing."""
        ...

    def close(self) -> None: ...
