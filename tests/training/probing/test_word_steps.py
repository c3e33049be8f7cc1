"""The steps that a model has for the word-level probe, and the results of each on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from searchctl.encoder.config import Attention, EncoderConfig
from searchctl.training.errors import EvaluationError
from searchctl.training.probing.word_data import WordTask
from searchctl.training.probing.word_probe import StatesKey, WordResult, find_result, save_result
from searchctl.training.probing.word_steps import TABLE_4, Alignment, probed_steps
from searchctl.training.recipe import Step


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    key = StatesKey(fingerprint="f", alignment=Alignment.NEXT_TOKEN, data="d", max_tokens=512, precision="fp32")
    result = WordResult(
        task=WordTask.CHUNK,
        label="Bi+MNTP",
        model="m",
        states=key,
        settings={"steps": 10},
        accuracy=0.75,
        low=0.5,
        high=1.0,
        dev_accuracy=0.8,
        left_out={"train": 0, "dev": 1, "test": 2},
        correct=(2, 1),
        words=(2, 2),
        seconds=1.5,
        versions={"torch": "2"},
        machine="box",
        finished="2026-01-01T00:00:00+00:00",
    )
    path = tmp_path / "results" / "word.json"
    assert find_result(path) is None
    save_result(path, result)
    assert find_result(path) == result
    assert [file.name for file in path.parent.iterdir()] == ["word.json"]
    whole = path.read_text()
    for damaged in (whole[:-20], whole.replace("0.75", "0.8"), whole.replace('"schema": 1', '"schema": 9'), "[]"):
        path.write_text(damaged)
        with pytest.raises(EvaluationError, match=r"word\.json is no sound result"):
            find_result(path)


def save_adapter(folder: Path, model: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    peft = get_peft_model(
        AutoModel.from_pretrained(model, dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"])
    )
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder)
    return folder


def test_the_bare_base_has_two_steps(tiny_folder: Path) -> None:
    uni, bi = probed_steps(EncoderConfig(model=str(tiny_folder)), [])
    assert (uni.step, uni.label, uni.config.attention) == (Step.UNI, "Uni", Attention.CAUSAL)
    assert (bi.step, bi.label, bi.config.attention) == (Step.BI, "Bi", Attention.BIDIRECTIONAL)
    assert {uni.alignment, bi.alignment} == {Alignment.SAME_TOKEN}
    with pytest.raises(EvaluationError, match="has no step simcse, it has uni, bi"):
        probed_steps(EncoderConfig(model=str(tiny_folder)), [Step.SIMCSE])


def test_a_chain_has_a_step_for_each_adapter(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = make_folder()
    for seed, name in enumerate(("mntp", "simcse")):
        save_adapter(model / name, model, seed)
    (model / "searchctl.json").write_text('{"adapters": ["mntp", "simcse"]}')
    extra = save_adapter(tmp_path / "supervised" / "step-000100", model, 3)
    config = EncoderConfig(model=str(model), adapters=(extra,))
    found = probed_steps(config, [])
    assert [(one.step.value, one.label, one.config.chain, one.config.adapters) for one in found] == [
        ("uni", "Uni", 0, ()),
        ("bi", "Bi", 0, ()),
        ("mntp", "Bi+MNTP", 1, ()),
        ("simcse", "Bi+MNTP+SimCSE", 2, ()),
        ("supervised", "Bi+MNTP+SimCSE+Supervised", 2, (extra,)),
    ]
    assert [one.alignment for one in found] == [Alignment.SAME_TOKEN] * 2 + [Alignment.NEXT_TOKEN] * 3
    chosen = probed_steps(config, [Step.SIMCSE, Step.UNI, Step.SIMCSE])
    assert [one.step for one in chosen] == [Step.SIMCSE, Step.UNI]


def test_without_mntp_states_are_the_tokens_own(tiny_folder: Path, tmp_path: Path) -> None:
    simcse = save_adapter(tmp_path / "simcse", tiny_folder, 1)
    (found,) = probed_steps(EncoderConfig(model=str(tiny_folder), adapters=(simcse,)), [Step.SIMCSE])
    assert (found.label, found.alignment) == ("Bi+SimCSE", Alignment.SAME_TOKEN)
    assert found.config.adapters == (simcse,)


def test_an_adapter_of_unknown_stage_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    odd = save_adapter(tmp_path / "odd", tiny_folder, 1)
    config = EncoderConfig(model=str(tiny_folder), adapters=(odd,))
    with pytest.raises(EvaluationError, match=r"odd: its stage is not known"):
        probed_steps(config, [])
    assert [one.config.adapters for one in probed_steps(config, [Step.UNI, Step.BI])] == [(), ()]
    twice = EncoderConfig(model=str(tiny_folder), adapters=(save_adapter(tmp_path / "mntp", tiny_folder, 1),) * 2)
    with pytest.raises(EvaluationError, match="second of stage mntp"):
        probed_steps(twice, [])


def test_the_built_in_encoder_has_no_token_states() -> None:
    with pytest.raises(EvaluationError, match="hashing has no token states"):
        probed_steps(EncoderConfig(model="hashing"), [])


def test_table_4_is_read_by_base_and_task() -> None:
    assert TABLE_4["Bi+MNTP"]["LLaMA-2-7B"] == {WordTask.CHUNK: 91.61, WordTask.NER: 97.16, WordTask.POS: 92.61}
    assert {len(of) for of in TABLE_4.values()} == {3}
