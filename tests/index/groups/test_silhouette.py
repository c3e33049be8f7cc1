from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from searchctl.index.groups.silhouette import candidates, choose_n, silhouette


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_it_equals_scikit_learn_with_noise_left_out_and_a_cluster_of_one() -> None:
    rows = rows_of(300)
    labels = np.random.default_rng(1).integers(-1, 6, size=300)
    labels[7] = 9
    kept = labels >= 0
    expected = silhouette_score(rows[kept].astype(np.float64), labels[kept], metric="cosine")
    assert silhouette(rows, labels) == pytest.approx(expected, abs=1e-7)


def test_fewer_than_two_clusters_have_none(subtests: pytest.Subtests) -> None:
    for labels in [[0, 0, 0], [-1, -1, -1], [0, -1, 0]]:
        with subtests.test(labels=labels):
            assert silhouette(rows_of(3), np.array(labels)) is None


def test_equal_vectors_in_two_clusters_count_0() -> None:
    assert 0.0 == silhouette(np.repeat(rows_of(1), 4, axis=0), np.array([0, 0, 1, 1]))


def test_numbers_to_try(subtests: pytest.Subtests) -> None:
    for items, different, expected in [
        (2, 2, []),
        (3, 3, [2]),
        (100, 1, []),
        (100, 4, [2, 3, 4]),
        (100, 100, [2, 3, 4, 5, 6, 8, 10, 12, 15]),
        (400, 400, [2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30]),
    ]:
        with subtests.test(items=items, different=different, expected=expected):
            assert expected == candidates(items, different)


def test_of_equal_silhouettes_the_smallest_number_is_chosen() -> None:
    rows, halves = rows_of(40), np.arange(40) % 2
    choice = choose_n(rows, lambda _n: halves, candidates(40, 40))
    assert 2 == choice.n
    assert [(n, silhouette(rows, halves)) for n in (2, 3, 4, 5, 6, 8, 9)] == list(choice.curve)


def test_numbers_between_the_neighbours_of_the_best_are_tried_too() -> None:
    rows = rows_of(400)
    best = rows_of(1)[0] @ rows.T > 0
    seen = []

    def label(n: int) -> np.ndarray:
        seen.append(n)
        return best.astype(np.int64) if n == 15 else np.arange(400) % n

    choice = choose_n(rows, label, [2, 4, 8, 15, 22, 30])
    assert 15 == choice.n
    assert [9, 11, 12, 14, 16, 18, 19, 21] == seen[6:]
