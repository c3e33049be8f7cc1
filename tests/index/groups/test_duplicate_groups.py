"""Groups of duplicates: the promises that hold for any pairs, and the choices a person asks for."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchctl.index.dedup_settings import Keep, Thresholds, Tier
from searchctl.index.groups.duplicate_groups import DuplicateGraph, Group
from searchctl.index.groups.text_pairs import TextPairs
from searchctl.index.protocol import Item

AT = Thresholds(near=0.7, semantic=0.9)
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def item(name: str, *, text: str = "", days: int = 0) -> Item:
    return Item(
        key=name, path=name, ordinal=None, format="text", title=None, date=DAY + timedelta(days=days),
        bytes=len(text or name), content_hash=name, member=name, text=text or name, anchor=None, lines=None,
    )  # fmt: skip


def pairs_of(texts: list[int], found: dict[tuple[int, int], tuple[float, float]]) -> TextPairs:
    """Return pairs by text: cosine and Jaccard similarity."""
    rows = sorted(found)
    return TextPairs(
        texts=np.array(texts, dtype=np.int64),
        first=np.array([first for first, _ in rows], dtype=np.int64),
        second=np.array([second for _, second in rows], dtype=np.int64),
        cosines=np.array([found[row][0] for row in rows], dtype=np.float32),
        jaccard=np.array([found[row][1] for row in rows], dtype=np.float32),
        floor=0.0,
        histogram=np.zeros(200, dtype=np.int64),
    )


def names(graph: DuplicateGraph, groups: list[Group]) -> dict[str, set[str]]:
    return {graph.items[group.kept].key: {graph.items[found.item].key for found in group.dropped} for group in groups}


Case = tuple[list[int], dict[tuple[int, int], tuple[float, float]], list[int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Items by their text, pairs of texts with similarities around the thresholds, and lengths with many ties."""
    count = draw(st.integers(1, 12))
    numbers = draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=14))
    seen: dict[int, int] = {}
    texts = [seen.setdefault(number, len(seen)) for number in numbers]
    values = st.tuples(st.sampled_from([0.5, 0.89, 0.9, 0.95, 1.0]), st.sampled_from([-1.0, 0.6, 0.7, 0.8]))
    found = {}
    for first in range(len(seen)):
        for second in range(first + 1, len(seen)):
            if draw(st.booleans()):
                found[first, second] = draw(values)
    return texts, found, draw(st.lists(st.integers(1, 3), min_size=len(texts), max_size=len(texts)))


def graph_of(case: Case, keep: Keep, *, own: int | None = None) -> DuplicateGraph:
    texts, found, lengths = case
    items = [item(f"d{row:02}", text="x" * length, days=length) for row, length in enumerate(lengths)]
    return DuplicateGraph(items, pairs_of(texts, found), keep=keep, own=own)


def says_the_same(case: Case, one: int, two: int) -> bool:
    texts, found, _ = case
    key = (min(texts[one], texts[two]), max(texts[one], texts[two]))
    cosine, jaccard = (1.0, 1.0) if key[0] == key[1] else found.get(key, (0.0, -1.0))
    return cosine >= np.float32(AT.semantic) or jaccard >= np.float32(AT.near)


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from(Keep))
def test_every_dropped_item_has_a_kept_one_beside_it_and_no_two_kept_ones_are_beside_each_other(
    case: Case, keep: Keep
) -> None:
    groups = graph_of(case, keep).groups(AT)
    dropped = {found.item: group.kept for group in groups for found in group.dropped}
    assert sum(len(group.dropped) for group in groups) == len(dropped)
    kept = [row for row in range(len(case[0])) if row not in dropped]
    assert set(dropped.values()) <= set(kept)
    assert all(says_the_same(case, one, two) for one, two in dropped.items())
    assert not any(says_the_same(case, one, two) for one in kept for two in kept if one < two)


@settings(max_examples=200, deadline=None)
@given(cases(), st.sampled_from(Keep), st.randoms())
def test_groups_are_those_of_taking_items_one_by_one(case: Case, keep: Keep, random: object) -> None:
    """The plain way: best first, each kept unless a kept one says the same; each dropped one goes to the nearest."""
    graph = graph_of(case, keep)
    texts, found, lengths = case
    rows = range(len(texts))
    if keep is Keep.MEDOID:
        weight = [
            sum(
                1.0 if texts[row] == texts[other] else found[tuple(sorted((texts[row], texts[other])))][0]
                for other in rows
                if says_the_same(case, row, other)
            )
            for row in rows
        ]
        order = sorted(rows, key=lambda row: (-round(weight[row], 6), row))
    else:
        best = {Keep.LONGEST: -1, Keep.NEWEST: -1, Keep.OLDEST: 1, Keep.SHORTEST_PATH: 0}[keep]
        order = sorted(rows, key=lambda row: (best * lengths[row], row))
    kept: list[int] = []
    for row in order:
        if not any(says_the_same(case, row, other) for other in kept):
            kept.append(row)
    dropped = {gone.item: group.kept for group in graph.groups(AT) for gone in group.dropped}
    assert set(kept) == set(rows) - set(dropped)
    for row, keeper in dropped.items():
        best = max((_evidence(case, row, other), -order.index(other), other) for other in kept)
        assert best[2] == keeper


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(0, 14))
def test_with_another_collection_only_its_items_are_kept_and_only_ours_dropped(case: Case, own: int) -> None:
    own = min(own, len(case[0]))
    groups = graph_of(case, Keep.LONGEST, own=own).groups(AT)
    dropped = {found.item: group.kept for group in groups for found in group.dropped}
    others = range(own, len(case[0]))
    assert set(dropped) == {row for row in range(own) if any(says_the_same(case, row, other) for other in others)}
    assert all(kept >= own and says_the_same(case, row, kept) for row, kept in dropped.items())


