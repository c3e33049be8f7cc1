"""What the stages of a run need, looked at before the first step: no run is to end after hours for lack of data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...encoder.config import Pooling
from ...encoder.errors import EncoderError
from ...encoder.models.folder import context
from ...encoder.models.identity import full_width
from ...encoder.protocol import Role
from ...encoder.tokenize import TextTokenizer, load_tokenizer
from ..data.sentences import sentences
from ..data.training_data import Data
from ..distributed import Ranks
from ..errors import TrainingError
from ..objectives.batch_supply import Supply, require_negatives, require_supply, source_supply, text_supply
from ..objectives.distill import LessonSource, lesson_supply, pair_lessons, text_lessons
from ..objectives.vector import TextKind, kind_supply, text_kinds
from ..recipe import (
    DistillStage,
    MntpStage,
    Recipe,
    SimcseStage,
    SourceSettings,
    Stage,
    SupervisedStage,
    stage_settings,
)
from .output_folder import finished_stages

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .request import TrainRequest


_WORD = "a"
"""A text of one token, the shortest that there is."""


def check_needs(request: TrainRequest, data: Data, ranks: Ranks) -> None:
    """Raise TrainingError naming the value to set unless each stage that is yet to be run has data for its batches.

    And room for its instructions. MNTP is the first stage, and counts its rows itself when it has read the texts.
    """
    held = finished_stages(request.output)
    tokenizer = load_tokenizer(request.base.folder)
    for stage in (stage for stage in request.stages if stage not in held):
        settings = stage_settings(request.recipe, stage)
        ranks.share(settings.batch, f"{stage}.batch")
        if not isinstance(settings, MntpStage):
            require_supply(stage, settings.batch, supply_of(stage, request.recipe, data), ranks.count)
            _check_room(request, data, stage, tokenizer)
        if isinstance(settings, SupervisedStage):
            read = data.read_pairs(request.recipe)
            require_negatives([source for source in data.pairs if source.name in read], settings.hard_negatives)
        _check_model(request, stage)


def supply_of(stage: Stage, recipe: Recipe, data: Data) -> Supply:
    """Return what `stage`, any but MNTP, samples its batches from."""
    settings = stage_settings(recipe, stage)
    if isinstance(settings, SimcseStage):
        seen, unseen = (sentences(part) if settings.sentences else part for part in (data.texts, data.unseen_texts))
        return text_supply(len(seen), len(unseen))
    if isinstance(settings, DistillStage) and settings.loss == "vector":
        return kind_supply(*kinds_of(recipe, data))
    if isinstance(settings, DistillStage):
        return lesson_supply(*lessons_of(recipe, data))
    read = data.read_pairs(recipe)
    return source_supply(
        "pairs",
        {source.name: len(source.pairs) for source in data.pairs if source.name in read},
        [len(source.pairs) for source in data.unseen_pairs if source.name in read],
    )


def lessons_of(recipe: Recipe, data: Data) -> tuple[list[LessonSource], list[LessonSource]]:
    """Return what distillation learns from and what is held out of it: pairs, and texts where there are none."""
    settings = recipe.supervised.sources
    lessons, held_out = (pair_lessons(part, settings) for part in (data.pairs, data.unseen_pairs))
    if lessons:
        return lessons, held_out
    seen, unseen = (text_lessons(part, cut=recipe.distill.sentences) for part in (data.texts, data.unseen_texts))
    return seen, unseen


def kinds_of(recipe: Recipe, data: Data) -> tuple[list[TextKind], list[TextKind]]:
    """Return what distillation of vectors learns from and what is held out of it: all texts, each by itself."""
    settings, cut = recipe.supervised.sources, recipe.distill.sentences
    plain = len(data.digests) > len(data.pairs)
    seen = text_kinds(data.pairs, data.texts if plain else (), settings, cut=cut)
    return seen, text_kinds(data.unseen_pairs, data.unseen_texts if plain else (), settings, cut=cut)


def _check_model(request: TrainRequest, stage: Stage) -> None:
    """Raise TrainingError for texts longer than the model's context, and for widths that its vectors do not have."""
    settings = stage_settings(request.recipe, stage)
    folder = request.base.folder
    limit = context(folder)
    if limit is not None and settings.length > limit:
        raise TrainingError(
            f"{stage}.length is {settings.length}: expected at most {limit}, the tokens that {request.base.name} was "
            f"made for. Set {stage}.length to {limit} or less"
        )
    whole = full_width(request.base)
    too_wide = [dim for dim in getattr(settings, "dimensions", ()) if dim >= whole]
    if too_wide:
        raise TrainingError(
            f"{stage}.dimensions has {too_wide[0]}: expected less than the {whole} dimensions of {request.base.name}, "
            "whose loss at full width is always part of it. Leave it out"
        )


def _check_room(request: TrainRequest, data: Data, stage: Stage, plain: Tokenizer) -> None:
    """Raise TrainingError where template and instruction leave no token of the stage's length for a text."""
    settings = stage_settings(request.recipe, stage)
    assert not isinstance(settings, MntpStage)
    tokenizer = TextTokenizer(
        tokenizer=plain,
        prompt=request.base.sidecar.prompt,
        max_tokens=settings.length,
        # Whatever token it is, it takes one place.
        eos=0 if settings.pooling is Pooling.LAST else None,
    )
    for table, role, instruction in _dressings(request, data, stage):
        try:
            tokenizer([_WORD], role=role, instruction=instruction)
        except EncoderError as error:
            taken = "the template" if instruction is None else f"the template and the instruction of [{table}]"
            shorter = "" if instruction is None else ", or write a shorter instruction"
            raise TrainingError(
                f"{stage}: {taken} leave none of the {settings.length} tokens of {stage}.length for a text: set a "
                f"larger {stage}.length in the recipe{shorter}"
            ) from error


def _dressings(request: TrainRequest, data: Data, stage: Stage) -> Iterator[tuple[str, Role, str | None]]:
    """Yield how texts are dressed in a stage: the recipe's table that says so, the role, the instruction."""
    yield "", Role.DOCUMENT, None
    if stage is not Stage.SIMCSE:
        for name in data.read_pairs(request.recipe):
            said = request.recipe.supervised.sources.get(name, SourceSettings())
            yield f"supervised.sources.{name}", Role.QUERY, said.instruction
    for pairs in request.dev:
        if pairs.instruction is not None:
            yield f"dev.{pairs.name}", Role.QUERY, pairs.instruction
