"""The tables of an evaluation report as plain text cells; terminal, Markdown and HTML each draw them in their way."""

from __future__ import annotations

import math

from ...training.evaluation.ablation import Ablation
from ...training.evaluation.comparison import Comparison, Difference, Group, Row
from ...training.evaluation.intervals import Interval
from ...training.evaluation.paper_scores import CategoryScores, PaperComparison
from ..terminal.tables import Line, TextTable
from ..terminal.wording import (
    MARK,
    MISSING,
    count,
    duration,
    many,
    metric_name,
    points,
    pooling_name,
    rate,
    signed,
    step_name,
)


def range_words(interval: Interval) -> str:
    """Return the interval of a score, e.g. "[61.2, 69.0]"."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def difference_words(difference: Difference) -> str:
    """Return e.g. "+2.3 [+0.9, +3.8] *": the difference, its interval where there is one, and the mark."""
    words = signed(difference.value)
    if difference.interval is not None:
        words += f" [{signed(difference.interval.low)}, {signed(difference.interval.high)}]"
    return f"{words} {MARK}" if difference.significant else words


def comparison_table(comparison: Comparison) -> TextTable:
    """Return tasks down and models across, by category, with the means."""
    lines: list[Line] = []
    for group in comparison.groups:
        lines.append(_heading(group, len(comparison.models)))
        lines += [_line(comparison, row, f"  {row.name}") for row in group.rows]
        if len(group.rows) > 1:
            lines.append(_line(comparison, group.mean, f"  {mean_name(group.mean, len(group.rows))}"))
    if len(comparison.groups) > 1:
        total = sum(len(group.rows) for group in comparison.groups)
        lines.append(_line(comparison, comparison.overall, mean_name(comparison.overall, total)))
    return TextTable(
        title="Scores",
        note=legend(comparison),
        header=("task", *comparison.models),
        lines=tuple(lines),
    )


def legend(comparison: Comparison) -> str:
    """Return how to read the cells of the comparison."""
    words = "Scores times 100; the best of a row in bold."
    if len(comparison.models) > 1:
        words += (
            f" After a score: its difference to {comparison.baseline}, with the 95 % interval of a paired bootstrap "
            f"over the items where they are known (retrieval, STS); {MARK} marks an interval that excludes 0, one "
            "test at a time."
        )
    return words


def mean_name(row: Row, total: int) -> str:
    """Return e.g. "mean of 4", or "mean of 3 of 5" where tasks are left out."""
    return f"mean of {len(row.tasks)}" + ("" if len(row.tasks) == total else f" of {total}")


def _heading(group: Group, models: int) -> Line:
    metrics = {metric_name(row.metric) for row in group.rows}
    words = f"{group.category} ({metrics.pop()})" if len(metrics) == 1 else group.category
    return Line(cells=(words, *[""] * models), kind="heading")


def _line(comparison: Comparison, row: Row, name: str) -> Line:
    cells = [name]
    for label in comparison.models:
        cell = row.cells.get(label)
        words = f"{points(None if cell is None else cell.value):>4}"
        if cell is not None and cell.difference is not None:
            difference, _, rest = difference_words(cell.difference).partition(" ")
            words += f"  {difference:>5} {rest}".rstrip()
        cells.append(words)
    best = frozenset(number for number, label in enumerate(comparison.models, start=1) if label in row.best)
    return Line(cells=tuple(cells), kind="row" if row.metric else "mean", best=best)


def interval_table(comparison: Comparison) -> TextTable | None:
    """Return each score with its own interval, of the tasks that have one; None where none has."""
    rows = [row for group in comparison.groups for row in group.rows]
    lines = [
        Line(cells=(row.name, *(_own(row, label) for label in comparison.models)))
        for row in rows
        if any(cell.interval for cell in row.cells.values())
    ]
    if not lines:
        return None
    return TextTable(
        title="Intervals of the scores themselves",
        note="95 %, bootstrap over queries or pairs. Two that overlap may still differ: the paired intervals say so.",
        header=("task", *comparison.models),
        lines=tuple(lines),
    )


def _own(row: Row, label: str) -> str:
    cell = row.cells.get(label)
    if cell is None:
        return MISSING
    return points(cell.value) + (f" {range_words(cell.interval)}" if cell.interval else "")


def ablation_table(ablation: Ablation) -> TextTable:
    """Return steps down and poolings across, as the paper's Table 5."""
    lines = []
    for row in ablation.rows:
        cells = [points(row.values.get(pooling)) for pooling in ablation.poolings]
        best = frozenset(n for n, p in enumerate(ablation.poolings, start=1) if row.values.get(p) == _top(ablation, p))
        lines.append(Line(cells=(step_name(row.step.key), *cells), best=best))
    return TextTable(
        title=f"What each step brings: {ablation.base}",
        note=f"Mean of {many(len(ablation.tasks), 'task')} by pooling: {', '.join(ablation.tasks)}.",
        header=("step", *map(pooling_name, ablation.poolings)),
        lines=tuple(lines),
    )


