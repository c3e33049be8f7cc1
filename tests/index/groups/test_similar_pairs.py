"""The scan for similar pairs against brute force, at every threshold."""

import numpy as np
import pytest

from searchctl.index.errors import IndexRoomError
from searchctl.index.groups import similar_pairs as module
from searchctl.index.groups.similar_pairs import TooManyPairsError, pair_cosines, similar_pairs

DIM = 24


def units(count: int, *, seed: int, centres: int = 40, spread: float = 0.6) -> np.ndarray:
    """Return unit rows around a few centres: cosines over the whole range, many of them close."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, DIM))
    rows = middle[random.integers(0, centres, count)] + spread * random.normal(size=(count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def brute(left: np.ndarray, right: np.ndarray | None = None) -> dict[tuple[int, int], np.float32]:
    """Return the cosine of every pair, each computed by itself."""
    other = left if right is None else right
    return {
        (a, b): np.float32(np.dot(left[a].astype(np.float64), other[b].astype(np.float64)))
        for a in range(len(left))
        for b in range(a + 1 if right is None else 0, len(other))
    }


def found(pairs: module.SimilarPairs) -> dict[tuple[int, int], np.float32]:
    rows = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(zip(rows, pairs.cosines, strict=True))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make three hundred rows many blocks."""
    monkeypatch.setattr(module, "_BLOCK", 37)


def test_every_pair_at_or_above_the_floor_is_there_with_its_exact_cosine(subtests: pytest.Subtests) -> None:
    for floor in [-1.0, 0.0, 0.35, 0.7, 0.9, 0.99]:
        with subtests.test(floor=floor):
            vectors = units(300, seed=1)
            expected = {pair: cosine for pair, cosine in brute(vectors).items() if cosine >= np.float32(floor)}
            assert expected == found(similar_pairs(vectors, floor=floor))


def test_a_floor_that_is_some_pairs_own_cosine_takes_that_pair() -> None:
    """Products in float32 are off in the last bits: without a margin some pair falls below its own cosine."""
    vectors = units(70, seed=2)
    expected = brute(vectors)
    for pair, cosine in list(expected.items())[::5]:
        assert pair in found(similar_pairs(vectors, floor=float(cosine)))
    middle = float(sorted(expected.values())[len(expected) // 2])
    assert {pair for pair, value in expected.items() if value >= np.float32(middle)} == set(
        found(similar_pairs(vectors, floor=middle))
    )


def test_pairs_of_two_sets_are_those_across() -> None:
    left, right = units(150, seed=3), units(90, seed=4)
    expected = {pair: cosine for pair, cosine in brute(left, right).items() if cosine >= np.float32(0.4)}
    assert expected == found(similar_pairs(left, floor=0.4, other=right))


def test_the_histogram_counts_every_pair() -> None:
    vectors = units(200, seed=5)
    values = np.array(list(brute(vectors).values()))
    edges = np.linspace(-1, 1, 201)
    pairs = similar_pairs(vectors, floor=0.5)
    assert len(values) == pairs.histogram.sum()
    expected, _ = np.histogram(values, edges)
    assert np.abs(np.cumsum(expected) - np.cumsum(pairs.histogram)).max() <= 1  # a cosine may lie on an edge
    assert expected[150:].sum() == pairs.histogram[150:].sum() == len(pairs.first)


def test_too_many_pairs_raise_the_floor_to_a_hundredth_and_no_further() -> None:
    vectors = units(200, seed=6)
    every = brute(vectors)
    pairs = similar_pairs(vectors, floor=0.0, most=500)
    assert pairs.floor > 0.0
    assert round(pairs.floor * 100) == pytest.approx(pairs.floor * 100)
    assert {pair: cosine for pair, cosine in every.items() if cosine >= np.float32(pairs.floor)} == found(pairs)
    assert len(pairs.first) <= 500
    assert sum(cosine >= np.float32(pairs.floor - 0.01) for cosine in every.values()) > 500


def test_vectors_that_are_all_one_cannot_be_told_apart() -> None:
    vectors = np.repeat(units(1, seed=7), 60, axis=0)
    assert 60 * 59 // 2 == len(similar_pairs(vectors, floor=0.9).first)
    with pytest.raises(TooManyPairsError, match="more than 100 pairs"):
        similar_pairs(vectors, floor=0.9, most=100)


def test_nothing_to_compare_is_no_pair(subtests: pytest.Subtests) -> None:
    for count in [0, 1]:
        with subtests.test(count=count):
            pairs = similar_pairs(units(count, seed=8), floor=0.5)
            assert [] == pairs.first.tolist()
            assert 0 == pairs.histogram.sum()


def test_vectors_that_are_no_unit_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has norm 2"):
        similar_pairs(units(3, seed=9) * np.array([[1], [2], [1]], dtype=np.float32), floor=0.5)


def test_a_gpu_that_is_not_there_is_said() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(IndexRoomError, match="finds no GPU"):
        similar_pairs(units(3, seed=9), floor=0.5, device="cuda")


def test_the_products_of_a_gpu_are_looked_at_like_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code with torch's own CPU in the GPU's place: blocks, order and symmetry."""
    monkeypatch.setattr(module, "_use_gpu", lambda device, count: device != "auto")
    monkeypatch.setattr(module, "_GPU_BLOCK", 41)
    vectors = units(130, seed=10)
    for other in (None, units(70, seed=11)):
        here = similar_pairs(vectors, floor=0.3, other=other)
        there = similar_pairs(vectors, floor=0.3, other=other, device="cpu")
        assert found(here) == found(there)
        assert here.histogram[130:].tolist() == there.histogram[130:].tolist()


def test_progress_ends_with_all_pairs() -> None:
    told: list[tuple[int, int]] = []
    similar_pairs(units(100, seed=12), floor=0.5, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4950, 4950)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_cosines_of_single_pairs_are_the_same_numbers() -> None:
    vectors = units(80, seed=13)
    pairs = similar_pairs(vectors, floor=0.2)
    assert pairs.cosines.tolist() == pair_cosines(vectors, pairs.first, pairs.second).tolist()


def test_pairs_of_one_text_are_left_out_before_they_count() -> None:
    vectors = np.repeat(units(2, seed=14), [80, 3], axis=0)
    texts = np.repeat([0, 1], [80, 3])
    texts[-1] = 2
    pairs = similar_pairs(vectors, floor=0.9, texts=(texts, texts), most=100)
    assert [(80, 82), (81, 82)] == list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert pairs.histogram.tolist() == similar_pairs(vectors, floor=0.9).histogram.tolist()
    with pytest.raises(TooManyPairsError):
        similar_pairs(vectors, floor=0.9, most=100)
