"""The scores of one evaluation side by side: tasks down, models across; and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from ...training.evaluation.measurement import EvalTask, Identity, TaskScore
from ...training.evaluation.result_selection import category_place
from ...training.evaluation.runner import Failed, Pair
from ..errors import explain
from ..terminal.console import printable

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOutcome:
    """What one evaluation gave."""

    folder: Path
    models: tuple[Identity, ...]
    tasks: tuple[EvalTask, ...]
    scores: tuple[TaskScore, ...]
    computed: frozenset[tuple[str, str]]
    """Label and task of the scores that were not there before."""
    not_applicable: tuple[Pair, ...]
    failed: tuple[Failed, ...]
    seconds: float

    @property
    def grid(self) -> dict[tuple[str, str], TaskScore]:
        """The scores by label and task."""
        return {(score.who.label, score.task): score for score in self.scores}

    @property
    def categories(self) -> dict[str, list[EvalTask]]:
        """The tasks by category, both in the order of tables."""
        types = sorted({task.task_type for task in self.tasks}, key=category_place)
        return {kind: [task for task in self.tasks if task.task_type == kind] for kind in types}


def for_equals(outcome: EvalOutcome, same_as: Mapping[str, str]) -> EvalOutcome:
    """Return the outcome with that of each label of `same_as`, which is equal to another's, beside it."""
    equals = {who.label: [who] for who in outcome.models if who.label not in same_as}
    for who in outcome.models:
        if who.label in same_as:
            equals[same_as[who.label]].append(who)

    def pairs(pair: Pair) -> list[Pair]:
        return [replace(pair, label=who.label) for who in equals[pair.label]]

    return replace(
        outcome,
        scores=tuple(replace(score, who=who) for score in outcome.scores for who in equals[score.who.label]),
        computed=frozenset((who.label, task) for label, task in outcome.computed for who in equals[label]),
        not_applicable=tuple(more for pair in outcome.not_applicable for more in pairs(pair)),
        failed=tuple(replace(event, pair=more) for event in outcome.failed for more in pairs(event.pair)),
    )


def score_table(outcome: EvalOutcome) -> Table:
    """Return the table: scores times 100, the best of a row in bold, means over what a model has done in full."""
    labels = [who.label for who in outcome.models]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task")
    for label in labels:
        table.add_column(Text(printable(label)), justify="right", overflow="fold")
    grid, failed = outcome.grid, {(event.pair.label, event.pair.task) for event in outcome.failed}
    for kind, tasks in outcome.categories.items():
        metrics = {score.metric for score in outcome.scores if score.task_type == kind}
        heading = Text.assemble(kind, (f"  {metrics.pop()}" if len(metrics) == 1 else "", "dim"))
        table.add_row(heading, *[""] * len(labels))
        for task in tasks:
            values = [grid[label, task.name].score if (label, task.name) in grid else None for label in labels]
            blanks = ["failed" if (label, task.name) in failed else "-" for label in labels]
            table.add_row(Text(f"  {printable(task.name)}"), *_cells(values, blanks))
        if len(tasks) > 1:
            means = mean_scores(outcome, tasks)
            table.add_row("  mean", *_cells([means[label] for label in labels]), style="italic")
    if len(outcome.categories) > 1:
        means = mean_scores(outcome, outcome.tasks)
        table.add_row(f"mean of {len(outcome.tasks)}", *_cells([means[label] for label in labels]), style="italic")
    return table


def mean_scores(outcome: EvalOutcome, tasks: Sequence[EvalTask]) -> dict[str, float | None]:
    """Return by label the mean over `tasks`, None for a model that lacks one: its mean would be of other tasks."""
    grid = outcome.grid
    means: dict[str, float | None] = {}
    for who in outcome.models:
        values = [grid[who.label, task.name].score for task in tasks if (who.label, task.name) in grid]
        means[who.label] = fmean(values) if len(values) == len(tasks) else None
    return means


def _cells(values: Sequence[float | None], blanks: Sequence[str] | None = None) -> list[Text]:
    """Return a row as printed: equal printed scores are equally good, and one model alone is not the best."""
    shown = [None if value is None else f"{value * 100:.1f}" for value in values]
    best = max((value for value in values if value is not None), default=None)
    marked = None if best is None or len(values) < 2 else f"{best * 100:.1f}"
    cells = []
    for position, text in enumerate(shown):
        if text is None:
            blank = blanks[position] if blanks else "-"
            cells.append(Text(blank, style="red" if blank == "failed" else "dim"))
        else:
            cells.append(Text(text, style="bold" if text == marked else ""))
    return cells


def outcome_to_json(outcome: EvalOutcome) -> dict[str, Any]:
    """Return the JSON document: scores 0 to 1 with all their numbers, who was measured, and what is missing."""
    return {
        "schema": SCHEMA,
        "results": str(outcome.folder),
        "complete": not outcome.failed,
        "seconds": round(outcome.seconds, 3),
        "models": [asdict(who) for who in outcome.models],
        "tasks": [{"task": t.name, "task_type": t.task_type, "data": t.data} for t in outcome.tasks],
        "scores": [_score(outcome, score) for score in outcome.scores],
        "means": {kind: mean_scores(outcome, tasks) for kind, tasks in outcome.categories.items()}
        | {"all": mean_scores(outcome, outcome.tasks)},
        "not_applicable": [{"model": pair.label, "task": pair.task} for pair in outcome.not_applicable],
        "failed": [_failure(event) for event in outcome.failed],
    }


def _score(outcome: EvalOutcome, score: TaskScore) -> Mapping[str, Any]:
    entry = asdict(score)
    del entry["who"]
    computed = (score.who.label, score.task) in outcome.computed
    return {"model": score.who.label, **entry, "reused": not computed}


def _failure(event: Failed) -> Mapping[str, Any]:
    failure = explain(event.error)
    return {
        "model": event.pair.label,
        "task": event.pair.task,
        "error": failure.error,
        "type": failure.type,
        "hint": failure.hint,
    }
