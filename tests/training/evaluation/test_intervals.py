"""Bootstrap intervals against scipy, against the truth of simulations, and on inputs that do not fit."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.intervals import Interval, difference_interval, interval, resample, score_interval
from searchctl.training.evaluation.measurement import Samples


def mean_of(values: np.ndarray | list[float], ids: list[str] | None = None) -> Samples:
    return Samples(
        kind="mean",
        ids=tuple(ids if ids is not None else map(str, range(len(values)))),
        values=tuple(map(float, values)),
    )


def ranks_of(values: np.ndarray | list[float], gold: np.ndarray | list[float]) -> Samples:
    return Samples(
        kind="spearman",
        ids=tuple(map(str, range(len(values)))),
        values=tuple(map(float, values)),
        gold=tuple(map(float, gold)),
    )


def rows(items: int, resamples: int, seed: int) -> np.ndarray:
    """The items of each resample, one block, as the product resampled them."""
    return np.random.default_rng(seed).integers(items, size=(resamples, items))


def test_draws_of_a_mean_are_the_means_of_the_drawn_items() -> None:
    values = np.random.default_rng(1).random(40)
    resampled = resample([mean_of(values)], resamples=25, seed=7)
    np.testing.assert_allclose(resampled[0], values[rows(40, 25, 7)].mean(axis=1), rtol=1e-12)


def test_draws_of_a_rank_correlation_are_those_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 6, 50) / 5  # many ties
    values = np.round(gold + rng.normal(0, 0.4, 50), 1)  # some ties
    resampled = resample([ranks_of(values, gold)], resamples=25, seed=7)
    expected = [spearmanr(values[row], gold[row])[0] for row in rows(50, 25, 7)]
    np.testing.assert_allclose(resampled[0], expected, rtol=1e-12)


def test_the_interval_holds_the_middle_of_the_draws() -> None:
    found = interval(np.arange(101.0)[::-1])
    assert (2.5, 97.5) == (pytest.approx(found.low), pytest.approx(found.high))


def test_items_are_matched_by_id() -> None:
    ids = [f"q{number}" for number in range(30)]
    values = np.random.default_rng(3).random(30)
    turned = mean_of(values[::-1], ids[::-1])
    assert Interval(low=0.0, high=0.0) == difference_interval(turned, mean_of(values, ids))


def test_a_constant_gain_has_an_interval_of_no_width() -> None:
    values = np.arange(16) / 16  # exact in binary
    found = difference_interval(mean_of(values + 0.25), mean_of(values))
    assert Interval(low=0.25, high=0.25) == found
    assert found.excludes_zero
    assert not Interval(low=-0.1, high=0.0).excludes_zero
    assert Interval(low=-0.2, high=-0.1).excludes_zero


def test_equal_models_differ_by_exactly_nothing(subtests: pytest.Subtests) -> None:
    for kind in ["mean", "spearman"]:
        with subtests.test(kind=kind):
            rng = np.random.default_rng(4)
            values, gold = rng.random(333), rng.random(333)
            one = mean_of(values) if kind == "mean" else ranks_of(values, gold)
            resampled = resample([one, one, one], resamples=500)
            assert (resampled[0] == resampled[1]).all() and (resampled[0] == resampled[2]).all()
            assert Interval(low=0.0, high=0.0) == difference_interval(one, one, resamples=500)


def test_a_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    one = mean_of(np.random.default_rng(5).random(100))
    assert score_interval(one) == score_interval(one)
    assert score_interval(one) != score_interval(one, seed=1)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    one = mean_of(np.random.default_rng(6).random(37))
    whole = resample([one], resamples=50)
    monkeypatch.setattr("searchctl.training.evaluation.intervals._BLOCK_CELLS", 37 * 8)
    np.testing.assert_array_equal(whole, resample([one], resamples=50))


def test_intervals_of_a_mean_hold_the_truth_in_about_95_of_100_trials() -> None:
    """Scores of queries lie in [0, 1] with heaps at both ends: beta(.5, .4), whose mean is 5/9."""
    rng = np.random.default_rng(8)
    held = 0
    for trial in range(400):
        found = score_interval(mean_of(rng.beta(0.5, 0.4, 80)), resamples=800, seed=trial)
        held += found.low <= 5 / 9 <= found.high
    # Binomial with p = .95: 380 +- 3 standard deviations of 4.4; percentile intervals are a little narrow.
    assert 362 <= held <= 394


def test_paired_intervals_hold_the_true_difference_and_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(9)
    held, narrower = 0, 0
    for trial in range(200):
        hardness = rng.normal(0, 1, 60)
        better = mean_of(hardness + 0.3 + rng.normal(0, 0.2, 60))
        worse = mean_of(hardness + rng.normal(0, 0.2, 60))
        found = difference_interval(better, worse, resamples=800, seed=trial)
        held += found.low <= 0.3 <= found.high
        alone = score_interval(better, resamples=200, seed=trial)
        narrower += found.high - found.low < alone.high - alone.low
    assert 178 <= held <= 199
    assert 200 == narrower


def test_intervals_of_a_rank_correlation_hold_the_truth() -> None:
    """For a bivariate normal of correlation r Spearman's is 6/pi asin(r/2) (Kendall and Gibbons 1990)."""
    rng = np.random.default_rng(10)
    truth = 6 / np.pi * np.arcsin(0.8 / 2)
    held = 0
    for trial in range(200):
        gold = rng.normal(size=150)
        found = score_interval(ranks_of(0.8 * gold + 0.6 * rng.normal(size=150), gold), resamples=400, seed=trial)
        held += found.low <= truth <= found.high
    assert 178 <= held <= 199


@pytest.mark.slow
def test_real_sizes_take_seconds() -> None:
    rng = np.random.default_rng(11)
    began = time.perf_counter()
    resample([mean_of(rng.random(300)) for _ in range(4)])
    gold = rng.random(1379)
    resampled = resample([ranks_of(rng.random(1379), gold) for _ in range(4)])
    assert (4, 2000) == resampled.shape
    assert time.perf_counter() - began < 10


def test_models_that_do_not_fit_are_an_error(subtests: pytest.Subtests) -> None:
    for model, message in [
        (mean_of([0.1, 0.2], ["a", "c"]), "2 items are in one model's results only, e.g. 'b'"),
        (mean_of([0.1, 0.2], ["a", "a"]), "1 ids of items occur twice"),
        (ranks_of([0.1, 0.2], [1, 2]), "kind mean and spearman"),
    ]:
        with subtests.test(model=model, message=message), pytest.raises(EvaluationError, match=message):
            difference_interval(model, mean_of([0.3, 0.4], ["a", "b"]))


def test_other_gold_scores_are_an_error() -> None:
    with pytest.raises(EvaluationError, match="gold scores of two models differ"):
        difference_interval(ranks_of([1, 2, 3], [1, 2, 4]), ranks_of([1, 2, 3], [1, 2, 3]))


def test_too_little_to_resample_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="1 items: expected at least 2"):
        score_interval(mean_of([0.5]))
    with pytest.raises(EvaluationError, match="no rank correlation"):
        score_interval(ranks_of([0.1, 0.2, 0.3], [0, 0, 1]))
