"""Hits that say the same, shown once: the best-ranked stands for the others, which hang on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...index.protocol import ChunkKey, Filter, Ids
from ..collection.paths import absolute_path
from ..collection.stored_groups import StoredDuplicates
from .hits import Duplicate

if TYPE_CHECKING:
    from ...index.protocol import Collection
    from .hits import Score


_DEEPER = 4
"""How many times as deep the next look goes when duplicates filled the ranking so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Chunks with their scores, best first."""

    items: Sequence[tuple[int, Score]]
    is_whole: bool
    """Whether no chunk comes after these."""


Rank = Callable[[int, Filter], Ranking]
"""Ranks what a filter lets through, to a depth at least."""


class Sameness:
    """Which chunks say the same: those of one group of the last dedup run, and those with the same text."""

    def __init__(self, stored: StoredDuplicates) -> None:
        self._groups = stored.groups
        self._group_of = {member: number for number, group in enumerate(stored.groups) for member in group}
        self._by_document = stored.level == "document"

    def collapse(self, keys: Sequence[ChunkKey]) -> dict[int, list[int]]:
        """Return the ids to show, each with the ids that hang on it, all in the order of `keys`, a ranking.

        Where documents were compared, the best-ranked document of a group is the one whose chunks are shown. Those of
        its other documents hang on the best chunk: which of them say the same was not looked at. The first of the
        result depend on the first of `keys` alone.
        """
        shown: dict[int, list[int]] = {}
        first: dict[int | str, int] = {}
        standing: dict[int, tuple[str, int]] = {}
        for key in keys:
            group = self._group_of.get(key.path) if self._by_document else None
            if group is not None and group in standing and standing[group][0] != key.path:
                shown[standing[group][1]].append(key.id)
                continue
            owner = first.setdefault(self._said(key.hash), key.id)
            if owner == key.id:
                shown[owner] = []
            else:
                shown[owner].append(key.id)
            if group is not None:
                standing.setdefault(group, (key.path, owner))
        return shown

    def _said(self, hash_: str) -> int | str:
        return hash_ if self._by_document else self._group_of.get(hash_, hash_)

    def related(self, collection: Collection, shown: Sequence[ChunkKey]) -> Ids:
        """Return the ids of all chunks that may hang on these, and all that decide it; these are among them."""
        said = {key.hash for key in shown}
        if not self._by_document:
            said.update(*(self._groups[self._group_of[hash_]] for hash_ in said & self._group_of.keys()))
            return collection.find_chunks(hashes=sorted(said))
        alike = collection.keys(collection.find_chunks(hashes=sorted(said)).tolist())
        groups = {self._group_of[key.path] for key in alike if key.path in self._group_of}
        paths = sorted({path for group in groups for path in self._groups[group]})
        return collection.find_chunks(hashes=sorted(said), paths=paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapsedPage:
    """Part of a ranking without its duplicates."""

    items: Sequence[tuple[int, Score]]
    duplicates: Sequence[tuple[Duplicate, ...]]
    """Of each item."""
    more: bool
    """Whether there are items after these."""


def collapsed_page(
    collection: Collection, same: Sameness, rank: Rank, where: Filter, *, offset: int, end: int
) -> CollapsedPage:
    """Return the items from `offset` to `end` of the collapsed ranking of what `where` lets through.

    Pages add up to one ranking, with the same duplicates: it is ranked as deep as it takes, and all that says what a
    hit of the page says is ranked then, however far down it is.
    """
    depth = end + 1
    while True:
        ranking = rank(depth, where)
        keys = {key.id: key for key in collection.keys([id_ for id_, _ in ranking.items])}
        shown = same.collapse(list(keys.values()))
        if ranking.is_whole or len(shown) > end:
            break
        depth *= _DEEPER
    page, more = list(shown)[offset:end], len(shown) > end
    score_of = dict(ranking.items)
    items = [(id_, score_of[id_]) for id_ in page]
    if page and not ranking.is_whole:
        related = same.related(collection, [keys[id_] for id_ in page])
        if where.chunks is not None:
            related = np.intersect1d(related, np.array(where.chunks, dtype=np.int64))
        others = rank(len(related), replace(where, chunks=tuple(related.tolist())))
        score_of = dict(others.items)
        keys = {key.id: key for key in collection.keys(list(score_of))}
        shown = same.collapse(list(keys.values()))
    duplicates = [
        tuple(_duplicate(keys[other], score_of[other].total, collection.root) for other in shown[id_]) for id_ in page
    ]
    return CollapsedPage(items=items, duplicates=duplicates, more=more)


def _duplicate(key: ChunkKey, score: float, root: Path) -> Duplicate:
    file = absolute_path(key.path, root)
    return Duplicate(path=key.path, file=file, lines=key.lines, chunk=key.ordinal, score=score)
