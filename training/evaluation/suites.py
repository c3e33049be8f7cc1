"""The named sets of tasks, and what a task of the hub is told and loads; nothing here needs the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import mteb
from blake3 import blake3
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.get_tasks import TASK_LIST

from ..errors import EvaluationError

PAPER15 = (
    "SciFact",
    "ArguAna",
    "NFCorpus",
    "StackOverflowDupQuestions",
    "SciDocsRR",
    "BiorxivClusteringS2S",
    "MedrxivClusteringS2S",
    "TwentyNewsgroupsClustering",
    "SprintDuplicateQuestions",
    "Banking77Classification",
    "EmotionClassification",
    "MassiveIntentClassification",
    "STS17",
    "SICK-R",
    "STSBenchmark",
)
"""The subset of MTEB(eng, v1) on which the LLM2Vec paper compares its steps (table 3)."""
PAPER56 = "MTEB(eng, v1)"
BENCHMARKS = {"paper56": PAPER56, "mteb-eng-v2": "MTEB(eng, v2)", "nanobeir": "NanoBEIR"}
"""mteb's name of each suite that is one of its benchmarks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubTask:
    """A task of mteb with the splits and subsets to run."""

    name: str
    task_type: str
    splits: tuple[str, ...]
    subsets: tuple[str, ...]
    """Of the data set, mostly languages; ("default",) where there are none."""
    data: str
    """ "hub NAME@REVISION", followed by the subsets where the data set has several."""
    prompt: str | Mapping[str, str] | None
    """mteb's instruction for this task."""
    default: str | None
    """mteb's instruction for tasks of its class."""

    def empty(self) -> mteb.AbsTask:
        """Return mteb's task, limited to the splits and subsets, without its data."""
        return mteb.get_task(self.name, eval_splits=list(self.splits), hf_subsets=list(self.subsets))

    def load(self) -> mteb.AbsTask:
        """Return the task with its data. Raises EvaluationError when they are not available."""
        task = self.empty()
        parts = task.tasks if isinstance(task, AbsTaskAggregate) else [task]
        for part in parts:
            try:
                part.load_data()
            except Exception as error:  # of datasets, huggingface_hub, httpx, pyarrow ...: all mean no data
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise EvaluationError(
                    f"{self.name}: the data set {part.metadata.dataset['path']} could not be fetched from the hub "
                    f"({reason}). Check the network, or measure on local data with --local DIR, which needs none"
                ) from error
        return task


def suite(name: str) -> list[HubTask]:
    """Return the tasks of a suite in mteb's order (paper15: in the paper's), limited to English as its benchmark is."""
    if name == "paper15":
        known = {task.metadata.name: task for task in mteb.get_benchmark(PAPER56).tasks}
        return [_describe(known[member]) for member in PAPER15]
    return [_describe(task) for task in mteb.get_benchmark(BENCHMARKS[name]).tasks]


def hub_task(name: str) -> HubTask | None:
    """Return the task of that name, None when mteb has none.

    A task of the English benchmarks runs as they run it (STS17 on en-en); any other on all of its subsets. Raises
    EvaluationError for a task on more than text.
    """
    for benchmark in BENCHMARKS.values():
        for task in mteb.get_benchmark(benchmark).tasks:
            if task.metadata.name == name:
                return _describe(task)
    try:
        task = mteb.get_task(name)
    except KeyError:
        return None
    others = sorted(set(task.modalities) - {"text"})
    if others:
        raise EvaluationError(f"task {name} is about {', '.join(others)}: expected a task on text alone")
    return _describe(task)


def hub_names() -> list[str]:
    """Return the names of mteb's tasks on text."""
    return [task.metadata.name for task in TASK_LIST if task.metadata.modalities == ["text"]]


def _describe(task: mteb.AbsTask) -> HubTask:
    subsets = f" {','.join(task.hf_subsets)}" if task.metadata.is_multilingual else ""
    return HubTask(
        name=task.metadata.name,
        task_type=task.metadata.type,
        splits=tuple(task.eval_splits),
        subsets=tuple(task.hf_subsets),
        data=f"hub {_revision(task)}{subsets}",
        prompt=cast(str | Mapping[str, str] | None, task.metadata.prompt),
        default=getattr(task, "abstask_prompt", None),
    )


def _revision(task: mteb.AbsTask) -> str:
    if isinstance(task, AbsTaskAggregate):
        # It has no data set of its own; its parts' revisions are one here.
        parts = " ".join(sorted(_revision(part) for part in task.tasks))
        return f"{task.metadata.name}@{blake3(parts.encode()).hexdigest()[:40]}"
    return f"{task.metadata.dataset['path']}@{task.metadata.dataset['revision']}"
