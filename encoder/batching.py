"""Batches by token budget over texts sorted by length, with halving when memory runs out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import EncoderError


def plan_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield lists of positions, longest texts first, each list at most `budget` tokens when padded to its longest.

    Longest first, so that a batch that does not fit in memory is met at once. Equal lengths keep their order. A text
    longer than the budget is a batch by itself.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def plan_equal_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield lists of positions of texts with the same number of tokens, longest first, each list within `budget`."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[position]
        if batch and (lengths[batch[0]] != length or length * (len(batch) + 1) > budget):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether this is a GPU's or the CPU allocator's out-of-memory error."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("can't allocate memory", "not enough memory", "DefaultCPUAllocator"))
    )


def run_halving(batch: list[int], forward: Callable[[list[int]], None], *, halved: Callable[[int], None]) -> None:
    """Run `forward` over `batch`, in halves when memory runs out; `halved` gets the new number of texts.

    Raises EncoderError when a single text does not fit.
    """
    pending = [batch]
    while pending:
        part = pending.pop()
        failed = False
        try:
            forward(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = True
        # Outside of the except block: the traceback would keep the failed batch's tensors alive.
        if not failed:
            continue
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(part) == 1:
            raise EncoderError(
                "out of memory on a single text: use a smaller --max-tokens, --precision bf16, or --device cpu."
            )
        middle = len(part) // 2
        pending += [part[middle:], part[:middle]]
        halved(middle)
