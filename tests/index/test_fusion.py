from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchctl.index.cosine import ranked
from searchctl.index.fusion import fuse
from searchctl.index.protocol import Scored


def scored(pairs: dict[int, float]) -> Scored:
    ids, scores = ranked(
        np.array(list(pairs), dtype=np.int64), np.array(list(pairs.values()), dtype=np.float32), len(pairs)
    )
    return Scored(ids=ids, scores=scores)


bm25 = st.dictionaries(st.integers(1, 40), st.floats(2.0**-20, 64, width=32), max_size=20).map(scored)
cosine = st.dictionaries(st.integers(1, 40), st.floats(-1, 1, width=32), max_size=20).map(scored)


@given(bm25, cosine)
def test_weight_0_keeps_the_lexical_order(lexical: Scored, dense: Scored) -> None:
    fused = fuse(lexical, dense, dense_weight=0.0)
    assert [f.id for f in fused][: len(lexical.ids)] == lexical.ids.tolist()


@given(bm25, cosine)
def test_weight_1_keeps_the_dense_order(lexical: Scored, dense: Scored) -> None:
    fused = fuse(lexical, dense, dense_weight=1.0)
    assert [f.id for f in fused][: len(dense.ids)] == dense.ids.tolist()


@given(bm25, cosine, st.floats(0, 1))
def test_parts_sum_to_the_shown_score_and_order_is_stable(lexical: Scored, dense: Scored, weight: float) -> None:
    fused = fuse(lexical, dense, dense_weight=weight)
    assert {f.id for f in fused} == set(lexical.ids.tolist()) | set(dense.ids.tolist())
    assert all(f.score == f.lexical_part + f.dense_part for f in fused)
    assert [f.score for f in fused] == sorted((f.score for f in fused), reverse=True)
    assert fuse(lexical, dense, dense_weight=weight) == fused


def test_convex_values() -> None:
    fused = fuse(scored({1: 8.0, 2: 4.0}), scored({1: 0.2, 2: 0.6, 3: 0.4}), dense_weight=0.5)
    assert [(f.id, f.lexical_part, round(f.dense_part, 6)) for f in fused] == [
        (2, 0.25, 0.5),
        (1, 0.5, 0.0),
        (3, 0.0, 0.25),
    ]
    assert (fused[2].lexical_rank, fused[2].dense_rank, fused[2].lexical_score) == (None, 2, None)


def test_ties_by_ascending_id() -> None:
    fused = fuse(scored({9: 1.0, 4: 1.0, 7: 1.0}), scored({}), dense_weight=0.3)
    assert [f.id for f in fused] == [4, 7, 9]


def test_one_candidate_takes_the_whole_share() -> None:
    (fused,) = fuse(scored({5: 3.0}), scored({5: -0.4}), dense_weight=0.25)
    assert (fused.lexical_part, fused.dense_part) == (0.75, 0.25)


def test_weight_outside_of_0_to_1_is_refused(subtests: pytest.Subtests) -> None:
    for weight in [-0.1, 1.1, float("nan")]:
        with subtests.test(weight=weight), pytest.raises(ValueError, match="dense_weight is"):
            fuse(scored({}), scored({}), dense_weight=weight)


def test_scores_that_are_not_finite_are_refused() -> None:
    side = Scored(ids=np.array([1]), scores=np.array([np.nan], dtype=np.float32))
    with pytest.raises(ValueError, match="lexical side"):
        fuse(side, scored({}), dense_weight=0.5)
