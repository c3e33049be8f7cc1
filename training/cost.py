"""How many tokens a run will read, estimated before the first step from the texts as they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from .contrastive_objective import sentences
from .recipe import MntpStage, Recipe, SimcseStage, SourceSettings, Stage, SupervisedStage, stage_settings
from .training_data import Data

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
