"""Models: what a name means, who it is, and that what is measured is what the name says."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from mteb.mocks.mock_tasks import MockSTSTask
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModel

from searchctl.app.terminal.wording import step_name
from searchctl.encoder import load
from searchctl.encoder.config import Attention, EncoderConfig, Method, Pooling, Precision, Runtime
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role, Vectors
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.ablation import step_of
from searchctl.training.evaluation.bm25 import Bm25Model
from searchctl.training.evaluation.encoder_model import EncoderModel
from searchctl.training.evaluation.measurement import EvalTask, EvaluatedModel, TaskInstructions
from searchctl.training.evaluation.model_specs import parse_model, require_unique
from searchctl.training.evaluation.sentence_transformer import SentenceTransformerModel

TEXTS = ["The capital of France is Paris.", "A short one.", "Bread rises because yeast turns sugar into gas."]
STS = EvalTask(
    name="sts",
    task_type="STS",
    data="-",
    instructions=TaskInstructions(query="find", document="find"),
    make=lambda: pytest.fail("a model needs no data"),
)


@pytest.fixture(scope="module")
def trained(make_folder: Callable[..., Path]) -> Path:
    """A tiny model with the chain mntp, simcse of its own, and beside it one more adapter, `more`."""
    folder = make_folder()
    for seed, name in enumerate(("mntp", "simcse", "more"), start=1):
        torch.manual_seed(seed)
        model = get_peft_model(AutoModel.from_pretrained(folder), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder / name)
    write_sidecar(folder, Sidecar(adapters=("mntp", "simcse"), pooling=Pooling.LAST))
    return folder


def config(folder: Path, **changes: object) -> EncoderConfig:
    return EncoderConfig(model=str(folder), precision=Precision.FP32, runtime=Runtime.TORCH, device="cpu", **changes)


def parse(
    spec: str, base: EncoderConfig, cache: Path | None = None
) -> EncoderModel | SentenceTransformerModel | Bm25Model:
    return parse_model(spec, base=base, cache=cache)


def measure(model: EvaluatedModel, texts: list[str], workspace: Path) -> tuple[Vectors, int]:
    """Return the vectors on a symmetric task and the tokens they took."""
    inputs = DataLoader(Dataset.from_dict({"text": texts}))
    with model.open(STS, workspace) as opened:
        vectors = opened.model.encode(inputs, task_metadata=MockSTSTask.metadata, hf_split="test", hf_subset="d")
        return vectors, opened.meter.tokens


# --- what a name means


def test_specs_of_the_encoder_itself(trained: Path, subtests: pytest.Subtests) -> None:
    for spec, changes in [
        ("model", {}),
        ("uni", {"chain": 0, "adapters": (), "attention": Attention.CAUSAL, "pooling": Pooling.WEIGHTED_MEAN}),
        ("bi", {"chain": 0, "adapters": (), "attention": Attention.BIDIRECTIONAL, "pooling": Pooling.MEAN}),
        (
            "echo",
            {
                "chain": 0,
                "adapters": (),
                "attention": Attention.CAUSAL,
                "method": Method.ECHO,
                "pooling": Pooling.MEAN,
            },
        ),
        ("mntp", {"chain": 1, "adapters": ()}),
        ("simcse", {"chain": 2, "adapters": ()}),
        ("more", {"chain": 2}),
    ]:
        with subtests.test(spec=spec, changes=changes):
            base = config(trained, adapters=(trained / "more",), dim=16, max_tokens=64)
            model = parse(spec, base)
            assert isinstance(model, EncoderModel)
            assert replace(base, **changes) == model.config
            assert (trained.name if spec == "model" else spec) == model.label


def test_ablations_forget_what_the_user_set_for_the_encoder(trained: Path) -> None:
    base = config(trained, attention=Attention.CAUSAL, method=Method.ECHO, pooling=Pooling.FIRST)
    model = parse("bi", base)
    assert isinstance(model, EncoderModel)
    assert config(trained, chain=0, pooling=Pooling.MEAN) == model.config


def test_another_encoder_keeps_the_machines_side_of_the_settings_alone(trained: Path, tiny_folder: Path) -> None:
    base = config(trained, pooling=Pooling.FIRST, dim=8, max_tokens=9, batch_tokens=77, chain=1)
    model = parse(f"other={tiny_folder}", base)
    assert isinstance(model, EncoderModel)
    assert config(tiny_folder, batch_tokens=77) == model.config
    assert "other" == model.label
    hashing = parse("hashing", replace(base, device="cuda", precision=Precision.BF16))
    assert isinstance(hashing, EncoderModel)
    assert EncoderConfig(model="hashing") == hashing.config


def test_a_hub_name_is_another_encoder(trained: Path) -> None:
    model = parse("owner/name", config(trained))
    assert isinstance(model, EncoderModel)
    assert ("owner/name", "owner/name") == (model.label, model.config.model)


def test_bm25_and_labels(trained: Path) -> None:
    assert "bm25" == parse("bm25", config(trained)).label
    words = parse("words=bm25", config(trained))
    assert isinstance(words, Bm25Model)
    assert "words" == words.label


def test_a_path_with_an_equals_sign_is_a_path(trained: Path, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lr=1").symlink_to(tiny_folder)
    for spec in (f"{tmp_path}/lr=1", f"x={tmp_path}/lr=1"):
        model = parse(spec, config(trained))
        assert isinstance(model, EncoderModel)
        assert f"{tmp_path}/lr=1" == model.config.model


def test_any_step_with_any_pooling(trained: Path, subtests: pytest.Subtests) -> None:
    for pooling in list(Pooling):
        for step in ["uni", "bi", "echo", "mntp", "simcse", "more"]:
            with subtests.test(pooling=pooling, step=step):
                base = config(trained, adapters=(trained / "more",), max_tokens=64)
                plain, pooled = parse(step, base), parse(f"{step}:{pooling}", base)
                assert isinstance(plain, EncoderModel)
                assert isinstance(pooled, EncoderModel)
                assert replace(plain.config, pooling=pooling) == pooled.config
                assert f"{step}:{pooling}" == pooled.label
                assert "mine" == parse(f"mine={step}:{pooling}", base).label


def test_the_model_with_another_pooling_is_headed_with_both(trained: Path, tmp_path: Path) -> None:
    base = config(trained)
    found = {spec: parse(spec, base, tmp_path).identify() for spec in ("model", "model:last", "model:mean", "uni:mean")}
    assert f"{trained.name}:mean" == found["model:mean"].label
    assert ["last", "last", "mean", "mean"] == [who.details["pooling"] for who in found.values()]
    # Asking for the pooling that it has is the same encoder.
    assert found["model"].fingerprint == found["model:last"].fingerprint != found["model:mean"].fingerprint


def test_unknown_specs_are_errors_that_help(trained: Path, subtests: pytest.Subtests) -> None:
    for spec, message in [
        ("supervised", "has the adapters mntp, simcse, none called 'supervised'"),
        ("supervised:mean", "has the adapters mntp, simcse, none called 'supervised'"),
        ("uni:max", "no pooling is called 'max', expected mean, weighted_mean, last, first, as in uni:last"),
        ("simcse:eos", "no pooling is called 'eos'"),
        ("bm25:mean", "a pooling goes with a step of the model, which 'bm25' is not"),
        ("nobody:x", "no model is called 'nobody:x'"),
        ("simcs", r"'simcs'\. Did you mean simcse"),
        ("bm-25", r"'bm-25'\. Did you mean bm25"),
        ("smollm-135m", "Did you mean smollm2-135m"),
        ("nothing of the kind", r"no model is called 'nothing of the kind'\. Expected model, uni, bi, echo"),
        ("=bm25", "expected LABEL=NAME"),
        ("x=", "expected LABEL=NAME"),
    ]:
        with subtests.test(spec=spec, message=message), pytest.raises(EvaluationError, match=message):
            parse(spec, config(trained))


def test_a_stage_of_a_model_without_adapters(tiny_folder: Path) -> None:
    for base in (config(tiny_folder), EncoderConfig(model="hashing")):
        with pytest.raises(EvaluationError, match="has no adapters, none called 'mntp'"):
            parse("mntp", base)


def checkpoint(trained: Path, folder: Path) -> Path:
    """Return a copy of an adapter as its training keeps it, in a folder of its step."""
    return Path(shutil.copytree(trained / "more", folder / "step-000100"))


def test_a_checkpoint_is_called_after_its_training(trained: Path, tiny_folder: Path, tmp_path: Path) -> None:
    mntp, simcse = (checkpoint(trained, tmp_path / "ad" / name) for name in ("mntp", "simcse"))
    base = config(tiny_folder, adapters=(mntp, simcse))
    for spec, adapters in (("mntp", (mntp,)), ("simcse", (mntp, simcse))):
        model = parse(spec, base)
        assert isinstance(model, EncoderModel)
        assert (adapters, 0) == (model.config.adapters, model.config.chain)
    found = [parse(spec, base, tmp_path / "cache").identify() for spec in ("bi", "mntp", "model")]
    assert [[], ["mntp"], ["mntp", "simcse"]] == [who.details["chain"] for who in found]
    steps = [step_of(who) for who in found]
    assert ["Bi", "Bi + MNTP", "Bi + MNTP + SimCSE"] == [step_name(step.key) for step in steps if step is not None]
    own = parse("step-000100", replace(base, adapters=(mntp,)))
    assert isinstance(own, EncoderModel)
    assert (mntp,) == own.config.adapters


def test_a_name_of_two_adapters_is_refused(trained: Path, tiny_folder: Path, tmp_path: Path) -> None:
    first, second = (checkpoint(trained, tmp_path / name) for name in ("a", "b"))
    base = config(tiny_folder, adapters=(first, second))
    with pytest.raises(EvaluationError, match=r"has 2 adapters called 'step-000100'") as refused:
        parse("step-000100", base)
    assert f"{first}, {second}. " in str(refused.value)
    again = checkpoint(trained, tmp_path / "mntp"), checkpoint(trained, tmp_path / "later" / "mntp")
    with pytest.raises(EvaluationError, match="2 adapters called 'mntp'"):
        parse("mntp", replace(base, adapters=again))


def test_labels_must_differ() -> None:
    require_unique(["a", "b"])
    with pytest.raises(EvaluationError, match="2 models are called 'bi'"):
        require_unique(["bi", "uni", "bi"])


# --- encoders


def test_identity_tells_apart_all_that_changes_vectors(trained: Path, tmp_path: Path) -> None:
    base = config(trained)
    other = replace(base, precision=Precision.BF16)
    short = replace(base, max_tokens=64)
    models = [parse("model", each, tmp_path) for each in (base, other, short)]
    models += [parse(spec, base, tmp_path) for spec in ("uni", "bi", "echo", "mntp")]
    assert 7 == len({model.identify().fingerprint for model in models})


def test_identity_does_not_depend_on_the_label_or_on_how_the_model_is_run(trained: Path, tmp_path: Path) -> None:
    base = config(trained)
    fingerprints = {
        parse("model", base, tmp_path).identify().fingerprint,
        parse("other=model", replace(base, batch_tokens=99), tmp_path).identify().fingerprint,
        parse("simcse", base, tmp_path).identify().fingerprint,
        parse("mine=model", replace(base, precision=Precision.FP32, max_tokens=256), tmp_path).identify().fingerprint,
    }
    assert 1 == len(fingerprints)


def test_details_say_what_was_measured(trained: Path, tmp_path: Path) -> None:
    who = parse("mntp", config(trained, dim=8), tmp_path).identify()
    assert ("encoder", "mntp", str(trained)) == (who.kind, who.label, who.name)
    # The output head of 512 x 32 is in the file and not in the encoder.
    weights = sum(p.numel() for p in AutoModel.from_pretrained(trained).parameters()) + 512 * 32
    expected = {
        "pooling": "last",
        "max_tokens": 256,
        "dim": 8,
        "attention": "bidirectional",
        "method": "plain",
        "chain": ["mntp"],
        "precision": "fp32",
        "parameters": weights,
    }
    assert expected == dict(who.details)


def test_a_precision_that_fell_back_is_refused(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("model", EncoderConfig(model=str(trained), device="cpu", runtime=Runtime.TORCH), tmp_path)
    truth = load._cpu_has_bf16()
    with monkeypatch.context() as patch:
        patch.setattr(load, "_cpu_has_bf16", lambda: not truth)
        expected = model.identify().details["precision"]
    with (
        pytest.raises(EvaluationError, match=rf"^{model.label}: loaded in \w+, expected {expected}: free the GPU"),
        model.open(STS, tmp_path / "w"),
    ):
        pytest.fail("opened")


def test_each_model_gives_the_vectors_of_its_configuration(trained: Path, tmp_path: Path) -> None:
    base = config(trained)
    found = []
    for spec in ("uni", "bi", "echo", "mntp", "simcse"):
        model = parse(spec, base, tmp_path)
        assert isinstance(model, EncoderModel)
        vectors, _ = measure(model, TEXTS, tmp_path / spec)
        encoder = open_encoder(model.config, cache=tmp_path)
        assert np.allclose(encoder.encode(TEXTS, role=Role.QUERY, instruction="find"), vectors, atol=1e-5)
        found.append(vectors[0])
    assert (np.triu(np.array(found) @ np.array(found).T, 1).max()) < 0.9999


def test_a_killed_task_goes_on_from_its_workspace(tiny_folder: Path, tmp_path: Path) -> None:
    model = parse("bi", config(tiny_folder), tmp_path)
    first, _ = measure(model, TEXTS[:2], tmp_path / "work")
    vectors, tokens = measure(model, TEXTS, tmp_path / "work")
    _, last_alone = measure(model, TEXTS[2:], tmp_path / "elsewhere")
    assert np.array_equal(first, vectors[:2])
    assert 0 < tokens == last_alone


def test_the_model_stays_loaded_between_tasks_until_closed(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="searchctl")
    model = parse_model("bi", base=config(tiny_folder), cache=tmp_path)
    for name in ("a", "b"):
        measure(model, TEXTS, tmp_path / name)
    assert 1 == len(caplog.messages)
    model.close()
    measure(model, TEXTS, tmp_path / "c")
    assert 2 == len(caplog.messages)


def test_a_model_that_changed_meanwhile_is_not_measured(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(seed=3)
    model = parse("bi", config(folder), tmp_path)
    model.identify()
    (make_folder(seed=4) / "model.safetensors").replace(folder / "model.safetensors")
    with (
        pytest.raises(EvaluationError, match="changed meanwhile: run again"),
        model.open(STS, tmp_path / "work"),
    ):
        pass
