"""What the chain hands to its stages, what it writes down, and what it says when a run cannot go on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.load import choose_attention
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.protocol import Role
from searchctl.encoder.tokenize import TextTokenizer, TokenRow, load_tokenizer
from searchctl.training.chain import run as chain
from searchctl.training.chain.request import TrainRequest
from searchctl.training.chain.resume import decisive_settings, settings_parts
from searchctl.training.chain.run import train
from searchctl.training.checkpoints import Progress, checkpoints, differences, save_checkpoint
from searchctl.training.data.corpus import Pair, PairSource, read_pairs
from searchctl.training.data.training_data import Data, read_data
from searchctl.training.errors import TrainingError
from searchctl.training.loop import LoopSettings, Moment, StepResult, run_stage
from searchctl.training.objectives.contrastive import SupervisedTraining
from searchctl.training.objectives.distill import DistillTraining, pair_lessons
from searchctl.training.recipe import (
    DistillStage,
    LoraSettings,
    MntpStage,
    Recipe,
    Schedule,
    SimcseStage,
    SourceSettings,
    Stage,
    SupervisedStage,
)
from searchctl.training.trainable import load_trainable

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
LORA, FAST = LoraSettings(rank=4, alpha=8), Schedule(steps=4)
RECIPE = Recipe(
    name="tiny",
    source="this test",
    seed=7,
    mntp=MntpStage(lora=LORA, schedule=FAST, batch=4, length=32),
    simcse=SimcseStage(lora=LORA, schedule=FAST, batch=8, length=32, cached=False),
    supervised=SupervisedStage(
        lora=LORA, schedule=FAST, batch=8, length=32, sources={"plain": SourceSettings(licence="MIT")}
    ),
)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    lines = [json.dumps({"text": f"Sentence {i} of many tells of wool and of iron."}) + "\n" for i in range(80)]
    (tmp_path / "plain.jsonl").write_text("".join(lines))
    return read_data([tmp_path / "plain.jsonl"], (Stage.MNTP,))


@pytest.fixture
def request_of(tiny_folder: Path, train_request: Callable[..., TrainRequest]) -> Callable[..., TrainRequest]:
    def make(**changes: object) -> TrainRequest:
        asked = train_request(tiny_folder, RECIPE, Stage.SIMCSE, save_every=1)
        return replace(asked, **changes)  # type: ignore[arg-type]

    return make


def test_simcse_alone_has_attention_dropout(request_of: Callable[..., TrainRequest]) -> None:
    found = {
        stage: chain._load(request_of(), stage, (), None).decoder.config.attention_dropout
        for stage in (Stage.MNTP, Stage.SIMCSE, Stage.SUPERVISED)
    }
    assert found == {Stage.MNTP: 0.0, Stage.SIMCSE: 0.3, Stage.SUPERVISED: 0.0}


def test_every_stage_but_mntp_has_the_attention_that_is_chosen(request_of: Callable[..., TrainRequest]) -> None:
    asked: list[tuple[torch.dtype, torch.device]] = []

    def choose(dtype: torch.dtype, device: torch.device) -> str:
        asked.append((dtype, device))
        return "eager"

    request = request_of(choose_attention=choose)
    found = {stage: chain._load(request, stage, (), None).decoder.config._attn_implementation for stage in Stage}
    assert found == {stage: "sdpa" if stage is Stage.MNTP else "eager" for stage in Stage}
    assert asked == [(torch.float32, CPU)] * 3


def test_flash_attention_is_chosen_where_it_is_installed_and_fits(subtests: pytest.Subtests) -> None:
    for dtype, device, installed, expected in [
        (torch.bfloat16, CUDA, True, "flash_attention_2"),
        (torch.float16, CUDA, True, "flash_attention_2"),
        (torch.float32, CUDA, True, None),
        (torch.bfloat16, CPU, True, None),
        (torch.bfloat16, CUDA, False, None),
    ]:
        with subtests.test(dtype=dtype, device=device, installed=installed, expected=expected):
            assert choose_attention(dtype, device, installed=lambda _: object() if installed else None) == expected


def test_a_lora_is_put_on_all_seven_linear_layers_of_a_llama(tiny_folder: Path) -> None:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    made = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(made.decoder.peft_config["default"].target_modules) == layers  # type: ignore[arg-type]
    trained = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, _ in made.parameters()}
    assert trained == layers


class Listening:
    """A tokenizer that remembers how each text was dressed."""

    def __init__(self, inner: TextTokenizer) -> None:
        self._inner = inner
        self.asked: set[tuple[str, Role, str | None]] = set()

    def __call__(self, texts: list[str], *, role: Role, instruction: str | None) -> list[TokenRow]:
        self.asked |= {(text[:5], role, instruction) for text in texts}
        return self._inner(texts, role=role, instruction=instruction)


def test_an_instruction_is_the_query_s_and_both_sides_only_of_a_symmetric_source(
    tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for symmetric in [False, True]:
        with subtests.test(symmetric=symmetric):
            resolved = resolve(EncoderConfig(model=str(tiny_folder)))
            model = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
            tokenizer = TextTokenizer(
                tokenizer=load_tokenizer(tiny_folder), prompt=resolved.sidecar.prompt, max_tokens=64
            )
            listening = Listening(tokenizer)
            pairs = tuple(Pair(f"query {i}", f"answer {i}", (f"other {i}",)) for i in range(8))
            source = PairSource(name="pairs", digest="", pairs=pairs)
            told = SourceSettings(instruction="Find it", symmetric=symmetric)
            stage = SupervisedStage(schedule=FAST, batch=4, length=64, sources={"pairs": told})
            SupervisedTraining(model, stage, listening, sources=[source], held_out=[source], seed=1).step(0)  # type: ignore[arg-type]
            other = (Role.QUERY, "Find it") if symmetric else (Role.DOCUMENT, None)
            assert listening.asked == {("query", Role.QUERY, "Find it"), ("answe", *other), ("other", *other)}


def test_the_manifest_has_hashes_licences_versions_and_seed(
    request_of: Callable[..., TrainRequest], data: Data, tmp_path: Path
) -> None:
    request = request_of(versions={"torch": "9.9"}, stages=(Stage.SIMCSE,))
    train(request, data, told=lambda *_: None, stop=lambda: False)
    manifest = json.loads((request.output / "manifest.json").read_text())
    digest = blake3((tmp_path / "plain.jsonl").read_bytes()).hexdigest()
    assert manifest["data"] == {"plain": {"blake3": digest, "rows": 80, "kind": "texts", "licence": "MIT"}}
    assert (manifest["versions"], manifest["recipe"]["seed"]) == ({"torch": "9.9"}, 7)
    said = manifest["stages"]["simcse"]
    assert (said["seed"], said["versions"], said["data"]) == (7, {"torch": "9.9"}, manifest["data"])


MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to allocate 9"
    ),
    MemoryError(),
)


def test_memory_that_runs_out_names_what_needs_less_and_how_to_go_on(
    request_of: Callable[..., TrainRequest], data: Data, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for number, error in enumerate(MEMORY):
        for step in [0, 3]:
            with subtests.test(error=error, step=step):

                def told(_: Stage, moment: Moment) -> None:
                    if moment.step == step:
                        raise error

                with pytest.raises(TrainingError, match="simcse: memory ran out on cpu") as raised:
                    output = tmp_path / f"{number}-{step}"
                    train(request_of(output=output), data, told=told, stop=lambda: False)
                said = str(raised.value)
                for words in (
                    "--gradient-checkpointing",
                    "simcse.chunk below 64",
                    "simcse.cached = true",
                    "simcse.batch below 8",
                ):
                    assert words in said
                assert ("goes on from the last checkpoint, step 2." in said) == (step == 3)
                assert "--resume" in said


def test_another_error_of_the_same_kind_stays_what_it_is(request_of: Callable[..., TrainRequest], data: Data) -> None:
    def told(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(request_of(), data, told=told, stop=lambda: False)


def test_a_checkpoint_and_a_finished_stage_say_what_differs(
    request_of: Callable[..., TrainRequest], data: Data
) -> None:
    def again(**changes: object) -> str:
        with pytest.raises(TrainingError, match="cannot be gone on from") as raised:
            train(request_of(**changes), data, told=lambda *_: None, stop=lambda: False)
        return str(raised.value)

    train(request_of(), data, told=lambda *_: None, stop=lambda: True)  # before the first step: nothing
    seen: list[int] = []
    train(request_of(), data, told=lambda _, moment: seen.append(moment.step), stop=lambda: 2 in seen)
    other = replace(RECIPE, seed=8, simcse=replace(RECIPE.simcse, schedule=Schedule(steps=5)))
    said = again(recipe=other)
    assert "step-000002" in said and "seed was 7 and is 8; simcse.schedule.steps was 4 and is 5." in said
    train(request_of(), data, told=lambda *_: None, stop=lambda: False)
    said = again(recipe=other)
    assert "simcse cannot be gone on from: seed was 7 and is 8; simcse.schedule.steps was 4 and is 5." in said
    assert "number of processes" not in said


def test_precision_processes_and_data_are_parts_too(request_of: Callable[..., TrainRequest], data: Data) -> None:
    def parts(request: TrainRequest, read: Data, processes: int) -> dict[str, Any]:
        return settings_parts(decisive_settings(request, read, Stage.SIMCSE, {}, processes), Stage.SIMCSE)

    before = json.loads(json.dumps(parts(request_of(), data, 1)))
    assert differences(before, parts(request_of(), data, 1)) == ""
    other = replace(data, digests={"plain": "another"})
    after = parts(request_of(dtype=torch.bfloat16), other, 2)
    assert differences(before, after) == (
        "precision was 'float32' and is 'bfloat16'; number of processes was 1 and is 2; data file plain is another"
    )


def test_checkpoints_that_were_to_be_kept_stay(tiny_folder: Path, tmp_path: Path) -> None:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    model = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
    optimizer = torch.optim.AdamW([value for _, value in model.parameters()])
    for step in range(1, 9):
        progress = Progress(step=step, tokens=1, seconds=1.0, settings="same")
        save_checkpoint(tmp_path, model, optimizer, progress, keep_all=step <= 3)
    assert [int(path.name[-6:]) for path in checkpoints(tmp_path)] == [1, 2, 3, 7, 8]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_checkpoint_that_has_no_room_is_said_and_leaves_the_one_before(tiny_folder: Path, tmp_path: Path) -> None:
    import resource

    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    model = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
    optimizer = torch.optim.AdamW([value for _, value in model.parameters()])
    for _, value in model.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()

    def save(step: int) -> None:
        progress = Progress(step=step, tokens=1, seconds=1.0, settings="same")
        save_checkpoint(tmp_path, model, optimizer, progress, keep_all=False)

    save(1)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "step-000001").iterdir()}
    adapter, state = sizes["adapter_model.safetensors"], sizes["optimizer.pt"]
    assert adapter < state  # the first limit stops safetensors, the second torch
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (adapter // 2, (adapter + state) // 2):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(TrainingError, match=r"cannot be written \(.*\); the last checkpoint, step 1, is whole"):
                save(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    save(2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000001", "step-000002"]


class Broken:
    """Objectives whose loss is no number."""

    def __init__(self, inner: SupervisedTraining | DistillTraining) -> None:
        self.describe = inner.describe

    def step(self, number: int) -> StepResult:
        return StepResult(loss=float("nan"), tokens=1)

    def held_out(self) -> dict[str, float]:
        return {}


def test_a_bad_batch_can_be_trained_on_again(tiny_folder: Path, tmp_path: Path) -> None:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    model = load_trainable(resolved, (), LORA, device=CPU, dtype=torch.float32)
    tokenizer = TextTokenizer(tokenizer=load_tokenizer(tiny_folder), prompt=resolved.sidecar.prompt, max_tokens=64)
    pairs = tuple(Pair(f"tab\tand\nline {i}", f"answer {i}", (f"other {i}", "ö")[: i % 3]) for i in range(8))
    source = PairSource(name="faq", digest="", pairs=pairs)
    stage = SupervisedStage(schedule=FAST, batch=8)
    objective = SupervisedTraining(model, stage, tokenizer, sources=[source], held_out=[source], seed=1)
    with pytest.raises(TrainingError, match=r"bad-batch-step-000000\.jsonl, which --data reads"):
        run_stage(
            model,
            Broken(objective),
            FAST,
            LoopSettings(folder=tmp_path, settings="s"),
            told=lambda _: None,
            stop=lambda: False,
        )
    path = tmp_path / "bad-batch-step-000000.jsonl"
    assert set(read_pairs(path).pairs) == set(pairs)
    assert {json.loads(line)["source"] for line in path.read_text().splitlines()} == {"faq"}
    lessons = pair_lessons([source], {})
    distilled = DistillTraining(
        model, DistillStage(schedule=FAST, batch=8), tokenizer, Deaf(), sources=lessons, held_out=lessons, seed=1
    )  # type: ignore[arg-type]
    assert {row["query"] for row in distilled.describe(0)} == {pair.query for pair in pairs}


class Deaf:
    """A teacher that is asked nothing but its width."""

    class info:  # noqa: N801
        dim = 8
