"""What a cluster looks like: its centre, how tight it is, the item at its heart, and a few that stand for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cosine import exact_cosines
from ..protocol import Ids, Vectors
from .kmeans import means
from .silhouette import Labels

REPRESENTATIVES = 3
_NEAR = 24
"""Representatives are chosen among so many different members nearest to the centre, but at most half of all."""
_SEEN = 200
"""At most so many are looked at for that: the others may all say the same."""
_LAMBDA = 0.6
"""Weight of being near the centre against being unlike those chosen (MMR, Carbonell and Goldstein 1998)."""
_SAME = 0.995
"""From this cosine on two members say the same, and one is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """One cluster, by row numbers."""

    cohesion: float
    """Mean cosine of its members to its centre, the normalised mean."""
    medoid: int
    """The member nearest to the centre; of equally near ones the first row."""
    representatives: tuple[int, ...]
    """The medoid, then members near the centre that differ from one another; 1 to 3."""


def describe_clusters(vectors: Vectors, labels: Labels) -> tuple[list[ClusterShape], Vectors]:
    """Return the shape of each cluster 0, 1, ..., and float32 (n,): each row's cosine to its centre, NaN for noise.

    vectors: (n, dim) unit rows; labels: (n,) from `cluster`, where no number is left out.
    """
    n = int(labels.max(initial=-1)) + 1
    centers = means(vectors, labels, n)
    to_center = np.full(len(labels), np.nan, dtype=np.float32)
    shapes = []
    for number in range(n):
        members = np.flatnonzero(labels == number)
        cosines = exact_cosines(vectors[members], centers[number])
        to_center[members] = cosines
        order = members[np.lexsort((members, -cosines))]
        shapes.append(
            ClusterShape(
                cohesion=float(cosines.mean(dtype=np.float64)),
                medoid=int(order[0]),
                representatives=_representatives(vectors, order, centers[number]),
            )
        )
    return shapes, to_center


def _representatives(vectors: Vectors, order: Ids, center: Vectors) -> tuple[int, ...]:
    """Return up to REPRESENTATIVES rows; `order` holds the members, nearest to the center first."""
    near = _distinct(vectors, order)
    rows = vectors[near]
    to_center = exact_cosines(rows, center)
    to_chosen = exact_cosines(rows, rows[0])
    chosen = [0]
    while len(chosen) < min(REPRESENTATIVES, len(near)):
        value = _LAMBDA * to_center - (1 - _LAMBDA) * to_chosen
        value[chosen] = -np.inf
        best = int(np.argmax(value))
        chosen.append(best)
        to_chosen = np.maximum(to_chosen, exact_cosines(rows, rows[best]))
    return tuple(int(near[row]) for row in chosen)


def _distinct(vectors: Vectors, order: Ids) -> list[int]:
    """Return the first rows of `order` that differ from each other, up to _NEAR or half of them."""
    wanted = max(REPRESENTATIVES, min(_NEAR, len(order) // 2))
    kept: list[int] = []
    for row in order[:_SEEN].tolist():
        if len(kept) == wanted:
            break
        if not kept or exact_cosines(vectors[kept], vectors[row]).max() < _SAME:
            kept.append(row)
    return kept
