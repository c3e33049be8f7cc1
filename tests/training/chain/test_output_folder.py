"""The folder that training leaves: it opens as what was trained, whole or in part, from one command or several."""

from __future__ import annotations

import gzip
import importlib.util
import json
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from searchctl.encoder.config import EncoderConfig, Pooling
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.models.sidecar import read_sidecar, write_sidecar
from searchctl.training.chain import run as chain_module
from searchctl.training.chain.output_folder import append, is_begun, trim_log
from searchctl.training.data.training_data import read_data
from searchctl.training.errors import TrainingError
from searchctl.training.evaluation.step_curve import curve_steps
from searchctl.training.recipe import Schedule, SourceSettings, Stage


def _chain_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chain_tests", Path(__file__).with_name("test_chain.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tests = _chain_tests()
RECIPE, run, vectors, weights = tests.RECIPE, tests.run, tests.vectors, tests.weights
data = tests.data
MERGED = replace(RECIPE, supervised=replace(RECIPE.supervised, start="merged"))


def names(folder: Path) -> list[str]:
    return [adapter.name for adapter in resolve(EncoderConfig(model=str(folder))).adapters]


def test_mntp_on_the_bare_base_of_a_trained_folder_opens_without_its_adapters(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP,))
    run(tmp_path / "o1", data, tmp_path / "o2", stages=(Stage.MNTP,), chain=0)
    assert names(tmp_path / "o2") == ["mntp"]
    assert weights(tmp_path / "o1") == weights(tmp_path / "o2")  # the same training on the same plain weights
    np.testing.assert_array_equal(vectors(tmp_path / "o1"), vectors(tmp_path / "o2"))
    np.testing.assert_array_equal(vectors(tmp_path / "o2"), vectors(tmp_path / "o2" / "mntp"))


@pytest.mark.slow
def test_adapters_that_the_base_brings_are_in_the_folder(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP, Stage.SIMCSE))
    before = vectors(tmp_path / "o1")
    run(tmp_path / "o1", data, tmp_path / "o2", stages=(Stage.SUPERVISED,), chain=None, recipe=MERGED)
    assert names(tmp_path / "o2") == ["base-1", "base-2", "supervised"]
    np.testing.assert_array_equal(vectors(tmp_path / "o2", 2), before)
    (tmp_path / "o1").rename(tmp_path / "gone")
    whole = vectors(tmp_path / "o2")
    assert np.abs(whole - before).max() > 1e-4
    for alone, chain in (("base-1", 1), ("base-2", 2), ("supervised", 3)):
        np.testing.assert_array_equal(vectors(tmp_path / "o2" / alone), vectors(tmp_path / "o2", chain))


@pytest.mark.slow
def test_the_manifest_keeps_what_the_adapters_of_the_base_were_made_from(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP,))
    before = json.loads((tmp_path / "o1" / "manifest.json").read_text())
    # Other pairs under the old name, and no plain texts, which MNTP read.
    other = tmp_path / "other"
    other.mkdir()
    lines = gzip.decompress((data / "pairs.jsonl.gz").read_bytes()).splitlines(keepends=True)
    (other / "pairs.jsonl").write_bytes(b"".join(lines[1:]))
    first = run(tmp_path / "o1", data, tmp_path / "o2", stages=(Stage.SUPERVISED,), chain=None, recipe=MERGED)
    assert first[0].complete
    second = run(tmp_path / "o2", other, tmp_path / "o3", stages=(Stage.SUPERVISED,), chain=None, recipe=MERGED)
    assert second[0].complete
    said = json.loads((tmp_path / "o3" / "manifest.json").read_text())
    assert said["base_manifest"]["base_manifest"] == before
    assert list(said["data"]) == ["plain", "pairs (base)", "pairs"]
    assert (said["data"]["pairs (base)"]["rows"], said["data"]["pairs"]["rows"]) == (60, 59)


