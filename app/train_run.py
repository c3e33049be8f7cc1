"""How `searchctl train` runs: recipe, data and model from what was typed, live progress, and what to do next."""

from __future__ import annotations

import math
import os
import shlex
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..encoder.config import Precision
from ..training.recipe import Recipe, Stage
from .console import Terminal
from .encoders import require_model
from .errors import AppError, ExitCode
from .interrupts import Interrupts
from .processes import command_words, joined_processes
from .settings import cache_folder
from .train_models import DEFAULT_MODEL, cut_base, recipe_and_base, require_use, teacher_of
from .train_notices import tell_aside, tell_cost, tell_sources, tell_unread
from .train_progress import TrainProgress
from .train_report import leave_report

if TYPE_CHECKING:
    from ..encoder.resolve import ResolvedModel
    from ..training.chain.request import TrainRequest
    from ..training.chain.run import TrainOutcome
    from ..training.data.training_data import Data
    from ..training.distributed import Ranks
    from ..training.objectives.teacher import Teacher

TRAINED_WITH = ("peft", "tokenizers", "safetensors")
"""Packages that decide trained weights besides those that decide scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainWish:
    """What a person typed."""

    model: str | None
    stages: str
    data: tuple[Path, ...]
    recipe: str | None
    layers: str | None
    teacher: tuple[str, ...]
    output: Path | None
    dev: tuple[Path, ...]
    max_minutes: float | None
    resume: bool
    save_every: int
    evaluate_every: int
    keep_checkpoints: bool
    gradient_checkpointing: bool
    precision: Precision
    device: str


def run_train(terminal: Terminal, wish: TrainWish) -> ExitCode:
    """Train, and return OK when all stages are done, else INCOMPLETE, or INTERRUPTED after a second Ctrl-C."""
    require_model(wish.model)
    # peft asks transformers by names that are on their way out: nothing that a person training can mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    stages = _stages(wish.stages)
    _require_time(wish.max_minutes)
    output = _output(wish)
    if not wish.data:
        raise AppError("--data is missing: expected files or folders of JSON lines, as in --data texts.jsonl")
    with ExitStack() as stack:
        ranks = stack.enter_context(joined_processes())
        terminal.quiet |= not ranks.is_main
        recipe, base = recipe_and_base(terminal, wish, stages, output)
        require_use(wish, recipe, stages)
        teacher = teacher_of(terminal, wish, recipe, stages)
        # What is wrong with these is told before the data are read, which may take a while.
        base, cut = cut_base(base, recipe)
        request = replace(_request(wish, stages, recipe=recipe, base=base, teacher=teacher, output=output), cut=cut)
        with terminal.waiting("reading and checking the data"):
            from ..training.data.training_data import read_data

            data = read_data(wish.data, stages)
        terminal.say(_said(data))
        tell_unread(terminal, data)
        if wish.recipe is None:
            request = _fitted(terminal, request, data, ranks)
            tell_cost(terminal, request, data)
        tell_sources(terminal, request.recipe, data, stages)
        tell_aside(terminal, request.recipe, stages)
        view = TrainProgress(terminal, request.recipe, stages)
        interrupts = Interrupts(view.stopping)
        with interrupts.active(), view.live():
            outcome = _train(request, data, view, interrupts)
    if not ranks.is_main:
        return ExitCode.OK
    if outcome is not None:
        leave_report(terminal, output)
    return _ended(terminal, outcome, output)


def _fitted(terminal: Terminal, request: TrainRequest, data: Data, ranks: Ranks) -> TrainRequest:
    """Return the request with a recipe that nobody named fitted to the data."""
    from ..training.chain.fitting import with_possible_batches, with_possible_lengths

    recipe, shorter = with_possible_lengths(request.recipe, request.base, request.stages)
    recipe, smaller = with_possible_batches(recipe, data, request.stages, ranks.count)
    for line in (*shorter, *smaller):
        terminal.notice(line)
    return replace(request, recipe=recipe)


def _train(request: TrainRequest, data: Data, view: TrainProgress, interrupts: Interrupts) -> TrainOutcome | None:
    """Return how training ended, None when a second Ctrl-C broke it off."""
    from ..training.chain.run import train

    outcome: TrainOutcome | None = None
    try:
        # The step under way comes to its end and is saved; a second Ctrl-C ends at once, at the last checkpoint.
        with interrupts.shield():
            outcome = train(request, data, told=view.told, stop=lambda: view.asked)
    except KeyboardInterrupt:
        if not view.asked:
            raise
    return outcome


def _stages(said: str) -> tuple[Stage, ...]:
    names = [part.strip() for part in said.split(",") if part.strip()]
    unknown = [name for name in names if name not in list(Stage)]
    if unknown or not names or [Stage(name) for name in names] != [stage for stage in Stage if stage in names]:
        raise AppError(
            f"--stages is {said!r}: expected some of {', '.join(Stage)}, each once, in this order, with commas between"
        )
    return tuple(Stage(name) for name in names)


def _require_time(minutes: float | None) -> None:
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise AppError(f"--max-minutes is {minutes:g}: expected a number of minutes above 0")


def _output(wish: TrainWish) -> Path:
    from ..training.chain.output_folder import is_begun

    name = Path(wish.model or DEFAULT_MODEL).name
    output = (wish.output or Path(f"trained-{name}")).expanduser().absolute()
    begun = is_begun(output)
    if begun and not wish.resume:
        raise AppError(
            f"{output} holds an earlier training run: add --resume to go on with it, or choose another --output"
        )
    if not begun and output.exists() and any(output.iterdir()):
        raise AppError(f"--output is {output}, which is not empty: expected a new folder")
    if wish.resume and not begun:
        raise AppError(f"--resume: {output} holds no training run; leave --resume out to begin one")
    return output


def _request(
    wish: TrainWish,
    stages: tuple[Stage, ...],
    *,
    recipe: Recipe,
    base: ResolvedModel,
    teacher: Teacher | None,
    output: Path,
) -> TrainRequest:
    from ..encoder.load import choose_device, choose_dtype
    from ..training.chain.request import TrainRequest
    from ..training.evaluation.measurement import describe_versions
    from ..training.objectives.dev_pairs import read_dev

    device = choose_device(wish.device)
    dtype, _ = choose_dtype(wish.precision, device)
    return TrainRequest(
        base=base,
        stages=stages,
        data=wish.data,
        recipe=recipe,
        output=output,
        device=device,
        dtype=dtype,
        dev=tuple(read_dev(path, recipe.dev) for path in wish.dev),
        teacher=teacher,
        save_every=wish.save_every,
        evaluate_every=wish.evaluate_every,
        keep_all=wish.keep_checkpoints,
        checkpointing=wish.gradient_checkpointing,
        max_seconds=None if wish.max_minutes is None else 60 * wish.max_minutes,
        command=shlex.join(command_words(sys.argv[1:], os.environ)),
        versions={
            **describe_versions(),
            **_trained_with(),
        },
        cache=cache_folder(),
    )


def _trained_with() -> dict[str, str]:
    from ..training.evaluation.measurement import package_version

    found = {name: package_version(name) for name in TRAINED_WITH}
    return {name: number for name, number in found.items() if number is not None}


def _said(data: Data) -> str:
    pairs = sum(len(source.pairs) for source in data.pairs)
    unseen = len(data.unseen_texts) + sum(len(source.pairs) for source in data.unseen_pairs)
    return f"data: {len(data.texts):,} texts and {pairs:,} pairs to train on, {unseen:,} held out"


def _ended(terminal: Terminal, outcome: TrainOutcome | None, output: Path) -> ExitCode:
    words = [word for word in sys.argv[1:] if word != "--resume"]
    again = f"go on with `{shlex.join([*command_words(words, os.environ), '--resume'])}`"
    if outcome is None:
        terminal.say(f"ended at once; steps since the last checkpoint are lost; {again}")
        return ExitCode.INTERRUPTED
    if not outcome.complete:
        terminal.say(f"saved{_standing(outcome)}; {again}")
        return ExitCode.INCOMPLETE
    terminal.write(f"{output}\n")
    folder = shlex.quote(str(output))
    terminal.say(
        f"done. Index with it: `searchctl index PATH --model {folder}`, or make it the encoder of a collection that is "
        f"there: `searchctl models promote {folder}`"
    )
    return ExitCode.OK


def _standing(outcome: TrainOutcome) -> str:
    if not outcome.stages:
        return ""
    last = outcome.stages[-1]
    if last.outcome.finished:
        return f" after {last.stage}"
    return f" at step {last.outcome.progress.step} of {last.stage}"
