"""Models beside each other: tasks by models, means of categories, differences to a baseline with intervals.

Every number is on mteb's scale, 0 to 1, and not rounded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..errors import EvaluationError
from .ablation import Ablation, ablations, step_order
from .intervals import SEED, Interval, Resampled, interval, resample
from .measurement import Identity, TaskScore
from .result_selection import Scores, chosen_names, labelled, newest, on_same_data, one_label, same, task_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """EvaluatedModel less baseline."""

    value: float
    interval: Interval | None
    """None without items to resample: only retrieval and STS have them."""

    @property
    def significant(self) -> bool | None:
        """Whether the interval excludes 0; None without one."""
        return None if self.interval is None else self.interval.excludes_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    value: float
    interval: Interval | None
    difference: Difference | None
    """None in the baseline's own column, and where the baseline has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A task, or the mean of several."""

    name: str
    metric: str
    """"" for a mean."""
    tasks: tuple[str, ...]
    """What the values are of: the task itself, or the tasks of the mean."""
    cells: Mapping[str, Cell]
    """By label; a model without a value is not there."""

    @property
    def best(self) -> frozenset[str]:
        """The labels with the highest value; none where there is nothing to be better than."""
        values = {label: cell.value for label, cell in self.cells.items()}
        return frozenset(one for one in values if len(values) > 1 and values[one] == max(values.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The tasks of one category, and their mean over the tasks that all who have any of them have."""

    category: str
    rows: tuple[Row, ...]
    mean: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalCost:
    """What the shown tasks took one model."""

    tasks: int
    texts: int
    tokens: int
    truncated: int
    empty: int
    encode_s: float
    total_s: float
    tokens_per_s: float | None
    """None where nothing was encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    models: Mapping[str, Identity]
    """By label, each label once, in the order to show them."""
    baseline: str
    groups: tuple[Group, ...]
    overall: Row
    """Mean over tasks of those models that have a score in every category."""
    scores: Scores
    costs: Mapping[str, TotalCost]
    ablations: tuple[Ablation, ...]
    notes: tuple[str, ...]
    """What a reader must know: results that do not count, tasks that means leave out, intervals that are missing."""


def compare(
    results: Iterable[TaskScore],
    *,
    baseline: str | None = None,
    models: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> Comparison:
    """Return the newest result of each model on each task, beside each other.

    `models` and `tasks` restrict it, () is all; models are shown in the order given, else our encoders by base
    and step before all others. `baseline` None is the first model shown. Of a task only results on the same data
    as its newest one count. Raises EvaluationError for no result, and for a label or task that has none.
    """
    kept, older = newest(results)
    if not kept:
        raise EvaluationError("there is no result to compare: expected at least one", next_command=("eval", "run"))
    named = labelled(kept)
    chosen = chosen_names(named, models, "model")
    wanted = chosen_names({score.task: score.task for score in kept}, tasks, "task")
    notes = _left_behind([score for score in older if score.task in wanted], {label: named[label] for label in chosen})
    pivot = _pivot(kept, {label: named[label] for label in chosen}, wanted)
    scores = {task: on_same_data(task, row, notes) for task, row in sorted(pivot.items(), key=task_place)}
    present = _present(chosen, scores, notes)
    labels = present if models else step_order(present, named)
    base = one_label(baseline, labels)
    groups, overall = _Rows(labels, base, notes).groups(scores)
    who = {label: named[label] for label in labels}
    steps, more = ablations(who, scores)
    return Comparison(
        models=who,
        baseline=base,
        groups=groups,
        overall=overall,
        scores=scores,
        costs={
            label: _cost(named[label].kind, [row[label] for row in scores.values() if label in row]) for label in labels
        },
        ablations=steps,
        notes=tuple(dict.fromkeys((*notes, *more))),
    )


def mean_over(tasks: Sequence[str], scores: Scores, label: str) -> float:
    """Return the mean score of one model over `tasks`."""
    return fmean(scores[task][label].score for task in tasks)


def shared_tasks(scores: Scores, labels: Iterable[str]) -> tuple[str, ...]:
    """Return the tasks that all `labels` were measured on."""
    wanted = set(labels)
    return tuple(task for task, row in scores.items() if wanted <= row.keys())


def _pivot(
    scores: Sequence[TaskScore], models: Mapping[str, Identity], tasks: Sequence[str]
) -> dict[str, dict[str, TaskScore]]:
    """Return the scores of these models on these tasks by task and label."""
    found: dict[str, dict[str, TaskScore]] = {}
    for score in scores:
        for label, who in models.items():
            if score.task in tasks and same(who, score.who):
                found.setdefault(score.task, {})[label] = score
    return found


def _present(chosen: Sequence[str], scores: Scores, notes: list[str]) -> list[str]:
    """Return who of `chosen` has a score; put into `notes` who has none. Raises EvaluationError when nobody has."""
    present = [label for label in chosen if any(label in row for row in scores.values())]
    if not present:
        raise EvaluationError("none of these models was measured on any of these tasks: expected at least one pair")
    if len(present) < len(chosen):
        absent = ", ".join(label for label in chosen if label not in present)
        notes.append(f"not shown, for lack of a result on these tasks: {absent}")
    return present


def _left_behind(older: Sequence[TaskScore], models: Mapping[str, Identity]) -> list[str]:
    """Return a note on results that newer ones replace."""
    tasks: dict[str, set[str]] = {}
    for score in older:
        for label, who in models.items():
            if same(who, score.who):
                tasks.setdefault(score.task, set()).add(label)
    words = "; ".join(f"{task} ({', '.join(sorted(labels))})" for task, labels in sorted(tasks.items()))
    return [f"other results do not count, only the last of each: {words}"] if words else []


class _Rows:
    """Makes the rows of one comparison: cells with intervals, and means with what they leave out."""

    def __init__(self, labels: Sequence[str], baseline: str, notes: list[str]) -> None:
        self._labels = labels
        self._baseline = baseline
        self._notes = notes
        self._resampled: dict[str, dict[str, Resampled]] = {}

    def groups(self, scores: Scores) -> tuple[tuple[Group, ...], Row]:
        """Return the tasks by category and the mean of all."""
        types = {task: next(iter(row.values())).task_type for task, row in scores.items()}
        rows = {task: self._task(task, row) for task, row in scores.items()}
        groups = []
        for category in dict.fromkeys(types.values()):
            members = tuple(rows[task] for task in rows if types[task] == category)
            who = [label for label in self._labels if any(label in row.cells for row in members)]
            groups.append(Group(category=category, rows=members, mean=self._mean(category, members, who)))
        return tuple(groups), self._overall(groups)

    def _task(self, task: str, row: Mapping[str, TaskScore]) -> Row:
        sampled = [label for label in self._labels if label in row and row[label].samples is not None]
        if sampled:
            # A seed of each task's own: the means of tasks are then of independent samples.
            seed = (SEED, zlib.crc32(task.encode()))
            try:
                resampled = resample([samples for label in sampled if (samples := row[label].samples)], seed=seed)
                self._resampled[task] = dict(zip(sampled, resampled, strict=True))
            except EvaluationError as error:
                self._notes.append(f"{task}: no intervals, since {error}")
        values = {label: row[label].score for label in self._labels if label in row}
        metric = next(iter(row.values())).metric
        return Row(name=task, metric=metric, tasks=(task,), cells=self._cells(values, self._resampled.get(task, {})))

    def _mean(self, name: str, members: Sequence[Row], who: Sequence[str]) -> Row:
        """Return the mean of `who` over the rows that all of them are in."""
        counted = [row for row in members if all(label in row.cells for label in who)] if who else []
        lacking = {row.name: [label for label in who if label not in row.cells] for row in members}
        words = "; ".join(f"{task} ({', '.join(labels)})" for task, labels in lacking.items() if labels)
        if words:
            self._notes.append(f"the mean of {name} leaves out what not all were measured on: {words}")
        tasks = tuple(row.name for row in counted)
        values = {label: fmean(row.cells[label].value for row in counted) for label in who if counted}
        resampled = {
            label: np.mean([self._resampled[task][label] for task in tasks], axis=0)
            for label in values
            if all(label in self._resampled.get(task, {}) for task in tasks) and self._alike(tasks, label)
        }
        return Row(name=name, metric="", tasks=tasks, cells=self._cells(values, resampled))

    def _alike(self, tasks: Sequence[str], label: str) -> bool:
        """Return whether the tasks have as many resamples each: means and rank correlations have not."""
        return len({len(self._resampled[task][label]) for task in tasks}) == 1

    def _overall(self, groups: Sequence[Group]) -> Row:
        who = []
        for label in self._labels:
            lacking = [group.category for group in groups if all(label not in row.cells for row in group.rows)]
            if lacking:
                self._notes.append(f"{label} has no mean over all tasks: not measured on {', '.join(lacking)}")
            else:
                who.append(label)
        return self._mean("all tasks", [row for group in groups for row in group.rows], who)

    def _cells(self, values: Mapping[str, float], resampled: Mapping[str, Resampled]) -> dict[str, Cell]:
        return {
            label: Cell(
                value=value,
                interval=interval(resampled[label]) if label in resampled else None,
                difference=self._difference(label, values, resampled),
            )
            for label, value in values.items()
        }

    def _difference(
        self, label: str, values: Mapping[str, float], resampled: Mapping[str, Resampled]
    ) -> Difference | None:
        base = self._baseline
        if label == base or base not in values:
            return None
        paired = label in resampled and base in resampled
        return Difference(
            value=values[label] - values[base],
            interval=interval(resampled[label] - resampled[base]) if paired else None,
        )


def encoding_speed(kind: str, tokens: int, encode_s: float) -> float | None:
    """Return tokens per second; None where nothing was encoded, as by bm25, whose tokens are words."""
    return tokens / encode_s if kind != "bm25" and tokens and encode_s > 0 else None


def _cost(kind: str, scores: Sequence[TaskScore]) -> TotalCost:
    costs = [score.cost for score in scores]
    tokens, encode_s = sum(cost.tokens for cost in costs), sum(cost.encode_s for cost in costs)
    return TotalCost(
        tasks=len(costs),
        texts=sum(cost.texts for cost in costs),
        tokens=tokens,
        truncated=sum(cost.truncated for cost in costs),
        empty=sum(cost.empty for cost in costs),
        encode_s=encode_s,
        total_s=sum(cost.total_s for cost in costs),
        tokens_per_s=encoding_speed(kind, tokens, encode_s),
    )
