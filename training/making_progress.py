"""How far the making of a test set has come: its steps, and what is done of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")

EVERY = 100
"""Items between two calls: a step goes over as many as a collection has passages."""


class MakingStep(StrEnum):
    """What is done, in order, in words for a person."""

    READ = "reading"
    DISTINCT = "leaving out duplicates"
    FIND = "finding queries"
    LOOK = "looking for their words"
    CHOOSE = "choosing"
    CHECK = "checking the cuts"

    @property
    def counts(self) -> str:
        """What the step counts."""
        return {MakingStep.FIND: "sentences", MakingStep.CHOOSE: "queries"}.get(self, "passages")


MakingTold = Callable[[MakingStep, int, int], None]
"""Told the step, how much of it is done, and of how much."""


def counted(items: Iterable[T], step: MakingStep, of: int, told: MakingTold) -> Iterator[T]:
    """Yield the items and tell every so often how many there were."""
    done = 0
    for done, item in enumerate(items, start=1):
        if done % EVERY == 1:
            told(step, done - 1, of)
        yield item
    told(step, done, of)
