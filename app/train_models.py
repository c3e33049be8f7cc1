"""Which recipe, base model and teacher a training command means; all of them found before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..encoder.config import EncoderConfig
from ..encoder.depth import Layers, parse_layers
from ..encoder.model_folder import hidden_layers
from ..training.recipe import SHIPPED, Recipe, Stage, load_recipe, shipped_recipes, stage_settings, uses_teacher
from .console import Terminal
from .encoders import absolute_model
from .errors import AppError
from .pulling import pull_bar
from .settings import cache_folder
from .train_notices import tell_left_out

if TYPE_CHECKING:
    from ..encoder.resolve import ResolvedModel
    from ..training.objectives.teacher import Teacher
    from .train_run import TrainWish

DEFAULT_MODEL = "smollm2-135m"


def recipe_and_base(
    terminal: Terminal, wish: TrainWish, stages: tuple[Stage, ...], output: Path
) -> tuple[Recipe, ResolvedModel]:
    from ..encoder.resolve import resolve

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
        from ..training.chain.fitting import with_possible_start

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
    from ..encoder.load import choose_device, choose_dtype
    from ..training.objectives.teacher import find_teacher

    device = choose_device(wish.device)
    dtype, _ = choose_dtype(wish.precision, device)
    with pull_bar(terminal, names[0]) as pulling:
        found = find_teacher(
            names,
            recipe.distill.teacher_weights,
            device=device,
            dtype=dtype,
            notice=terminal.say,
            cache=cache_folder(),
            progress=pulling,
        )
    terminal.say(f"teacher {found.info.name}: {found.info.dim} dimensions, licence {found.licence or 'not said'}")
    return found


def _steps(recipe: Recipe, stage: Stage) -> str:
    settings = stage_settings(recipe, stage)
    return f"{stage.value} {settings.schedule.steps} steps of {settings.batch}"
