"""Embeddings with gradients, made as at inference: the same template, truncation and pooling (defect D16).

Shape suffixes: N texts, L tokens, D width of a state, P components of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoder.config import Pooling
from ..encoder.pooling import pool
from ..encoder.tokenize import TokenRow
from .contrastive import cached_backward
from .trainable import Trainable


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
