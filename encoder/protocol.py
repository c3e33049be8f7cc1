"""The encoder seam: what every encoder promises to the rest of searchctl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = NDArray[np.float32]


class Role(StrEnum):
    """Which side of retrieval a text stands on; only queries carry an instruction by default."""

    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What a collection must remember about the encoder that filled it."""

    name: str
    """Registry name or folder, as the user gave it."""
    revision: str
    """Version of the weights: a wheel version, a hub commit, or "local"."""
    dim: int
    max_tokens: int
    """Longest input in tokens, special tokens included; longer texts are cut there and counted."""
    pooling: str
    normalized: bool
    fingerprint: str
    """Hex digest of weights, adapters, template, pooling, attention and method; equal means comparable vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeProgress:
    """How far one `encode` call has come; the last event has texts_done == texts_total."""

    texts_done: int
    texts_total: int
    tokens_done: int
    tokens_total: int
    texts_truncated: int
    """Texts cut at `max_tokens`, known from the first event on."""
    texts_known: int = 0
    """Of `texts_done`, those whose vectors were there before: they took no time, and `tokens_*` leave them out."""

    def further(self, *, texts: int, tokens: int) -> EncodeProgress:
        """Return the event after so many more."""
        return replace(self, texts_done=self.texts_done + texts, tokens_done=self.tokens_done + tokens)

    @property
    def share(self) -> float:
        """Share of the call that is done: texts that were there, and of the others as much as of their tokens."""
        if not self.texts_total or not self.tokens_total:
            return self.texts_done / self.texts_total if self.texts_total else 1.0
        encoded = self.tokens_done / self.tokens_total
        return (self.texts_known + (self.texts_total - self.texts_known) * encoded) / self.texts_total


ProgressCallback = Callable[[EncodeProgress], None]


class Encoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The encoder's own `tokenizers.Tokenizer`, without padding or truncation: chunkers count with it."""
        ...

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim), L2-normalised, row i for texts[i]; n = 0 gives (0, dim).

        The result does not depend on batch composition beyond float tolerance. `instruction` None means the
        model's own default for `role`; "" means none. Raises TypeError for a bare string, EmptyTextError for an
        empty or whitespace-only text (naming the row), NonFiniteError when the model returns NaN or Inf.
        """
        ...
