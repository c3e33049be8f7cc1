"""The collection in a folder: documents, chunks, vectors and words in `.searchctl/`, under one crash contract."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import local
from typing import Self

from . import contents, dense, lexical, schema
from .catalogue import (
    ReadConnection,
    connect_writer,
    read_files,
    read_state,
    snapshot,
    sqlite_errors,
    transaction,
    vector_ids,
    write_state,
)
from .dedup_settings import Level
from .errors import CollectionDamagedError, CollectionNotFoundError, StorageError
from .faiss_file import Step, vector_blocks
from .file_names import CATALOGUE_FILE
from .integrity import repair, verify
from .items import embedded_texts, read_items
from .keeper import Keeper
from .lock import write_lock
from .protocol import (
    ChunkKey,
    ChunkPlace,
    CollectionSettings,
    CollectionStatus,
    DocumentRecord,
    FileRecord,
    Filter,
    Ids,
    Items,
    Problem,
    RepairReport,
    Scored,
    StoredChunk,
    Vectors,
)
from .restriction import FilterMemory
from .rows import read_chunks
from .writer import FolderWriter

_CREATE_TIMEOUT_S = 10.0


class FolderCollection:
    """A Collection embedded in a folder: SQLite is the truth, the FAISS file a copy for speed.

    Any number of threads may search one object: each has its own connection, the vectors in memory are shared.
    Searching is never blocked by a writer and sees whole commits only. Writing and closing are for one thread.
    """

    def __init__(self, path: Path, *, step: Step | None = None) -> None:
        """Open the collection whose folder (`.searchctl`) is `path`; same as `open`.

        `step` is told each step of writing; crash tests end the process there.
        """
        self._path = path.absolute()
        self._catalogue = self._path / CATALOGUE_FILE
        self._step: Step = step or (lambda name: None)
        self._threads = local()
        self._readers: weakref.WeakSet[ReadConnection] = weakref.WeakSet()
        self._dense = dense.DenseIndex(self._path)
        self._filters = FilterMemory()
        if not self._is_made():
            self._make()

    @classmethod
    def open(cls, path: Path, *, step: Step | None = None) -> FolderCollection:
        """Return the collection in the folder `path`. Raises CollectionNotFoundError when there is none."""
        if not (path / CATALOGUE_FILE).is_file():
            raise CollectionNotFoundError(f"there is no collection in {path}", next_command=("index", "PATH"))
        return cls(path, step=step)

    @classmethod
    def create(cls, path: Path, *, step: Step | None = None) -> FolderCollection:
        """Return a collection in the folder `path`, made if it is not there; one that is there is opened."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            ignore = path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            (path / CATALOGUE_FILE).touch()
        except OSError as error:
            raise StorageError(
                f"cannot make a collection in {path}: {error.strerror or error}. Make the folder writable, or name "
                "another place with --collection PATH"
            ) from error
        return cls(path, step=step)

    def _is_made(self) -> bool:
        # Only a first run killed before the file was in WAL mode leaves a rollback journal, which a reader may not
        # play back.
        if self._catalogue.with_name(f"{CATALOGUE_FILE}-journal").exists():
            return False
        with self._reading() as connection:
            return schema.is_current(connection)

    def _make(self) -> None:
        """Give the catalogue its tables, or the ones it lacks; a half-made one is completed."""
        self._drop_readers()
        with write_lock(self._path, timeout_s=_CREATE_TIMEOUT_S), sqlite_errors(self._catalogue):
            connection = connect_writer(self._catalogue)
            try:
                schema.migrate(connection)
                if read_state(connection).created is None:
                    with transaction(connection):
                        write_state(connection, created=datetime.now(UTC))
            finally:
                connection.close()

    def _drop_readers(self) -> None:
        for reader in list(self._readers):
            reader.connection.close()
        self._threads = local()

    @property
    def root(self) -> Path:
        return self._path.parent

    @property
    def path(self) -> Path:
        """The collection's own folder."""
        return self._path

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with sqlite_errors(self._catalogue):
            reader: ReadConnection | None = getattr(self._threads, "reader", None)
            if reader is None or (reader.frozen and not reader.connection.in_transaction):
                reader = ReadConnection(self._catalogue)
                self._threads.reader = reader
                self._readers.add(reader)
            with snapshot(reader.connection):
                yield reader.connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every search of this thread inside see one commit, so that a hit's chunk is there when it is shown."""
        with self._reading():
            yield

    @property
    def changes(self) -> int:
        """Raised by every commit that changes documents or chunks."""
        with self._reading() as connection:
            return read_state(connection).changes

    @property
    def settings(self) -> CollectionSettings | None:
        with self._reading() as connection:
            return read_state(connection).settings

    def status(self) -> CollectionStatus:
        with self._reading() as connection:
            state = read_state(connection)
            counts = connection.execute(
                "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM chunks),"
                " (SELECT count(*) FROM vectors), (SELECT count(*) FROM skipped)"
            ).fetchone()
            formats = dict(connection.execute("SELECT format, count(*) FROM documents GROUP BY format ORDER BY format"))
        return CollectionStatus(
            path=self._path,
            settings=state.settings,
            generation=state.generation,
            documents=counts[0],
            chunks=counts[1],
            vectors=counts[2],
            bytes_sqlite=sum(_size(path) for path in self._path.glob(f"{CATALOGUE_FILE}*")),
            bytes_faiss=sum(_size(path) for path in self._path.glob("vectors-*.faiss")),
            formats=formats,
            created=state.created,
            updated=state.updated,
            complete=state.complete,
            skipped=counts[3],
        )

    def skipped(self) -> Mapping[str, str]:
        with self._reading() as connection:
            return dict(connection.execute("SELECT path, reason FROM skipped ORDER BY path"))

    def files(self) -> Mapping[str, FileRecord]:
        with self._reading() as connection:
            return read_files(connection)

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock and its connection."""
        with write_lock(self._path) as unclean:
            with sqlite_errors(self._catalogue):
                connection = connect_writer(self._catalogue)
            try:
                if unclean:
                    with sqlite_errors(self._catalogue):
                        _quick_check(connection, self._catalogue)
                yield connection
            finally:
                connection.close()

    @contextmanager
    def writer(self) -> Iterator[FolderWriter]:
        with self._locked() as connection:
            writer = FolderWriter(connection, self._path, step=self._step)
            with sqlite_errors(self._catalogue):
                writer.begin()
            yield writer

    @contextmanager
    def keeper(self) -> Iterator[Keeper]:
        with self._locked() as connection:
            keeper = FolderWriter(connection, self._path, step=self._step)
            with sqlite_errors(self._catalogue):
                keeper.clean()
            yield keeper

    def lexical(self, query: str, k: int, *, where: Filter | None = None) -> Scored:
        with self._reading() as connection:
            return lexical.search(connection, query, k, only=self._filters.restriction(connection, where))

    def dense(self, query: Vectors, k: int, *, where: Filter | None = None) -> Scored:
        with self._reading() as connection:
            return self._dense.search(connection, query, k, only=self._filters.restriction(connection, where))

    def cosines(self, query: Vectors, chunk_ids: Ids) -> Vectors:
        with self._reading() as connection:
            return dense.cosines(connection, query, chunk_ids)

    def chunks(self, chunk_ids: Sequence[int]) -> list[StoredChunk]:
        with self._reading() as connection:
            return read_chunks(connection, chunk_ids)

    def items(self, level: Level, where: Filter | None = None) -> Items:
        """Return the chunks or documents of one commit, by path and ordinal, to be compared with each other."""
        with self._reading() as connection:
            return read_items(connection, level, where)

    def keys(self, chunk_ids: Sequence[int]) -> list[ChunkKey]:
        """Return what these chunks are known by outside of the catalogue, in this order."""
        with self._reading() as connection:
            return contents.read_keys(connection, chunk_ids)

    def find_chunks(self, *, hashes: Sequence[str] = (), paths: Sequence[str] = ()) -> Ids:
        """Return the ascending ids of the chunks with one of these hashes or in one of these documents."""
        with self._reading() as connection:
            return contents.find_chunks(connection, hashes=hashes, paths=paths)

    @contextmanager
    def _reading_apart(self) -> Iterator[sqlite3.Connection]:
        """Hold one commit on a connection of its own, for what is read over a long time while the thread searches."""
        with sqlite_errors(self._catalogue):
            reader = ReadConnection(self._catalogue)
            with snapshot(reader.connection):
                yield reader.connection

    def all_chunks(self) -> Iterator[StoredChunk]:
        with self._reading_apart() as connection:
            yield from contents.all_chunks(connection)

    def chunk_places(self) -> list[ChunkPlace]:
        with self._reading_apart() as connection:
            return contents.chunk_places(connection)

    def documents_at(self, paths: Sequence[str]) -> Iterator[DocumentRecord]:
        with self._reading_apart() as connection:
            yield from contents.documents_at(connection, paths)

    def differing_documents(self, other: Self) -> dict[str, int]:
        with self._reading_apart() as here, other._reading_apart() as there:
            return contents.differing_documents(here, there)

    def all_vectors(self, dim: int) -> Iterator[tuple[Ids, Vectors]]:
        with self._reading_apart() as connection:
            yield from vector_blocks(connection, dim)

    def hashed_vectors(self, dim: int) -> Iterator[tuple[list[str], Vectors]]:
        with self._reading_apart() as connection:
            yield from contents.hashed_vectors(connection, dim)

    def stored_hashes(self, hashes: Sequence[str]) -> set[str]:
        with self._reading_apart() as connection:
            return set(vector_ids(connection, hashes))

    def stored_vectors(self, hashes: Sequence[str], dim: int) -> dict[str, Vectors]:
        with self._reading_apart() as connection:
            return contents.stored_vectors(connection, hashes, dim)

    def embedded_texts(self, hashes: Sequence[str]) -> list[str]:
        with self._reading_apart() as connection:
            return embedded_texts(connection, hashes)

    def lineage(self) -> dict[str, str | int]:
        with self._reading_apart() as connection:
            return contents.lineage(connection)

    def verify(self) -> list[Problem]:
        """Check everything against everything; takes the write lock, as FTS5 checks itself only for a writer."""
        with self._locked() as connection, sqlite_errors(self._catalogue):
            return verify(connection, self._path)

    def repair(self) -> RepairReport:
        with self._locked() as connection, sqlite_errors(self._catalogue):
            report = repair(connection, self._path, step=self._step)
        self._dense.forget()
        return report

    def close(self) -> None:
        """Close every thread's connection; the object cannot be used after it."""
        self._drop_readers()
        self._dense.forget()


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise CollectionDamagedError(
            f"{path} is damaged since a writer was killed ({result}): it cannot be fixed from what it holds. "
            f"Move {path.parent} away, then index again",
            next_command=("index", "PATH"),
        )


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # another process may publish a generation meanwhile
        return path.stat().st_size
    return 0
