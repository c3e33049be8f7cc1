"""Hard negatives: worked out by hand on vectors in the plane, and against a search that sorts everything."""

from __future__ import annotations

import math

import numpy as np
import pytest

from searchctl.training.data.mining import cosines, mine, mine_scored


def at_cosines(*cosines: float) -> np.ndarray:
    """Return unit vectors with these cosines to (1, 0)."""
    return np.array([(c, math.sqrt(1 - c * c)) for c in cosines], dtype=np.float32)


ASKED = at_cosines(1.0)
CORPUS = ["own", "too near", "hard", "harder", "far"]
VECTORS = at_cosines(0.8, 0.78, 0.5, 0.7, 0.1)  # the limit is 0.95 * 0.8 = 0.76


def test_the_nearest_below_the_limit_are_taken_nearest_first() -> None:
    assert mine(["q"], [0], ASKED, CORPUS, VECTORS, count=2) == [[3, 2]]
    assert mine(["q"], [0], ASKED, CORPUS, VECTORS, count=9) == [[3, 2, 4]]


def test_the_margin_is_a_share_of_the_score_of_the_positive(subtests: pytest.Subtests) -> None:
    for margin, expected in [(1.0, [1, 3]), (0.9, [3, 2]), (0.6, [4])]:
        with subtests.test(margin=margin, expected=expected):
            assert mine(["q"], [0], ASKED, CORPUS, VECTORS, count=2, margin=margin) == [expected]


def test_the_nearest_are_skipped_before_the_limit_is_applied(subtests: pytest.Subtests) -> None:
    for skip_top, expected in [(1, [3, 2]), (2, [2, 4]), (4, []), (50, [])]:
        with subtests.test(skip_top=skip_top, expected=expected):
            assert mine(["q"], [0], ASKED, CORPUS, VECTORS, count=2, skip_top=skip_top) == [expected]


def test_a_positive_below_zero_has_its_limit_below_itself() -> None:
    # 0.95 * -0.5 would be -0.475, above the positive: the limit is -0.525.
    vectors = at_cosines(-0.5, -0.48, -0.51, -0.6)
    assert mine(["q"], [0], ASKED, list("abcd"), vectors, count=3) == [[3]]


def test_equal_texts_and_other_positives_of_the_query_are_no_negatives() -> None:
    corpus = ["own", "q", "other answer", "own", "negative", "negative", "last"]
    vectors = at_cosines(0.9, 0.6, 0.7, 0.5, 0.4, 0.4, 0.3)
    queries, positives = ["q", "q", "another"], [0, 2, 0]
    asked = np.repeat(ASKED, 3, axis=0)
    found = mine(queries, positives, asked, corpus, vectors, count=9)
    # Pair 0 and 1 ask the same: rows 0 and 2 answer both, row 1 is the query, row 3 is row 0 again, row 5 is row 4.
    assert found == [[4, 6], [4, 6], [2, 1, 4, 6]]


def test_case_and_white_space_make_no_other_text() -> None:
    corpus = ["own", "Own\n", "Q ", "Other  Answer", "other answer", "negative", "Given already"]
    vectors = at_cosines(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    asked = np.repeat(ASKED, 2, axis=0)
    assert mine(["q", "Q"], [0, 3], asked, corpus, vectors, count=9) == [[5, 6], [5, 6]]
    scores = cosines(asked, vectors)
    found = mine_scored(["q", "Q"], [0, 3], corpus, scores, count=9, taken=[["given ALREADY"], []])
    assert [mined.rows for mined in found] == [(5,), (5, 6)]


def test_equal_scores_go_by_row() -> None:
    corpus = [f"text {i}" for i in range(6)]
    vectors = at_cosines(0.9, 0.5, 0.5, 0.5, 0.5, 0.6)
    assert mine(["q"], [0], ASKED, corpus, vectors, count=3) == [[5, 1, 2]]
    assert mine(["q"], [0], ASKED, corpus, vectors, count=2, skip_top=2) == [[2, 3]]


def test_blocks_find_what_sorting_everything_finds(subtests: pytest.Subtests) -> None:
    for block_scores in [1, 150, 10**6]:
        with subtests.test(block_scores=block_scores):
            rng = np.random.default_rng(4)
            asked, vectors = rng.standard_normal((23, 8)), rng.standard_normal((60, 8))
            asked /= np.linalg.norm(asked, axis=1, keepdims=True)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            positives = [int(row) for row in rng.integers(60, size=23)]
            expected = []
            for query, positive in zip(asked, positives, strict=True):
                scores = vectors @ query
                limit = scores[positive] - 0.05 * abs(scores[positive])
                ranked = [row for row in np.argsort(-scores) if row != positive][3:]
                expected.append([int(row) for row in ranked if scores[row] <= limit][:5])
            found = mine(
                [f"query {i}" for i in range(23)],
                positives,
                asked.astype(np.float32),
                [f"text {i}" for i in range(60)],
                vectors.astype(np.float32),
                count=5,
                skip_top=3,
                block_scores=block_scores,
            )
            assert expected == found
            assert any(len(rows) == 5 for rows in found)


def test_what_makes_no_sense_is_refused(subtests: pytest.Subtests) -> None:
    for change, words in [
        ({"count": 0}, "count is 0"),
        ({"margin": 1.2}, "margin 1.2"),
        ({"skip_top": -1}, "skip_top -1"),
        ({"positives": [5]}, "row 5: expected 0 to 4"),
        ({"positives": [0, 1]}, "1 queries, 2 positives"),
        ({"corpus": ["a"]}, "with 1 rows"),
    ]:
        with subtests.test(change=change, words=words):
            given = {"queries": ["q"], "positives": [0], "corpus": CORPUS, "count": 1, **change}
            with pytest.raises(ValueError, match=words):
                mine(query_vectors=ASKED, corpus_vectors=VECTORS, **given)  # type: ignore[arg-type]


def test_no_queries_give_no_rows() -> None:
    assert mine([], [], np.zeros((0, 2), dtype=np.float32), CORPUS, VECTORS, count=1) == []
