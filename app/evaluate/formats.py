"""A comparison for programs: JSON and CSV, with every number on mteb's scale, 0 to 1, and not rounded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...training.evaluation.ablation import Ablation
from ...training.evaluation.comparison import Cell, Comparison, Row, encoding_speed
from ...training.evaluation.measurement import TaskScore
from ...training.evaluation.paper_scores import PaperComparison
from ..terminal.csv_rows import csv_text

SCHEMA = 1

CSV_COLUMNS = (
    *("kind", "category", "task", "metric", "model", "fingerprint", "pooling", "tasks", "score", "low", "high"),
    *("baseline", "difference", "difference_low", "difference_high", "significant", "texts", "tokens", "tokens_per_s"),
    *("truncated", "empty", "encode_s", "total_s", "data", "finished"),
)
"""`kind` is task, category (mean of one), overall (mean of all), step (of an ablation), or paper."""


def to_json(comparison: Comparison, paper: PaperComparison | None, *, results: str) -> str:
    """Return the JSON document of `searchctl eval report`."""
    document = {
        "schema": SCHEMA,
        "results": results,
        "baseline": comparison.baseline,
        "models": [
            {**asdict(who), "label": label, "cost": _cost(comparison, label)}
            for label, who in comparison.models.items()
        ],
        "categories": [
            {"category": group.category, "tasks": [_row(row) for row in group.rows], "mean": _row(group.mean)}
            for group in comparison.groups
        ],
        "overall": _row(comparison.overall),
        "ablations": [_ablation(ablation) for ablation in comparison.ablations],
        "paper": None if paper is None else _paper(paper),
        "notes": list(comparison.notes),
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _cost(comparison: Comparison, label: str) -> dict[str, Any]:
    return asdict(comparison.costs[label])


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "metric": row.metric or None,
        "tasks": list(row.tasks),
        "scores": {label: _cell(cell) for label, cell in row.cells.items()},
    }


def _cell(cell: Cell) -> dict[str, Any]:
    difference = cell.difference
    return {
        "score": cell.value,
        "low": cell.interval.low if cell.interval else None,
        "high": cell.interval.high if cell.interval else None,
        "difference": None
        if difference is None
        else {
            "value": difference.value,
            "low": difference.interval.low if difference.interval else None,
            "high": difference.interval.high if difference.interval else None,
            "significant": difference.significant,
        },
    }


def _ablation(ablation: Ablation) -> dict[str, Any]:
    rows = [{"step": row.step.key, "scores": row.values, "models": row.labels} for row in ablation.rows]
    return {"base": ablation.base, "tasks": ablation.tasks, "steps": rows}


def _paper(paper: PaperComparison) -> dict[str, Any]:
    return {
        "source": paper.paper.source,
        "benchmark": paper.paper.benchmark,
        "related": paper.related,
        "tasks": [
            {**asdict(column), "scores": {task: column.scores[task] for task in paper.tasks}}
            for column in paper.columns
        ],
        "categories": [asdict(row) for row in paper.category_scores],
        "ablation": [asdict(row) for row in paper.ablation],
    }


def to_csv(comparison: Comparison, paper: PaperComparison | None) -> str:
    """Return one line for each number; columns that do not apply are empty."""
    lines: list[dict[str, Any]] = []
    for group in comparison.groups:
        for row in group.rows:
            lines += _lines(comparison, row, kind="task", category=group.category)
        lines += _lines(comparison, group.mean, kind="category", category=group.category)
    lines += _lines(comparison, comparison.overall, kind="overall", category="")
    for ablation in comparison.ablations:
        lines += _steps(ablation)
    if paper is not None:
        lines += _published(paper)
    assert all(line.keys() <= set(CSV_COLUMNS) for line in lines)
    return csv_text(CSV_COLUMNS, ([line.get(column) for column in CSV_COLUMNS] for line in lines))


def _lines(comparison: Comparison, row: Row, *, kind: str, category: str) -> list[dict[str, Any]]:
    """Return one line a model; one without a score is there with an empty score."""
    lines = []
    for label, who in comparison.models.items():
        line: dict[str, Any] = {
            "kind": kind,
            "category": category,
            "task": row.name if kind == "task" else "",
            "metric": row.metric,
            "model": label,
            "fingerprint": who.fingerprint,
            "tasks": len(row.tasks),
            "baseline": comparison.baseline,
        }
        if label in row.cells:
            line |= _numbers(row.cells[label])
            if kind == "task":
                line |= _origin(comparison.scores[row.name][label])
        lines.append(line)
    return lines


def _numbers(cell: Cell) -> Mapping[str, Any]:
    plain = _cell(cell)
    difference = plain.pop("difference") or {}
    names = {"value": "difference", "low": "difference_low", "high": "difference_high", "significant": "significant"}
    return {**plain, **{names[name]: value for name, value in difference.items()}}


def _origin(score: TaskScore) -> Mapping[str, Any]:
    cost = score.cost
    per_s = encoding_speed(score.who.kind, cost.tokens, cost.encode_s)
    return {**asdict(cost), "tokens_per_s": per_s, "data": score.data, "finished": score.finished}


def _steps(ablation: Ablation) -> list[dict[str, Any]]:
    return [
        {
            "kind": "step",
            "task": row.step.key,
            "model": row.labels[pooling],
            "pooling": pooling,
            "tasks": len(ablation.tasks),
            "score": value,
        }
        for row in ablation.rows
        for pooling, value in row.values.items()
    ]


def _published(paper: PaperComparison) -> list[dict[str, Any]]:
    def line(model: str, step: str, table: int, **values: Any) -> dict[str, Any]:
        return {"kind": "paper", "model": f"{model} {step}", "data": f"table {table}", **values}

    types, counts = paper.paper.types, paper.paper.categories
    lines = [
        line(c.model, c.step, c.table, category=types[task], task=task, tasks=1, score=c.scores[task])
        for c in paper.columns
        for task in paper.tasks
    ]
    for row in paper.category_scores:
        lines += [
            line(row.model, row.step, row.table, category=name, tasks=counts[name], score=score)
            for name, score in row.scores.items()
        ]
        lines.append(line(row.model, row.step, row.table, tasks=sum(counts.values()), score=row.average))
    lines += [
        line(row.model, row.step, 5, pooling=pooling, tasks=len(paper.paper.subset), score=value)
        for row in paper.ablation
        for pooling, value in row.values.items()
    ]
    return lines
