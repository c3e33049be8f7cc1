"""Embeddings with gradients, made as at inference: the same template, truncation and pooling.

Shape suffixes: N texts, L tokens, D width of a state, P components of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...encoder.config import Pooling
from ...encoder.pooling import pool
from ...encoder.protocol import Role
from ...encoder.tokenize import TextTokenizer, TokenRow
from ..trainable import Trainable
from .contrastive_loss import cached_backward


def embed(trainable: Trainable, rows: Sequence[TokenRow], pooling: Pooling) -> Tensor:
    """Return fp32 (N, P), projected where the model has a projection, not normalised, with gradient in grad mode."""
    pooled_ND = pooled_states(trainable, rows, pooling)
    if trainable.projection is None:
        return pooled_ND
    # In fp32 whatever the matrix products before are in: it is one vector a text.
    with torch.autocast(trainable.device.type, enabled=False):
        projected: Tensor = trainable.projection(pooled_ND)
    return projected


def pooled_states(trainable: Trainable, rows: Sequence[TokenRow], pooling: Pooling) -> Tensor:
    """Return fp32 (N, D), with gradient in grad mode."""
    lengths = [len(row.ids) for row in rows]
    ids_NL = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    for i, row in enumerate(rows):
        ids_NL[i, : lengths[i]] = torch.from_numpy(row.ids)
    mask_NL = None
    if min(lengths) < max(lengths):
        mask_NL = (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long().to(trainable.device)
    states_NLD = trainable.states(ids_NL.to(trainable.device), mask_NL)
    spans_N2 = torch.tensor([(row.start, row.end) for row in rows], device=trainable.device)
    return pool(states_NLD, spans_N2, pooling).float()


def by_length(rows: Sequence[TokenRow], size: int) -> list[list[int]]:
    """Return the numbers of the rows in chunks of `size`, longest first, so that little is padded."""
    ranked = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
    return [ranked[at : at + size] for at in range(0, len(ranked), size)]


@dataclass(slots=True)
class Views:
    """Token rows and how to embed them in chunks."""

    trainable: Trainable
    rows: list[TokenRow]
    pooling: Pooling
    chunk: int
    cached: bool = True

    def backward(self, loss_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Add the gradients of `loss_of`, which takes embeddings in the order of the rows; return both, detached."""
        chunks = by_length(self.rows, self.chunk)
        back = self._back(chunks)
        loss, shuffled = cached_backward(
            len(chunks),
            lambda n: embed(self.trainable, [self.rows[i] for i in chunks[n]], self.pooling),
            lambda embeddings: loss_of(embeddings[back]),
            device=self.trainable.device,
            autocast=self.trainable.autocast,
            cached=self.cached,
        )
        return loss, shuffled[back]

    def evaluate(self) -> Tensor:
        """Return the embeddings without gradient and dropout."""
        return self._evaluated(embed)

    def pooled(self) -> Tensor:
        """Return the pooled states without gradient and dropout, before any projection."""
        return self._evaluated(pooled_states)

    def _evaluated(self, made: Callable[[Trainable, Sequence[TokenRow], Pooling], Tensor]) -> Tensor:
        self.trainable.decoder.eval()
        chunks = by_length(self.rows, self.chunk)
        with torch.no_grad(), self.trainable.autocast():
            parts = [made(self.trainable, [self.rows[i] for i in chunk], self.pooling) for chunk in chunks]
        return torch.cat(parts)[self._back(chunks)]

    def _back(self, chunks: Sequence[Sequence[int]]) -> Tensor:
        """Return the places that bring rows in the order of `chunks` back into their own."""
        return torch.tensor([number for chunk in chunks for number in chunk]).argsort().to(self.trainable.device)


LIMIT_BYTES = 512 * 2**20
_ROW_BYTES = 300
"""Of a row's objects and its place in the table, the ids not counted; the texts are held by the data anyway."""


def cut_share(rows: Sequence[TokenRow]) -> float:
    """Return the share of the rows whose text was cut at the end of its room."""
    return sum(row.truncated for row in rows) / max(1, len(rows))


class TokenCache:
    """A `TextTokenizer` that remembers its rows, up to a limit of memory.

    What no longer fits is tokenised each time and never put in the place of another: an epoch reads all texts before it
    comes back to the first, and a cache that drops the oldest would then never find anything.
    """

    def __init__(self, tokenizer: TextTokenizer, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._tokenizer, self._left = tokenizer, limit_bytes
        self._rows: dict[tuple[Role, str | None], dict[str, TokenRow]] = {}

    def __call__(self, texts: Sequence[str], *, role: Role, instruction: str | None) -> list[TokenRow]:
        """Return one row per text, in order; raises as the tokenizer does."""
        known = self._rows.setdefault((role, instruction), {})
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        made = dict(zip(missing, self._tokenizer(missing, role=role, instruction=instruction), strict=True))
        rows = [known[text] if text in known else made[text] for text in texts]
        for text, row in made.items():
            self._left -= row.ids.nbytes + _ROW_BYTES
            if self._left < 0:
                break
            known[text] = row
        return rows
