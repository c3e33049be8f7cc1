"""How far a long computation has come, and how it is spread over cores without changing its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

T = TypeVar("T")
R = TypeVar("R")

MAX_WORKERS = 4
"""Threads at work at once: each holds a block of cosines, and from here on memory is slower than they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """One step of a longer run; the last event of a step has done == total."""

    step: str
    """What is being done, in a person's words, e.g. "comparing"."""
    done: int
    total: int


ProgressCallback = Callable[[StepProgress], None]


def ignore_progress(_event: StepProgress) -> None:
    """Do nothing: for callers without a display."""


@contextmanager
def one_thread() -> Iterator[int]:
    """Keep every loaded BLAS and OpenMP library to one thread, and give the number of threads they had.

    How a matrix product is split over threads decides the last bit of its sums, and a bit decides a tie: with one
    thread per product, the same seed gives the same clusters on 2 cores and on 64. The cores are used by `each`
    instead. Libraries that are loaded later are not covered, so import first.
    """
    threads = max((int(library["num_threads"]) for library in threadpool_info()), default=1)
    with threadpool_limits(limits=1):
        yield threads


def each(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Yield function(item) for each item, in order, computed in up to `workers` threads, MAX_WORKERS at most.

    Call it inside one_thread(). At most twice as many results as workers are held at once.
    """
    workers = min(workers, MAX_WORKERS)
    if workers < 2:
        yield from map(function, items)
        return
    waiting = []
    with ThreadPoolExecutor(workers, initializer=_one_openmp_thread) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _one_openmp_thread() -> None:
    # OpenMP keeps its number of threads per calling thread: a new one starts with the default.
    threadpool_limits(limits=1, user_api="openmp")
