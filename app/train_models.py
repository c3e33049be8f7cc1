"""Which recipe, base model and teacher a training command means; all of them found before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..encoder.config import EncoderConfig
from ..training.recipe import SHIPPED, Recipe, Stage, load_recipe, shipped_recipes, stage_settings
from .console import Terminal
from .encoders import absolute_model
from .errors import AppError
from .pulling import pull_bar
from .settings import cache_folder
from .train_notices import tell_left_out

if TYPE_CHECKING:
    from ..encoder.resolve import ResolvedModel
    from ..training.teacher import Teacher
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
        base = replace(base, adapters=())
    said = wish.recipe or (base.entry.recipe if base.entry is not None else "smollm2-135m")
    recipe = recipe_named(said)
    if said_teacher := wish.teacher or recipe.distill.teacher:
        recipe = replace(recipe, distill=replace(recipe.distill, teacher=absolute_model(said_teacher)))
    changed = None
    if wish.recipe is None:
        from ..training.fitting import with_possible_start

        recipe, changed = with_possible_start(recipe, base, stages, output)
    terminal.say(f"recipe {recipe.name}: {', '.join(_steps(recipe, stage) for stage in stages)}")
    if changed is not None:
        terminal.notice(changed)
    return recipe, base


def recipe_named(said: str) -> Recipe:
    """Return the recipe of --recipe: one that ships, else a file. Raises AppError for neither."""
    path = Path(said).expanduser()
    if said in shipped_recipes():
        path = SHIPPED / f"{said}.toml"
    elif not path.is_file():
        raise AppError(f"--recipe is {said!r}: expected a TOML file, or one of {', '.join(shipped_recipes())}")
    return load_recipe(path)


def require_use(wish: TrainWish, stages: tuple[Stage, ...]) -> None:
    """Raise AppError for a teacher that is no name, or that no stage would learn from."""
    if wish.teacher is None:
        return
    if not wish.teacher.strip():
        raise AppError(f"--teacher is {wish.teacher!r}: expected a name, a folder, or a hub name owner/name")
    if Stage.DISTILL not in stages:
        raise AppError(
            f"--teacher is {wish.teacher}, but --stages {wish.stages} has no distill, the stage that learns from a "
            "teacher: add it, or leave --teacher out"
        )


def teacher_of(terminal: Terminal, wish: TrainWish, recipe: Recipe, stages: tuple[Stage, ...]) -> Teacher | None:
    """Return the encoder that the distill stage learns from, None without that stage or where none is named."""
    name = recipe.distill.teacher
    if Stage.DISTILL not in stages or name is None:
        return None
    from ..encoder.load import choose_device, choose_dtype
    from ..training.teacher import find_teacher

    device = choose_device(wish.device)
    dtype, _ = choose_dtype(wish.precision, device)
    with pull_bar(terminal, name) as pulling:
        found = find_teacher(
            name, device=device, dtype=dtype, notice=terminal.say, cache=cache_folder(), progress=pulling
        )
    terminal.say(f"teacher {found.info.name}: {found.info.dim} dimensions, licence {found.licence or 'not said'}")
    return found


def _steps(recipe: Recipe, stage: Stage) -> str:
    settings = stage_settings(recipe, stage)
    return f"{stage.value} {settings.schedule.steps} steps of {settings.batch}"
