"""The numbers of a training run that a person reads first, and its curves made fit for drawing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .recipe import Stage
from .run_log import StageLog

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