def _evidence(case: Case, one: int, two: int) -> tuple[int, float, float]:
    """Return how strong the evidence is that two items say the same: tier, score, cosine."""
    texts, found, _ = case
    key = (min(texts[one], texts[two]), max(texts[one], texts[two]))
    if key[0] == key[1]:
        return (3, 1.0, 1.0)
    cosine, jaccard = found.get(key, (0.0, -1.0))
    if jaccard >= AT.near:
        return (2, jaccard, cosine)
    return (1, cosine, cosine) if cosine >= AT.semantic else (0, 0.0, 0.0)


def test_a_chain_is_not_one_group() -> None:
    """d is near c, c near b, b near a: keeping b must not drop d, which is near no kept one (semhash before 0.5)."""
    items = [item(name, text=text) for name, text in (("a", "xx"), ("b", "xxxx"), ("c", "xxx"), ("d", "x"))]
    chain = pairs_of([0, 1, 2, 3], {(0, 1): (0.95, -1), (1, 2): (0.95, -1), (2, 3): (0.95, -1)})
    graph = DuplicateGraph(items, chain, keep=Keep.LONGEST)
    assert {"b": {"a", "c"}} == names(graph, graph.groups(AT))


def test_the_item_that_is_asked_for_is_kept(subtests: pytest.Subtests) -> None:
    for keep, kept in [
        (Keep.LONGEST, "long"),
        (Keep.NEWEST, "new"),
        (Keep.OLDEST, "old"),
        (Keep.SHORTEST_PATH, "a"),
        (Keep.MEDOID, "middle"),
    ]:
        with subtests.test(keep=keep, kept=kept):
            items = [
                item("a", text="xx", days=5),
                item("long", text="xxxxx", days=5),
                item("middle", text="xx", days=5),
                item("new", text="xx", days=9),
                item("old", text="xx", days=1),
            ]
            found = {(a, b): (0.98 if 2 in (a, b) else 0.92, -1.0) for a in range(5) for b in range(a + 1, 5)}
            graph = DuplicateGraph(items, pairs_of([0, 1, 2, 3, 4], found), keep=keep)
            assert {kept: {one.key for one in items} - {kept}} == names(graph, graph.groups(AT))


def test_a_dropped_item_goes_to_the_better_tier_and_then_to_the_nearer_kept_one() -> None:
    items = [item("a", text="x" * 9), item("b", text="x" * 8), item("c", text="x" * 7), item("z", text="x")]
    found = {(0, 3): (0.97, -1.0), (1, 3): (0.99, -1.0), (2, 3): (0.5, 0.75)}
    graph = DuplicateGraph(items, pairs_of([0, 1, 2, 3], found), keep=Keep.LONGEST)
    (group,) = graph.groups(AT)
    assert ("c", "z", Tier.NEAR) == (items[group.kept].key, items[group.dropped[0].item].key, group.dropped[0].tier)
    assert (0.75, 0.5) == (group.dropped[0].score, group.dropped[0].cosine)
    (group,) = graph.groups(Thresholds(near=0.8, semantic=0.9))
    assert ("b", Tier.SEMANTIC) == (items[group.kept].key, group.dropped[0].tier)


def test_equal_texts_are_one_group_whatever_the_thresholds() -> None:
    graph = DuplicateGraph([item("a"), item("b"), item("c")], pairs_of([0, 1, 0], {}), keep=Keep.LONGEST)
    assert {"a": {"c"}} == names(graph, graph.groups(Thresholds(near=1.0, semantic=1.0)))


def test_pairs_are_counted_by_item_and_tier() -> None:
    graph = DuplicateGraph(
        [item(name) for name in "abcdef"],
        pairs_of([0, 0, 0, 1, 1, 2], {(0, 1): (0.95, 0.9), (1, 2): (0.93, -1.0)}),
        keep=Keep.LONGEST,
    )
    assert {Tier.EXACT: 3 + 1, Tier.NEAR: 6, Tier.SEMANTIC: 2} == graph.pair_counts(AT)
    assert {Tier.EXACT: 4, Tier.NEAR: 6, Tier.SEMANTIC: 0} == graph.pair_counts(Thresholds(near=0.7, semantic=0.94))


def test_border_cases_are_the_least_similar_accepted_and_the_most_similar_rejected_by_meaning() -> None:
    found = {(0, 1): (0.99, -1.0), (0, 2): (0.9, 0.5), (0, 3): (0.92, 0.8), (1, 2): (0.89, -1.0), (1, 3): (0.3, 0.6)}
    graph = DuplicateGraph([item(name) for name in "abcd"], pairs_of([0, 1, 2, 3], found), keep=Keep.LONGEST)
    rows = sorted(found)
    accepted, rejected = graph.border(AT, 5)
    assert [(0, 2), (0, 1)] == [rows[row] for row in accepted]
    assert [(1, 2), (1, 3)] == [rows[row] for row in rejected]
    assert ([rows.index((0, 2))], [rows.index((1, 2))]) == graph.border(AT, 1)


def test_nothing_at_all_is_no_group() -> None:
    graph = DuplicateGraph([], pairs_of([], {}), keep=Keep.MEDOID)
    assert [] == graph.groups(AT)
    assert {Tier.EXACT: 0, Tier.NEAR: 0, Tier.SEMANTIC: 0} == graph.pair_counts(AT)
