"""What a source of pairs must hold besides rows enough: something to tell a positive from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
from searchctl.training.chain.preflight import check_needs
from searchctl.training.chain.request import TrainRequest
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.data.training_data import read_data
from searchctl.training.distributed import Ranks
from searchctl.training.errors import TrainingError
from searchctl.training.objectives.batch_supply import require_negatives
from searchctl.training.objectives.contrastive import SupervisedTraining
from searchctl.training.recipe import LoraSettings, Recipe, SourceSettings, Stage, SupervisedStage
from searchctl.training.trainable import load_trainable


def source(*pairs: Pair, name: str = "faq") -> PairSource:
    return PairSource(name=name, pairs=pairs, digest="d")


def test_pairs_of_one_query_or_of_one_positive_are_refused_by_name() -> None:
    one_query = source(*(Pair(query="why?", positive=f"because of {i}") for i in range(8)))
    one_positive = source(*(Pair(query=f"why {i}?", positive="because") for i in range(8)))

    with pytest.raises(
        TrainingError, match=r"after what is held out, all 8 pairs of faq have the same query, 'why\?', so none"
    ):
        require_negatives([one_query], 1)
    with pytest.raises(TrainingError, match="all 8 pairs of faq have the same positive, 'because', so none"):
        require_negatives([one_positive], 1)


def test_two_queries_are_enough_and_so_are_hard_negatives_where_they_are_read() -> None:
    two = source(Pair(query="why?", positive="because"), Pair(query="how?", positive="so"))
    mined = source(
        *(Pair(query="why?", positive=f"because of {i}", negatives=("never",)) for i in range(8)), name="mined"
    )

    require_negatives([two, mined], 1)
    with pytest.raises(TrainingError, match="pairs of mined have the same query"):
        require_negatives([two, mined], 0)


def test_training_says_so_before_the_first_step_and_not_of_a_source_without_weight(
    tiny_folder: Path, tmp_path: Path, train_request: Callable[..., TrainRequest]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = {
        "good": [{"query": f"question {i}", "positive": f"answer {i}"} for i in range(40)],
        "faq": [{"query": "why?", "positive": f"because of {i}"} for i in range(40)],
    }
    for name, content in rows.items():
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    recipe = Recipe(name="tiny", source="this test", supervised=SupervisedStage(batch=8, length=32))
    request = train_request(tiny_folder, recipe, Stage.SUPERVISED)
    read = read_data([data], request.stages)

    with pytest.raises(TrainingError, match="pairs of faq have the same query"):
        check_needs(request, read, Ranks())

    without = replace(recipe.supervised, sources={"faq": SourceSettings(weight=0)})
    check_needs(replace(request, recipe=replace(recipe, supervised=without)), read, Ranks())


def test_the_stage_itself_refuses_too(tiny_folder: Path) -> None:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    model = load_trainable(resolved, (), LoraSettings(rank=4, alpha=8), device=torch.device("cpu"), dtype=torch.float32)
    tokenizer = TextTokenizer(tokenizer=load_tokenizer(tiny_folder), prompt=resolved.sidecar.prompt, max_tokens=32)
    one_query = source(*(Pair(query="why?", positive=f"because of {i}") for i in range(8)))
    stage = SupervisedStage(batch=8)

    with pytest.raises(TrainingError, match="pairs of faq have the same query"):
        SupervisedTraining(model, stage, tokenizer, sources=[one_query], held_out=[one_query], seed=1)
