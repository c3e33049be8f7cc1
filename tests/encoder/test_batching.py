"""Batches by token budget, and halving when memory runs out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchctl.encoder.batching import plan_batches, run_halving
from searchctl.encoder.errors import EncoderError


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_every_text_once_within_the_budget_longest_first(lengths: list[int], budget: int) -> None:
    batches = list(plan_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert longest * len(batch) <= budget or len(batch) == 1
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(order, reverse=True)


def test_out_of_memory_halves_and_goes_on() -> None:
    done: list[list[int]] = []
    halves: list[int] = []

    def forward(batch: list[int]) -> None:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(batch)

    run_halving([1, 2, 3, 4, 5], forward, halved=halves.append)
    assert done == [[1, 2], [3], [4, 5]] or [i for batch in done for i in batch] == [1, 2, 3, 4, 5]
    assert halves == [2, 1]


def test_the_cpu_allocator_counts_as_out_of_memory() -> None:
    calls: list[int] = []

    def forward(batch: list[int]) -> None:
        calls.append(len(batch))
        if len(batch) == 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")

    run_halving([0, 1], forward, halved=lambda _: None)
    assert calls == [2, 1, 1]


def test_one_text_too_large_is_an_error_with_advice() -> None:
    def forward(_batch: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EncoderError, match="--max-tokens"):
        run_halving([0], forward, halved=lambda _: None)


def test_another_error_is_not_swallowed() -> None:
    def forward(_batch: list[int]) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_halving([0, 1], forward, halved=lambda _: None)
