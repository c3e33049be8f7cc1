"""Clusters of unit vectors by one of four methods: the one entry, with its settings and its result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cosine import check_unit
from ..errors import ClusteringError, TooFewGroupsError
from ..memory import MIB, check_memory, in_words
from ..protocol import Vectors
from .cluster_settings import ClusterSettings, Method
from .communities import NEIGHBORS, RESOLUTION, SCORES, leiden
from .density import MIN_SIZE, WIDTH, hdbscan
from .kmeans import spherical_kmeans
from .linkage import MAX_ITEMS, ward_linkage
from .silhouette import Choice, Labels, candidates, choose_n, silhouette
from .steps import MAX_WORKERS, ProgressCallback, ignore_progress

CHOICE_ROWS = 10_000
"""Rows on which k-means tries numbers of clusters; the final run sees all."""
CHOICE_REDOS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """Who belongs together."""

    labels: Labels
    """(n,) int64; clusters from 0 on by size, the largest first, equal ones by their first member; -1 is noise."""
    method: Method
    silhouette: float | None
    """Mean over all items that are not noise, by cosine; None with fewer than two clusters."""
    choice: tuple[tuple[int, float], ...] | None
    """(number of clusters, silhouette) of each one tried; None where the number was given or is not asked for."""

    @property
    def n(self) -> int:
        """Number of clusters, without noise."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def noise(self) -> int:
        """Number of items in no cluster."""
        return int((self.labels < 0).sum())


def cluster(
    vectors: Vectors,
    settings: ClusterSettings,
    *,
    progress: ProgressCallback = ignore_progress,
    available: int | None = None,
) -> Clustering:
    """Return the clusters of unit rows (n, dim) in canonical order; the same rows and seed give the same labels.

    No items give no clusters. One or two items, and equal ones, are one cluster unless n says otherwise; for hdbscan
    and leiden what has too few neighbours is noise, be it everything. Raises ClusteringError when n does not suit the
    items or agglomerative gets more than 20,000, NotEnoughMemoryError before the start when memory would not suffice
    (`available` bytes; None asks the system).
    """
    items, dim = vectors.shape
    rows = check_unit(vectors, dim, what="vectors")
    check_settings(settings, items, dim, available=available)
    choice: Choice | None = None
    if items == 0:
        labels = np.empty(0, dtype=np.int64)
    elif settings.method is Method.HDBSCAN:
        labels = hdbscan(rows, settings.min_size or MIN_SIZE, progress=progress)
    elif settings.method is Method.LEIDEN:
        labels = leiden(rows, settings.resolution or RESOLUTION, seed=settings.seed, progress=progress)
    elif settings.method is Method.AGGLOMERATIVE:
        labels, choice = _agglomerative(rows, settings, progress)
    else:
        labels, choice = _kmeans(rows, settings, progress)
    return Clustering(
        labels=by_size(labels),
        method=settings.method,
        silhouette=silhouette(rows, labels),
        choice=None if choice is None else choice.curve,
    )


_INSTEAD = {
    Method.KMEANS: "cluster documents instead of chunks, or free memory",
    Method.HDBSCAN: "use kmeans, or cluster documents instead of chunks",
    Method.AGGLOMERATIVE: "use kmeans, leiden or hdbscan, or cluster documents instead of chunks",
    Method.LEIDEN: "use kmeans, or cluster documents instead of chunks",
}


def check_settings(settings: ClusterSettings, items: int, dim: int, *, available: int | None = None) -> None:
    """Raise what `cluster` would raise for so many vectors, before they are made."""
    if settings.n is not None and settings.n > items:
        raise ClusteringError(
            f"n is {settings.n}, but {items} different vectors are there: ask for at most {items} clusters"
        )
    if settings.method is Method.AGGLOMERATIVE and items > MAX_ITEMS:
        raise ClusteringError(
            f"agglomerative clusters at most {MAX_ITEMS:,} items, there are {items:,}: all pairs would need "
            f"{in_words(needed_memory(settings.method, items, dim))} of memory. Use kmeans, leiden or hdbscan, or "
            "cluster documents instead of chunks"
        )
    check_memory(
        f"{settings.method} on {items:,} vectors of {dim} numbers", needed_memory(settings.method, items, dim),
        instead=_INSTEAD[settings.method], available=available,
    )  # fmt: skip


def needed_memory(method: Method, items: int, dim: int) -> int:
    """Return about how many bytes a run needs at its peak beside the vectors themselves.

    Two copies of the vectors, blocks of cosines for each core at work, and what grows with the method; the libraries
    take the rest.
    """
    grows = {
        Method.KMEANS: 100 * items,
        Method.HDBSCAN: 4 * items * WIDTH * 8,
        Method.AGGLOMERATIVE: 8 * items * items + MAX_WORKERS * 512 * items * 8,
        Method.LEIDEN: 160 * NEIGHBORS * items + MAX_WORKERS * 16 * min(SCORES, 1024 * items),
    }
    return 128 * MIB + 2 * items * dim * 4 + grows[method]


def by_size(labels: Labels) -> Labels:
    """Return the labels renumbered: 0 is the largest cluster, equal ones in the order of their first members."""
    kept = labels >= 0
    found, first, inverse, sizes = np.unique(labels[kept], return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(found), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(found))
    numbered = np.full(len(labels), -1, dtype=np.int64)
    numbered[kept] = rank[inverse]
    return numbered


def _kmeans(rows: Vectors, settings: ClusterSettings, progress: ProgressCallback) -> tuple[Labels, Choice | None]:
    choice = None
    n = settings.n
    if n is None:
        sample = rows
        if len(rows) > CHOICE_ROWS:
            random = np.random.default_rng(settings.seed)
            sample = rows[np.sort(random.choice(len(rows), CHOICE_ROWS, replace=False))]
        choice = choose_n(
            sample,
            lambda number: spherical_kmeans(sample, number, seed=settings.seed, redos=CHOICE_REDOS),
            candidates(len(rows), min(_different(rows), len(sample) - 1)),
            progress=progress,
        )
        n = choice.n
    return spherical_kmeans(rows, n, seed=settings.seed, progress=progress), choice


def _agglomerative(
    rows: Vectors, settings: ClusterSettings, progress: ProgressCallback
) -> tuple[Labels, Choice | None]:
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64), None if settings.n else Choice(n=1, curve=())
    different = _different(rows)
    if settings.n is not None and settings.n > different:
        raise TooFewGroupsError(
            f"n is {settings.n}, but only {different} of the {len(rows)} vectors are different: "
            f"ask for at most {different}"
        )
    tree = ward_linkage(rows, progress=progress)
    if settings.n is not None:
        return tree.cut(settings.n), None
    choice = choose_n(rows, tree.cut, candidates(len(rows), different), progress=progress)
    return tree.cut(choice.n), choice


def _different(rows: Vectors) -> int:
    """Return how many rows are distinct, bit for bit."""
    return len({hash(row.tobytes()) for row in rows})
