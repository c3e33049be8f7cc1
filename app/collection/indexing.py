"""One run of `index`: what the survey found is read, cut, encoded and committed, so that a crash loses one batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blake3 import blake3

from ...index.chunking import Chunker
from ...index.documents import Chunk, Document
from ...index.errors import IndexRoomError, ReadError
from ...index.protocol import CollectionSettings, DocumentRecord, FileRecord, Writer
from ...index.readers import read_document
from ...index.walk import FoundFile
from .changes import Survey, Task
from .embedding import EmbedQueue

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder


_TOUCH_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexProgress:
    """How far a run has come; bytes count the files to look at, tokens what is encoded of them."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    tokens_done: int
    tokens_seen: int
    """Tokens to encode in the files read so far."""
    encode_s: float

    @property
    def share(self) -> float:
        """The share of the work done, 0 to 1; tokens of files not yet read are estimated from their size."""
        if not self.bytes_total:
            return 1.0
        read = self.bytes_done / self.bytes_total
        if not self.tokens_seen:
            return read
        return read * self.tokens_done / self.tokens_seen

    @property
    def tokens_per_s(self) -> float:
        return self.tokens_done / self.encode_s if self.encode_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go by the tokens still to encode, None before anything was encoded."""
        if not self.tokens_done or not self.bytes_done or not self.tokens_per_s:
            return None
        expected = self.tokens_seen * self.bytes_total / self.bytes_done
        return max(0.0, expected - self.tokens_done) / self.tokens_per_s


@dataclass(slots=True, kw_only=True)
class IndexSummary:
    """What a run did."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    protected: dict[str, int] = field(default_factory=dict)
    """Files kept although they are gone, per folder that vanished or is empty."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Left out by rule."""
    failed: dict[str, str] = field(default_factory=dict)
    """Could not be read. A version indexed before is kept, and its hits say that the file has changed."""
    chunks_embedded: int = 0
    chunks_reused: int = 0
    tokens_embedded: int = 0
    texts_truncated: int = 0
    encode_s: float = 0.0

    @property
    def complete(self) -> bool:
        return not self.failed and not self.protected


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexHooks:
    """How a run talks to the outside."""

    progress: Callable[[IndexProgress], None] = lambda progress: None
    file: Callable[[str, str], None] = lambda what, path: None
    """Told what happened ("added", "skipped: binary") to which file."""
    shield: Callable[[], AbstractContextManager[None]] | None = None
    """Around each batch: an interrupt inside waits for its end."""


