"""Pairs with the largest sum of similarities: the assignment problem, solved part by part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def best_pairs(similarity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return pairs (row, column), rising, each row and column at most once, whose similarities have the largest sum.

    similarity: (m, n), at least 0; a pair of similarity 0 is none. Rows and columns that no positive number ties
    together are solved by themselves, so that the cost, cubic in a part, stays small.
    """
    found = []
    for rows, columns in _parts(similarity > 0):
        part = similarity[np.ix_(rows, columns)]
        found += [(int(rows[i]), int(columns[j])) for i, j in _solved(part) if part[i, j] > 0]
    return sorted(found)


def _parts(tied: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and columns of each connected part of the bipartite graph."""
    left = tied.any(axis=1)
    while left.any():
        rows: NDArray[np.bool_] = np.zeros(len(tied), dtype=bool)
        rows[np.argmax(left)] = True
        while True:
            columns = tied[rows].any(axis=0)
            more: NDArray[np.bool_] = np.asarray(tied[:, columns].any(axis=1))
            if (more == rows).all():
                break
            rows = more
        left &= ~rows
        yield np.flatnonzero(rows), np.flatnonzero(columns)


def _solved(similarity: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield one pair for each row or column, whichever are fewer: shortest augmenting paths (Jonker and Volgenant)."""
    if similarity.shape[0] > similarity.shape[1]:
        yield from ((i, j) for j, i in _solved(similarity.T))
        return
    cost = -similarity
    m, n = cost.shape
    row_price, column_price = np.zeros(m), np.zeros(n)
    row_of = np.full(n, -1)
    for start in range(m):
        shortest, before, done = np.full(n, np.inf), np.full(n, -1), np.zeros(n, dtype=bool)
        reached, row, last = 0.0, start, -1
        while True:
            length = reached + cost[row] - row_price[row] - column_price
            nearer = ~done & (length < shortest)
            shortest[nearer], before[nearer] = length[nearer], last
            last = int(np.argmin(np.where(done, np.inf, shortest)))
            reached = float(shortest[last])
            done[last] = True
            if row_of[last] < 0:
                break
            row = int(row_of[last])
        taken = np.flatnonzero(done & (row_of >= 0))
        row_price[start] += reached
        row_price[row_of[taken]] += reached - shortest[taken]
        column_price[done] -= reached - shortest[done]
        while before[last] >= 0:
            row_of[last] = row_of[before[last]]
            last = int(before[last])
        row_of[last] = start
    yield from ((int(i), j) for j, i in enumerate(row_of) if i >= 0)
