"""Texts in nearly the same words."""

import random

import pytest

from searchctl.index.errors import IndexRoomError
from searchctl.index.groups import near_pairs as module
from searchctl.index.groups.near_pairs import NEAR_FLOOR, near_pairs, normalised, shingles, text_digest

WORDS = [f"w{number}" for number in range(3000)]


def text(seed: int, words: int = 80) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(words: str, changes: int, seed: int) -> str:
    parts = words.split()
    for at in random.Random(seed).sample(range(len(parts)), changes):
        parts[at] = f"other{seed}x{at}"
    return " ".join(parts)


def brute(texts: list[str]) -> dict[tuple[int, int], float]:
    sets = [shingles(text) for text in texts]
    return {
        (a, b): jaccard
        for a in range(len(texts))
        for b in range(a + 1, len(texts))
        if (jaccard := len(sets[a] & sets[b]) / len(sets[a] | sets[b])) >= NEAR_FLOOR
    }


def test_texts_are_equal_but_for_case_width_and_white_space(subtests: pytest.Subtests) -> None:
    for one, two, same in [
        ("Hello  World", "hello\n\tworld ", True),
        ("Ma\u00dfe", "Masse", False),
        ("\uff28\uff45\uff4c\uff4c\uff4f", "hello", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("hello world", "hello, world", False),
        ("hello world", "helloworld", False),
    ]:
        with subtests.test(one=one, two=two, same=same):
            assert same == (text_digest(one) == text_digest(two))


def test_shingles_are_runs_of_five_words() -> None:
    assert {"a b c d e", "b c d e f"} == shingles("A, b c -- d e f!")
    assert {"a b c"} == shingles("a b c")
    assert {"..."} == shingles("...")
    assert {"\u6771 \u4eac \u90fd \u306e \u591c", "\u4eac \u90fd \u306e \u591c \u666f"} == shingles(
        "\u6771\u4eac\u90fd\u306e\u591c\u666f"
    )


def test_half_of_a_surrogate_pair_is_a_text_like_any_other() -> None:
    assert text_digest("a\ud800") != text_digest("a")


def test_all_pairs_with_enough_words_in_common_are_found_with_their_exact_similarity() -> None:
    texts = []
    for seed in range(60):
        original = text(seed)
        texts += [original, *(changed(original, changes, seed) for changes in (1, 2, 3, 4))]
    expected = brute(texts)
    assert len(expected) > 300
    pairs = near_pairs(texts)
    found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.jaccard, strict=True))
    assert set(found) <= set(expected)
    assert all(found[pair] == pytest.approx(expected[pair], abs=1e-6) for pair in found)
    sure = {pair for pair, jaccard in expected.items() if jaccard >= 0.6}
    assert sure <= set(found)
    assert len(found) >= 0.98 * len(expected)


def test_pairs_ascend_and_the_order_of_the_texts_changes_nothing() -> None:
    texts = [changed(text(seed), 2, seed + copy) for seed in range(20) for copy in range(3)]
    pairs = near_pairs(texts)
    rows = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert rows == sorted(rows)
    assert all(first < second for first, second in rows)
    order = random.Random(5).sample(range(len(texts)), len(texts))
    again = near_pairs([texts[row] for row in order])
    assert {frozenset(pair) for pair in rows} == {
        frozenset((order[first], order[second]))
        for first, second in zip(again.first.tolist(), again.second.tolist(), strict=True)
    }


def test_with_two_sides_only_pairs_across_count() -> None:
    original = text(1)
    texts = [original, changed(original, 1, 1), changed(original, 1, 2), changed(original, 1, 3)]
    pairs = near_pairs(texts, sides=[{0, 1, 2}, {2, 3}])
    assert [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] == list(
        zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    )


def test_no_text_and_one_text_have_no_pair() -> None:
    assert [] == near_pairs([]).first.tolist() == near_pairs(["a b c"]).first.tolist()


def test_texts_that_say_other_things_are_not_equal(subtests: pytest.Subtests) -> None:
    for one, other in [
        ("10² litres", "102 litres"),
        ("½ cup", "1/2 cup"),
        ("zwei Maße", "zwei Masse"),
        ("x₁", "x1"),
    ]:
        with subtests.test(one=one, other=other):
            assert text_digest(one) != text_digest(other)


def test_case_width_and_composition_of_letters_make_no_difference(subtests: pytest.Subtests) -> None:
    for one, other in [
        ("Ｆｕｌｌ ｗｉｄｔｈ（１）", "full width(1)"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("caf\u00e9", "CAFE\u0301"),
        ("ΟΔΟΣ", "οδος"),
        ("an oﬃcial ﬁle", "an official file"),
        ("a\u3000b", "a b"),
    ]:
        with subtests.test(one=one, other=other):
            assert text_digest(one) == text_digest(other)


def test_words_that_differ_in_a_mark_are_other_words(subtests: pytest.Subtests) -> None:
    for one, other in [("मेला दिन", "मैला दीन"), ("ไม้", "ไม่"), ("ปา", "ป้า")]:
        with subtests.test(one=one, other=other):
            assert not shingles(one) & shingles(other)


def test_normalised_is_one_line() -> None:
    assert "a b c" == normalised(" A\n\nb\u00a0C ")


def test_too_many_texts_of_one_template_are_refused_before_they_are_compared(subtests: pytest.Subtests) -> None:
    for sides in [None, [set(range(60)), set(range(40, 80))]]:
        with subtests.test(sides=sides), pytest.MonkeyPatch.context() as monkeypatch:
            texts = [changed(text(1), 1, seed) for seed in range(80)]
            monkeypatch.setattr(module, "MOST_CANDIDATES", 500)
            told: list[tuple[int, int]] = []
            with pytest.raises(IndexRoomError, match="more than 500 pairs"):
                near_pairs(texts, sides=sides, progress=lambda done, total: told.append((done, total)))
            assert {80} == {total for _, total in told}  # texts, and no pair


def test_texts_of_one_side_alone_cost_no_pair() -> None:
    texts = [changed(text(1), 1, seed) for seed in range(60)]
    told: list[tuple[int, int]] = []
    pairs = near_pairs(texts, sides=[set(range(60)), {0}], progress=lambda done, total: told.append((done, total)))
    assert [(0, row) for row in range(1, 60)] == list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert 59 == told[-1][1]


def test_long_texts_are_hashed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text(seed, 100) for seed in range(20)]
    whole = near_pairs([*texts, *texts])
    monkeypatch.setattr(module, "_BATCH_CHARS", 1500)
    told: list[tuple[int, int]] = []
    again = near_pairs([*texts, *texts], progress=lambda done, total: told.append((done, total)))
    assert len([one for one in told if one[1] == 40]) > 5
    assert whole.first.tolist() == again.first.tolist() == list(range(20))
