"""Ids that clusters keep from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..protocol import Vectors
from .assignment import best_pairs

MIN_SIMILARITY = 0.5
"""Least similarity of an old and a new cluster that are taken for the same."""
MEMBER_WEIGHT = 2 / 3
"""Weight of shared members; the rest is the cosine of the medoids. Members weigh more: many encoders give any two texts
a high cosine, but no two themes the same texts."""
MEDOID_ALONE = 0.95
"""Least cosine of two medoids where no member of the old cluster is in any cluster now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCluster:
    """A cluster of the run before, with the id that it had."""

    id: int
    medoid: str
    members: Sequence[str]
    """What names an item across runs: a hash or a path. One that is there twice counts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCluster:
    """A cluster of this run."""

    medoid: str
    members: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedIds:
    """Ids of the new clusters, in the order in which these were given."""

    ids: tuple[int, ...]
    known: tuple[bool, ...]
    """True where the id is that of a cluster of the run before."""
    next_id: int
    """Above every id that was ever used: to be kept for the next run."""


def match_ids(
    old: Sequence[NamedCluster], new: Sequence[NewCluster], vectors: Mapping[str, Vectors], *, next_id: int
) -> MatchedIds:
    """Return an id for each new cluster: that of the old one it continues, or a number never used before.

    Old and new ones are paired one to one so that the sum of similarities is highest (Hungarian method), each at least
    MIN_SIMILARITY. The similarity is 2/3 * shared members + 1/3 * cosine of the medoids. Shared members are Jaccard's
    index over items that were in a cluster before and are in one now, so that new and vanished items do not tell. An
    old medoid without a vector in `vectors` (member -> unit vector (dim,)) leaves the members alone to decide; an old
    cluster of which no member is left is known by a medoid cosine of MEDOID_ALONE or more.

    New numbers go to the largest cluster first, ties by smallest member. The order of `old`, `new` and members does not
    matter. next_id is 1 on the first run. Raises ValueError when an old id is not below next_id or is there twice.
    """
    ids = [cluster.id for cluster in old]
    if len(set(ids)) != len(ids) or max(ids, default=0) >= next_id:
        raise ValueError(f"old ids are {ids} and next_id is {next_id}: expected distinct ids below next_id")
    before = sorted(old, key=lambda cluster: cluster.id)
    sets = [frozenset(cluster.members) for cluster in new]
    order = sorted(range(len(new)), key=lambda at: (-len(new[at].members), sorted(sets[at])))
    found = _pairs(before, [new[at] for at in order], [sets[at] for at in order], vectors)
    answer: dict[int, int] = {}
    for place, at in enumerate(order):
        if place in found:
            answer[at] = before[found[place]].id
        else:
            answer[at] = next_id
            next_id += 1
    known = {order[place] for place in found}
    return MatchedIds(
        ids=tuple(answer[at] for at in range(len(new))),
        known=tuple(at in known for at in range(len(new))),
        next_id=next_id,
    )


def _pairs(
    old: Sequence[NamedCluster],
    new: Sequence[NewCluster],
    sets: Sequence[frozenset[str]],
    vectors: Mapping[str, Vectors],
) -> dict[int, int]:
    """Return which old cluster each new one continues, by position; a new one that continues none is left out."""
    if not old or not new:
        return {}
    similarity = _similarities(old, new, sets, vectors)
    return {new_at: old_at for old_at, new_at in best_pairs(similarity)}


def _similarities(
    old: Sequence[NamedCluster],
    new: Sequence[NewCluster],
    sets: Sequence[frozenset[str]],
    vectors: Mapping[str, Vectors],
) -> NDArray[np.float64]:
    """Return (old, new) similarities, 0 where two clusters are not the same."""
    shared, left = _shared(old, sets)
    cosines = _cosines([vectors.get(before.medoid) for before in old], [vectors.get(now.medoid) for now in new])
    both = np.where(np.isnan(cosines), shared, MEMBER_WEIGHT * shared + (1 - MEMBER_WEIGHT) * cosines)
    # NaN, of a medoid that is not there any more, is not at least anything.
    alone = np.where(cosines >= MEDOID_ALONE, cosines, 0.0)
    values = np.where(left[:, None] > 0, both, alone)
    return np.where(values >= MIN_SIMILARITY - 1e-9, values, 0.0)


def _cosines(old: Sequence[Vectors | None], new: Sequence[Vectors | None]) -> NDArray[np.float64]:
    """Return (old, new) cosines from 0 to 1, NaN where one of two vectors is not there."""
    cosines = np.full((len(old), len(new)), np.nan)
    rows = [row for row, vector in enumerate(old) if vector is not None]
    columns = [column for column, vector in enumerate(new) if vector is not None]
    if rows and columns:
        left = np.stack([vector for vector in old if vector is not None]).astype(np.float64)
        right = np.stack([vector for vector in new if vector is not None]).astype(np.float64)
        cosines[np.ix_(rows, columns)] = np.clip(left @ right.T, 0.0, 1.0)
    return cosines


def _shared(
    old: Sequence[NamedCluster], sets: Sequence[frozenset[str]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return Jaccard's index (old, new) over items in clusters both times, and how many of each old one's are left."""
    homes: dict[str, list[int]] = {}
    for row, before in enumerate(old):
        for member in set(before.members):
            homes.setdefault(member, []).append(row)
    common = np.zeros((len(old), len(sets)), dtype=np.int64)
    sizes_new = np.zeros(len(sets), dtype=np.int64)
    remaining: set[str] = set()
    for column, members in enumerate(sets):
        for member in members & homes.keys():
            common[homes[member], column] += 1
            sizes_new[column] += 1
            remaining.add(member)
    sizes_old = np.array([len(remaining.intersection(before.members)) for before in old], dtype=np.int64)
    union = sizes_old[:, None] + sizes_new[None, :] - common
    return common / np.maximum(union, 1), sizes_old
