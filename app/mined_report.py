"""What `searchctl train mine` found, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ..training.data.hard_negatives import MiningCounts
from .console import Terminal
from .made_pairs import say_example

if TYPE_CHECKING:
    from ..training.data.hard_negatives import MinedPair

_EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class MinedReport:
    """Counts over the pairs of one file, and a few pairs from its beginning, middle and end to look at."""

    total: int
    counts: MiningCounts = field(default_factory=MiningCounts)
    examples: list[MinedPair] = field(default_factory=list)

    def add(self, mined: MinedPair) -> None:
        """Count one pair, in the order of the file."""
        self.counts.add(mined)
        due = len(self.examples) * self.total // _EXAMPLES
        if self.counts.pairs > due and len(self.examples) < _EXAMPLES and len(mined.pair.negatives) > mined.own:
            self.examples.append(mined)

    def to_json(self) -> dict[str, Any]:
        """Return the counts for the manifest."""
        counts = self.counts
        return {
            "negatives": {"there_before": counts.own, "mined": counts.mined},
            "pairs_by_negatives": {str(number): counts.by_negatives[number] for number in sorted(counts.by_negatives)},
            "rejected_by_margin": {"candidates": counts.rejected, "pairs": counts.with_rejected},
        }

    def show(self, terminal: Terminal) -> None:
        """Tell the counts and the examples."""
        counts = self.counts
        before = f", {counts.own:,} were there before" if counts.own else ""
        terminal.say(Text.assemble("mined: ", (f"{counts.mined:,} negatives", "green"), before))
        spread = ", ".join(f"{number}: {counts.by_negatives[number]:,}" for number in sorted(counts.by_negatives))
        terminal.say(f"pairs by negatives   {spread}")
        terminal.say(
            f"left out by margin   {counts.rejected:,} candidates of {counts.with_rejected:,} pairs, which may answer "
            "the query too"
        )
        if without := counts.by_negatives[0]:
            terminal.notice(
                f"{without:,} of {counts.pairs:,} pairs have no negative: they are kept, and meet those of others"
            )
        if self.examples:
            terminal.say("for example:")
        for mined in self.examples:
            negative, score = mined.pair.negatives[mined.own], mined.found.scores[0]
            say_example(
                terminal,
                (
                    ("query", mined.pair.query),
                    (f"+ {mined.found.positive:.3g}", mined.pair.positive),
                    (f"- {score:.3g}", negative),
                ),
            )
