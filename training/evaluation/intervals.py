"""How sure a score is: paired bootstrap intervals over the items of a task.

Percentile intervals of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13); models are
resampled together, item by item, as Koehn does (Statistical Significance Tests for Machine Translation Evaluation,
EMNLP 2004).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EvaluationError
from .measurement import Samples

Resampled = NDArray[np.float64]

LEVEL = 0.95
SEED = 20240409
RESAMPLES: dict[Literal["mean", "spearman"], int] = {"mean": 10_000, "spearman": 2_000}
"""By kind of samples: a rank correlation costs ten times as much as a mean."""
_BLOCK_CELLS = 1_000_000
"""Resamples times items in memory at a time: 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The range in which 95 of 100 such intervals hold the true value."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def resample(models: Sequence[Samples], *, resamples: int | None = None, seed: int | Sequence[int] = SEED) -> Resampled:
    """Return (models, resamples) scores, column j of all of them on the same items, sampled with replacement.

    Items are matched by id; their order is that of the first model. Equal samples give equal rows, and equal
    seeds equal samples. `resamples` None is `RESAMPLES` of the kind. Raises EvaluationError when the models differ
    in kind, items or gold scores, have fewer than 2 items, or when a resample has no rank correlation because all its
    values are equal.
    """
    first = models[0]
    values_CN = np.array([_matched(samples, first) for samples in models])
    items = values_CN.shape[1]
    if items < 2:
        raise EvaluationError(f"{items} items: expected at least 2 to resample")
    blocks = _counts(items, RESAMPLES[first.kind] if resamples is None else resamples, seed)
    if first.kind == "mean":
        # Not a matrix product, whose rounding may differ from row to row.
        return np.concatenate([[(counts * row).sum(axis=1) / items for row in values_CN] for counts in blocks], axis=1)
    ranks = [_Ranks(row) for row in values_CN]
    gold = _Ranks(np.array(first.gold))
    resampled = np.concatenate([_spearman(counts, ranks, gold) for counts in blocks], axis=1)
    if not np.isfinite(resampled).all():
        raise EvaluationError(
            f"{items} items: in some resamples all values or all gold scores are equal, and there is no rank "
            "correlation. Expected more items, or more distinct scores"
        )
    return resampled


def interval(resampled: Resampled) -> Interval:
    """Return the middle 95 % of `resampled`, of shape (resamples,)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def score_interval(samples: Samples, *, resamples: int | None = None, seed: int | Sequence[int] = SEED) -> Interval:
    """Return the interval of one model's score."""
    return interval(resample([samples], resamples=resamples, seed=seed)[0])


def difference_interval(
    model: Samples, baseline: Samples, *, resamples: int | None = None, seed: int | Sequence[int] = SEED
) -> Interval:
    """Return the interval of score(model) - score(baseline) on the same items."""
    ours, theirs = resample([model, baseline], resamples=resamples, seed=seed)
    return interval(ours - theirs)


def _matched(samples: Samples, first: Samples) -> list[float]:
    """Return the values of `samples` in the order of the items of `first`."""
    if samples.kind != first.kind:
        raise EvaluationError(f"samples of kind {samples.kind} and {first.kind}: expected the same for all models")
    place = {id_: number for number, id_ in enumerate(samples.ids)}
    if len(place) != len(samples.ids):
        raise EvaluationError(f"{len(samples.ids) - len(place)} ids of items occur twice: expected each once")
    if place.keys() != set(first.ids):
        odd = sorted(place.keys() ^ set(first.ids))
        raise EvaluationError(
            f"{len(odd)} items are in one model's results only, e.g. {odd[0]!r}: expected the same items for all. "
            "Were they measured on different data?"
        )
    order = [place[id_] for id_ in first.ids]
    if first.kind == "spearman" and [samples.gold[at] for at in order] != list(first.gold):
        raise EvaluationError("the gold scores of two models differ: expected results on the same data")
    return [samples.values[at] for at in order]


def _counts(items: int, resamples: int, seed: int | Sequence[int]) -> Iterator[Resampled]:
    """Yield blocks (rows, items): how often each item is in each resample."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK_CELLS // items)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        chosen = rng.integers(items, size=(size, items)) + items * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * items).reshape(size, items).astype(np.float64)


class _Ranks:
    """The ranks of a list of values in any resample of it, equal values sharing the mean of theirs."""

    def __init__(self, values: Resampled) -> None:
        distinct, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.searchsorted(self._group[self._order], np.arange(len(distinct)))

    def centred(self, counts_RN: Resampled) -> Resampled:
        """Return (resamples, items): the rank of each item less the mean rank; it counts as often as `counts_RN`."""
        sizes_RG = np.add.reduceat(counts_RN[:, self._order], self._starts, axis=1)
        ranks_RG = np.cumsum(sizes_RG, axis=1) - (sizes_RG - 1) / 2
        centred: Resampled = ranks_RG[:, self._group] - (counts_RN.shape[1] + 1) / 2
        return centred


def _spearman(counts_RN: Resampled, ranks: Sequence[_Ranks], gold: _Ranks) -> Resampled:
    """Return (models, resamples): the Pearson correlation of the ranks, nan where it has none."""
    gold_RN = gold.centred(counts_RN)
    gold_R = (counts_RN * gold_RN**2).sum(axis=1)
    found = []
    for one in ranks:
        own_RN = one.centred(counts_RN)
        scale_R = np.sqrt((counts_RN * own_RN**2).sum(axis=1) * gold_R)
        with np.errstate(invalid="ignore"):
            found.append((counts_RN * own_RN * gold_RN).sum(axis=1) / scale_R)
    return np.array(found)
