"""How `searchctl train run` runs: recipe, data and model from what was typed, live progress, and what to do next."""

from __future__ import annotations

import math
import os
import shlex
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import EncoderConfig
from ...encoder.depth import Layers, parse_layers
from ...encoder.models.folder import hidden_layers
from ...training.recipe import SHIPPED, Recipe, Stage, load_recipe, shipped_recipes, stage_settings, uses_teacher
from ..collection.encoder_choice import absolute_model, require_model
from ..errors import AppError, ExitCode
from ..options import cache_folder
from ..terminal.console import Terminal
from ..terminal.interrupts import Interrupts
from ..terminal.progress import pull_bar
from .notices import TrainProgress, tell_aside, tell_cost, tell_left_out, tell_sources, tell_unread
from .processes import command_words, joined_processes
from .report import leave_report
from .request import TrainWish

if TYPE_CHECKING:
    from ...encoder.models.resolve import ResolvedModel
    from ...training.chain.request import TrainRequest
    from ...training.chain.run import TrainOutcome
    from ...training.data.training_data import Data
    from ...training.distributed import Ranks
    from ...training.objectives.teacher import Teacher
    from .request import TrainWish


DEFAULT_MODEL = "smollm2-135m"


def recipe_and_base(
    terminal: Terminal, wish: TrainWish, stages: tuple[Stage, ...], output: Path
) -> tuple[Recipe, ResolvedModel]:
    from ...encoder.models.resolve import resolve

    name = absolute_model(wish.model or DEFAULT_MODEL)
    with pull_bar(terminal, name) as pulling:
        base = resolve(EncoderConfig(model=name), cache=cache_folder(), progress=pulling)
    if stages[0] is Stage.MNTP:
        # It starts from the model as it was made; a later stage goes on top of what the model already has.
        if wish.model is not None:
            tell_left_out(terminal, base)
        base = replace(base, adapters=(), projection=None, sidecar=replace(base.sidecar, layers=None))
    said = wish.recipe or (base.entry.recipe if base.entry is not None else "smollm2-135m")
    recipe = recipe_named(said)
    if said_teachers := wish.teacher or recipe.distill.teacher:
        teachers = tuple(absolute_model(each) for each in said_teachers)
        recipe = replace(recipe, distill=replace(recipe.distill, teacher=teachers))
    if wish.layers is not None:
        recipe = replace(recipe, model=replace(recipe.model, layers=_layers(wish.layers)))
    changed = None
    if wish.recipe is None:
        from ...training.chain.fitting import with_possible_start

        recipe, changed = with_possible_start(recipe, base, stages, output)
    terminal.say(f"recipe {recipe.name}: {', '.join(_steps(recipe, stage) for stage in stages)}")
    if changed is not None:
        terminal.notice(changed)
    return recipe, base


def cut_base(base: ResolvedModel, recipe: Recipe) -> tuple[ResolvedModel, Layers | None]:
    """Return the base with the recipe's layers, counted among those it has, and those layers. Raises AppError."""
    cut = recipe.model.layers
    if cut is None:
        return base, None
    there = base.sidecar.layers
    count = len(there) if there is not None else hidden_layers(base.folder)
    if count is not None and cut[-1] >= count:
        raise AppError(f"layers reach to number {cut[-1]}, counted from 0, and {base.name} has {count}")
    kept = cut if there is None else tuple(there[number] for number in cut)
    # A projection is of the states of the last layer there was.
    return replace(base, sidecar=replace(base.sidecar, layers=kept), projection=None), cut


def _layers(said: str) -> Layers:
    """Return the layers of --layers: a number, or numbers with commas between."""
    try:
        numbers = [int(part) for part in said.split(",")]
        return parse_layers(numbers if "," in said else numbers[0])
    except ValueError as error:
        raise AppError(f"--layers is {said!r}: expected a number, for the first so many, or as in 0,2,4,7") from error


def recipe_named(said: str) -> Recipe:
    """Return the recipe of --recipe: one that ships, else a file. Raises AppError for neither."""
    path = Path(said).expanduser()
    if said in shipped_recipes():
        path = SHIPPED / f"{said}.toml"
    elif not path.is_file():
        raise AppError(f"--recipe is {said!r}: expected a TOML file, or one of {', '.join(shipped_recipes())}")
    return load_recipe(path)


def require_use(wish: TrainWish, recipe: Recipe, stages: tuple[Stage, ...]) -> None:
    """Raise AppError for a teacher that is no name, or that no stage would learn from."""
    if not wish.teacher:
        return
    blank = next((name for name in wish.teacher if not name.strip()), None)
    if blank is not None:
        raise AppError(f"--teacher is {blank!r}: expected a name, a folder, or a hub name owner/name")
    if not any(uses_teacher(recipe, stage) for stage in stages):
        raise AppError(
            f"--teacher is {', '.join(wish.teacher)}, but --stages {wish.stages} has no distill, the stage that learns "
            "from a teacher: add it, or leave --teacher out"
        )


def teacher_of(terminal: Terminal, wish: TrainWish, recipe: Recipe, stages: tuple[Stage, ...]) -> Teacher | None:
    """Return the encoder that a stage learns from, None where no stage does or none is named."""
    names = recipe.distill.teacher
    if not names or not any(uses_teacher(recipe, stage) for stage in stages):
        return None
    from ...encoder.load import choose_device, choose_dtype
    from ...training.objectives.teacher import find_teacher

    device = choose_device(wish.device)
    dtype, _ = choose_dtype(wish.precision, device)
    with pull_bar(terminal, names[0]) as pulling:
        found = find_teacher(
            names,
            recipe.distill.teacher_weights,
            device=device,
            dtype=dtype,
            cache=cache_folder(),
            progress=pulling,
        )
    terminal.say(f"teacher {found.info.name}: {found.info.dim} dimensions, licence {found.licence or 'not said'}")
    return found


def _steps(recipe: Recipe, stage: Stage) -> str:
    settings = stage_settings(recipe, stage)
    return f"{stage.value} {settings.schedule.steps} steps of {settings.batch}"


TRAINED_WITH = ("peft", "tokenizers", "safetensors")
"""Packages that decide trained weights besides those that decide scores."""


def run_train(terminal: Terminal, wish: TrainWish) -> ExitCode:
    """Train, and return OK when all stages are done, else INCOMPLETE, or INTERRUPTED after a second Ctrl-C."""
    require_model(wish.model)
    # peft asks transformers by names that are on their way out: nothing that a person training can fix.
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
            from ...training.data.training_data import read_data

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
    from ...training.chain.fitting import with_possible_batches, with_possible_lengths

    recipe, shorter = with_possible_lengths(request.recipe, request.base, request.stages)
    recipe, smaller = with_possible_batches(recipe, data, request.stages, ranks.count)
    for line in (*shorter, *smaller):
        terminal.notice(line)
    return replace(request, recipe=recipe)


def _train(request: TrainRequest, data: Data, view: TrainProgress, interrupts: Interrupts) -> TrainOutcome | None:
    """Return how training ended, None when a second Ctrl-C broke it off."""
    from ...training.chain.run import train

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
    from ...training.chain.output_folder import is_begun

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
    from ...encoder.load import choose_device, choose_dtype
    from ...training.chain.request import TrainRequest
    from ...training.evaluation.measurement import describe_versions
    from ...training.objectives.dev_pairs import read_dev

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
    from ...training.evaluation.measurement import package_version

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
