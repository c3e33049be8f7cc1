"""Models times tasks: what is stored is read, the rest is measured, and every score is kept once it is had.

The events say how far it is: plans, beginnings, progress, scores, and what went wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .measurement import (
    Cost,
    EvalTask,
    EvaluatedModel,
    Identity,
    Json,
    Meter,
    Pulse,
    TaskScore,
    describe_machine,
    describe_versions,
    package_version,
)
from .result_selection import first_of_equals
from .results import ResultStore
from .scoring import listening, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One model on one task, the `number`-th (from 1) of `total`."""

    label: str
    task: str
    task_type: str
    number: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done, told once and before anything else."""

    total: int
    """Pairs in all."""
    todo: Mapping[int, int | None]
    """Of each pair that must be computed, by its number: the size of its data in bytes, None when not known (hub).
    0 where a pair before it leaves the work (`worker`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Work on a pair begins: its data are read, then the model is loaded."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How far an `encode` call of the pair has come; a task may have several."""

    pair: Pair
    pulse: Pulse


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The pair has its score, and it is on disk."""

    pair: Pair
    score: TaskScore
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """The model cannot do tasks of this type."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The pair has no score; the others go on."""

    pair: Pair
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Another process is at work on the pair in the same folder of results."""

    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something a library warned of."""

    message: str


EvalEvent = Planned | Begun | Encoding | Scored | NotApplicable | Failed | Waiting | Remark
Told = Callable[[EvalEvent], None]


SEED = 42
"""mteb's default, of the samples that classification samples and where clusters start. Tasks set it when they are made,
and evaluators once more before they begin."""
_HUB = "hub "


def evaluate(
    models: Sequence[EvaluatedModel],
    tasks: Sequence[EvalTask],
    store: ResultStore,
    *,
    told: Told,
    again: bool = False,
) -> list[TaskScore]:
    """Return the scores of all models on the tasks they can do, model by model.

    Equal models (`first_of_equals`) are measured once, under the label of the first. Searches that rank one
    collection in different ways (`worker`) fill it once: it is removed with the last score that needs it.
    A score of the same identity, data and settings (`settings_of`) is read from `store` unless `again`, which uses
    nothing that an earlier run encoded either, except what a killed run with `again` left. Local data are
    read before anything is encoded: malformed ones raise DataError at once. Whatever goes wrong with a pair later is
    told as Failed, and the rest goes on. A model that has a `close` is closed after its last task.
    KeyboardInterrupt passes through: finished scores are on disk, and the model under way goes on from its
    workspace next time.
    """
    everyone = [(model, model.identify()) for model in models]
    others = first_of_equals(who for _, who in everyone)
    run = _Run(store=store, told=told, again=again, labels=frozenset(who.label for _, who in everyone))
    pairs = [(model, who, task) for model, who in everyone if who.label not in others for task in tasks]
    store.prepare()
    run.plan(pairs)
    scores = []
    for number, (model, who, task) in enumerate(pairs, start=1):
        pair = Pair(label=who.label, task=task.name, task_type=task.task_type, number=number, total=len(pairs))
        score = run.score(pair, model, who, task)
        if score is not None:
            scores.append(score)
        if number % len(tasks) == 0 and isinstance(model, _Closing):
            model.close()  # before the next one loads its weights beside these
    return scores


def settings_of(task: EvalTask) -> dict[str, Json]:
    """Return what decides the score of an encoder besides itself and the data.

    mteb counts with its major and minor version: a new one may score in another way, so all is computed again with it,
    and the scores of the old one stay on disk.
    """
    return {
        "instructions": {"query": task.instructions.query, "document": task.instructions.document},
        "seed": SEED,
        "mteb": ".".join((package_version("mteb") or "none").split(".")[:2]),
    }


def settings_for(who: Identity, task: EvalTask) -> dict[str, Json]:
    """Return `settings_of` the task, without the instructions for a model that reads none."""
    settings = settings_of(task)
    return {name: settings[name] for name in settings if name != "instructions" or not ignores_instructions(who)}


def ignores_instructions(who: Identity) -> bool:
    """Return whether no instruction of ours changes a score: word search, and models with prompts of their own."""
    return who.kind in ("bm25", "sentence-transformers") or (who.kind == "search" and who.details["mode"] == "lexical")


def worker(who: Identity) -> Identity:
    """Return the identity under which unfinished work is kept: its own, or one for all searches of one collection."""
    collection = who.details.get("collection") if who.kind == "search" else None
    return who if collection is None else replace(who, fingerprint=str(collection))


@runtime_checkable
class _Closing(Protocol):
    """A model that keeps its weights from task to task."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call of `evaluate`."""

    store: ResultStore
    told: Told
    again: bool
    labels: frozenset[str]
    """Of all models: stored scores that have one of these keep it."""
    needs: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """Of fingerprint of the worker and task: the pairs that need the workspace, once planned, until they are scored."""

    def plan(self, pairs: Sequence[tuple[EvaluatedModel, Identity, EvalTask]]) -> None:
        """Read the local data that will be needed, and tell what is to be done. Raises DataError."""
        sizes: dict[tuple[str, str], int | None] = {}
        todo: dict[int, int | None] = {}
        for number, (model, who, task) in enumerate(pairs, start=1):
            if not model.supports(task.task_type) or self.stored(who, task, again=self.again) is not None:
                continue
            key = task.name, task.data
            if key not in sizes:
                sizes[key] = None
                if not task.data.startswith(_HUB):
                    with listening(self._remark):
                        data = task.make()
                        data.load_data()
                        sizes[key] = _size(data.dataset)
            pairs_here = self._needing(who, task)
            todo[number] = 0 if pairs_here else sizes[key]
            pairs_here.add(number)
        self.told(Planned(total=len(pairs), todo=todo))

    def _needing(self, who: Identity, task: EvalTask) -> set[int]:
        return self.needs.setdefault((worker(who).fingerprint, task.name), set())

    def _finish(self, pair: Pair, who: Identity, task: EvalTask, workspace: Path) -> None:
        """Remove the workspace, now that `pair` has its score, unless another pair needs it."""
        needing = self._needing(who, task)
        needing.discard(pair.number)
        if not needing:
            self.store.finish(workspace)

    def _remark(self, message: str) -> None:
        self.told(Remark(message=message))

    def stored(self, who: Identity, task: EvalTask, *, again: bool) -> TaskScore | None:
        """Return the score to reuse, None when it must be computed."""
        if again:
            return None
        # As it is kept now, and as it was kept before by those who read no instruction.
        wanted = (settings_for(who, task), settings_of(task))
        found = (self.store.find(who, task, settings, labels=self.labels) for settings in wanted)
        return next((score for score in found if score is not None), None)

    def score(self, pair: Pair, model: EvaluatedModel, who: Identity, task: EvalTask) -> TaskScore | None:
        """Return the pair's score, stored or measured; None when there is none, which is told."""
        if not model.supports(task.task_type):
            self.told(NotApplicable(pair=pair))
            return None
        # What was planned takes its turn even if it is scored by now: another process may have left the work to remove.
        planned = pair.number in self._needing(who, task)
        score = None if planned else self.stored(who, task, again=self.again)
        if score is None:
            asked = datetime.now().astimezone()
            turn = self.store.claim(
                worker(who), task, settings_for(who, task), waiting=lambda: self.told(Waiting(pair=pair))
            )
            with turn as workspace:
                score = self.stored(who, task, again=False)  # from the process that was waited for
                if score is None or (self.again and datetime.fromisoformat(score.finished) < asked):
                    if self.again:
                        self.store.begin_anew(workspace)
                    return self._measure(pair, model, who, task, workspace)
                self._finish(pair, who, task, workspace)
        self.told(Scored(pair=pair, score=score, reused=True))
        return score

    def _measure(
        self, pair: Pair, model: EvaluatedModel, who: Identity, task: EvalTask, workspace: Path
    ) -> TaskScore | None:
        self.told(Begun(pair=pair))
        try:
            with listening(self._remark):
                began = time.perf_counter()
                data = task.make()
                reading_s = time.perf_counter() - began
                with model.open(task, workspace) as opened:
                    opened.meter.reset()
                    opened.meter.pulse = lambda pulse: self.told(Encoding(pair=pair, pulse=pulse))
                    began = time.perf_counter()
                    measured = measure(data, opened.model, workspace)
                    cost = _cost(opened.meter, reading_s + time.perf_counter() - began)
        except Exception as error:
            self.told(Failed(pair=pair, error=error))
            return None
        score = TaskScore(
            task=task.name,
            task_type=task.task_type,
            data=task.data,
            who=who,
            settings=settings_for(who, task),
            metric=measured.metric,
            score=measured.score,
            metrics=measured.metrics,
            samples=measured.samples,
            cost=cost,
            versions=describe_versions(),
            machine=describe_machine(),
            finished=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        )
        self.store.save(score)
        self._finish(pair, who, task, workspace)
        self.told(Scored(pair=pair, score=score, reused=False))
        return score


def _size(dataset: Any) -> int:
    """Return the bytes of an mteb data set, which is nested by subset and split as each task type likes."""
    if isinstance(dataset, Mapping):
        return sum(map(_size, dataset.values()))
    return int(dataset.data.nbytes) if hasattr(dataset, "data") else 0


def _cost(meter: Meter, total_s: float) -> Cost:
    return Cost(
        texts=meter.texts,
        tokens=meter.tokens,
        truncated=meter.truncated,
        empty=meter.empty,
        encode_s=round(meter.encode_s, 4),
        total_s=round(total_s, 4),
    )