class IndexRun:
    """State of one run; `run` is called once, inside the collection's writer."""

    def __init__(
        self,
        writer: Writer,
        survey: Survey,
        open_encoder: Callable[[], tuple[Encoder, CollectionSettings]],
        hooks: IndexHooks,
        *,
        whole: bool = True,
    ) -> None:
        """`open_encoder` loads the encoder and returns it with the settings of its collection; called at most once.

        `whole` is False while an interrupted run over other paths is still to be repeated.
        """
        self._whole = whole
        self._writer = writer
        self._survey = survey
        self._open_encoder = open_encoder
        self._hooks = hooks
        self._chunker: Chunker | None = None
        self._queue: EmbedQueue | None = None
        self._known: Mapping[str, FileRecord] = writer.files()
        self._gone_by_hash: dict[tuple[str, str], list[str]] = {}
        self._touched: list[FileRecord] = []
        self._files_done = 0
        self._bytes_done = 0
        self._bytes_total = sum(task.found.size for task in survey.tasks)
        self._moved_away: set[str] = set()
        self.summary = IndexSummary(
            unchanged=survey.unchanged,
            skipped=dict(survey.skipped),
            failed=dict(survey.failed),
            protected={folder: len(paths) for folder, paths in survey.protected.items()},
        )

    def run(self) -> IndexSummary:
        for what, reasons in (("skipped", self._survey.skipped), ("failed", self._survey.failed)):
            for path, reason in reasons.items():
                self._hooks.file(f"{what} ({reason})", path)
        for path in (*self._survey.gone, *(p for paths in self._survey.protected.values() for p in paths)):
            self._gone_by_hash.setdefault((self._known[path].content_hash, _suffix(path)), []).append(path)
        for task in self._survey.tasks:
            self._take(task)
            self._files_done += 1
            self._bytes_done += task.found.size
            self._report()
        if self._queue is not None:
            self._queue.flush()
            self._count()
        self._touch(force=True)
        self._remove()
        with self._shield():
            self._writer.finish(skipped={**self._survey.carried, **self.summary.failed}, whole=self._whole)
        return self.summary

    def _shield(self) -> AbstractContextManager[None]:
        from contextlib import nullcontext

        return nullcontext() if self._hooks.shield is None else self._hooks.shield()

    def _take(self, task: Task) -> None:
        """Look at one file: unchanged after all, moved, or to be stored again."""
        try:
            data, record = _read(task)
        except OSError as error:
            self._fail(task.path, (error.strerror or str(error)).lower())
            return
        if task.known is not None and task.known.content_hash == record.content_hash:
            self._touched.append(record)
            self.summary.unchanged += 1
            self._touch()
            return
        sources = self._gone_by_hash.get((record.content_hash, _suffix(task.path)))
        if sources:
            self._move(sources.pop(), record)
            return
        try:
            document = _document(data, task)
            chunks = self._chunk(document)
        except ReadError as error:
            self._fail(task.path, str(error))
            return
        self._store(record, document, chunks, is_new=task.known is None)

    def _fail(self, path: str, reason: str) -> None:
        self.summary.failed[path] = reason
        self._hooks.file(f"failed ({reason})", path)

    def _chunk(self, document: Document) -> list[Chunk]:
        if self._chunker is None:
            encoder, settings = self._open_encoder()
            self._writer.configure(settings)
            self._chunker = Chunker(encoder.tokenizer, max_tokens=settings.chunk_tokens, overlap=settings.chunk_overlap)
            self._queue = EmbedQueue(self._writer, encoder, shield=self._shield, progress=self._report)
        return self._chunker.chunk(document)

    def _store(self, record: FileRecord, document: Document, chunks: Sequence[Chunk], *, is_new: bool) -> None:
        assert self._queue is not None
        self._queue.add(
            DocumentRecord(
                file=record,
                format=document.format,
                title=document.title,
                date=document.date,
                metadata=document.metadata,
                chunks=chunks,
            )
        )
        self._count()
        (self.summary.added if is_new else self.summary.updated).append(record.path)
        self._hooks.file(f"{'added' if is_new else 'updated'} ({len(chunks)} chunks)", record.path)

    def _move(self, old: str, record: FileRecord) -> None:
        self._writer.move(old, record)
        self._moved_away.add(old)
        for folder, paths in self._survey.protected.items():
            if old in paths:
                self.summary.protected[folder] -= 1
        self.summary.protected = {folder: left for folder, left in self.summary.protected.items() if left}
        self.summary.moved.append((old, record.path))
        self._hooks.file(f"moved from {old}", record.path)

    def _touch(self, *, force: bool = False) -> None:
        if self._touched and (force or len(self._touched) >= _TOUCH_BATCH):
            self._writer.touch(self._touched)
            self._touched = []

    def _remove(self) -> None:
        """Drop what is gone or left out by rule; last, because a file that moved was gone at first."""
        paths = [path for path in (*self._survey.gone, *self._survey.deselected) if path not in self._moved_away]
        if paths:
            self._writer.remove(paths)
        self.summary.removed = paths
        for path in paths:
            self._hooks.file("removed", path)

    def _count(self) -> None:
        assert self._queue is not None
        self.summary.chunks_embedded = self._queue.chunks_embedded
        self.summary.chunks_reused = self._queue.chunks_reused
        self.summary.tokens_embedded = self._queue.tokens_embedded
        self.summary.texts_truncated = self._queue.texts_truncated
        self.summary.encode_s = self._queue.encode_s

    def _report(self) -> None:
        queue = self._queue
        self._hooks.progress(
            IndexProgress(
                files_done=self._files_done,
                files_total=len(self._survey.tasks),
                bytes_done=self._bytes_done,
                bytes_total=self._bytes_total,
                tokens_done=0 if queue is None else queue.tokens_embedded + queue.tokens_in_flight,
                tokens_seen=0 if queue is None else queue.tokens_seen,
                encode_s=0.0 if queue is None else queue.encode_s_so_far,
            )
        )


def _suffix(path: str) -> str:
    """Return what decides the reader: a file renamed from .txt to .md is read again."""
    return os.path.splitext(path.rpartition("/")[2])[1].lower()  # noqa: PTH122 (stored paths are POSIX strings)


def _read(task: Task) -> tuple[bytes, FileRecord]:
    """Return a file's content and record; size and mtime are from before the read, so that a later change shows."""
    with task.found.path.open("rb") as file:
        read = FoundFile.of(task.found.path, os.fstat(file.fileno()))
        data = file.read()
    record = FileRecord(
        path=task.path,
        size=read.size,
        mtime_ns=read.mtime_ns,
        inode=read.inode,
        content_hash=blake3(data).hexdigest(),
    )
    return data, record


def _document(data: bytes, task: Task) -> Document:
    """Return the document in `data`. Whatever a parser throws at a malformed file becomes a ReadError."""
    try:
        document = read_document(data, task.found.path.name)
        for section in document.sections:
            section.text.encode("utf-8")
    except IndexRoomError as error:
        raise error if isinstance(error, ReadError) else ReadError(str(error)) from error
    except UnicodeEncodeError as error:
        raise ReadError(f"text is not valid Unicode at character {error.start}") from error
    except RecursionError as error:
        raise ReadError("nested too deeply to read") from error
    except Exception as error:
        raise ReadError(f"its reader failed, which is a bug in searchctl: {type(error).__name__}: {error}") from error
    return document
