"""Which rows each step takes: full batches of one source, in an order that follows from the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.corpus import order

EVALUATION_TEXTS = 256
"""Of SimCSE, and pairs of one source at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """The source and the rows of every step of a stage."""

    counts: tuple[int, ...]
    """Rows of each source, at least `batch`."""
    batch: int
    seed: int
    sources: NDArray[np.int64]
    """Of each step."""
    turns: NDArray[np.int64]
    """Of each step: how many earlier steps had the same source."""

    def rows(self, step: int) -> list[int]:
        """Return the rows of the step's source that it takes."""
        return batch_rows(self.counts[int(self.sources[step])], self.batch, int(self.turns[step]), self.seed)


def plan_steps(counts: Sequence[int], weights: Sequence[float], *, batch: int, steps: int, seed: int) -> BatchPlan:
    """Return the plan of a stage: sources are sampled in proportion to their weight times their number of rows."""
    shares = np.array(weights) * np.array(counts)
    rng = np.random.default_rng([seed, 0x50])
    sources = rng.choice(len(shares), size=steps, p=shares / shares.sum())
    turns = np.zeros_like(sources)
    for source in range(len(shares)):
        places = np.flatnonzero(sources == source)
        turns[places] = np.arange(len(places))
    return BatchPlan(counts=tuple(counts), batch=batch, seed=seed, sources=sources, turns=turns)


def draw_rows(counts: Sequence[int], weights: Sequence[float], *, count: int, seed: int) -> NDArray[np.int64]:
    """Return `count` samples (source, row), each by itself: as `plan_steps` with batches of one row, all at once."""
    plan = plan_steps(counts, weights, batch=1, steps=count, seed=seed)
    rows = np.empty_like(plan.sources)
    for source, size in enumerate(counts):
        places = np.flatnonzero(plan.sources == source)
        for epoch in range(-(-len(places) // size)):
            part = places[epoch * size : (epoch + 1) * size]
            rows[part] = order(size, seed, epoch)[: len(part)]
    return np.stack([plan.sources, rows], axis=1)


def batch_rows(count: int, size: int, number: int, seed: int) -> list[int]:
    """Return the rows of batch `number`: full batches of one permutation per epoch."""
    epoch, at = divmod(number, count // size)
    return [int(row) for row in order(count, seed, epoch)[at * size : (at + 1) * size]]
