"""Pooling against sums written by hand."""

import torch

from searchctl.encoder.config import Pooling
from searchctl.encoder.pooling import pool, span_mask

STATES = torch.tensor(
    [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [9.0, 9.0]], [[2.0, 0.0], [4.0, 0.0], [7.0, 7.0], [8.0, 8.0]]]
)
SPANS = torch.tensor([[1, 3], [0, 2]])


def test_span_mask_is_half_open() -> None:
    assert span_mask(SPANS, 4).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]


def test_mean_takes_the_span_alone() -> None:
    assert pool(STATES, SPANS, Pooling.MEAN).tolist() == [[4.0, 5.0], [3.0, 0.0]]


def test_weighted_mean_weights_by_position_in_the_span() -> None:
    expected = [[(3 + 2 * 5) / 3, (4 + 2 * 6) / 3], [(2 + 2 * 4) / 3, 0.0]]
    assert torch.allclose(pool(STATES, SPANS, Pooling.WEIGHTED_MEAN), torch.tensor(expected))


def test_last_and_first() -> None:
    assert pool(STATES, SPANS, Pooling.LAST).tolist() == [[5.0, 6.0], [4.0, 0.0]]
    assert pool(STATES, SPANS, Pooling.FIRST).tolist() == [[1.0, 2.0], [2.0, 0.0]]


def test_nan_in_padding_does_not_reach_the_vector() -> None:
    states = STATES.clone()
    states[:, 3] = torch.nan
    assert pool(states, SPANS, Pooling.MEAN).tolist() == [[4.0, 5.0], [3.0, 0.0]]


def test_bf16_states_are_summed_in_fp32() -> None:
    states = torch.full((1, 4096, 1), 1.001, dtype=torch.bfloat16)
    pooled = pool(states, torch.tensor([[0, 4096]]), Pooling.MEAN)
    assert pooled.dtype is torch.float32
    assert abs(float(pooled) - float(states[0, 0, 0])) < 1e-5
