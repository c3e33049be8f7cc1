"""The processes that torchrun starts: joined where there are any, and named in the commands that a person is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import AppError

if TYPE_CHECKING:
    from ...training.distributed import Ranks


_GIVEN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process besides WORLD_SIZE."""


@contextmanager
def joined_processes() -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did. Raises AppError for WORLD_SIZE without the rest."""
    from ...training.distributed import Ranks

    if _count(os.environ, "WORLD_SIZE") < 2:
        yield Ranks()
        return
    missing = [name for name in _GIVEN if not os.environ.get(name)]
    if missing:
        raise AppError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, without {', '.join(missing)}: several processes are started "
            "by `torchrun --nproc-per-node N -m searchctl train ...`; for one process unset WORLD_SIZE"
        )
    import torch

    on_gpus = torch.cuda.is_available()
    if on_gpus:
        # Before the group is made, or every process would take the first GPU.
        torch.cuda.set_device(_count(os.environ, "LOCAL_RANK"))
    # gloo too: what the processes agree on are numbers on the CPU, which nccl does not carry.
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield Ranks.current()
    finally:
        torch.distributed.destroy_process_group()


def command_words(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the command that `words` after the program's name were typed as: under torchrun, torchrun's."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ["searchctl", *words]
    count = _count(environment, "WORLD_SIZE")
    here = _count(environment, "LOCAL_WORLD_SIZE", count)
    nodes = ["--nnodes", str(count // here)] if count > here else []
    return ["torchrun", *nodes, "--nproc-per-node", str(here), "-m", "searchctl", *words]


def _count(environment: Mapping[str, str], name: str, default: int = 1) -> int:
    given = environment.get(name, str(default))
    if not given.isdecimal():
        raise AppError(f"{name} is {given!r} in the environment: expected a whole number, as torchrun sets it")
    return int(given)
