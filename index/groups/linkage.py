"""Agglomerative clustering by Ward's linkage: the whole tree once, cut at any number of clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..protocol import Vectors
from .silhouette import Labels
from .steps import ProgressCallback, StepProgress, each, ignore_progress, one_thread

MAX_ITEMS = 20_000
"""All pairs are held at once, twice: 3.5 GiB for so many items."""
_BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Tree:
    """Who was joined with whom, nearest first."""

    joined: NDArray[np.int64]
    """(items - 1, 2): nodes joined in step i to node items + i; nodes below `items` are the items."""
    items: int

    def cut(self, n: int) -> Labels:
        """Return labels (items,) of exactly n clusters: the tree before its last n - 1 steps. 1 <= n <= items."""
        steps = self.items - n
        top = np.arange(self.items + steps)
        # A node's cluster is its parent's; parents have higher numbers, so one walk from the top is enough.
        for step in range(steps - 1, -1, -1):
            top[self.joined[step]] = top[self.items + step]
        return np.unique(top[: self.items], return_inverse=True)[1].astype(np.int64)


def ward_linkage(vectors: Vectors, *, progress: ProgressCallback = ignore_progress) -> Tree:
    """Return the tree of Ward's linkage, of at least two unit rows (n, dim), whose distances are of their cosines.

    What scikit-learn's AgglomerativeClustering(linkage="ward") computes for one number of clusters; here all numbers
    share it. 8 * n * n bytes. Average linkage on 1 - cosine, measured first, put nearly all texts into one cluster
    (stackoverflow with the default encoder: V-measure 2.6).
    """
    from scipy.cluster.hierarchy import linkage

    with one_thread() as threads:
        distances = _distances(vectors, threads, progress)
        merges = linkage(distances, method="ward")
    progress(StepProgress(step="joining", done=1, total=1))
    return Tree(joined=merges[:, :2].astype(np.int64), items=len(vectors))


def _distances(vectors: Vectors, workers: int, progress: ProgressCallback) -> NDArray[np.float64]:
    """Return the Euclidean distance, sqrt(2 - 2 cosine), of all pairs in the condensed order of scipy."""
    n = len(vectors)
    distances = np.empty(n * (n - 1) // 2)

    def fill(start: int) -> int:
        stop = min(start + _BLOCK_ROWS, n)
        block = np.sqrt(np.clip(2 - 2 * (vectors[start:stop] @ vectors[start:].T), 0, 4))
        for row in range(start, stop):
            first = row * n - row * (row + 1) // 2
            distances[first : first + n - row - 1] = block[row - start, row - start + 1 :]
        return stop

    for done in each(fill, range(0, n, _BLOCK_ROWS), workers=workers):
        progress(StepProgress(step="comparing", done=done, total=n))
    return distances