@pytest.mark.slow
def test_each_adapter_and_checkpoint_opens_with_what_is_below_it(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, supervised=replace(RECIPE.supervised, start="simcse", pooling=Pooling.LAST))
    out = tmp_path / "out"
    run(tiny_folder, data, out, recipe=recipe)
    below = {
        stage.value: json.loads((out / stage.value / "adapter_config.json").read_text())["base_model_name_or_path"]
        for stage in tests.PAPER
    }
    assert below == {"mntp": str(tiny_folder), "simcse": "../mntp", "supervised": "../mntp"}
    np.testing.assert_array_equal(vectors(out), vectors(out / "supervised"))
    assert names(out / "simcse") == ["mntp", "simcse"]
    last = out / "checkpoints" / "supervised" / "step-000004"
    assert names(last) == ["mntp", "step-000004"]
    np.testing.assert_allclose(vectors(last), vectors(out), atol=2e-2)  # the checkpoint's weights are fp32
    (tmp_path / "out").rename(tmp_path / "moved")
    assert names(tmp_path / "moved" / "supervised") == ["mntp", "supervised"]


@pytest.mark.slow
def test_stages_in_commands_of_their_own_give_what_one_command_gives(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_folder, data, tmp_path / "one", stages=(Stage.MNTP, Stage.SIMCSE))
    for stage in (Stage.MNTP, Stage.SIMCSE, Stage.MNTP):
        outcome, _ = run(tiny_folder, data, tmp_path / "two", stages=(stage,))
        assert outcome.complete
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert names(tmp_path / "two") == ["mntp", "simcse"]
    assert (tmp_path / "one" / "searchctl.json").read_text() == (tmp_path / "two" / "searchctl.json").read_text()
    assert list(json.loads((tmp_path / "two" / "manifest.json").read_text())["stages"]) == ["mntp", "simcse"]


def test_an_earlier_stage_cannot_be_put_under_a_finished_one(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "out", stages=(Stage.SIMCSE,))
    with pytest.raises(TrainingError, match="finished simcse, which was trained without mntp"):
        run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))


def test_a_finished_stage_of_another_recipe_is_refused(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))
    with pytest.raises(TrainingError, match="seed was 42 and is 1"):
        run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,), recipe=replace(RECIPE, seed=1))


def test_a_licence_said_later_and_more_held_out_pairs_make_no_other_recipe(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = {"left-out": SourceSettings(weight=0)}
    fresh = replace(RECIPE.supervised, start="fresh", sources={"pairs": SourceSettings(), **out})
    said = replace(fresh, sources={"pairs": SourceSettings(licence="MIT"), **out}, evaluation_pairs=7)
    told = replace(fresh, sources={"pairs": SourceSettings(instruction="Find it"), **out})

    def train(supervised: Any) -> bool:
        recipe = replace(RECIPE, supervised=supervised)
        outcome, _ = run(tiny_folder, data, tmp_path / "out", stages=(Stage.SUPERVISED,), recipe=recipe)
        return bool(outcome.complete and not outcome.stages)

    assert not train(fresh)
    assert train(said), "finished already"
    with pytest.raises(TrainingError, match="instruction was None and is 'Find it'"):
        train(told)


@pytest.mark.parametrize("start", ["fresh", "simcse"])
def test_a_simcse_adapter_of_the_base_cannot_be_left_out(
    start: Any, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.SIMCSE,))
    recipe = replace(RECIPE, supervised=replace(RECIPE.supervised, start=start))
    with pytest.raises(TrainingError, match=r'SimCSE adapter .* expected "merged"'):
        run(tmp_path / "o1", data, tmp_path / "o2", stages=(Stage.SUPERVISED,), chain=None, recipe=recipe)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False])
