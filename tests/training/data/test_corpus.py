"""The order of the data, and rank correlation on development pairs without scipy."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from searchctl.training.data.corpus import endless, order
from searchctl.training.objectives.dev_pairs import spearman


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first = order(100, 3, 0)
    assert sorted(first.tolist()) == list(range(100))
    assert first.tolist() == np.random.default_rng([3, 0]).permutation(100).tolist()
    assert first.tolist() != order(100, 3, 1).tolist()
    assert first.tolist() != order(100, 4, 0).tolist()


def test_the_order_is_made_once_and_cannot_be_written_to() -> None:
    assert order(50, 1, 2) is order(50, 1, 2)
    with pytest.raises(ValueError, match="read-only"):
        order(50, 1, 2)[0] = 7


def test_endless_rows_go_on_where_they_are_asked_to() -> None:
    rows = list(islice(endless(7, 5), 21))
    assert rows == [*order(7, 5, 0), *order(7, 5, 1), *order(7, 5, 2)]
    assert list(islice(endless(7, 5, start=10), 11)) == rows[10:]


def test_spearman_by_hand() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(
        1 - 6 * 2 / (4 * 15)
    )  # no ties: 1 - 6 d^2 / n(n^2-1)
    assert spearman([0.1, 0.5, 0.9], [3, 2, 1]) == pytest.approx(-1.0)
    # Ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5, variances 1.5 and 2.
    assert spearman([5, 5, 8], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_spearman_equals_that_of_scipy_with_and_without_ties(subtests: pytest.Subtests) -> None:
    for levels in [3, 20, 10_000]:
        with subtests.test(levels=levels):
            stats = pytest.importorskip("scipy.stats")
            rng = np.random.default_rng(levels)
            first = rng.integers(levels, size=400).astype(np.float64)
            second = first + rng.integers(levels, size=400)
            assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-12)


def test_spearman_is_no_number_where_it_is_undefined(subtests: pytest.Subtests) -> None:
    for first, second in [
        ([1.0, 1.0, 1.0], [1, 2, 3]),
        ([1, 2, 3], [4.0, 4.0, 4.0]),
        ([1.0], [2.0]),
        ([1.0, math.nan], [1, 2]),
        ([], []),
    ]:
        with subtests.test(first=first, second=second):
            assert math.isnan(spearman(first, second))


def test_sides_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        spearman([1, 2], [1, 2, 3])


def test_development_pairs_need_no_extra() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None; sys.modules['mteb'] = None; sys.modules['sklearn'] = None\n"
        "from searchctl.training.objectives.dev_pairs import spearman; print(spearman([1, 2], [1, 2]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1.0"), done.stderr[-500:]
