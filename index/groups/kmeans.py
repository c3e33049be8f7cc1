"""Spherical k-means: FAISS moves the centres, the last word on who belongs where is exact."""

from __future__ import annotations

import numpy as np

from ..cosine import float32_margin
from ..errors import TooFewGroupsError
from ..faiss_store import load_faiss
from ..protocol import Vectors
from .principal import unit_rows
from .silhouette import Labels
from .steps import ProgressCallback, StepProgress, each, ignore_progress, one_thread

REDOS = 4
"""Starts, of which the best counts: k-means ends in the optimum nearest to its start."""
ITERATIONS = 10
_POLISH = 20
"""Rounds after FAISS's own, with exact assignment; they end when nothing moves."""
_SEED_ROWS = 10
"""Rows per cluster among which the first centres are sampled, at least _LEAST_SEED_ROWS in all."""
_LEAST_SEED_ROWS = 2000
_SAMPLES = 16
"""Samples for each first centre. In hundreds of dimensions members are far from their centre too, so that few hit the
one cluster that has none yet: scikit-learn's 2 + ln(n) missed one of 20 planted clusters in two starts."""
_BLOCK_ROWS = 4096


def spherical_kmeans(
    vectors: Vectors, n: int, *, seed: int, redos: int = REDOS, progress: ProgressCallback = ignore_progress
) -> Labels:
    """Return labels (n items,) of n clusters, none empty; equal vectors share one.

    vectors: (items, dim) float32 unit rows. Each item is in the cluster whose normalised mean is nearest by cosine,
    ties to the lowest number; after 20 rounds a few may still be where the round before put them. The same seed gives
    the same labels on any number of threads. Raises TooFewGroupsError when the vectors cannot fill n clusters.
    """
    load_faiss()  # before one_thread(), which covers only libraries that are loaded
    best: tuple[float, Labels] | None = None
    with one_thread() as threads:
        runs = each(lambda redo: _run(vectors, n, [seed, redo]), range(redos), workers=min(threads, redos))
        for done, (score, labels) in enumerate(runs, start=1):
            if best is None or score > best[0]:
                best = score, labels
            progress(StepProgress(step="k-means", done=done, total=redos))
    assert best is not None
    return best[1]


def nearest(vectors: Vectors, centers: Vectors) -> tuple[Labels, Vectors]:
    """Return for each row the number of the nearest center by cosine, ties to the lowest, and that cosine.

    vectors (n, dim) and centers (k, dim): float32 unit rows. Where float32 cannot tell two centers apart, float64 does.
    """
    margin = float32_margin(vectors.shape[1])
    labels = np.empty(len(vectors), dtype=np.int64)
    cosines = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rows = vectors[start : start + _BLOCK_ROWS]
        scores = rows @ centers.T
        close = scores >= scores.max(axis=1, keepdims=True) - margin
        found = np.argmax(close, axis=1)
        for row in np.flatnonzero(close.sum(axis=1) > 1):
            baselines = np.flatnonzero(close[row])
            exact = np.einsum("ij,j->i", centers[baselines].astype(np.float64), rows[row].astype(np.float64))
            found[row] = baselines[np.argmax(exact.astype(np.float32))]
        labels[start : start + _BLOCK_ROWS] = found
        cosines[start : start + _BLOCK_ROWS] = scores[np.arange(len(rows)), found]
    return labels, cosines


def means(vectors: Vectors, labels: Labels, n: int) -> Vectors:
    """Return float32 (n, dim): the normalised mean of each cluster's rows; zeros for an empty one or one that cancels.

    Summed in float64, so that the order of the rows does not show.
    """
    sums = np.zeros((n, vectors.shape[1]))
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(n + 1))
    for cluster in range(n):
        members = order[bounds[cluster] : bounds[cluster + 1]]
        if len(members):
            sums[cluster] = vectors[members].mean(axis=0, dtype=np.float64)
    sums[np.linalg.norm(sums, axis=1) < 1e-7] = 0
    unit: Vectors = unit_rows(sums.astype(np.float32))
    return unit


def _run(vectors: Vectors, n: int, seed: list[int]) -> tuple[float, Labels]:
    """Return the sum of cosines to the centers and the labels, from one start."""
    faiss = load_faiss()
    random = np.random.default_rng(seed)
    kmeans = faiss.Kmeans(
        vectors.shape[1], n, niter=ITERATIONS, spherical=True, seed=seed[0] + 1, verbose=False,
        min_points_per_centroid=1, max_points_per_centroid=len(vectors),
    )  # fmt: skip
    kmeans.train(vectors, init_centroids=_first_centers(vectors, n, random))
    centers = unit_rows(kmeans.centroids)
    labels, cosines = _filled(vectors, centers)
    for _ in range(_POLISH):
        before = labels
        labels, cosines = _filled(vectors, means(vectors, labels, n))
        if np.array_equal(labels, before):
            break
    return float(cosines.sum(dtype=np.float64)), labels


def _filled(vectors: Vectors, centers: Vectors) -> tuple[Labels, Vectors]:
    """Return `nearest`, after giving each empty cluster the row that is worst off where it is."""
    n = len(centers)
    for _ in range(n + 1):
        labels, cosines = nearest(vectors, centers)
        sizes = np.bincount(labels, minlength=n)
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return labels, cosines
        taken: set[bytes] = set()
        for row in np.argsort(cosines, kind="stable"):
            if len(taken) == len(empty):
                break
            if sizes[labels[row]] > 1 and vectors[row].tobytes() not in taken:
                centers[empty[len(taken)]] = vectors[row]
                sizes[labels[row]] -= 1
                taken.add(vectors[row].tobytes())
    raise TooFewGroupsError(
        f"n is {n}, but only {n - len(empty)} groups of the {len(vectors)} vectors can be told apart: ask for at most "
        f"{n - len(empty)}"
    )


def _first_centers(vectors: Vectors, n: int, random: np.random.Generator) -> Vectors:
    """Return float32 (n, dim) rows sampled far from each other: greedy k-means++ (Arthur and Vassilvitskii 2007).

    Of _SAMPLES samples the one that leaves the least distance is taken.
    """
    limit = max(_LEAST_SEED_ROWS, _SEED_ROWS * n)
    rows = vectors
    if len(vectors) > limit:
        rows = vectors[np.sort(random.choice(len(vectors), limit, replace=False))]
    chosen = [int(random.integers(len(rows)))]
    distance = _distances(rows, chosen)[:, 0]
    for _ in range(1, n):
        sums = np.cumsum(distance, dtype=np.float64)
        if sums[-1] <= 0:  # fewer different rows than clusters: _filled decides
            chosen.append(int(random.integers(len(rows))))
            continue
        samples = np.searchsorted(sums, random.random(_SAMPLES) * sums[-1], side="right")
        samples = np.minimum(samples, len(rows) - 1)
        left = np.minimum(distance[:, None], _distances(rows, samples))
        best = int(np.argmin(left.sum(axis=0, dtype=np.float64)))
        chosen.append(int(samples[best]))
        distance = left[:, best]
    return np.ascontiguousarray(rows[chosen])


def _distances(rows: Vectors, chosen: list[int] | Labels) -> Vectors:
    """Return 1 - cosine (rows, chosen), 0 where it is rounding: an equal row must not be sampled again."""
    distances = 1 - rows @ rows[chosen].T
    distances[distances < 1e-6] = 0
    return distances
