"""Several processes training one model: each embeds its share of the batch, all see every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import TrainingError
from .trainable import Trainable


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which of how many processes this is; without torch.distributed the first of one."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Return this process's place in the group that `torchrun` made, once it is initialised."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(rank=dist.get_rank(), count=dist.get_world_size())

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, size: int, what: str) -> int:
        """Return how many of `size` are this process's. Raises TrainingError when they cannot be shared evenly."""
        if size % self.count:
            raise TrainingError(f"{what} is {size}: expected a multiple of the {self.count} processes")
        return size // self.count


def gather(local_ND: Tensor, ranks: Ranks) -> Tensor:
    """Return the rows of all processes, in the order of their ranks, with gradients that flow back to each.

    Every process must give the same shape. The gradient of a row is the sum of what all processes' losses want of it.
    """
    if ranks.count == 1:
        return local_ND
    gathered: Tensor = _Gather.apply(local_ND, ranks)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_ND: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(local_ND) for _ in range(ranks.count)]
        dist.all_gather(parts, local_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return whole.chunk(ctx.ranks.count)[ctx.ranks.rank], None


def average_gradients(trainable: Trainable, ranks: Ranks) -> None:
    """Replace each gradient by its mean over the processes, in one exchange."""
    if ranks.count == 1:
        return
    values = [value for _, value in trainable.parameters()]
    for value in values:
        if value.grad is None:
            value.grad = torch.zeros_like(value)
    grads = [value.grad for value in values if value.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= ranks.count
    for grad, part in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.reshape(grad.shape))


def agree(stop: bool, ranks: Ranks) -> bool:
    """Return whether any process wants to stop: all end after the same step, or the others would wait for ever."""
    if ranks.count == 1:
        return stop
    wish = torch.tensor([float(stop)])
    dist.all_reduce(wish)
    return bool(wish.item() > 0)


def add_up(values: Sequence[float], ranks: Ranks) -> list[float]:
    """Return each value summed over the processes."""
    if ranks.count == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return [float(value) for value in summed]


def broadcast(values: Sequence[Tensor], ranks: Ranks) -> None:
    """Give all processes the first one's values, in place."""
    if ranks.count > 1:
        for value in values:
            dist.broadcast(value.data, src=0)


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
