"""How `searchctl train curve` runs: the checkpoints of a training run through the evaluation, and their curve kept."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import EncoderConfig, Precision
from ...training.evaluation.encoder_model import EncoderModel
from ...training.evaluation.instructions import InstructionTable
from ...training.evaluation.measurement import describe_machine, describe_versions
from ...training.evaluation.result_selection import first_of_equals
from ...training.evaluation.results import ResultStore
from ...training.evaluation.runner import evaluate, settings_of
from ...training.evaluation.step_curve import (
    CurvePoint,
    CurveStep,
    CurveTask,
    StageCurve,
    curve_steps,
    curve_to_json,
    read_curves,
    trained_stages,
    write_curve,
)
from ...training.recipe import Stage
from ..collection.paths import shown_path
from ..errors import AppError, ExitCode
from ..evaluate.progress import EvalView
from ..evaluate.run import named_tasks
from ..options import ReportFormat, cache_folder
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.tables import show_table
from ..terminal.wording import many
from .view import CurveView, curve_table

if TYPE_CHECKING:
    from ...training.evaluation.measurement import EvalTask, Identity, TaskScore


RESULTS = "curve-results"
"""Not where `searchctl eval run` keeps scores: each checkpoint would be a column of every later comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRequest:
    """What to measure, on what, and where scores are kept."""

    folder: Path
    names: tuple[str, ...]
    suite: str | None
    local: Path | None
    stage: str | None
    every: int | None
    instructions: Path | None
    no_instructions: bool
    results: Path | None
    again: bool
    form: ReportFormat
    precision: Precision
    device: str
    batch_tokens: int | None
    debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """An encoder of the curve and who it is."""

    step: CurveStep
    model: EncoderModel
    who: Identity


def run_train_curve(terminal: Terminal, request: CurveRequest) -> ExitCode:
    """Measure, write curve.json, print it and return how it ended: INCOMPLETE when a task failed.

    Raises AppError and TrainingError for what cannot be measured at all; then curve.json is as it was.
    """
    # peft asks transformers by names that are on their way out: nothing that a person can fix.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    if request.instructions is not None and request.no_instructions:
        raise AppError("--instructions and --no-instructions contradict each other: expected one of them")
    folder = request.folder.expanduser().resolve()
    stage = _stage(request, folder)
    read_curves(folder)  # a damaged one is said before hours of work, not after them
    table = InstructionTable.none() if request.no_instructions else InstructionTable.load(request.instructions)
    tasks = named_tasks(terminal, request.names, suite=request.suite, local=request.local, table=table)
    points = _points(terminal, request, folder, stage)
    scores, view = _scores(terminal, request, points, tasks)
    if not scores:
        raise AppError("no task could be scored, and no curve was written: see the errors above")
    curve = _curve(stage, points, tasks, scores)
    path = write_curve(folder, curve)
    _print(terminal, request, folder, curve)
    terminal.say(f"scores: {len(view.computed):,} computed, {len(scores) - len(view.computed):,} reused")
    page = shlex.join(["searchctl", "train", "report", str(request.folder), "--html", "report.html"])
    terminal.say(f"wrote {shown_path(path)}; sample it with `{page}`")
    if view.failed:
        terminal.say("the same command again computes what failed and reads the rest")
    return ExitCode.INCOMPLETE if view.failed else ExitCode.OK


def _scores(
    terminal: Terminal, request: CurveRequest, points: Sequence[_Point], tasks: Sequence[EvalTask]
) -> tuple[list[TaskScore], EvalView]:
    """Return the scores of all points that could be had, and what was told of them."""
    folder = request.folder.expanduser().resolve()
    store = ResultStore(folder / RESULTS if request.results is None else request.results.expanduser())
    store.prepare()
    same_as = first_of_equals([point.who for point in points])
    view = EvalView(
        terminal,
        labels=[point.who.label for point in points if point.who.label not in same_as],
        tasks=[task.name for task in tasks],
        debug=request.debug,
    )
    try:
        with view.live():
            models = [point.model for point in points]
            return evaluate(models, tasks, store, told=view.told, again=request.again), view
    except KeyboardInterrupt:
        terminal.say(f"what was measured is kept in {shown_path(store.folder)}: run the same command again to go on")
        raise


def _stage(request: CurveRequest, folder: Path) -> Stage:
    if not folder.is_dir():
        raise AppError(f"{request.folder}: no such folder, expected the --output of a training run")
    found = trained_stages(folder)
    if not found:
        raise AppError(
            f"{request.folder} holds no checkpoint and no finished stage: expected the --output of "
            "a training run with --keep-checkpoints"
        )
    return found[-1] if request.stage is None else Stage(request.stage)


def _points(terminal: Terminal, request: CurveRequest, folder: Path, stage: Stage) -> list[_Point]:
    """Return the encoders of the curve, identified."""
    base = EncoderConfig(precision=request.precision, device=request.device, batch_tokens=request.batch_tokens)
    points = []
    with pull_bar(terminal, "the base model") as pulling, terminal.waiting("identifying the checkpoints"):
        for step in curve_steps(folder, stage, base, every=request.every, cache=cache_folder(), progress=pulling):
            # Unique in a curve; results of several runs are told apart by the name of the folder.
            label = f"{folder.name} {stage.value} {step.step}"
            model = EncoderModel(label, step.config, cache=cache_folder(), progress=pulling)
            points.append(_Point(step=step, model=model, who=model.identify()))
    terminal.say(f"{stage}, steps {', '.join(str(point.step.step) for point in points)}")
    kept = sum(point.step.place == "checkpoint" for point in points)
    if request.every is not None and not kept:
        terminal.notice(f"--every is {request.every}: no checkpoint is at a multiple of it; start and end are measured")
    elif kept < 2 and request.every is None:
        terminal.notice(
            f"{many(kept, 'checkpoint')} between start and end: a run with --keep-checkpoints keeps one every "
            "--save-every steps"
        )
    return points


def _curve(
    stage: Stage, points: Sequence[_Point], tasks: Sequence[EvalTask], scores: Sequence[TaskScore]
) -> StageCurve:
    same_as = first_of_equals([point.who for point in points])
    grid = {(score.who.label, score.task): score for score in scores}
    metrics = {score.task: score.metric for score in scores}
    return StageCurve(
        stage=stage,
        tasks=tuple(
            CurveTask(
                name=task.name,
                task_type=task.task_type,
                metric=metrics[task.name],
                data=task.data,
                settings=settings_of(task),
            )
            for task in tasks
            if task.name in metrics
        ),
        points=tuple(
            CurvePoint(
                step=point.step.step,
                place=point.step.place,
                fingerprint=point.who.fingerprint,
                scores={
                    task.name: grid[key].score
                    for task in tasks
                    if (key := (same_as.get(point.who.label, point.who.label), task.name)) in grid
                },
            )
            for point in points
        ),
        measured=datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions=describe_versions(),
        command=shlex.join(["searchctl", *sys.argv[1:]]),
    )


def _print(terminal: Terminal, request: CurveRequest, folder: Path, curve: StageCurve) -> None:
    if request.form is ReportFormat.JSON:
        terminal.write(json.dumps({"schema": 1, "stage": curve.stage.value, **curve_to_json(curve)}, indent=2) + "\n")
    else:
        show_table(terminal, curve_table(CurveView(stage=curve.stage, curves={folder.name: curve}, tasks=curve.tasks)))
