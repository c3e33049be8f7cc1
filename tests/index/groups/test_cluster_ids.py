from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from searchctl.index.groups.cluster_ids import MatchedIds, NamedCluster, NewCluster, match_ids
from searchctl.index.protocol import Vectors

ANGLES = {"a": 0, "b": 90, "c": 180, "d": 270}
"""A member is a theme's letter and a number; its vector points near the theme's direction."""


def vector(member: str) -> Vectors:
    angle = np.radians(ANGLES[member[0]] + int(member[1:]) % 7)
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def run(
    old: list[NamedCluster], clusters: list[list[str]], next_id: int, *, without: tuple[str, ...] = ()
) -> tuple[MatchedIds, list[NamedCluster]]:
    """Match clusters whose first member is the medoid; return the ids and what the next run is told."""
    new = [NewCluster(medoid=members[0], members=members) for members in clusters]
    known = {member: vector(member) for members in clusters for member in members if member not in without}
    matched = match_ids(old, new, known, next_id=next_id)
    named = [
        NamedCluster(id=id_, medoid=members[0], members=members)
        for id_, members in zip(matched.ids, clusters, strict=True)
    ]
    return matched, named


def items(theme: str, start: int, stop: int) -> list[str]:
    return [f"{theme}{number}" for number in range(start, stop)]


def test_three_runs_with_a_split_and_a_merge() -> None:
    first, told = run([], [items("b", 0, 4), items("a", 0, 9), items("c", 0, 6)], 1)
    assert ((3, 1, 2), (False, False, False), 4) == (first.ids, first.known, first.next_id)
    # a splits in six and three: the larger part keeps the id. c gains members. d is new.
    second, told = run(
        told, [items("a", 6, 9), items("d", 0, 5), items("a", 0, 6), items("c", 0, 12), items("b", 0, 4)], 4
    )
    assert ((5, 4, 1, 2, 3), (False, False, True, True, True), 6) == (second.ids, second.known, second.next_id)
    # The halves of a merge again, b is gone, and the id of b and of the smaller half are never used again.
    third, _ = run(told, [items("a", 0, 9), items("c", 0, 12), items("d", 0, 5), items("b", 20, 26)], 6)
    assert ((1, 2, 4, 6), (True, True, True, False), 7) == (third.ids, third.known, third.next_id)


def test_the_order_given_changes_nothing() -> None:
    clusters = [items("a", 0, 5), items("b", 0, 5), items("c", 0, 7), items("d", 0, 3)]
    _, told = run([], clusters, 1)
    now = [items("a", 0, 4), [*items("a", 4, 5), *items("b", 0, 5)], items("c", 3, 9), items("d", 9, 12)]
    expected = {now[at][0]: id_ for at, id_ in enumerate(run(told, now, 5)[0].ids)}
    for order in permutations(range(4)):
        shuffled = [sorted(now[at][1:], reverse=True) for at in order]
        shuffled = [[now[at][0], *rest] for at, rest in zip(order, shuffled, strict=True)]
        found, _ = run([told[at] for at in order], shuffled, 5)
        assert expected == {members[0]: id_ for members, id_ in zip(shuffled, found.ids, strict=True)}


def test_all_pairs_are_weighed_at_once() -> None:
    # x is most like old 1, but y can only be old 1, and x can be old 2 as well.
    old = [
        NamedCluster(id=1, medoid="a0", members=items("a", 0, 10)),
        NamedCluster(id=2, medoid="a20", members=items("a", 20, 28)),
    ]
    x = [*items("a", 0, 5), *items("a", 20, 24)]
    y = items("a", 5, 10)
    assert (2, 1) == run(old, [["a20", *x], y], 3)[0].ids


def test_members_decide_when_the_old_medoid_is_gone() -> None:
    old = [NamedCluster(id=4, medoid="a0", members=items("a", 0, 8))]
    assert (4,) == run(old, [items("a", 1, 8)], 5)[0].ids
    # Half of its surviving members are elsewhere: the limit, and a fifth is below it.
    assert (4, 5) == run(old, [items("a", 1, 6), items("a", 6, 8)], 5)[0].ids
    assert (5, 6, 7) == run(old, [items("a", 1, 4), items("a", 4, 6), items("a", 6, 8)], 5)[0].ids


def test_a_like_medoid_does_not_make_another_cluster_the_same() -> None:
    old = [NamedCluster(id=1, medoid="a0", members=items("a", 0, 10))]
    new = [
        NewCluster(medoid="a11", members=["a0", *items("a", 11, 40)]),
        NewCluster(medoid="b0", members=items("b", 0, 9)),
    ]
    moved = items("a", 1, 10)
    new[1] = NewCluster(medoid="b0", members=[*new[1].members, *moved])
    vectors = {member: vector(member) for cluster in new for member in cluster.members}
    # Nine of ten old members are in the other cluster now, whose medoid is far: the members win.
    matched = match_ids(old, new, vectors, next_id=2)
    assert ((2, 1), (False, True)) == (matched.ids, matched.known)


def test_the_medoid_alone_is_believed_only_when_it_is_very_near() -> None:
    # The old members are noise now; the medoid still has a vector.
    old = [NamedCluster(id=1, medoid="a0", members=["a0", "a1"])]
    for angle, expected in ((5, 1), (40, 2)):
        radians = np.radians(angle)
        vectors = {"a0": vector("a0"), "n": np.array([np.cos(radians), np.sin(radians)], dtype=np.float32)}
        new = [NewCluster(medoid="n", members=["n", "m"])]
        assert (expected,) == match_ids(old, new, vectors, next_id=2).ids


def test_an_item_that_is_there_twice_counts_once() -> None:
    old = [NamedCluster(id=1, medoid="a0", members=["a0", "a1", "a2", "a0", "a0"])]
    found = run(old, [["a1", "a2", "a1"], ["a0", "a0", "a0", "a0"]], 2, without=("a0", "a1", "a2"))[0]
    assert (1, 2) == found.ids


def test_no_clusters_and_no_run_before() -> None:
    assert MatchedIds(ids=(), known=(), next_id=7) == match_ids([], [], {}, next_id=7)
    old = [NamedCluster(id=3, medoid="a0", members=["a0"])]
    assert MatchedIds(ids=(), known=(), next_id=4) == match_ids(old, [], {}, next_id=4)


def test_ids_that_could_be_used_twice_are_refused(subtests: pytest.Subtests) -> None:
    for ids, next_id in [((1, 1), 3), ((1, 3), 3)]:
        with subtests.test(ids=ids, next_id=next_id):
            old = [NamedCluster(id=id_, medoid="a0", members=["a0"]) for id_ in ids]
            with pytest.raises(
                ValueError, match=r"old ids are .* and next_id is 3: expected distinct ids below next_id"
            ):
                match_ids(old, [], {}, next_id=next_id)
