"""The training loop of one stage: the same weights whether it runs through or is killed and resumed.

Everything random in a step follows from the seed and the step's number, and the data's order too, so that a checkpoint
needs no random state. (On one device and in one process; more processes add floats in another order.)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from .checkpoints import Progress, restore, save_checkpoint
from .distributed import Ranks, add_up, agree
from .errors import TrainingError
from .recipe import Schedule
from .trainable import Trainable


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one process's forward and backward pass over its share of a batch gave; gradients are in the parameters."""

    loss: float
    """Whose mean over the processes is the loss of the step."""
    tokens: int
    """Tokens of text read, padding not counted, each view once."""
    metrics: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """What a stage minimises."""

    def step(self, number: int) -> StepResult:
        """Compute loss and gradients of optimiser step `number`; its data and randomness follow from the number."""
        ...

    def held_out(self) -> dict[str, float]:
        """Return scores on held-out data, "loss" among them; no gradients, no randomness from step to step."""
        ...

    def describe(self, number: int) -> list[dict[str, Any]]:
        """Return the data of step `number` as objects of a data file, for the report of a loss that is no number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How a stage is run, apart from its recipe."""

    folder: Path
    """Of this stage; checkpoints are put in it."""
    settings: str
    """Digest of everything that decides the result."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What the digest is made of, to say what differs."""
    save_every: int = 100
    evaluate_every: int = 100
    keep_all: bool = False
    deadline: float | None = None
    """Training stops after the step in which `time.monotonic()` reaches this."""
    is_main: bool = True
    """Only this process writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the training log."""

    step: int
    steps: int
    loss: float | None
    rate: float
    gradient_norm: float | None
    tokens: int
    """Since the start of the stage."""
    tokens_per_s: float
    seconds: float
    metrics: Mapping[str, float]
    held_out: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the loop ended."""

    progress: Progress
    finished: bool
    """False when time was up or it was asked to stop; the checkpoint goes on from there."""


def run_stage(
    trainable: Trainable,
    objective: Objective,
    schedule: Schedule,
    settings: LoopSettings,
    *,
    told: Callable[[Moment], None],
    stop: Callable[[], bool],
    average_gradients: Callable[[Trainable], None] | None = None,
    saving: Callable[[], None] | None = None,
) -> Outcome:
    """Train until the schedule's end, from the newest checkpoint where there is one.

    `stop` is asked after each step, `saving` called before each checkpoint is written.
    Raises TrainingError when loss or gradients are no numbers, with the batch saved.
    """
    parameters = [value for _, value in trainable.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    ranks = Ranks.current()
    if settings.is_main:
        settings.folder.mkdir(parents=True, exist_ok=True)
    progress = restore(settings.folder, trainable, optimizer, settings.settings, settings.parts) or Progress(
        step=0, tokens=0, seconds=0.0, settings=settings.settings, parts=settings.parts
    )
    began = time.monotonic() - progress.seconds
    limit = math.inf if settings.deadline is None else settings.deadline
    if progress.step == 0:
        told(_moment(progress, schedule, None, held_out=objective.held_out()))
    while progress.step < schedule.steps:
        step_began = time.monotonic()
        result, norm = _step(
            progress.step,
            trainable,
            objective,
            optimizer,
            schedule,
            settings=settings,
            average_gradients=average_gradients,
        )
        now = time.monotonic()
        speed = result.tokens / max(now - step_began, 1e-9)
        progress = replace(
            progress, step=progress.step + 1, tokens=progress.tokens + result.tokens, seconds=now - began
        )
        last = progress.step == schedule.steps
        held_out = objective.held_out() if last or progress.step % settings.evaluate_every == 0 else None
        told(_moment(progress, schedule, result, norm=norm, speed=speed, held_out=held_out))
        ending = agree(last or time.monotonic() >= limit or stop(), ranks)
        if settings.is_main and (ending or progress.step % settings.save_every == 0):
            progress = replace(progress, seconds=time.monotonic() - began)
            if saving is not None:
                saving()
            save_checkpoint(settings.folder, trainable, optimizer, progress, keep_all=settings.keep_all)
        if ending:
            break
    return Outcome(progress=progress, finished=progress.step >= schedule.steps)


def _step(
    number: int,
    trainable: Trainable,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    settings: LoopSettings,
    average_gradients: Callable[[Trainable], None] | None,
) -> tuple[StepResult, float]:
    """Take optimiser step `number`; return its result over all processes and the gradient's norm before clipping.

    Raises TrainingError when loss or gradients are no numbers, in any process, with the batch saved.
    """
    trainable.decoder.train()
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(number)
    result = objective.step(number)
    if average_gradients is not None:
        average_gradients(trainable)
    parameters = [value for _, value in trainable.parameters()]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, schedule.clip_norm))
    ranks = Ranks.current()
    if agree(not (math.isfinite(result.loss) and math.isfinite(norm)), ranks):
        raise _not_a_number(objective, number, result.loss, norm, settings)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return _of_all(result, ranks), norm


def _of_all(result: StepResult, ranks: Ranks) -> StepResult:
    """Return the tokens of all processes, and the means of their losses and metrics."""
    if ranks.count == 1:
        return result
    tokens, *sums = add_up([result.tokens, result.loss, *result.metrics.values()], ranks)
    loss, *metrics = (value / ranks.count for value in sums)
    return StepResult(loss=loss, tokens=round(tokens), metrics=dict(zip(result.metrics, metrics, strict=True)))


def _moment(
    progress: Progress,
    schedule: Schedule,
    result: StepResult | None,
    *,
    norm: float | None = None,
    speed: float = 0.0,
    held_out: Mapping[str, float] | None,
) -> Moment:
    return Moment(
        step=progress.step,
        steps=schedule.steps,
        loss=None if result is None else result.loss,
        rate=schedule.rate(max(0, progress.step - 1)),
        gradient_norm=norm,
        tokens=progress.tokens,
        tokens_per_s=speed,
        seconds=progress.seconds,
        metrics={} if result is None else result.metrics,
        held_out=held_out,
    )


def _not_a_number(objective: Objective, step: int, loss: float, norm: float, settings: LoopSettings) -> TrainingError:
    path = settings.folder / f"bad-batch-step-{step:06d}.jsonl"
    if settings.is_main:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in objective.describe(step)]
        path.write_text("".join(lines), encoding="utf-8")
    where = "" if math.isfinite(loss) and math.isfinite(norm) else f"loss is {loss} and the gradient's norm {norm}"
    return TrainingError(
        f"step {step}: {where or 'in another process loss or gradient is no number'}, expected finite numbers. Nothing "
        f"was changed by this step; its data are in {path}, which --data reads. Try a lower learning rate, or "
        "--precision fp32"
    )
