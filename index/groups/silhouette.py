"""How well clusters are apart (mean silhouette, by cosine), and the number of clusters where that is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TooFewGroupsError
from ..protocol import Vectors
from .steps import ProgressCallback, StepProgress, ignore_progress, one_thread

Labels = NDArray[np.int64]
"""(n,) int64: cluster of each row, from 0 on; -1 for noise."""

GROWTH = 1.25
"""Factor between two numbers of clusters that are tried, where whole numbers allow it."""
REFINED = 8
"""At most so many more are tried between the best one's neighbours."""
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A number of clusters, and what it was chosen from."""

    n: int
    curve: tuple[tuple[int, float], ...]
    """(number of clusters, mean silhouette) for each one tried, by number; empty where nothing could be compared."""


def silhouette(vectors: Vectors, labels: Labels) -> float | None:
    """Return the mean silhouette of all rows that are not noise, None with fewer than two clusters.

    Rousseeuw 1987 with the distance 1 - cosine; a row that is alone in its cluster counts 0. vectors: (n, dim) unit
    rows. Exact and in O(n * clusters * dim): the mean cosine to a cluster is the cosine to the mean of its vectors.
    """
    kept = labels >= 0
    rows = vectors if kept.all() else vectors[kept]
    found, own = np.unique(labels[kept], return_inverse=True)
    if len(found) < 2:
        return None
    sizes = np.bincount(own)
    sums = np.stack([rows[own == cluster].sum(axis=0, dtype=np.float64) for cluster in range(len(found))])
    total = 0.0
    with one_thread():
        for start in range(0, len(rows), _BLOCK_ROWS):
            block, mine = rows[start : start + _BLOCK_ROWS].astype(np.float64), own[start : start + _BLOCK_ROWS]
            total += float(_silhouettes(block, mine, sums, sizes).sum())
    return total / len(rows)


def _silhouettes(
    block: NDArray[np.float64], mine: Labels, sums: NDArray[np.float64], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    at = np.arange(len(block))
    cosines = block @ sums.T
    others = np.maximum(sizes[mine] - 1, 1)
    inside = 1 - (cosines[at, mine] - np.einsum("ij,ij->i", block, block)) / others
    outside = 1 - cosines / sizes
    outside[at, mine] = np.inf
    nearest = outside.min(axis=1)
    larger = np.maximum(inside, nearest)
    # Equal vectors in two clusters: both distances are 0 but for rounding, and neither cluster is better.
    alone = (sizes[mine] == 1) | (larger < 1e-12)
    return np.where(alone, 0.0, (nearest - inside) / np.where(alone, 1.0, larger))


def candidates(items: int, different: int) -> list[int]:
    """Return the numbers of clusters to try for `items` rows of which `different` are distinct: 2, 3, 4, 5, 6, 8 ...

    About a geometric row up to 1.5 * sqrt(items), and always fewer than the items.
    """
    last = min(max(2, round(1.5 * items**0.5)), items - 1, different)
    numbers = []
    number = 2
    while number <= last:
        numbers.append(number)
        number = max(number + 1, round(number * GROWTH))
    if numbers and numbers[-1] < last:
        numbers.append(last)
    return numbers


def choose_n(
    vectors: Vectors,
    cluster: Callable[[int], Labels],
    numbers: list[int],
    *,
    progress: ProgressCallback = ignore_progress,
) -> Choice:
    """Return the number of clusters with the best mean silhouette; of equal ones the smallest.

    `cluster(n)` labels the rows of `vectors` with n clusters. First `numbers` (ascending, from `candidates`) are tried,
    then those between the best one's neighbours. Where nothing can be compared (fewer than three rows, or all equal)
    the answer is one cluster.
    """
    if not numbers:
        return Choice(n=min(1, len(vectors)), curve=())
    scores: dict[int, float] = {}

    def best() -> int:
        return max(sorted(scores), key=lambda n: scores[n])  # max keeps the first of equal ones

    def attempt(wanted: list[int], total: int) -> None:
        for n in wanted:
            try:
                score = silhouette(vectors, cluster(n))
            except TooFewGroupsError:  # nearly equal vectors: no more groups than this can be told apart
                break
            if score is not None:
                scores[n] = score
            progress(StepProgress(step="choosing the number of clusters", done=min(len(scores), total), total=total))

    attempt(numbers, len(numbers) + REFINED)
    if not scores:
        return Choice(n=1, curve=())
    attempt(_between(numbers, best()), len(numbers) + REFINED)
    progress(StepProgress(step="choosing the number of clusters", done=len(numbers), total=len(numbers)))
    return Choice(n=best(), curve=tuple(sorted(scores.items())))


def _between(numbers: list[int], best: int) -> list[int]:
    """Return up to REFINED numbers that were not tried, spread between the neighbours of `best`."""
    at = numbers.index(best)
    low, high = numbers[max(at - 1, 0)], numbers[min(at + 1, len(numbers) - 1)]
    open_ = [n for n in range(low, high + 1) if n not in numbers]
    if len(open_) <= REFINED:
        return open_
    # Nearest to the best first would miss a peak at the side: spread them.
    return [open_[round(number * (len(open_) - 1) / (REFINED - 1))] for number in range(REFINED)]
