"""Scores against training steps: the sample-efficiency curve of LLM2Vec (arXiv 2404.05961), section 5.2 and Figure 6.

A curve is of one stage: its start (the adapters below it), the checkpoints that were kept, and its end. Every point is
an encoder that the evaluation measures like any other; what it gave is kept in the output folder, in curve.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...encoder.config import EncoderConfig
from ...encoder.models.folder import check_adapter_folder
from ...encoder.models.resolve import resolve
from ..chain.output_folder import CHECKPOINTS, MANIFEST, STAGE, base_copies, write_json
from ..errors import DataError, TrainingError
from ..recipe import Stage
from .measurement import Json

if TYPE_CHECKING:
    from ...encoder.models.cache import PullCallback


CURVE = "curve.json"
SCHEMA = 1

Place = Literal["start", "checkpoint", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveStep:
    """One encoder of a curve, to be measured."""

    step: int
    place: Place
    config: EncoderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveTask:
    """What was measured, with all that decides a score besides the encoder: only equal tasks compare."""

    name: str
    task_type: str
    metric: str
    data: str
    settings: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What one encoder of the curve scored."""

    step: int
    place: Place
    fingerprint: str
    """Of `measurement.Identity`: weights, adapters and settings."""
    scores: Mapping[str, float]
    """By task, 0 to 1; a task that failed is not in it."""

    def mean(self, tasks: Iterable[str]) -> float | None:
        """Return the mean over `tasks`, None where one is missing or there is none."""
        values = [self.scores.get(task) for task in tasks]
        known = [value for value in values if value is not None]
        return fmean(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCurve:
    """The curve of one stage."""

    stage: Stage
    tasks: tuple[CurveTask, ...]
    points: tuple[CurvePoint, ...]
    """By step, start first."""
    measured: str
    """When, ISO 8601."""
    machine: str
    versions: Mapping[str, str]
    command: str


def curve_steps(
    folder: Path,
    stage: Stage,
    base: EncoderConfig,
    *,
    every: int | None = None,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> list[CurveStep]:
    """Return the encoders of a stage's curve: start, kept checkpoints and end, by step.

    `every` leaves out checkpoints at other steps than its multiples. The end of a finished stage is its adapter as it
    is used (bf16, with its merge share), in place of the checkpoint of the last step. All of them have the stage's
    pooling, the start too. `base` says how to compute (device, precision). Raises TrainingError without anything to
    measure, and what `resolve` raises.
    """
    from ..checkpoints import checkpoints, step_of

    found = {step_of(path): path for path in checkpoints(folder / CHECKPOINTS / stage.value)}
    end = folder / stage.value
    final = _record(end / STAGE)
    last = None if final is None else _last_step(final, end / STAGE)
    kept = {step: path for step, path in found.items() if step != last and (every is None or step % every == 0)}
    if final is None and not kept:
        raise TrainingError(_nothing(folder, stage, every, found))
    some = end if final is not None else next(iter(kept.values()))
    check_adapter_folder(some)
    config = replace(base, model=str(some))
    below = resolve(config, cache=cache, progress=progress).adapters[:-1]
    start = replace(config, chain=len(below), adapters=_started_from(folder, stage, final, below))
    steps = [CurveStep(step=0, place="start", config=start)]
    steps += [CurveStep(step=n, place="checkpoint", config=replace(base, model=str(kept[n]))) for n in kept]
    if last is not None:
        steps.append(CurveStep(step=last, place="end", config=replace(base, model=str(end))))
    return steps


def _nothing(folder: Path, stage: Stage, every: int | None, found: Mapping[int, Path]) -> str:
    if found:
        listed = ", ".join(map(str, found))
        return f"--every is {every}: no checkpoint of {stage} is at a multiple of it, but at {listed}"
    return (
        f"{folder} holds no checkpoint of {stage} and no finished {stage}: expected the --output of a run that "
        "has begun that stage; --keep-checkpoints keeps one every --save-every steps"
    )


def _started_from(
    folder: Path, stage: Stage, final: Mapping[str, Any] | None, below: Sequence[Path]
) -> tuple[Path, ...]:
    """Return the adapter whose weights the stage's own began with, () where it began with none (B = 0).

    Supervised training may go on with SimCSE's adapter or the last that the model brought, and distillation with that
    of the stage before it, whichever that is; then it is not below the stage's own, but in its place
    (`adapters_below` of chain/run.py).
    """
    if stage not in (Stage.SUPERVISED, Stage.DISTILL):
        return ()
    path = folder / (MANIFEST if final is None else f"{stage.value}/{STAGE}")
    said = _record(path)
    brought = [copy for copy in base_copies(folder) if copy.resolve() not in {path.resolve() for path in below}]
    if said is None:  # no stage is finished, so there was none to go on with, but for an adapter of the model
        return tuple(brought)
    try:
        start = said["recipe"][stage.value]["start"]
    except (KeyError, TypeError) as error:
        raise DataError(path, f"does not say what the stage {stage} started from (no {error})") from error
    if stage is Stage.SUPERVISED and start == "simcse":
        return (folder / Stage.SIMCSE.value,)
    if start != "previous":
        return ()
    earlier_stages = list(Stage)[: list(Stage).index(stage)]
    before = [earlier for earlier in earlier_stages if (folder / earlier.value / STAGE).is_file()]
    if not before and brought:
        return tuple(brought)
    if not before:
        raise DataError(path, f"says that {stage} went on with the stage before, but {folder} holds none finished")
    return (folder / before[-1].value,)


def _last_step(final: Mapping[str, Any], path: Path) -> int:
    try:
        return int(final["progress"]["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"does not say how many steps were made (no {error})") from error


def trained_stages(folder: Path) -> list[Stage]:
    """Return the stages that have a checkpoint or are finished, in their order."""
    return [
        stage
        for stage in Stage
        if (folder / stage.value / STAGE).is_file() or any((folder / CHECKPOINTS / stage.value).glob("step-*"))
    ]


def read_curves(folder: Path) -> dict[Stage, StageCurve]:
    """Return the curves kept in a folder by stage, {} without any. Raises DataError for a damaged file."""
    path = folder / CURVE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema is {content['schema']}, expected {SCHEMA}")
        curves = [_curve(Stage(name), entry) for name, entry in content["stages"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, f"cannot be read ({error}). Remove it and run the command again") from error
    return {curve.stage: curve for curve in sorted(curves, key=lambda curve: list(Stage).index(curve.stage))}


def write_curve(folder: Path, curve: StageCurve) -> Path:
    """Put the curve beside those of other stages in a folder's curve.json, whole or not at all, and return the file."""
    curves = {**read_curves(folder), curve.stage: curve}
    entries = {stage.value: curve_to_json(curves[stage]) for stage in Stage if stage in curves}
    write_json(folder / CURVE, {"schema": SCHEMA, "stages": entries})
    return folder / CURVE


def curve_to_json(curve: StageCurve) -> dict[str, Any]:
    """Return the JSON of a curve without its stage; each point has the mean over all tasks, null where one failed."""
    entry = asdict(curve)
    del entry["stage"]
    names = [task.name for task in curve.tasks]
    for point, written in zip(curve.points, entry["points"], strict=True):
        written["mean"] = point.mean(names)
    return entry


def _curve(stage: Stage, entry: Mapping[str, Any]) -> StageCurve:
    points = []
    for said in entry["points"]:
        given = {key: value for key, value in said.items() if key != "mean"}  # it follows from the scores
        point = CurvePoint(**given)
        if point.place not in get_args(Place) or type(point.step) is not int:
            raise ValueError(f"a point is {said}")
        for task, score in point.scores.items():
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise ValueError(f"the score of {task} at step {point.step} is {score!r}")
        points.append(point)
    return StageCurve(
        stage=stage,
        tasks=tuple(CurveTask(**task) for task in entry["tasks"]),
        points=tuple(points),
        **{name: entry[name] for name in ("measured", "machine", "versions", "command")},
    )


def shared_curve_tasks(curves: Sequence[StageCurve]) -> tuple[CurveTask, ...]:
    """Return the tasks that all curves were measured on, with the same data, metric and settings."""
    first, *others = curves
    return tuple(task for task in first.tasks if all(task in other.tasks for other in others))


def _record(path: Path) -> dict[str, Any] | None:
    """Return a file's JSON object, None where there is no file. Raises DataError."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error}), expected what a training run writes") from error
    return content
