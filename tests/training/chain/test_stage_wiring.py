"""What a user sets reaches the stage that it is for: the template of the model, the loss, gradient checkpointing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat
from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
from searchctl.training.chain import run as chain
from searchctl.training.chain.request import TrainRequest
from searchctl.training.chain.run import train
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.data.training_data import Data, read_data
from searchctl.training.errors import TrainingError
from searchctl.training.objectives.contrastive import SupervisedTraining
from searchctl.training.recipe import (
    LoraSettings,
    Recipe,
    Schedule,
    SimcseStage,
    SourceSettings,
    Stage,
    SupervisedStage,
)
from searchctl.training.trainable import load_trainable

CPU, LORA, FAST = torch.device("cpu"), LoraSettings(rank=4, alpha=8), Schedule(steps=2)
PROMPT = PromptFormat(prefix="[INST] ", suffix=" [/INST]")
RECIPE = Recipe(
    name="tiny",
    source="this test",
    simcse=SimcseStage(lora=LORA, schedule=FAST, batch=8, length=48, cached=False),
    supervised=SupervisedStage(
        lora=LORA, schedule=FAST, batch=8, length=48, sources={"faq": SourceSettings(instruction="Find it")}
    ),
)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    rows = [{"query": f"question {i} of wool", "positive": f"answer {i} tells of iron and wool"} for i in range(60)]
    (tmp_path / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data([tmp_path / "faq.jsonl"], (Stage.SUPERVISED,))


@pytest.fixture
def asked(tiny_folder: Path, tmp_path: Path, train_request: Callable[..., TrainRequest]) -> TrainRequest:
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    write_sidecar(folder, Sidecar(prompt=PROMPT))
    return train_request(folder, RECIPE, Stage.SUPERVISED)


@pytest.mark.parametrize("stage", [Stage.SIMCSE, Stage.SUPERVISED])
def test_every_text_is_read_in_the_template_of_inference(
    stage: Stage, asked: TrainRequest, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = load_tokenizer(asked.base.folder)

    class Listening(TextTokenizer):
        def __call__(self, *args: Any, **options: Any) -> Any:
            rows = super().__call__(*args, **options)
            read.extend(plain.decode(list(row.ids)) for row in rows)
            return rows

    monkeypatch.setattr(chain, "TextTokenizer", Listening)
    train(replace(asked, stages=(stage,)), data, told=lambda *_: None, stop=lambda: False)
    assert read
    assert all(text.startswith("[INST] ") and text.endswith(" [/INST]") for text in read), read[:3]
    assert any("Find it" in text for text in read) is (stage is Stage.SUPERVISED)


def test_margin_and_dimensions_of_the_recipe_are_those_of_the_loss(tiny_folder: Path) -> None:
    pairs = tuple(Pair(f"query {i}", f"answer {i}", (f"other {i}",)) for i in range(8))
    source = PairSource(name="faq", digest="", pairs=pairs)
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    model = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
    tokens = TextTokenizer(tokenizer=load_tokenizer(tiny_folder), prompt=resolved.sidecar.prompt, max_tokens=32)

    def loss(**changes: Any) -> float:
        stage = SupervisedStage(lora=LORA, schedule=FAST, batch=8, length=32, **changes)
        return SupervisedTraining(model, stage, tokens, sources=[source], held_out=[source], seed=1).held_out()["loss"]

    without = loss(false_negative_margin=None)
    # Of an untrained model some candidates are nearer than the right one: those are left out, which is all that helps.
    assert loss(false_negative_margin=0.0) < without - 0.01
    assert loss(false_negative_margin=None, dimensions=(4,)) != pytest.approx(without, abs=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_checkpointing_reaches_the_model_of_the_stage(
    checkpointing: bool, asked: TrainRequest, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, seen = chain.load_trainable, []

    def listening(*args: Any, **options: Any) -> Any:
        trainable = load(*args, **options)
        seen.append(trainable.decoder.is_gradient_checkpointing)
        raise TrainingError("enough")

    monkeypatch.setattr(chain, "load_trainable", listening)
    with pytest.raises(TrainingError, match="enough"):
        train(replace(asked, checkpointing=checkpointing), data, told=lambda *_: None, stop=lambda: False)
    assert seen == [checkpointing]