def _top(ablation: Ablation, pooling: str) -> float:
    """Return the highest value of a pooling, nan where there is nothing to be higher than."""
    values = [row.values[pooling] for row in ablation.rows if pooling in row.values]
    return max(values) if len(values) > 1 else math.nan


def cost_table(comparison: Comparison) -> TextTable:
    """Return what each model read and how long it took."""
    lines = []
    for label, cost in comparison.costs.items():
        counts = (cost.tasks, cost.texts, cost.tokens)
        lost = (cost.truncated, cost.empty)
        times = (duration(cost.encode_s), duration(cost.total_s))
        lines.append(
            Line(cells=(label, *map(count, counts), rate(cost.tokens_per_s), *map(count, lost), *times)),
        )
    return TextTable(
        title="Cost",
        note=(
            "tokens/s: while encoding; bm25 encodes nothing, its tokens are words. truncated: texts cut at the length "
            "limit; total: loading, encoding, scoring. Of what an earlier run, or another search of the same "
            "collection, left encoded, only the texts count."
        ),
        header=("model", "tasks", "texts", "tokens", "tokens/s", "truncated", "empty", "encoding", "total"),
        lines=tuple(lines),
    )


def paper_tables(comparison: Comparison, paper: PaperComparison) -> tuple[TextTable, ...]:
    """Return the published scores beside ours: single tasks of the same name, categories, and Table 5."""
    tables = [_paper_tasks(comparison, paper)] if paper.columns else []
    tables.append(_paper_categories(comparison, paper))
    if paper.ablation:
        tables.append(_paper_ablation(paper))
    return tuple(tables)


def _paper_tasks(comparison: Comparison, paper: PaperComparison) -> TextTable:
    rows = {row.name: row for group in comparison.groups for row in group.rows}
    lines = []
    for task in paper.tasks:
        cells = rows[task].cells
        ours = [points(cells[label].value if label in cells else None, 2) for label in comparison.models]
        theirs = [points(column.scores[task], 2) for column in paper.columns]
        lines.append(Line(cells=(task, *ours, *theirs)))
    names = [
        f"{paper.paper.models[column.model]}, {step_name(column.step)} (table {column.table})"
        for column in paper.columns
    ]
    return TextTable(
        title="Published scores of the same tasks",
        note=f"{paper.paper.source}, tables 11 and 12. Tasks are matched by mteb's name.",
        header=("task", *comparison.models, *names),
        lines=tuple(lines),
    )


def _paper_categories(comparison: Comparison, paper: PaperComparison) -> TextTable:
    means = {group.category: group.mean for group in comparison.groups}
    lines = []
    for label in comparison.models:
        cells = [_mean_of(means.get(name), label) for name in paper.paper.categories]
        lines.append(Line(cells=(label, *cells, _mean_of(comparison.overall, label))))
    lines += [Line(cells=_published(paper, row)) for row in paper.category_scores]
    names = [f"{name} ({tasks})" for name, tasks in paper.paper.categories.items()]
    related = "" if paper.related else " None of the models is of a base model of the paper: for reference only."
    return TextTable(
        title=f"Published means of {paper.paper.benchmark}",
        note=(
            f"{paper.paper.source}, tables 1 and 2: {paper.paper.benchmark}, number of tasks in brackets. The lines of "
            "the models are means over the tasks measured here: to be compared only where those are all of "
            f"{paper.paper.benchmark}.{related}"
        ),
        header=("", *names, f"all ({sum(paper.paper.categories.values())})"),
        lines=tuple(lines),
    )


def _mean_of(row: Row | None, label: str) -> str:
    if row is None or label not in row.cells:
        return MISSING
    return f"{points(row.cells[label].value, 2)} ({len(row.tasks)})"


def _published(paper: PaperComparison, row: CategoryScores) -> tuple[str, ...]:
    name = f"{paper.paper.models[row.model]}, {step_name(row.step)} (table {row.table})"
    return (name, *(points(score, 2) for score in row.scores.values()), points(row.average, 2))


def _paper_ablation(paper: PaperComparison) -> TextTable:
    poolings = tuple(paper.ablation[0].values)
    models = [model for model in paper.models if any(row.model == model for row in paper.ablation)]
    found = {(row.step, row.model): row.values for row in paper.ablation}
    lines = [
        Line(
            cells=(
                step_name(step),
                *(points(found[step, model][pooling], 2) for model in models for pooling in poolings),
            )
        )
        for step in dict.fromkeys(row.step for row in paper.ablation)
    ]
    header = [f"{paper.paper.models[model]}, {pooling_name(pooling)}" for model in models for pooling in poolings]
    return TextTable(
        title="Published: what each step brings",
        note=f"{paper.paper.source}, table 5: mean of 15 tasks of {paper.paper.benchmark} by pooling.",
        header=("step", *header),
        lines=tuple(lines),
    )
