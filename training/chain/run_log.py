"""What a training run wrote about itself, read back: its log line by line, its manifest, which stages are finished.

A run may be under way or may have been killed: what cannot be read is told in `RunLog.notes`, and the rest is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..recipe import Stage
from .output_folder import LOG, MANIFEST, STAGE, is_begun

_NO_STEP = "holds no step yet: the first lines come with the first steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of train.jsonl (`loop.Moment`); None stands for what is not there and for what was no number."""

    step: int
    """Optimiser steps done; line 0 is the look at held-out data before the first."""
    steps: int
    loss: float | None
    """Of this step's batch."""
    rate: float | None
    gradient_norm: float | None
    """Before clipping."""
    tokens: int
    """Since the start of the stage."""
    tokens_per_s: float | None
    """Of this step."""
    seconds: float
    """Since the start of the stage, over all runs, looks at held-out data included."""
    metrics: Mapping[str, float | None]
    held_out: Mapping[str, float | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLog:
    """One stage of a run."""

    stage: Stage
    lines: tuple[LogLine, ...]
    """At least one, by step; each step once."""
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """A training run as its output folder tells it."""

    folder: Path
    stages: tuple[StageLog, ...]
    """Those with a line in the log, in the order of training; at least one."""
    manifest: Mapping[str, Any] | None
    """None until the first stage is finished, and when it cannot be read."""
    written: datetime
    """When the log was written last."""
    notes: tuple[str, ...]
    """What a reader must know: lines that were left out, files that cannot be read."""


def read_run(folder: Path) -> RunLog:
    """Return the run in `folder`.

    A damaged line is left out and noted, as is a last line without its end, which a run under way is still writing; of
    two lines of one step the later counts, as after a resume. Raises DataError when there is no log, or no whole line
    in it.
    """
    path = folder / LOG
    try:
        raw = path.read_bytes()
        written = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except OSError as error:
        if is_begun(folder):
            raise DataError(folder, _NO_STEP) from error
        raise DataError(
            folder, f"holds no training run ({LOG}: {error.strerror}). Expected the --output of a training run"
        ) from error
    notes: list[str] = []
    found = _lines(raw, path, notes)
    stages = tuple(
        StageLog(
            stage=stage,
            lines=tuple(found[stage][step] for step in sorted(found[stage])),
            finished=(folder / stage.value / STAGE).is_file(),
        )
        for stage in Stage
        if found[stage]
    )
    if not stages:
        raise DataError(path, notes[0] if notes else _NO_STEP)
    lost = [stage for stage in Stage if not found[stage] and (folder / stage.value / STAGE).is_file()]
    notes += [f"{stage} is finished, but {LOG} has no line of it: it is not shown" for stage in lost]
    return RunLog(folder=folder, stages=stages, manifest=_manifest(folder, notes), written=written, notes=tuple(notes))


def _lines(raw: bytes, path: Path, notes: list[str]) -> dict[Stage, dict[int, LogLine]]:
    """Return the lines by stage and step."""
    found: dict[Stage, dict[int, LogLine]] = {stage: {} for stage in Stage}
    *whole, rest = raw.split(b"\n")
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(whole, start=1):
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("it holds no object")
            stage = Stage(_given(fields, "stage"))
            entry = _line(fields)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
            bad.append((number, str(error)))
            continue
        found[stage][entry.step] = entry
    if bad:
        number, why = bad[0]
        which = f"line {number} is" if len(bad) == 1 else f"{len(bad)} of {len(whole)} lines are, first line {number},"
        notes.append(f"{path}: {which} no step of a training run ({why}) and left out")
    if rest.strip():
        notes.append(f"{path}: the last line has no end and is left out: it is being written, or a kill cut it off")
    return found


def _line(fields: Mapping[str, Any]) -> LogLine:
    """Return the line of an object. Raises ValueError naming the field."""
    held_out = fields.get("held_out")
    line = LogLine(
        step=_count(fields, "step"),
        steps=_count(fields, "steps"),
        loss=_number(fields, "loss"),
        rate=_number(fields, "rate"),
        gradient_norm=_number(fields, "gradient_norm"),
        tokens=_count(fields, "tokens"),
        tokens_per_s=_number(fields, "tokens_per_s"),
        seconds=_number(fields, "seconds") or 0.0,
        metrics=_numbers(fields.get("metrics") or {}, "metrics"),
        held_out=None if held_out is None else _numbers(held_out, "held_out"),
    )
    if line.step > line.steps:
        raise ValueError(f"step is {line.step} of {line.steps} steps")
    return line


def _given(fields: Mapping[str, Any], key: str) -> Any:
    if key not in fields:
        raise ValueError(f"{key} is missing")
    return fields[key]


def _count(fields: Mapping[str, Any], key: str) -> int:
    value = _given(fields, key)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a whole number of at least 0")
    return value


def _number(fields: Mapping[str, Any], key: str) -> float | None:
    return _finite(_given(fields, key), key)


def _numbers(value: Any, key: str) -> dict[str, float | None]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {value!r}, expected an object of numbers")
    return {name: _finite(number, f"{key}.{name}") for name, number in value.items()}


def _finite(value: Any, key: str) -> float | None:
    """Return the number, None for null, nan and infinity: training writes null for both."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, expected a number")
    return float(value) if math.isfinite(value) else None


def _manifest(folder: Path, notes: list[str]) -> Mapping[str, Any] | None:
    path = folder / MANIFEST
    if not path.exists():
        notes.append("no stage is finished yet: base, recipe and data are told once the first one is")
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read ({error}): base, recipe and data are not shown")
        return None
    return manifest


LOWER_IS_BETTER = frozenset(["loss", "uniformity", "alignment"])
"""Held-out scores of which a lower one is better (`contrastive.uniformity_alignment`); of all others a higher one."""
_SPANS = 25
_LEAST_SPAN, _MOST_SPAN = 5, 100

Curve = list[tuple[int, float]]
"""Step and value, by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """One held-out score over a stage; None where it was no number."""

    name: str
    start: float | None
    """At the first look, before the first step."""
    best: float | None
    best_step: int | None
    """The first step with the best value."""
    end: float | None
    """At the last look."""
    end_step: int
    missing: int
    """Looks at which it was no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """What a stage came to."""

    stage: Stage
    finished: bool
    step: int
    steps: int
    tokens: int
    seconds: float
    """Looks at held-out data and checkpoints included, as in the log."""
    tokens_per_s: float | None
    """While training: looks at held-out data left out. None before the first step."""
    first_loss: float | None
    """Of the first step's batch."""
    last_loss: float | None
    smoothed_loss: float | None
    """The last of the smoothed losses, less a matter of the last batch."""
    held_out: tuple[ScoreSummary, ...]


def summarise(log: StageLog) -> StageSummary:
    """Return the numbers of a stage."""
    last = log.lines[-1]
    losses = loss_curve(log)
    smooth = smoothed(losses)
    return StageSummary(
        stage=log.stage,
        finished=log.finished,
        step=last.step,
        steps=last.steps,
        tokens=last.tokens,
        seconds=last.seconds,
        tokens_per_s=_speed(log),
        first_loss=losses[0][1] if losses else None,
        last_loss=losses[-1][1] if losses else None,
        smoothed_loss=smooth[-1][1] if smooth else None,
        held_out=tuple(_score(log, name) for name in score_names(log)),
    )


def _speed(log: StageLog) -> float | None:
    """Return tokens by the time of their steps; a step whose line before is missing does not count."""
    tokens, seconds = 0, 0.0
    for before, line in pairwise(log.lines):
        if line.step == before.step + 1 and line.tokens_per_s:
            tokens += line.tokens - before.tokens
            seconds += (line.tokens - before.tokens) / line.tokens_per_s
    return tokens / seconds if seconds else None


def score_names(log: StageLog) -> list[str]:
    """Return the names of the held-out scores in their order in the log."""
    return list(dict.fromkeys(name for line in log.lines for name in line.held_out or ()))


def _score(log: StageLog, name: str) -> ScoreSummary:
    looks = [(line.step, line.held_out[name]) for line in log.lines if line.held_out and name in line.held_out]
    curve = held_out_curve(log, name)
    sign = 1 if name in LOWER_IS_BETTER else -1
    best_step, best = min(curve, key=lambda point: (sign * point[1], point[0])) if curve else (None, None)
    return ScoreSummary(
        name=name,
        start=looks[0][1],
        best=best,
        best_step=best_step,
        end=looks[-1][1],
        end_step=looks[-1][0],
        missing=len(looks) - len(curve),
    )


def loss_curve(log: StageLog) -> Curve:
    """Return the loss of each step's batch."""
    return [(line.step, line.loss) for line in log.lines if line.loss is not None]


def rate_curve(log: StageLog) -> Curve:
    """Return the learning rate of each step."""
    return [(line.step, line.rate) for line in log.lines if line.step and line.rate is not None]


def norm_curve(log: StageLog) -> Curve:
    """Return the norm of each step's gradient before clipping."""
    return [(line.step, line.gradient_norm) for line in log.lines if line.gradient_norm is not None]


def speed_curve(log: StageLog) -> Curve:
    """Return the tokens a second of each step."""
    return [(line.step, line.tokens_per_s) for line in log.lines if line.step and line.tokens_per_s is not None]


def held_out_curve(log: StageLog, name: str) -> Curve:
    """Return one held-out score at each look at which it was a number."""
    looks = ((line.step, (line.held_out or {}).get(name)) for line in log.lines)
    return [(step, value) for step, value in looks if value is not None]


def smoothing_span(count: int) -> int:
    """Return over about how many of `count` steps `smoothed` averages."""
    return max(_LEAST_SPAN, min(_MOST_SPAN, count // _SPANS))


def smoothed(curve: Curve) -> Curve:
    """Return the exponential moving average, corrected for its start as in Adam (arXiv 1412.6980, section 3).

    The weight of a new value is 2 / (span + 1): its mean age is then that of the last `smoothing_span` values.
    """
    weight = 2 / (smoothing_span(len(curve)) + 1)
    mean, seen, found = 0.0, 0.0, []
    for step, value in curve:
        mean += weight * (value - mean)
        seen += weight * (1 - seen)
        found.append((step, mean / seen))
    return found


def thinned(curve: Curve, most: int) -> Curve:
    """Return at most `most` points (an even number): the lowest and the highest of equal parts, in order.

    Drawn as a line it looks as all points do: no spike is lost. A curve that is short enough comes back as it is.
    """
    if len(curve) <= most:
        return curve
    parts = most // 2
    kept: list[tuple[int, float]] = []
    for part in range(parts):
        points = curve[part * len(curve) // parts : (part + 1) * len(curve) // parts]
        ends = {min(points, key=_value), max(points, key=_value)}
        kept += sorted(ends)
    return kept


def _value(point: tuple[int, float]) -> float:
    return point[1]
