"""The assignment has the sum that scipy's has, on shapes and ties of all kinds."""

import numpy as np
import pytest

from searchctl.index.groups.assignment import best_pairs

optimize = pytest.importorskip("scipy.optimize")


def test_sums_are_those_of_scipy() -> None:
    random = np.random.default_rng(5)
    for trial in range(400):
        shape = random.integers(1, 9, size=2)
        similarity = random.random(shape)
        if trial % 3 == 0:
            similarity = np.round(similarity, 1)  # ties
        similarity[random.random(shape) < random.random()] = 0
        rows, columns = optimize.linear_sum_assignment(similarity, maximize=True)
        pairs = best_pairs(similarity)
        assert np.isclose(sum(similarity[pair] for pair in pairs), similarity[rows, columns].sum()), similarity
        assert all(similarity[pair] > 0 for pair in pairs)
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_alike_gives_no_pair(shape: tuple[int, int]) -> None:
    assert best_pairs(np.zeros(shape)) == []


def test_a_chain_is_solved_as_a_whole() -> None:
    """Taking the best pair first would give 0.9."""
    assert best_pairs(np.array([[0.9, 0.8], [0.8, 0.0]])) == [(0, 1), (1, 0)]
