"""The published scores of LLM2Vec (arXiv 2404.05961, tables 1, 2, 5, 11 and 12), to put beside one's own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from ...encoder.models.registry import find
from ..errors import DataError
from .measurement import Identity

FILE = Path(__file__).with_name("paper_scores.toml")
TOLERANCE = 0.015
"""Half a unit of the last printed digit of an average and of what it averages, and once more for rounding between."""
_PER_TASK = {11: "bi+mntp+simcse", 12: "bi+mntp+supervised"}
"""The step of each table of single tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryScores:
    """One line of table 1 or 2: the means of MTEB v1's categories."""

    table: int
    model: str
    """Name in the registry."""
    step: str
    """As `ablation.Step.key`; uni is pooled by weighted mean, all others by mean."""
    scores: Mapping[str, float]
    """By category, 0 to 1, as all scores here."""
    average: float
    """Over the 56 tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAblation:
    """One line of table 5."""

    model: str
    step: str
    values: Mapping[str, float]
    """By pooling, as `EncoderConfig.pooling` names them: last, mean, weighted_mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskColumn:
    """One model in table 11 or 12."""

    table: int
    model: str
    step: str
    scores: Mapping[str, float]
    """By mteb's name of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperScores:
    source: str
    benchmark: str
    models: Mapping[str, str]
    """Registry name to the paper's name."""
    categories: Mapping[str, int]
    """Number of tasks of each."""
    category_scores: tuple[CategoryScores, ...]
    ablation: tuple[PublishedAblation, ...]
    columns: tuple[TaskColumn, ...]
    """Llama-3 has none: the paper prints its single tasks nowhere."""
    types: Mapping[str, str]
    """Category of each task."""
    subset: tuple[str, ...]
    """The 15 tasks of table 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperComparison:
    """What of the paper stands beside a set of models and tasks."""

    paper: PaperScores
    models: tuple[str, ...]
    """The base models that the models are of; all four where they are of none."""
    related: bool
    """Whether the models are of these models; else they are for reference only."""
    tasks: tuple[str, ...]
    """Tasks of ours with the name of one of the paper's."""
    columns: tuple[TaskColumn, ...]
    category_scores: tuple[CategoryScores, ...]
    ablation: tuple[PublishedAblation, ...]


def beside(models: Iterable[Identity], tasks: Iterable[str]) -> PaperComparison:
    """Return the published scores to show beside these models on these tasks."""
    paper = read_paper_scores()
    own = {base_model(who) for who in models} - {None}
    published = tuple(name for name in paper.models if name in own) or tuple(paper.models)
    shared = tuple(task for task in tasks if task in paper.types)
    return PaperComparison(
        paper=paper,
        models=published,
        related=bool(own),
        tasks=shared,
        columns=tuple(column for column in paper.columns if column.model in published) if shared else (),
        category_scores=tuple(row for row in paper.category_scores if row.model in published),
        ablation=tuple(row for row in paper.ablation if row.model in published),
    )


def base_model(who: Identity) -> str | None:
    """Return which of the paper's base models an encoder is of, None for any other.

    By registry or hub name, or by the last part of a folder's path where it is one of these.
    """
    if who.kind != "encoder":
        return None
    folder = Path(who.name).name.lower()
    for name in read_paper_scores().models:
        entry = find(name)
        assert entry is not None, name
        if find(who.name) is entry or folder in (name, entry.reference.rpartition("/")[2].lower()):
            return name
    return None


@cache
def read_paper_scores(path: Path = FILE) -> PaperScores:
    """Return the published scores. Raises DataError for a file whose averages are not those of its numbers."""
    with path.open("rb") as file:
        document = tomllib.load(file)
    scores = _parse(document)
    for problem in problems(scores, document["per_task"]["average"]):
        raise DataError(path, problem)
    return scores


def problems(paper: PaperScores, averages: Mapping[str, list[float]]) -> list[str]:
    """Return what does not add up; `averages` are the printed ones of tables 11 and 12, times 100."""
    counts = {name: list(paper.types.values()).count(name) for name in paper.categories}
    if counts != dict(paper.categories):
        return [f"tasks by category are {counts}, expected {dict(paper.categories)}"]
    found = []
    for row in paper.category_scores:
        total = sum(row.scores[name] * count for name, count in paper.categories.items())
        mean = total / sum(paper.categories.values())
        found += _off(f"table {row.table}, {row.model} {row.step}: average", row.average, mean)
    for column in paper.columns:
        place = f"table {column.table}, {column.model}"
        printed = averages[f"table_{column.table}"][list(paper.models).index(column.model)] / 100
        found += _off(f"{place}: average", printed, fmean(column.scores.values()))
        row = next(r for r in paper.category_scores if (r.model, r.step) == (column.model, column.step))
        for name in paper.categories:
            mean = fmean(column.scores[task] for task, category in paper.types.items() if category == name)
            found += _off(f"{place}: mean of {name}", row.scores[name], mean)
    found += [f"subset: {task} is no task of table 11" for task in paper.subset if task not in paper.types]
    return found


def _off(what: str, printed: float, computed: float) -> list[str]:
    if abs(printed - computed) * 100 <= TOLERANCE:
        return []
    return [f"{what} is printed as {printed * 100:.2f}, its numbers give {computed * 100:.3f}"]


def _parse(document: Mapping[str, Any]) -> PaperScores:
    categories, per_task = document["categories"], document["per_task"]
    tasks = per_task["tasks"]
    columns = [
        TaskColumn(
            table=table,
            model=model,
            step=step,
            scores={task: entry[f"table_{table}"][number] / 100 for task, entry in tasks.items()},
        )
        for number, model in enumerate(per_task["models"])
        for table, step in _PER_TASK.items()
    ]
    return PaperScores(
        source=document["source"],
        benchmark=document["benchmark"],
        models={entry["name"]: entry["paper"] for entry in document["models"]},
        categories=categories,
        category_scores=tuple(
            CategoryScores(
                table=row["table"],
                model=row["model"],
                step=row["step"],
                scores={name: score / 100 for name, score in zip(categories, row["scores"], strict=True)},
                average=row["average"] / 100,
            )
            for row in document["category_scores"]
        ),
        ablation=tuple(
            PublishedAblation(
                model=row["model"],
                step=row["step"],
                values={name: row[name] / 100 for name in ("last", "mean", "weighted_mean")},
            )
            for row in document["ablation"]
        ),
        columns=tuple(columns),
        types={task: entry["type"] for task, entry in tasks.items()},
        subset=tuple(document["subset"]),
    )
