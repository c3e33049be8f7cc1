"""What `searchctl eval init` tells of the test set that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from ..training.evaluation.own_collection_folder import TestSet
from .console import Terminal, printable
from .places import shown_path

_EXAMPLES = 3
_PLURAL = {"title": "titles", "heading": "headings", "sentence": "sentences"}


def show_test_set(terminal: Terminal, test_set: TestSet, folder: Path, *, asked: int, hint: str) -> None:
    """Tell what a new test set holds, with a few of its queries."""
    kinds = ", ".join(_counted(kind, count) for kind, count in test_set.kinds.items())
    terminal.say(
        Text.assemble(
            "test set: ",
            (f"{len(test_set.queries):,} queries", "green"),
            f" ({kinds}) on {len(test_set.corpus):,} passages",
        )
    )
    duplicates = f"; {test_set.duplicates:,} duplicate passages left out" if test_set.duplicates else ""
    terminal.say(Text(f"cut out of {len(test_set.cut):,} passages, so that no query stands in any{duplicates}", "dim"))
    if test_set.dropped:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(test_set.dropped.items(), key=lambda item: -item[1])
        )
        terminal.say(Text(f"not used: {reasons}", "dim"))
    if len(test_set.queries) < asked:
        terminal.notice(
            f"{len(test_set.queries):,} queries are all that the collection gives, {asked:,} were asked for"
        )
    terminal.say("for example:")
    for query in _examples(test_set):
        answers = ", ".join(query.answers[:2]) + (" ..." if len(query.answers) > 2 else "")
        terminal.say(Text.assemble((f"  {query.kind:<9} ", "dim"), printable(query.text), (f"  {answers}", "dim")))
    terminal.say(Text.assemble(f"kept in {shown_path(folder)}; measure with ", (f"`{hint}`", "bold")))


def _examples(test_set: TestSet) -> list[Any]:
    """Return three queries, of as many kinds as there are."""
    firsts = [next(query for query in test_set.queries if query.kind == kind) for kind in test_set.kinds]
    others = [query for query in test_set.queries if query not in firsts]
    return (firsts + others)[:_EXAMPLES]


def _counted(kind: str, count: int) -> str:
    return f"{count:,} {kind if count == 1 else _PLURAL.get(kind, kind)}"
