"""A recipe that nobody chose, fitted to the model and the data that somebody did: each change is told, none is silent.

The same model, stages, folder and data give the same changes, so that a run is resumed with the recipe it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..encoder.model_folder import context
from ..encoder.resolve import ResolvedModel
from .needs import supply_of
from .recipe import Recipe, Stage, stage_settings
from .supply import largest_batch
from .trained_folder import finished_stages, lora_sizes
from .training_data import Data


def with_possible_start(
    recipe: Recipe, base: ResolvedModel, stages: Sequence[Stage], output: Path
) -> tuple[Recipe, str | None]:
    """Return `recipe` with a start of the supervised stage that is there to be had, and what was changed.

    Where SimCSE's adapter is to be trained further and no such stage is asked for or finished, the last adapter of the
    model is trained further instead, or a fresh one on top of the stage before, or of a model without adapters.
    """
    there = {*stages, *finished_stages(output)}
    if Stage.SUPERVISED not in stages or recipe.supervised.start != "simcse" or Stage.SIMCSE in there:
        return recipe, None
    why = f"recipe {recipe.name} starts supervised training from simcse, which is not among the stages"
    if Stage.MNTP in there or not base.adapters:
        below = "the adapter of mntp" if Stage.MNTP in there else f"{base.name}, which has none,"
        changed = replace(recipe, supervised=replace(recipe.supervised, start="fresh"))
        return changed, f'{why}: a fresh adapter on top of {below} is trained instead (start = "fresh")'
    lora = replace(recipe.supervised.lora, **lora_sizes(base.adapters[-1]))
    other = "" if lora == recipe.supervised.lora else f", with its rank {lora.rank} and alpha {lora.alpha}"
    changed = replace(recipe, supervised=replace(recipe.supervised, start="previous", lora=lora))
    return changed, (
        f"{why}: the last adapter of {base.name}, {base.adapters[-1].name}, is trained further instead "
        f'(start = "previous"){other}'
    )


def with_possible_batches(
    recipe: Recipe, data: Data, stages: Sequence[Stage], processes: int
) -> tuple[Recipe, list[str]]:
    """Return `recipe` with batches that the data can fill, and what was changed.

    A batch is made no larger. Where a source holds no batch at all, it stays as it is, and `check_needs` refuses it.
    """
    said: list[str] = []
    for stage in stages:
        # MNTP counts rows of tokens, which only its own reading of all texts tells.
        settings: Any = stage_settings(recipe, stage)
        supply = None if stage is Stage.MNTP else supply_of(stage, recipe, data)
        if supply is None or supply.least >= settings.batch:
            continue
        size = largest_batch(_power_of_two(supply.least), processes)
        if size is None:
            continue
        name = min(supply.counts, key=lambda source: supply.counts[source])
        recipe = replace(recipe, **{stage.value: replace(settings, batch=size)})
        said.append(
            f"{stage}: a batch of recipe {recipe.name} is {settings.batch:,} {supply.kind}, and {name} has "
            f"{supply.least:,} to train on: batches of {size:,} are taken instead ({stage}.batch)"
        )
    return recipe, said


def with_possible_lengths(recipe: Recipe, base: ResolvedModel, stages: Sequence[Stage]) -> tuple[Recipe, list[str]]:
    """Return `recipe` with texts no longer than what the model was made for, and what was changed."""
    limit = context(base.folder)
    said: list[str] = []
    for stage in stages:
        settings: Any = stage_settings(recipe, stage)
        if limit is not None and settings.length > limit:
            recipe = replace(recipe, **{stage.value: replace(settings, length=limit)})
            said.append(
                f"{stage}: a text of recipe {recipe.name} has up to {settings.length:,} tokens, and {base.name} was "
                f"made for {limit:,}: {limit:,} are taken instead ({stage}.length)"
            )
    return recipe, said


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1) if most else 0
