"""What `evaluate` tells while it works: plans, beginnings, progress, scores, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .measurement import Pulse, TaskScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One contender on one task, the `number`-th (from 1) of `total`."""

    label: str
    task: str
    task_type: str
    number: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done, told once and before anything else."""

    total: int
    """Pairs in all."""
    todo: Mapping[int, int | None]
    """Of each pair that must be computed, by its number: the size of its data in bytes, None when not known (hub).
    0 where a pair before it leaves the work (`worker`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Work on a pair begins: its data are read, then the contender is loaded."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How far an `encode` call of the pair has come; a task may have several."""

    pair: Pair
    pulse: Pulse


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The pair has its score, and it is on disk."""

    pair: Pair
    score: TaskScore
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """The contender cannot do tasks of this type."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The pair has no score; the others go on."""

    pair: Pair
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Another process is at work on the pair in the same folder of results."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something a library warned of."""

    message: str


EvalEvent = Planned | Begun | Encoding | Scored | NotApplicable | Failed | Waiting | Remark
Told = Callable[[EvalEvent], None]
