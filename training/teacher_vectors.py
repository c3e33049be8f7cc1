"""A teacher's vectors, kept in memory up to a limit, and the same bits whatever was kept.

The last bits of a vector depend on the texts that are encoded with it, and a resumed run must see the bits that the
unbroken one saw. So a row that may be kept is always encoded with the rows beside it in its first epoch, whenever that
happens, and any other row with those of its step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .corpus import order
from .drawing import BatchPlan

LIMIT_BYTES = 512 * 2**20
"""It decides which rows are encoded together, so another one gives other last bits."""

Encode = Callable[[int, Sequence[int]], NDArray[np.float32]]
"""From a source and some of its rows to their vectors, float32 (rows, sides, width)."""
_Home = tuple[int, int, int, int]
"""Source, turn in its first epoch, process, and number of the block within that process's share."""


class TeacherVectors:
    """The vectors of each step, for any of the processes that share it."""

    def __init__(
        self,
        encode: Encode,
        plan: BatchPlan,
        *,
        processes: int,
        block: int,
        row_bytes: int,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """`block` rows are encoded together; the vectors of one row, all its sides, take `row_bytes`."""
        self._encode, self._plan, self._processes, self._block = encode, plan, processes, block
        self._kept: dict[_Home, NDArray[np.float32]] = {}
        self._places: dict[int, NDArray[np.int64]] = {}
        self._to_keep = _turns_to_keep(plan, limit_bytes // (plan.batch * row_bytes))

    def of(self, step: int, rank: int) -> NDArray[np.float32]:
        """Return float32 (rows, sides, width) of the rows that process `rank` takes in `step`, in their order."""
        source = int(self._plan.sources[step])
        rows = self._plan.rows(step)[rank :: self._processes]
        homes = [self._home(source, row) for row in rows]
        loose = iter(self._loose(source, [row for row, home in zip(rows, homes, strict=True) if home is None]))
        return np.stack([next(loose) if home is None else self._at(*home) for home in homes])

    def _home(self, source: int, row: int) -> tuple[_Home, int] | None:
        """Return the block in which the row's first epoch has it and its place in it; None if it is not to be kept."""
        if source not in self._places:
            self._places[source] = np.argsort(order(self._plan.counts[source], self._plan.seed, 0))
        turn, at = divmod(int(self._places[source][row]), self._plan.batch)
        if (source, turn) not in self._to_keep:
            return None
        nth, rank = divmod(at, self._processes)
        block, place = divmod(nth, self._block)
        return (source, turn, rank, block), place

    def _at(self, home: _Home, place: int) -> NDArray[np.float32]:
        if home not in self._kept:
            source, turn, rank, block = home
            size, batch = self._block, self._plan.batch
            rows = order(self._plan.counts[source], self._plan.seed, 0)[turn * batch : (turn + 1) * batch]
            share = rows[rank :: self._processes][block * size : (block + 1) * size]
            self._kept[home] = self._encode(source, [int(row) for row in share])
        vectors: NDArray[np.float32] = self._kept[home][place]
        return vectors

    def _loose(self, source: int, rows: Sequence[int]) -> list[NDArray[np.float32]]:
        parts = [self._encode(source, rows[at : at + self._block]) for at in range(0, len(rows), self._block)]
        return [vectors for part in parts for vectors in part]


def _turns_to_keep(plan: BatchPlan, room: int) -> frozenset[tuple[int, int]]:
    """Return the first `room` batches of the sources that come to a second epoch: source and turn."""
    epoch = {source: count // plan.batch for source, count in enumerate(plan.counts)}
    drawn = [(int(source), int(turn)) for source, turn in zip(plan.sources, plan.turns, strict=True)]
    again = {source for source, turn in drawn if turn >= epoch[source]}
    firsts = [(source, turn) for source, turn in drawn if source in again and turn < epoch[source]]
    return frozenset(firsts[:room])
