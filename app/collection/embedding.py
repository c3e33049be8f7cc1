"""Documents waiting for their vectors: encoded in batches, committed in order, each as soon as it is whole."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...encoder.protocol import EncodeProgress, Role
from ...index.protocol import Batch, DocumentRecord, Writer

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder


FIRST_BATCH = 32
LARGEST_BATCH = 2048
BATCH_S = 4.0
"""Aim of one batch: what a crash may lose, and what Ctrl-C waits for. Larger batches pad less and keep a GPU full."""
_MOST_WAITING = 4096
"""Chunks of finished documents that wait for a commit."""


@dataclass(frozen=True, slots=True)
class _Text:
    hash: str
    text: str
    tokens: int


class EmbedQueue:
    """Feeds a writer: a document goes with the last of its vectors, those of a long document go ahead."""

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        *,
        shield: Callable[[], AbstractContextManager[None]],
        progress: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._shield = shield
        self._progress = progress
        self._texts: deque[_Text] = deque()
        self._queued: set[str] = set()
        self._documents: deque[tuple[int, DocumentRecord]] = deque()
        self._entered = 0
        self._left = 0
        self._waiting_chunks = 0
        self._batch = FIRST_BATCH
        self._batch_began: float | None = None
        self.chunks_embedded = 0
        self.chunks_reused = 0
        self.tokens_embedded = 0
        self.tokens_seen = 0
        self.tokens_in_flight = 0
        self.texts_truncated = 0
        self.encode_s = 0.0

    @property
    def encode_s_so_far(self) -> float:
        return self.encode_s + (0.0 if self._batch_began is None else time.monotonic() - self._batch_began)

    def add(self, document: DocumentRecord) -> None:
        """Take a document, and encode and commit as soon as a batch is full."""
        wanted = {chunk.hash: chunk for chunk in document.chunks if chunk.hash not in self._queued}
        missing = self._writer.missing(wanted)
        for hash_ in missing:
            chunk = wanted[hash_]
            self._texts.append(_Text(hash_, chunk.embed_text, chunk.tokens))
            self.tokens_seen += chunk.tokens
        self._queued.update(missing)
        self._entered += len(missing)
        self.chunks_reused += len(document.chunks) - len(missing)
        self._documents.append((self._entered, document))
        self._waiting_chunks += len(document.chunks)
        while len(self._texts) >= self._batch:
            self._step()
        if self._waiting_chunks >= _MOST_WAITING:
            self._step()

    def flush(self) -> None:
        """Encode and commit everything that waits."""
        while self._texts or self._documents:
            self._step()

    def _step(self) -> None:
        """Encode one batch and commit it with the documents it completes."""
        batch = [self._texts.popleft() for _ in range(min(self._batch, len(self._texts)))]
        with self._shield():
            self._batch_began = time.monotonic()
            vectors = None
            if batch:
                vectors = self._encoder.encode(
                    [item.text for item in batch], role=Role.DOCUMENT, progress=lambda p: self._encoding(p, batch)
                )
            self._left += len(batch)
            ready: list[DocumentRecord] = []
            while self._documents and self._documents[0][0] <= self._left:
                ready.append(self._documents.popleft()[1])
            self._writer.commit(Batch(hashes=[item.hash for item in batch], vectors=vectors, documents=ready))
            self._done(batch, ready)

    def _encoding(self, progress: EncodeProgress, batch: list[_Text]) -> None:
        # The encoder also counts the template's tokens; the share is what carries over.
        share = progress.tokens_done / progress.tokens_total if progress.tokens_total else 1.0
        self.tokens_in_flight = round(share * sum(item.tokens for item in batch))
        if progress.texts_done == progress.texts_total:
            self.texts_truncated += progress.texts_truncated
        self._progress()

    def _done(self, batch: list[_Text], ready: list[DocumentRecord]) -> None:
        assert self._batch_began is not None
        seconds = time.monotonic() - self._batch_began
        self._batch_began = None
        self.tokens_in_flight = 0
        self._queued.difference_update(item.hash for item in batch)
        self._waiting_chunks -= sum(len(document.chunks) for document in ready)
        if batch:
            self.encode_s += seconds
            self.chunks_embedded += len(batch)
            self.tokens_embedded += sum(item.tokens for item in batch)
            if seconds < BATCH_S / 2:
                self._batch = min(2 * self._batch, LARGEST_BATCH)
            elif seconds > BATCH_S:
                self._batch = max(self._batch // 2, FIRST_BATCH)
        self._progress()
