"""Whether there are data enough for a batch of a contrastive stage: asked before the first step, and by each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..data.corpus import PairSource
from ..data.json_lines import shown
from ..errors import TrainingError
from ..recipe import Stage

LEAST_BATCH = 2
"""The others of a batch are the negatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What a stage samples its batches from, each batch from one source."""

    kind: str
    """What is counted, in the plural."""
    counts: Mapping[str, int]
    """By source, what is held out not among them."""
    unseen: int
    """Sources, of plain texts texts, that have enough held out to be scored."""
    least_unseen: int = 1

    @property
    def least(self) -> int:
        """The largest batch that every source can fill; 0 without a source."""
        return min(self.counts.values(), default=0)


def largest_batch(least: int, processes: int) -> int | None:
    """Return the largest batch of at most `least` that the processes can share, None when that is no batch."""
    size = least // processes * processes
    return size if size >= LEAST_BATCH else None


def require_supply(stage: Stage, batch: int, supply: Supply, processes: int = 1) -> None:
    """Raise TrainingError with the value to set unless every source fills a batch and something is held out."""
    if not supply.counts:
        raise TrainingError(
            f"{stage}: no source of {supply.kind} has a weight above 0: expected one in [supervised.sources.NAME] of "
            "the recipe"
        )
    small = {name: count for name, count in supply.counts.items() if count < batch}
    if small:
        named = ", ".join(f"{name} ({count:,})" for name, count in small.items())
        most = largest_batch(min(small.values()), processes)
        lower = "" if most is None else f"set {stage}.batch to {most} or less in the recipe, or "
        apart = ", or leave a source out with weight = 0" if len(small) < len(supply.counts) else ""
        raise TrainingError(
            f"{stage}: a step takes {batch:,} {supply.kind} of one source ({stage}.batch), and after what is held out "
            f"there are fewer in {named}: {lower}give more {supply.kind}{apart}"
        )
    if supply.unseen < supply.least_unseen:
        raise TrainingError(
            f"{stage}: too little can be held out of the {supply.kind} to score what is learnt: give more that differ"
        )


def text_supply(seen: int, unseen: int) -> Supply:
    """Return the supply of a stage that reads plain texts."""
    return Supply(kind="texts", counts={"texts": seen}, unseen=unseen, least_unseen=2)


def source_supply(kind: str, counts: Mapping[str, int], unseen: Iterable[int]) -> Supply:
    """Return the supply of a stage that reads several sources; `unseen` are the held-out rows of each."""
    return Supply(kind=kind, counts=counts, unseen=sum(count > 1 for count in unseen))


def require_negatives(sources: Iterable[PairSource], hard_negatives: int) -> None:
    """Raise TrainingError naming the source unless each source has something to tell a positive from.

    The rows of one query are no negatives of each other, nor are those of one positive. Where a source has no more
    than one of either, the loss of its batches is 0: only hard negatives of its own, `hard_negatives` of them to a
    pair, teach anything.
    """
    for source in sources:
        if hard_negatives and any(pair.negatives for pair in source.pairs):
            continue
        sides = {"query": {pair.query for pair in source.pairs}, "positive": {pair.positive for pair in source.pairs}}
        one = next((side for side, texts in sides.items() if len(texts) == 1), None)
        if one is not None:
            raise TrainingError(
                f"supervised: after what is held out, all {len(source.pairs):,} pairs of {source.name} have the same "
                f"{one}, {shown(min(sides[one]))}, so none is a negative of another and nothing is learnt: give pairs "
                "that differ, give them hard negatives, or leave the source out with weight = 0"
            )
