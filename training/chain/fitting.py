"""A recipe that nobody chose, fitted to the model and the data that somebody did: each change is told, none is silent.

The same model, stages, folder and data give the same changes, so that a run is resumed with the recipe it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...encoder.models.folder import context
from ...encoder.models.resolve import ResolvedModel
from ..data.sentences import sentences
from ..data.training_data import Data
from ..objectives.batch_supply import largest_batch
from ..recipe import MntpStage, Recipe, SimcseStage, SourceSettings, Stage, SupervisedStage, stage_settings
from .output_folder import finished_stages, lora_sizes
from .preflight import supply_of


def with_possible_start(
    recipe: Recipe, base: ResolvedModel, stages: Sequence[Stage], output: Path
) -> tuple[Recipe, str | None]:
    """Return `recipe` with a start of the supervised stage that is there, and what was changed.

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


CHARS_PER_TOKEN = 4
"""Of English text, about."""
CPU_TOKENS_PER_S = 75
"""60 to 90 on one core without bf16 instructions, of a model of 135 million parameters (training/LOG.md)."""
_LOOKED_AT = 1000


def expected_tokens(recipe: Recipe, stages: Sequence[Stage], data: Data) -> dict[Stage, int]:
    """Return about how many tokens each stage reads in all of its steps, padding not counted."""
    return {stage: int(_of_step(recipe, stage, data) * _steps(recipe, stage)) for stage in stages}


def _steps(recipe: Recipe, stage: Stage) -> int:
    return stage_settings(recipe, stage).schedule.steps


def _of_step(recipe: Recipe, stage: Stage, data: Data) -> float:
    settings = stage_settings(recipe, stage)
    if isinstance(settings, MntpStage):
        return settings.batch * settings.length
    if isinstance(settings, SimcseStage):
        texts = list(islice(data.texts, _LOOKED_AT))
        return 2 * settings.batch * _mean(sentences(texts) if settings.sentences else texts, settings.length)
    read = data.read_pairs(recipe)
    sources = [source for source in data.pairs if source.name in read and source.pairs]
    if not sources:
        return settings.batch * _mean(list(islice(data.texts, _LOOKED_AT)), settings.length)
    weights, sizes = [], []
    for source in sources:
        said = recipe.supervised.sources.get(source.name, SourceSettings())
        pairs = source.pairs[:_LOOKED_AT]
        asked = f"{said.instruction or ''} "
        size = _mean([asked + pair.query for pair in pairs], settings.length)
        size += _mean([pair.positive for pair in pairs], settings.length)
        if isinstance(settings, SupervisedStage):
            negatives = [text for pair in pairs for text in pair.negatives[: settings.hard_negatives]]
            size += _mean(negatives, settings.length) * len(negatives) / max(1, len(pairs))
        sizes.append(size)
        weights.append(said.weight * len(source.pairs))
    return settings.batch * sum(map(float.__mul__, sizes, weights)) / sum(weights)


def _mean(texts: Sequence[str], most: int) -> float:
    return sum(min(most, 1 + len(text) / CHARS_PER_TOKEN) for text in texts) / max(1, len(texts))
