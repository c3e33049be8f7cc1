"""One model on one mteb task: mteb's own evaluators run, and what they give is gathered item by item."""

from __future__ import annotations

import json
import logging
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..errors import EvaluationError
from .measurement import Samples

if TYPE_CHECKING:
    from mteb import AbsTask, TaskResult
    from mteb.abstasks.aggregated_task import AbsTaskAggregate
    from mteb.models import EncoderProtocol, SearchProtocol

    Model = EncoderProtocol | SearchProtocol


NDCG = "ndcg_at_10"
SPEARMAN = "cosine_spearman"
_DIGITS = 9
"""Decimal digits that keep a float32 exactly: with fewer, cosines of an anisotropic encoder would become ties."""
_TOLERANCE = 1e-4
"""mteb rounds the means of retrieval to 5 places."""

PerQuery = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a task gives, without who was measured and what it took."""

    metric: str
    score: float
    metrics: Mapping[str, float]
    """Finite numbers only: mteb gives nan for, say, the nAUC of queries that are all answered perfectly."""
    samples: Samples | None
    """Of retrieval by nDCG@10 and of STS, where the task has one split and one subset; else None."""


def measure(task: AbsTask, model: Model, folder: Path) -> Measured:
    """Return the score of `model` on `task`, averaged over splits and subsets as mteb's `TaskResult.get_score` does.

    mteb writes its predictions for STS below `folder`. Raises EvaluationError when the score is not finite, or when
    the items do not add up to it.
    """
    predictions = folder / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)  # mteb adds to what it finds, and a killed run may have left half
    rankings: dict[tuple[str, str], PerQuery] = {}
    kind = None if _is_aggregate(task) else task.metadata.type
    if kind == "Retrieval":
        _listen(task, rankings)
    result = _evaluate(task, model, predictions if kind == "STS" else None)
    metric = str(task.metadata.main_score)
    score = float(result.get_score())
    if not math.isfinite(score):
        raise EvaluationError(
            f"{task.metadata.name}: {metric} is {score}, expected a number. All similarities, or all gold scores, may "
            "be equal"
        )
    samples = None
    if len(rankings) == 1 and metric == NDCG:
        samples = _queries(task, next(iter(rankings.items())))
    elif kind == "STS" and metric == SPEARMAN and _places(result) == 1:
        samples = _pairs(task, predictions)
    if samples is not None:
        _check(samples, score, task.metadata.name)
    return Measured(metric=metric, score=score, metrics=_metrics(result), samples=samples)


def _evaluate(task: AbsTask, model: Model, predictions: Path | None) -> TaskResult:
    """Return mteb's result. This is what `mteb.evaluate` does without its cache, its bars and its imports."""
    from mteb import TaskResult

    if _is_aggregate(task):
        return task.combine_task_results([_evaluate(part, model, None) for part in task.metadata.tasks])
    scores = {
        split: task.evaluate(
            model,
            split,
            subsets_to_run=task.hf_subsets,
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
            prediction_folder=predictions,
        )
        for split in task.eval_splits
    }
    return TaskResult.from_task_results(task, scores, evaluation_time=0.0)


def _is_aggregate(task: AbsTask) -> TypeGuard[AbsTaskAggregate]:
    """Return whether the task is the mean of others, as CQADupstack is."""
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    return isinstance(task, AbsTaskAggregate)


def _listen(task: Any, rankings: dict[tuple[str, str], PerQuery]) -> None:
    """Have `task` put its scores of each query into `rankings`, by split and subset.

    mteb hands them to `task_specific_scores`, made to be overridden, and keeps only their means. Its predictions on
    disk hold the same, as a file of a thousand documents for each query.
    """
    given = task.task_specific_scores

    def listen(scores: PerQuery, *rest: Any, hf_split: str, hf_subset: str) -> dict[str, float]:
        rankings[hf_split, hf_subset] = scores
        extra: dict[str, float] = given(scores, *rest, hf_split=hf_split, hf_subset=hf_subset)
        return extra

    task.task_specific_scores = listen


def _queries(task: Any, ranking: tuple[tuple[str, str], PerQuery]) -> Samples:
    (split, subset), scores = ranking
    expected = set(task.dataset[subset][split]["relevant_docs"])
    if scores.keys() != expected:
        raise EvaluationError(
            f"{task.metadata.name}: {len(scores)} of {len(expected)} queries were scored, expected all. The mean of "
            "the answered ones would flatter"
        )
    ids = sorted(scores)
    return Samples(kind="mean", ids=tuple(ids), values=tuple(_rounded(scores[id_]["ndcg_cut_10"]) for id_ in ids))


def _pairs(task: Any, folder: Path) -> Samples:
    subset, split = task.hf_subsets[0], task.eval_splits[0]
    predictions = json.loads((folder / task.prediction_file_name).read_text(encoding="utf-8"))
    values = predictions[subset][split]["cosine_scores"]
    data = task.dataset[split] if subset not in task.dataset else task.dataset[subset][split]
    return Samples(
        kind="spearman",
        ids=tuple(map(str, range(len(values)))),
        values=tuple(map(_rounded, values)),
        gold=tuple(float(gold) for gold in data["score"]),
    )


def _check(samples: Samples, score: float, name: str) -> None:
    """Raise EvaluationError when the items do not add up to the score."""
    if samples.kind == "mean":
        found = float(np.mean(samples.values))
    else:
        from scipy.stats import spearmanr

        found = float(spearmanr(samples.values, samples.gold)[0])
    if not abs(found - score) <= _TOLERANCE:
        raise EvaluationError(
            f"{name}: its {len(samples.ids)} items give {found:.5f} and mteb says {score:.5f}, expected the same. "
            "This version of mteb may score in another way"
        )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _places(result: TaskResult) -> int:
    return sum(len(entries) for entries in result.scores.values())


def _metrics(result: TaskResult) -> dict[str, float]:
    """Return all numbers that every split and subset has, averaged, by name."""
    entries = [entry for part in result.scores.values() for entry in part]
    names = sorted(set.intersection(*({name for name in entry if _is_number(entry[name])} for entry in entries)))
    means = {name: float(np.mean([entry[name] for entry in entries])) for name in names}
    return {name: mean for name, mean in means.items() if math.isfinite(mean) and name != "main_score"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


_LIBRARIES = ("mteb", "datasets", "huggingface_hub", "sentence_transformers", "bm25s")


class _Relay(logging.Handler):
    """Hands warnings of libraries to `said`."""

    def __init__(self, said: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said(record.getMessage())


@contextmanager
def listening(said: Callable[[str], None]) -> Iterator[None]:
    """Hand what libraries warn of to `said` while inside. Raises EvaluationError without the extra eval."""
    _quiet_datasets()
    relay = _Relay(said)
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [relay], False
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest, **more: said(str(message))
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def _quiet_datasets() -> None:
    try:
        import datasets
    except ImportError as error:
        raise EvaluationError("evaluation needs the extra eval: `pip install 'searchctl[eval]'`") from error
    datasets.disable_progress_bars()
