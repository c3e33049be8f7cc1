"""Vectors of texts, taken from a collection that has them, or else encoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from ...encoder.protocol import EncodeProgress, Role

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ...encoder.protocol import EncoderInfo, ProgressCallback
    from ...index.protocol import Collection, Vectors
    from .encoder_choice import LazyEncoder


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
    collection: Collection | None
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
        return self.collection.stored_vectors(hashes, self.info.dim)


def _stacked(rows: Sequence[Vectors], dim: int) -> Vectors:
    return np.array(rows, dtype=np.float32).reshape(len(rows), dim)


def _nothing_encoded(texts: int) -> EncodeProgress:
    return EncodeProgress(texts_done=texts, texts_total=texts, tokens_done=0, tokens_total=0, texts_truncated=0)