def test_the_last_adapter_of_a_model_can_be_trained_further(
    finished: bool, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP, Stage.SIMCSE))
    made = read_sidecar(tmp_path / "o1")
    assert made is not None
    assert made.dense_weight is None  # a new encoder's share is yet to be measured
    write_sidecar(tmp_path / "o1", replace(made, dense_weight=0.4))
    # No rate to speak of: the stage ends with what it began with.
    still = replace(RECIPE.supervised, start="previous", schedule=Schedule(steps=2, learning_rate=1e-12))
    recipe = replace(RECIPE, supervised=still)
    out = tmp_path / "o2"
    stop = None if finished else lambda seen: bool(seen) and seen[-1][1].step == 1
    outcome, _ = run(
        tmp_path / "o1",
        data,
        out,
        stages=(Stage.SUPERVISED,),
        chain=None,
        recipe=recipe,
        **({} if stop is None else {"stop": stop}),
    )
    assert outcome.complete is finished
    # Step 0 of its curve is the model that was given.
    start = curve_steps(out, Stage.SUPERVISED, EncoderConfig())[0]
    given = identify(EncoderConfig(model=str(tmp_path / "o1"))).fingerprint
    assert (start.step, identify(start.config).fingerprint) == (0, given)
    if finished:
        # In its place, not on top of it, and whatever becomes of the model that was given.
        assert names(out) == ["base-1", "supervised"]
        assert resolve(EncoderConfig(model=str(out))).sidecar.dense_weight == 0.4
        np.testing.assert_allclose(vectors(out), vectors(tmp_path / "o1"), atol=1e-6)
        (tmp_path / "o1").rename(tmp_path / "gone")
        assert np.abs(vectors(out) - vectors(out / "base-1")).max() > 1e-4


@pytest.mark.slow
def test_the_stage_before_is_trained_further_where_there_is_one(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    settings = {start: replace(RECIPE.supervised, start=start) for start in ("simcse", "previous")}
    for start, supervised in settings.items():
        run(tiny_folder, data, tmp_path / start, recipe=replace(RECIPE, supervised=supervised))
    assert names(tmp_path / "previous") == ["mntp", "supervised"]
    assert weights(tmp_path / "previous") == weights(tmp_path / "simcse")


def test_what_cannot_be_trained_further_is_said(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    further = replace(RECIPE.supervised, start="previous")

    def refused(words: str, base: Path, supervised: Any = further) -> None:
        recipe = replace(RECIPE, supervised=supervised)
        with pytest.raises(TrainingError, match=words):
            run(base, data, tmp_path / "out", stages=(Stage.SUPERVISED,), chain=None, recipe=recipe)
        assert not (tmp_path / "out").exists()

    refused(r"no stage before it in --stages or .*, or a model that has adapters", tiny_folder)
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP,))
    alpha = RECIPE.mntp.lora.alpha
    other = replace(further, lora=replace(further.lora, alpha=alpha * 2))
    refused(f"lora.alpha is {alpha * 2}: expected {alpha}, that of the adapter mntp of", tmp_path / "o1", other)


def test_time_or_a_stop_at_the_end_of_a_stage_is_not_the_end(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = (Stage.MNTP, Stage.SIMCSE)
    outcome, seen = run(tiny_folder, data, tmp_path / "out", stages=two, stop=lambda seen: True)
    assert (outcome.complete, outcome.stages, seen) == (False, (), [])
    assert is_begun(tmp_path / "out")  # before the first line of the log
    outcome, _ = run(
        tiny_folder, data, tmp_path / "out", stages=two, stop=lambda seen: bool(seen) and seen[-1][1].step == 4
    )
    assert [(part.stage, part.outcome.finished) for part in outcome.stages] == [(Stage.MNTP, True)]
    assert not outcome.complete
    outcome, _ = run(tiny_folder, data, tmp_path / "out", stages=two, max_seconds=0.0)
    assert (outcome.complete, outcome.stages) == (False, ())
    assert run(tiny_folder, data, tmp_path / "out", stages=two)[0].complete


def test_the_clock_runs_while_the_model_is_loaded(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = chain_module.load_trainable

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return load(*args, **options)

    monkeypatch.setattr(chain_module, "load_trainable", slow)
    outcome, _ = run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,), max_seconds=0.4)
    assert [part.outcome.progress.step for part in outcome.stages] == [1]


