"""Cosines that do not depend on the way they are computed, and the one order in which neighbours are given; what every
vector store checks alike."""

from __future__ import annotations

import numpy as np

from .protocol import Ids, Neighbors, Vectors

UNIT_TOLERANCE = 1e-3
"""How far a norm may be from 1: wide enough for vectors that went through bfloat16, narrow enough for a mistake."""

_BLOCK_ROWS = 4096


def check_unit(vectors: Vectors, dim: int, *, what: str) -> Vectors:
    """Return `vectors` as contiguous float32 (n, dim).

    Raises ValueError for another shape, a value that is not finite, or a row whose norm is not 1: an inner
    product is a cosine only between unit vectors.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(f"{what} must have shape (n, {dim}), got {array.shape}")
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise ValueError(f"{what} row {int(np.flatnonzero(~np.isfinite(norms))[0])} holds a value that is not finite")
    wrong = np.flatnonzero(np.abs(norms - 1.0) > UNIT_TOLERANCE)
    if len(wrong):
        raise ValueError(
            f"{what} row {int(wrong[0])} has norm {norms[wrong[0]]:.6g}, expected 1 within {UNIT_TOLERANCE}: "
            "divide it by its norm first"
        )
    return array


def exact_cosines(rows: Vectors, query: Vectors) -> Vectors:
    """Return float32 (n,): inner products of rows (n, dim) with one query (dim,), summed in float64.

    A float32 sum depends on the order of its terms (block sizes, SIMD width), so equal vectors would differ in the
    last bit between a full scan and a filtered one, and ties with them. Rounded from float64 they do not.
    """
    wide = query.astype(np.float64)
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS].astype(np.float64)
        scores[start : start + _BLOCK_ROWS] = np.einsum("ij,j->i", block, wide)
    return scores


def float32_margin(dim: int) -> float:
    """Return how far apart two float32 cosines may be although their exact values are equal.

    Twice the bound gamma_d = d u / (1 - d u) of an inner product of unit vectors in any order of summation
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), with the norm tolerance on top.
    """
    du = (dim + 2) * 2.0**-24
    return 2 * du / (1 - du) * (1 + UNIT_TOLERANCE) ** 2


def ranked(ids: Ids, scores: Vectors, k: int) -> tuple[Ids, Vectors]:
    """Return the first k in descending order of score, ties by ascending id; fewer when there are fewer."""
    if len(ids) > k:
        # The k-th score decides; everything equal to it stays in, so that the id breaks the tie at the border too.
        border = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = scores >= border
        ids, scores = ids[keep], scores[keep]
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def checked_ids(ids: Ids, present: Ids) -> Ids:
    """Return `ids` as int64 (n,). Raises ValueError for a negative one, one given twice or one that is present."""
    array = np.ascontiguousarray(ids, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"ids must have shape (n,), got {array.shape}")
    if len(array) and array.min() < 0:
        raise ValueError(f"id {int(array.min())} is negative: expected 0 or more (-1 means no neighbour)")
    values, counts = np.unique(array, return_counts=True)
    if len(values) != len(array):
        raise ValueError(f"id {int(values[counts > 1][0])} is given twice: expected distinct ids")
    there = np.intersect1d(values, present)
    if len(there):
        raise ValueError(f"id {int(there[0])} is already stored: remove it first")
    return array


def check_k(k: int) -> None:
    """Raise ValueError unless k is at least 1."""
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1")


def empty_neighbors(queries: int, k: int) -> Neighbors:
    """Return a result that says "none" everywhere: id -1, score -inf."""
    return Neighbors(
        ids=np.full((queries, k), -1, dtype=np.int64),
        scores=np.full((queries, k), -np.inf, dtype=np.float32),
    )
