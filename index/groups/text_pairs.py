"""Pairs of texts that may say the same, by words and by meaning: what duplicates are grouped from at any threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..protocol import Ids, Items, Vectors
from .near_pairs import Progress, near_pairs, text_digest
from .similar_pairs import MOST_PAIRS, pair_cosines, similar_pairs

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPairs:
    """Pairs of different texts; a text is what items have in common whose normalised texts are equal."""

    texts: Ids
    """(n,) number of the text of each item, of both collections where there are two; in order of appearance"""
    first: Ids
    second: Ids
    """(p,) pairs of texts, ascending by (first, second), first < second"""
    cosines: Vectors
    """(p,) float32: of texts that are embedded in several contexts the highest"""
    jaccard: Vectors
    """(p,) float32, exact; -1 below NEAR_FLOOR"""
    floor: float
    """A pair that is not near is here if and only if its cosine is at least this."""
    histogram: Ids
    """(200,) cosines of all pairs of embedded texts, by hundredths from -1; within one collection of different ones"""

    def above(self, floor: float) -> TextPairs:
        """Return the pairs as a scan down to `floor` would have found them; that of these is lower or the same."""
        if floor <= self.floor:
            return self
        keep = (self.cosines >= np.float32(floor)) | (self.jaccard >= 0)
        return replace(
            self,
            first=self.first[keep],
            second=self.second[keep],
            cosines=self.cosines[keep],
            jaccard=self.jaccard[keep],
            floor=floor,
        )


def find_text_pairs(
    items: Items,
    other: Items | None = None,
    *,
    floor: float,
    most: int = MOST_PAIRS,
    device: str = "auto",
    comparing_words: Progress | None = None,
    comparing_vectors: Progress | None = None,
) -> TextPairs:
    """Return the pairs within `items`, or those of `items` with `other`, whose nodes and texts then follow."""
    parts = [items] if other is None else [items, other]
    node_texts, numbers = _node_texts(parts)
    near = near_pairs(
        list(_distinct(parts, node_texts, len(numbers))),
        sides=None if other is None else [set(part.tolist()) for part in np.split(node_texts, [len(items.names)])],
        progress=comparing_words,
    )
    shift = 0 if other is None else len(items.names)
    similar = similar_pairs(
        items.vectors,
        floor=floor,
        other=None if other is None else other.vectors,
        texts=(node_texts[: len(items.names)], node_texts[shift:]),
        most=most,
        device=device,
        progress=comparing_vectors,
    )
    first, second, cosines = _by_text(
        node_texts[similar.first], node_texts[similar.second + shift], similar.cosines, len(numbers)
    )
    codes = first * len(numbers) + second
    near_codes = near.first * len(numbers) + near.second
    every = np.union1d(codes, near_codes)
    all_cosines = np.full(len(every), -2.0, dtype=np.float32)
    all_cosines[np.searchsorted(every, codes)] = cosines
    jaccard = np.full(len(every), -1.0, dtype=np.float32)
    jaccard[np.searchsorted(every, near_codes)] = near.jaccard
    firsts, seconds = np.divmod(every, max(len(numbers), 1))
    lacking = np.flatnonzero(all_cosines < -1.5)
    all_cosines[lacking] = _highest(parts, node_texts, firsts[lacking], seconds[lacking])
    all_cosines[all_cosines > 1 - _ROUNDING] = 1.0  # equal vectors: what is left is the rounding of their norms
    return TextPairs(
        texts=np.concatenate([node_texts[: len(items.names)][items.nodes]]
                             + ([] if other is None else [node_texts[shift:][other.nodes]])),
        first=firsts,
        second=seconds,
        cosines=all_cosines,
        jaccard=jaccard,
        floor=similar.floor,
        histogram=similar.histogram,
    )  # fmt: skip


def first_texts(items: Items) -> list[str]:
    """Return (m,) the text of the first item of each node."""
    texts = [""] * len(items.names)
    for item, node in zip(reversed(items.items), items.nodes[::-1].tolist(), strict=True):
        texts[node] = item.text
    return texts


def _node_texts(parts: list[Items]) -> tuple[Ids, dict[str, int]]:
    """Return the number of the text of each node, and the numbers by digest."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(text_digest(text), len(numbers)) for part in parts for text in first_texts(part)]
    return np.array(found, dtype=np.int64), numbers


def _distinct(parts: list[Items], node_texts: Ids, count: int) -> Iterator[str]:
    """Yield each text once, in the order of their numbers."""
    texts = [text for part in parts for text in first_texts(part)]
    _, nodes = np.unique(node_texts, return_index=True)
    assert len(nodes) == count
    for node in nodes.tolist():
        yield texts[node]


def _by_text(one: Ids, two: Ids, cosines: Vectors, count: int) -> tuple[Ids, Ids, Vectors]:
    """Return the pairs of texts with the highest cosine of their nodes, ascending."""
    codes = np.minimum(one, two) * count + np.maximum(one, two)
    order = np.lexsort((-cosines, codes))
    codes, cosines = codes[order], cosines[order]
    codes, at = np.unique(codes, return_index=True)
    first, second = np.divmod(codes, max(count, 1))
    return first, second, cosines[at]


def _highest(parts: list[Items], node_texts: Ids, first: Ids, second: Ids) -> Vectors:
    """Return the highest cosine between the nodes of pairs of texts that the scan has not kept.

    With two collections the first text has nodes in the one, the second in the other; either may be in both.
    """
    nodes: dict[int, list[int]] = {}
    own = len(parts[0].names)
    for node, text in enumerate(node_texts.tolist()):
        nodes.setdefault(text, []).append(node)
    vectors = parts[0].vectors if len(parts) == 1 else np.concatenate([part.vectors for part in parts])
    highest = np.empty(len(first), dtype=np.float32)
    for row, (one, two) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        highest[row] = max(
            float(pair_cosines(vectors, np.full(len(others), a), np.array(others, dtype=np.int64)).max())
            for a in nodes[one]
            if (others := [b for b in nodes[two] if len(parts) == 1 or (a < own) != (b < own)])
        )
    return highest
