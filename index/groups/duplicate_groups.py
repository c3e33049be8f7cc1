"""Groups of items that say the same: one that is kept, and those that it makes needless."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..dedup_settings import Keep, Thresholds, Tier
from ..protocol import Ids, Item, Vectors
from .text_pairs import TextPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """An item that a kept one makes needless."""

    item: int
    tier: Tier
    score: float
    """What decided: 1 for exact, Jaccard similarity for near, cosine for semantic."""
    cosine: float | None
    """None for exact: their vectors differ by their context only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One kept item and, ascending, those it makes needless."""

    kept: int
    dropped: tuple[Dropped, ...]


_KEYS: dict[Keep, Callable[[Item], float]] = {
    Keep.LONGEST: lambda item: -len(" ".join(item.text.split())),  # blanks say nothing
    Keep.NEWEST: lambda item: -item.date.timestamp(),
    Keep.OLDEST: lambda item: item.date.timestamp(),
    Keep.SHORTEST_PATH: lambda item: len(item.path),
}


@dataclass(frozen=True, slots=True)
class _Edges:
    """The pairs of texts that are duplicates at some thresholds."""

    first: Ids
    second: Ids
    is_near: np.ndarray[tuple[int], np.dtype[np.bool_]]
    scores: Vectors
    cosines: Vectors


class DuplicateGraph:
    """Items with the pairs of their texts, ready to be grouped at any thresholds."""

    def __init__(self, items: Sequence[Item], pairs: TextPairs, *, keep: Keep, own: int | None = None) -> None:
        """`items` ascend by key. With `own`, those from it on are another collection's: only they are kept, and only
        those before it dropped.
        """
        self.items = items
        self.pairs = pairs
        self._keep = keep
        self._own = len(items) if own is None else own
        self._guarded = own is not None
        self._count = int(pairs.texts.max(initial=-1)) + 1
        self._sizes = np.bincount(pairs.texts, minlength=self._count)
        self._fixed_order = None if keep is Keep.MEDOID else self._ordered(_KEYS[keep](item) for item in items)

    def groups(self, at: Thresholds) -> list[Group]:
        """Return the groups, the largest first, then by the kept item.

        Texts are taken in the order of what is to be kept: one that no kept text makes needless is kept, with its best
        item. So every dropped item has a kept one at or above the threshold, no two kept ones are duplicates, no chain
        is followed, and the order of the items changes nothing.
        """
        edges = self._edges(at)
        order = self._order(edges)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        priority = np.full(self._count, len(self.items), dtype=np.int64)
        np.minimum.at(priority, self.pairs.texts, rank)
        kept = self._guarded_texts() if self._guarded else _independent(edges.first, edges.second, priority)
        nearest = self._nearest(edges, kept, priority)
        return self._collected(order, priority, kept, nearest, edges)

    def pair_counts(self, at: Thresholds) -> dict[Tier, int]:
        """Return how many pairs of items each tier has."""
        edges = self._edges(at)
        own = np.bincount(self.pairs.texts[: self._own], minlength=self._count)
        if self._guarded:
            other = self._sizes - own
            exact = int((own * other).sum())
            pairs = own[edges.first] * other[edges.second] + other[edges.first] * own[edges.second]
        else:
            exact = int((own * (own - 1) // 2).sum())
            pairs = own[edges.first] * own[edges.second]
        near = int(pairs[edges.is_near].sum())
        return {Tier.EXACT: exact, Tier.NEAR: near, Tier.SEMANTIC: int(pairs.sum()) - near}

    def border(self, at: Thresholds, count: int) -> tuple[list[int], list[int]]:
        """Return rows of `pairs`: the least similar accepted, and the most similar rejected, `count` of each at most.

        Only pairs whose words are not near: those that the cosine decides.
        """
        cosines = self.pairs.cosines
        decided = self.pairs.jaccard < np.float32(at.near)
        accepted = np.flatnonzero(decided & (cosines >= np.float32(at.semantic)))
        rejected = np.flatnonzero(decided & (cosines < np.float32(at.semantic)))
        least = accepted[np.lexsort((accepted, cosines[accepted]))][:count]
        most = rejected[np.lexsort((rejected, -cosines[rejected]))][:count]
        return least.tolist(), most.tolist()

    def first_items(self, row: int) -> tuple[int, int]:
        """Return the first item of either text of a pair; with another collection, ours before its."""
        texts = self.pairs.texts
        first, second = int(self.pairs.first[row]), int(self.pairs.second[row])
        if not self._guarded:
            return int(np.argmax(texts == first)), int(np.argmax(texts == second))
        ours, theirs = texts[: self._own], texts[self._own :]
        if not ((ours == first).any() and (theirs == second).any()):
            first, second = second, first
        return int(np.argmax(ours == first)), self._own + int(np.argmax(theirs == second))

    def _edges(self, at: Thresholds) -> _Edges:
        pairs = self.pairs
        is_near = pairs.jaccard >= np.float32(at.near)
        rows = np.flatnonzero(is_near | (pairs.cosines >= np.float32(at.semantic)))
        near = is_near[rows]
        return _Edges(
            pairs.first[rows],
            pairs.second[rows],
            near,
            np.where(near, pairs.jaccard[rows], pairs.cosines[rows]),
            pairs.cosines[rows],
        )

    def _order(self, edges: _Edges) -> list[int]:
        """Return the items in the order in which they are to be kept."""
        if self._fixed_order is not None:
            return self._fixed_order
        weight = self._sizes.astype(np.float64)
        wide = edges.cosines.astype(np.float64)
        np.add.at(weight, edges.first, wide * self._sizes[edges.second])
        np.add.at(weight, edges.second, wide * self._sizes[edges.first])
        return self._ordered((-weight[self.pairs.texts]).tolist())

    def _ordered(self, keys: Iterable[float]) -> list[int]:
        """Return the items by key; they ascend, and the row breaks every tie."""
        return [row for _, row in sorted((key, row) for row, key in enumerate(keys))]

    def _guarded_texts(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        kept = np.zeros(self._count, dtype=np.bool_)
        kept[self.pairs.texts[self._own :]] = True
        return kept

    def _nearest(
        self, edges: _Edges, kept: np.ndarray[tuple[int], np.dtype[np.bool_]], priority: Ids
    ) -> dict[int, int]:
        """Return for each text that has a kept one beside it the edge to the nearest: by tier, score, cosine, rank."""
        ends = np.concatenate([edges.first, edges.second])
        keepers = np.concatenate([edges.second, edges.first])
        rows = np.tile(np.arange(len(edges.first)), 2)
        usable = kept[keepers] & ~kept[ends]
        ends, keepers, rows = ends[usable], keepers[usable], rows[usable]
        order = np.lexsort((priority[keepers], -edges.cosines[rows], -edges.scores[rows], ~edges.is_near[rows], ends))
        texts, at = np.unique(ends[order], return_index=True)
        return dict(zip(texts.tolist(), rows[order][at].tolist(), strict=True))

    def _collected(
        self,
        order: Sequence[int],
        priority: Ids,
        kept: np.ndarray[tuple[int], np.dtype[np.bool_]],
        nearest: dict[int, int],
        edges: _Edges,
    ) -> list[Group]:
        keeper_of = self._keepers(order, priority)
        dropped: dict[int, list[Dropped]] = defaultdict(list)
        for item, text in enumerate(self.pairs.texts[: self._own].tolist()):
            if kept[text]:
                if keeper_of[text] != item:
                    dropped[keeper_of[text]].append(Dropped(item=item, tier=Tier.EXACT, score=1.0, cosine=None))
            elif text in nearest:
                row = nearest[text]
                keeper = int(edges.second[row] if edges.first[row] == text else edges.first[row])
                dropped[keeper_of[keeper]].append(
                    Dropped(
                        item=item,
                        tier=Tier.NEAR if edges.is_near[row] else Tier.SEMANTIC,
                        score=float(edges.scores[row]),
                        cosine=float(edges.cosines[row]),
                    )
                )
        groups = [Group(kept=keeper, dropped=tuple(found)) for keeper, found in dropped.items()]
        return sorted(groups, key=lambda group: (-len(group.dropped), group.kept))

    def _keepers(self, order: Sequence[int], priority: Ids) -> list[int]:
        """Return the item of each text that is kept if any of it is."""
        if not self._guarded:
            return [order[rank] for rank in priority.tolist()]
        keepers = [-1] * self._count
        for item in reversed([item for item in order if item >= self._own]):
            keepers[int(self.pairs.texts[item])] = item
        return keepers


def _independent(first: Ids, second: Ids, priority: Ids) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which texts are kept, taken in order of priority, each unless one beside it is kept already.

    In rounds, each over all edges at once: a text whose priority comes before all its undecided neighbours' is kept,
    which drops those. The same result as one by one (Blelloch, Fineman and Shun 2012, Greedy sequential maximal
    independent set and matching are parallel on average).
    """
    last = np.iinfo(np.int64).max
    dropped = np.zeros(len(priority), dtype=np.bool_)
    while len(first):
        best = np.full(len(priority), last, dtype=np.int64)
        np.minimum.at(best, first, priority[second])
        np.minimum.at(best, second, priority[first])
        kept = (priority < best) & (best < last)
        dropped[second[kept[first]]] = True
        dropped[first[kept[second]]] = True
        undecided = ~(kept[first] | kept[second] | dropped[first] | dropped[second])
        first, second = first[undecided], second[undecided]
    return ~dropped
