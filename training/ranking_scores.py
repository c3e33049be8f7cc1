"""How good a ranking is, query by query, and how near an index comes to exact search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..encoder.protocol import Vectors

Ids = NDArray[np.int64]

TIE = 1e-6
"""Cosines nearer than this are equal: exact search may return either."""


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return the normalised discounted cumulative gain of the first `k`, with linear gains, as trec_eval has it.

    0 without a relevant passage. Jarvelin and Kekalainen, TOIS 2002.
    """
    ideal = _gain(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k])
    return _gain([max(grades.get(id_, 0), 0) for id_ in ranking[:k]]) / ideal if ideal else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def recall(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return the share of the relevant passages that are among the first `k`, 0 without a relevant passage."""
    relevant = {id_ for id_, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return 1 / rank of the first relevant passage among the first `k`, 0 without one."""
    ranks = (rank for rank, id_ in enumerate(ranking[:k], start=1) if grades.get(id_, 0) > 0)
    return next((1.0 / rank for rank in ranks), 0.0)


def exact_thresholds(
    queries: Vectors, blocks: Iterable[tuple[Ids, Vectors]], chunks_of: Mapping[int, int], k: int
) -> NDArray[np.float64]:
    """Return (q,): the cosine of the k-th best chunk for each query, over all vectors, each compared in float64.

    A vector counts as often as `chunks_of` says, by its id, which is how many chunks share it. With fewer than `k`
    chunks it is the least cosine.
    """
    best = np.empty((len(queries), 0))
    for ids, vectors in blocks:
        repeats = np.array([min(chunks_of.get(int(id_), 0), k) for id_ in ids])
        cosines = queries.astype(np.float64) @ vectors.astype(np.float64).T
        best = np.concatenate([best, np.repeat(cosines, repeats, axis=1)], axis=1)
        best = -np.sort(-best, axis=1)[:, :k]
    thresholds: NDArray[np.float64] = best[:, -1]
    return thresholds


def share_found(cosines: Vectors, threshold: float, expected: int) -> float:
    """Return the recall of one search: how many of the `expected` nearest it found, by their exact cosines."""
    return min(int((cosines >= threshold - TIE).sum()), expected) / expected
