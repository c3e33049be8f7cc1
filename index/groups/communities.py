"""Leiden: communities of the graph in which each vector is tied to its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..protocol import Ids, Vectors
from .silhouette import Labels
from .steps import ProgressCallback, StepProgress, each, ignore_progress, one_thread

RESOLUTION = 1.0
NEIGHBORS = 15
TRIALS = 4
"""Runs from scratch, of which the one with the best modularity counts."""
ITERATIONS = 2
SCORES = 2**23
"""Cosines held at once by each worker: 32 MiB."""


def leiden(vectors: Vectors, resolution: float, *, seed: int, progress: ProgressCallback = ignore_progress) -> Labels:
    """Return labels (n,) of the communities with the best modularity (Traag et al. 2019, arXiv 1810.08473).

    vectors: (n, dim) unit rows. A vector whose cosine to every other one is 0 or less is tied to nothing: noise, -1.
    """
    from graspologic_native import leiden_csr

    graph = neighbor_graph(vectors, NEIGHBORS, progress=progress)
    labels = np.full(len(vectors), -1, dtype=np.int64)
    tied = np.flatnonzero(np.diff(graph.starts))
    if not len(tied):
        return labels
    progress(StepProgress(step="finding communities", done=0, total=1))
    _, found = leiden_csr(
        graph.starts, graph.ends, graph.weights, len(vectors),
        resolution=resolution, seed=seed, trials=TRIALS, iterations=ITERATIONS,
    )  # fmt: skip
    labels[tied] = [found[int(row)] for row in tied]
    progress(StepProgress(step="finding communities", done=1, total=1))
    return labels


@dataclass(frozen=True, slots=True)
class NeighborGraph:
    """A symmetric graph of n nodes by rows: node i has the edges starts[i] to starts[i + 1]."""

    starts: NDArray[np.int64]
    """(n + 1,)"""
    ends: NDArray[np.int32]
    """The other node of each edge, rising within a row."""
    weights: NDArray[np.float64]


def neighbor_graph(vectors: Vectors, k: int, *, progress: ProgressCallback = ignore_progress) -> NeighborGraph:
    """Return the graph with an edge where one of two rows is among the k nearest of the other.

    Weights are cosines; an edge of 0 or less is left out, as modularity knows no negative ties.
    """
    n = len(vectors)
    k = min(k, n - 1)
    ids, cosines = _neighbors(vectors, k, progress) if k > 0 else (np.empty((n, 0), int), np.empty((n, 0), np.float32))
    kept = cosines > 0
    rows = np.repeat(np.arange(n), max(k, 0))[kept.ravel()]
    # Both directions of an edge; where both were found, once, with the larger of two cosines that differ by rounding.
    keys = np.concatenate([rows * n + ids[kept], ids[kept] * n + rows])
    weights = np.tile(cosines[kept].astype(np.float64), 2)
    order = np.lexsort((-weights, keys))
    edges, first = np.unique(keys[order], return_index=True)
    starts = np.searchsorted(edges, np.arange(n + 1) * n)
    return NeighborGraph(starts.astype(np.int64), (edges % max(n, 1)).astype(np.int32), weights[order][first])


def _neighbors(vectors: Vectors, k: int, progress: ProgressCallback) -> tuple[Ids, Vectors]:
    """Return ids and cosines (n, k) of each row's k nearest others, exact; the order within a row means nothing."""
    n = len(vectors)
    rows = max(1, min(1024, SCORES // n))

    def best(start: int) -> tuple[int, Ids, Vectors]:
        scores = vectors[start : start + rows] @ vectors.T
        at = np.arange(len(scores))
        scores[at, start + at] = -2
        found = np.argpartition(scores, n - k, axis=1)[:, n - k :]
        return start, found, np.take_along_axis(scores, found, axis=1)

    ids, cosines = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    with one_thread() as threads:
        for start, found, near in each(best, range(0, n, rows), workers=threads):
            ids[start : start + rows], cosines[start : start + rows] = found, near
            progress(StepProgress(step="finding neighbours", done=min(start + rows, n), total=n))
    return ids, cosines