def test_a_run_killed_before_the_folder_was_described_is_mended(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(chain_module, "describe", die)
        run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))
    run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))
    assert names(tmp_path / "out") == ["mntp"]
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_finished_stages_model_is_gone_before_the_next_is_loaded(
    tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded, alive = chain_module.load_trainable, [], []

    def counting(*args: Any, **options: Any) -> Any:
        alive.append(sum(reference() is not None for reference in loaded))
        made = load(*args, **options)
        loaded.append(weakref.ref(made.decoder))
        return made

    monkeypatch.setattr(chain_module, "load_trainable", counting)
    run(tiny_folder, data, tmp_path / "out")
    assert alive == [0, 0, 0]


def test_merge_share_weighs_the_adapter(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    half = replace(RECIPE, mntp=replace(RECIPE.mntp, merge_share=0.5))
    run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,), recipe=half)
    trained = load_file(tmp_path / "out" / "checkpoints" / "mntp" / "step-000004" / "adapter_model.safetensors")
    saved = load_file(tmp_path / "out" / "mntp" / "adapter_model.safetensors")
    assert trained.keys() == saved.keys()
    for name, value in trained.items():
        assert torch.equal((value * (0.5 if "lora_B" in name else 1.0)).to(torch.bfloat16), saved[name])


def test_pooling_last_takes_the_encoders_eos(make_folder: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": [2, 3]}))
    last = replace(RECIPE, simcse=replace(RECIPE.simcse, pooling=Pooling.LAST))
    run(folder, data, tmp_path / "out", stages=(Stage.SIMCSE,), recipe=last)
    assert resolve(EncoderConfig(model=str(tmp_path / "out"))).sidecar.pooling is Pooling.LAST


def test_a_stage_is_the_same_whatever_other_stages_read(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    read = read_data([data], tests.PAPER)
    assert read.read_by(Stage.MNTP, RECIPE) == ["plain"]
    assert read.read_by(Stage.SUPERVISED, RECIPE) == ["pairs"]  # left-out has no weight
    sources = {"left-out": SourceSettings()}
    both = replace(RECIPE, supervised=replace(RECIPE.supervised, sources=sources))
    assert sorted(read.read_by(Stage.SUPERVISED, both)) == ["left-out", "pairs"]
    run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))
    (data / "pairs.jsonl.gz").unlink()
    outcome, seen = run(tiny_folder, data, tmp_path / "out", stages=(Stage.MNTP,))
    assert (outcome.complete, seen) == (True, [])


def test_the_log_keeps_what_the_checkpoint_holds(tmp_path: Path) -> None:
    log = tmp_path / "train.jsonl"
    for stage, steps in (("mntp", 5), ("simcse", 4)):
        for step in range(steps):
            append(log, {"stage": stage, "step": step, "loss": float("nan"), "held_out": {"dev": float("inf")}})
    with log.open("a") as file:
        file.write('{"told": "by another tool"}\n{"stage": "simcse"}\n["simcse"]\n{"stage": "simcse", "st')
    trim_log(log, Stage.SIMCSE, 2)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in log.read_text().splitlines()]
    assert lines.pop() == {"told": "by another tool"}
    assert [(line["stage"], line["step"]) for line in lines] == [
        *(("mntp", step) for step in range(5)),
        *(("simcse", step) for step in range(3)),
    ]
    assert (lines[0]["loss"], lines[0]["held_out"]) == (None, {"dev": None})
    trim_log(log, Stage.SIMCSE, None)
    assert [json.loads(line).get("stage") for line in log.read_text().splitlines()] == [*["mntp"] * 5, None]


def test_a_base_means_the_plain_weights(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "o1", stages=(Stage.MNTP,))
    run(tiny_folder, data, tmp_path / "o2", stages=(Stage.MNTP,))
    for path in (tmp_path / "o2" / "searchctl.json", tmp_path / "o2" / "mntp" / "adapter_config.json"):
        path.write_text(path.read_text().replace(str(tiny_folder), str(tmp_path / "o1")))
    assert names(tmp_path / "o2") == ["mntp"]
    assert names(tmp_path / "o2" / "mntp") == ["mntp"]
