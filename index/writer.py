"""The single writer of a collection in a folder."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from .catalogue import (
    bump,
    check_stored_text,
    read_files,
    read_state,
    signed,
    sqlite_errors,
    transaction,
    vector_ids,
    write_state,
)
from .cosine import check_unit
from .errors import EncoderMismatchError, IndexRoomError
from .faiss_file import Step, is_published, leftovers, publish
from .file_names import CATALOGUE_FILE
from .keeper import PutBack
from .protocol import Batch, CollectionSettings, FileRecord, Vectors
from .rows import drop_documents, forget_words, index_words, replace_document
from .set_aside import drop_kept, put_back, save_rows

_COMPACT_BYTES = 16 * 2**20
"""Unused bytes in the catalogue below which a run does not compact it."""
_OPTIMIZE_CHUNKS = 1000
"""Chunks changed by one run from which merging FTS5's segments pays for itself in queries."""

_log = logging.getLogger(__name__)


class FolderWriter:
    """A Writer on one connection; made by `FolderCollection.writer()`, which holds the lock and closes it.

    `FolderCollection.keeper()` gives the same as a Keeper: without `begin`, as moving rows about is no run.

    Every method is one transaction, on the disk when it returns. Not for use from two threads at a time.
    `step` is told each point at which a crash leaves something different behind; a crash test ends the process there.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, *, step: Step) -> None:
        self._connection = connection
        self._folder = folder
        self._step = step
        self._chunks_written = 0

    def begin(self) -> None:
        """Mark the collection incomplete until `finish`, and `clean`."""
        self.clean()
        if read_state(self._connection).complete:
            with self._transaction():
                write_state(self._connection, complete=False)

    def clean(self) -> None:
        """Clear what a killed publisher left."""
        for path in leftovers(self._folder, read_state(self._connection).faiss):
            path.unlink(missing_ok=True)

    def configure(self, settings: CollectionSettings) -> None:
        present = read_state(self._connection).settings
        if present == settings:
            return
        if present is not None and self._holds_anything():
            raise _mismatch(present, settings, self._folder)
        with self._transaction():
            write_state(self._connection, settings=settings)
            bump(self._connection, "changes", "vector_changes")

    def _holds_anything(self) -> bool:
        (held,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM vectors) OR EXISTS (SELECT 1 FROM documents)"
        ).fetchone()
        return bool(held)

    def files(self) -> Mapping[str, FileRecord]:
        with sqlite_errors(self._folder / CATALOGUE_FILE):
            return read_files(self._connection)

    def missing(self, hashes: Iterable[str]) -> list[str]:
        wanted = list(dict.fromkeys(hashes))
        with sqlite_errors(self._folder / CATALOGUE_FILE):
            present = vector_ids(self._connection, wanted)
        return [hash_ for hash_ in wanted if hash_ not in present]

    def commit(self, batch: Batch) -> None:
        vectors = self._checked_vectors(batch)
        self._step("commit:begin")
        with self._transaction():
            before = self._connection.total_changes
            # A vector that is there already stays: the same text by the same encoder, whose id chunks may refer to.
            self._connection.executemany(
                "INSERT OR IGNORE INTO vectors (hash, vector) VALUES (?, ?)",
                ((hash_, row.tobytes()) for hash_, row in zip(batch.hashes, vectors, strict=True)),
            )
            if self._connection.total_changes > before:
                bump(self._connection, "vector_changes")
            for document in batch.documents:
                replace_document(self._connection, document)
            if batch.documents:
                bump(self._connection, "changes")
            self._step("commit:stored")
        self._chunks_written += sum(len(document.chunks) for document in batch.documents)
        self._step("commit:done")

    def _checked_vectors(self, batch: Batch) -> Vectors:
        settings = read_state(self._connection).settings
        if settings is None:
            raise IndexRoomError("the collection has no settings yet: call configure() before commit()")
        given = np.empty((0, settings.dim), np.float32) if batch.vectors is None else batch.vectors
        vectors = check_unit(given, settings.dim, what="vectors")
        if len(vectors) != len(batch.hashes):
            raise ValueError(f"{len(batch.hashes)} hashes for {len(vectors)} vectors: expected one each")
        return vectors.astype("<f4", copy=False)

    def touch(self, files: Sequence[FileRecord]) -> None:
        """Renew files. Raises ValueError for one that is not indexed with that content hash."""
        if not files:
            return
        with self._transaction():
            for file in files:
                cursor = self._connection.execute(
                    "UPDATE documents SET size = ?, mtime_ns = ?, inode = ? WHERE path = ? AND content_hash = ?",
                    [file.size, file.mtime_ns, signed(file.inode), file.path, file.content_hash],
                )
                if cursor.rowcount != 1:
                    raise ValueError(
                        f"{file.path} is not indexed with content {file.content_hash[:12]}: commit it as a document"
                    )
            bump(self._connection, "changes")

    def move(self, old: str, new: FileRecord) -> None:
        """Give a document a new path; one that is indexed there is replaced.

        Raises ValueError when no document with the content of `new` is at `old`.
        """
        check_stored_text(new.path, "the path")
        with self._transaction():
            row = self._connection.execute(
                "SELECT id FROM documents WHERE path = ? AND content_hash = ?", [old, new.content_hash]
            ).fetchone()
            if row is None:
                raise ValueError(f"{old} is not indexed with content {new.content_hash[:12]}: it cannot move")
            if old != new.path:
                drop_documents(self._connection, [new.path])
            forget_words(self._connection, row[0])
            self._connection.execute(
                "UPDATE documents SET path = ?, size = ?, mtime_ns = ?, inode = ? WHERE id = ?",
                [new.path, new.size, new.mtime_ns, signed(new.inode), row[0]],
            )
            index_words(self._connection, row[0])
            bump(self._connection, "changes")

    def remove(self, paths: Iterable[str]) -> int:
        with self._transaction():
            dropped = drop_documents(self._connection, dict.fromkeys(paths))
            if dropped:
                bump(self._connection, "changes")
        return dropped

    def finish(self, *, skipped: Mapping[str, str], whole: bool = True) -> None:
        with self._transaction():
            if whole:
                self._drop_unused_vectors()
            self._connection.execute("DELETE FROM skipped")
            self._connection.executemany(
                "INSERT INTO skipped (path, reason) VALUES (?, ?)",
                # Names that are not Unicode are a common reason to be here: kept as \udcff, to be shown.
                ((_printable(path), _printable(reason)) for path, reason in skipped.items()),
            )
            if self._chunks_written >= _OPTIMIZE_CHUNKS:
                self._connection.execute("INSERT INTO chunk_fts (chunk_fts) VALUES ('optimize')")
            published = self._mark(complete=whole)
            self._step("finish:marked")
        self._chunks_written = 0
        self._step("finish:committed")
        if not published:
            self.publish(complete=whole)
        self._compact()

    def _mark(self, *, complete: bool) -> bool:
        """Raise the generation when something changed, and return whether the FAISS file reflects the vectors."""
        state = read_state(self._connection)
        published = state.settings is None or is_published(self._folder, state)
        if not published or state.changes != state.finished_changes:
            write_state(self._connection, generation=state.generation + 1)
        if published:
            write_state(self._connection, complete=complete, finished_changes=state.changes, updated=datetime.now(UTC))
        return published

    def keep(self, paths: Iterable[str], file: Path) -> int:
        with self._transaction():
            return save_rows(self._connection, paths, file, step=self._step)

    def set_aside(self, paths: AbstractSet[str], file: Path) -> int:
        with self._transaction():
            dropped = drop_kept(self._connection, file, paths)
            self._step("rows:dropped")
        self._step("rows:set-aside")
        self._settle()
        return dropped

    def put_back(self, paths: AbstractSet[str], file: Path) -> PutBack:
        with self._transaction():
            found = put_back(self._connection, file, paths)
            self._step("rows:inserted")
        self._step("rows:back")
        self._settle()
        return found

    def _settle(self) -> None:
        """End a change that is no run: what `finish` says of a run, and drops after it, stays as it is."""
        complete = read_state(self._connection).complete
        with self._transaction():
            published = self._mark(complete=complete)
            self._step("settle:marked")
        self._step("settle:committed")
        if not published:
            self.publish(complete=complete)
        self._compact()

    def _compact(self) -> None:
        """Give the pages that deletions freed back to the disk, once they are a quarter of the file and worth it.

        VACUUM is one transaction: a kill leaves the file as it was. It needs room for a second copy; without it the
        run, which is whole already, says so and ends well.
        """
        page_size, pages, free = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        if free * page_size < _COMPACT_BYTES or free * 4 < pages:
            return
        try:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            _log.warning(
                "%s unused bytes stay in %s: %s", f"{free * page_size:,}", self._folder / CATALOGUE_FILE, error
            )
        self._step("finish:compacted")

    def _drop_unused_vectors(self) -> None:
        dropped = self._connection.execute(
            "DELETE FROM vectors WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE vector_id = vectors.id)"
        ).rowcount
        if dropped:
            bump(self._connection, "vector_changes")

    def publish(self, *, complete: bool = True) -> None:
        """Write the FAISS file of the present generation, and record whether the collection is complete."""
        settings = read_state(self._connection).settings
        assert settings is not None
        with sqlite_errors(self._folder / CATALOGUE_FILE):
            publish(self._connection, self._folder, settings.dim, self._step, complete=complete)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with sqlite_errors(self._folder / CATALOGUE_FILE), transaction(self._connection):
            yield


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _mismatch(present: CollectionSettings, wanted: CollectionSettings, folder: Path) -> EncoderMismatchError:
    differing = [
        f"{field.name} {getattr(present, field.name)!r} against {getattr(wanted, field.name)!r}"
        for field in fields(CollectionSettings)
        if getattr(present, field.name) != getattr(wanted, field.name)
    ]
    return EncoderMismatchError(
        f"{folder} was filled by encoder {present.encoder_name} ({present.encoder_fingerprint[:12]}), this run has "
        f"{wanted.encoder_name} ({wanted.encoder_fingerprint[:12]}): {'; '.join(differing)}. Their vectors cannot be "
        "compared: run with the collection's own settings, or rebuild it",
        next_command=("index", "--rebuild"),
    )
