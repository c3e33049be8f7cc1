"""A model as a graph gives the vectors that torch gives, and is built, proved, kept and repaired in the cache."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from searchctl.encoder import open as encoder_open
from searchctl.encoder.batching import plan_equal_batches
from searchctl.encoder.compiled import graph
from searchctl.encoder.compiled import open as opening
from searchctl.encoder.compiled.check import GraphProof
from searchctl.encoder.compiled.encoder import CompiledEncoder
from searchctl.encoder.compiled.errors import NotCompiledError
from searchctl.encoder.compiled.shape import decoder_shape
from searchctl.encoder.config import Attention, EncoderConfig, Pooling, Precision, Runtime
from searchctl.encoder.errors import EncoderError, ModelFilesError, NonFiniteError, NotBidirectionalError, PullError
from searchctl.encoder.models.cache import PullProgress
from searchctl.encoder.models.projection import save_projection
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.open import choose_runtime, open_encoder
from searchctl.encoder.protocol import Encoder, Role
from searchctl.encoder.transformer import TransformerEncoder

Make = Callable[..., Path]

TEXTS = [
    "The capital of France is Paris.",
    "x",
    "def add(a, b):\n    return a + b",
    "東京 is the capital of Japan; München liegt an der Isar.",
    "Bread rises because yeast turns sugar into carbon dioxide. " * 9,
]
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "llama, other head width": {"head_dim": 16},
    "llama, biases": {"attention_bias": True, "mlp_bias": True},
    "llama, one key for all heads": {"num_key_value_heads": 1},
    "llama, scaled rotation": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
}


def config_of(folder: Path, **changes: object) -> EncoderConfig:
    settings = {"precision": Precision.FP32, "device": "cpu", "runtime": Runtime.COMPILED, **changes}
    return EncoderConfig(model=str(folder), **settings)  # type: ignore[arg-type]


def vectors(encoder: Encoder, instruction: str | None = None) -> np.ndarray:
    role = Role.DOCUMENT if instruction is None else Role.QUERY
    return encoder.encode(TEXTS, role=role, instruction=instruction)


def agree(folder: Path, cache: Path, **changes: object) -> CompiledEncoder:
    """Assert that both runtimes give the same, and return the compiled one."""
    compiled = open_encoder(config_of(folder, **changes), cache=cache)
    plain = open_encoder(config_of(folder, runtime=Runtime.TORCH, **changes), cache=cache)
    assert isinstance(compiled, CompiledEncoder)
    assert isinstance(plain, TransformerEncoder)
    assert compiled.info == plain.info
    for instruction in (None, "Find the answer."):
        cosines = (vectors(compiled, instruction) * vectors(plain, instruction)).sum(axis=1)
        assert cosines.min() >= 0.99999, cosines
    return compiled


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_gives_torchs_vectors(family: str, make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(family.partition(",")[0], seed=3, initializer_range=0.3, **FAMILIES[family])
    if family == "llama, biases":
        shake(folder)
    agree(folder, tmp_path)


def shake(folder: Path) -> None:
    """Give every bias a value: they begin as zeros, which a graph without them computes too."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)


def test_qwen2_with_biases_that_are_not_zero(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder("qwen2", seed=3, initializer_range=0.3)
    shake(folder)
    agree(folder, tmp_path)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_each_pooling_and_a_narrower_width(pooling: Pooling, tiny_folder: Path, tmp_path: Path) -> None:
    agree(tiny_folder, tmp_path, pooling=pooling, dim=9)
    assert len(list((tmp_path / "compiled").glob("[!.]*"))) == 1


def test_adapters_layers_and_projection_are_in_the_graph(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(seed=4, num_hidden_layers=4, initializer_range=0.3)
    for number, rank in enumerate((2, 3)):
        torch.manual_seed(number)
        base = AutoModel.from_pretrained(folder, dtype=torch.float32)
        base.layers = base.layers[:3]
        peft = get_peft_model(base, LoraConfig(r=rank, lora_alpha=5, target_modules=["q_proj", "down_proj", "v_proj"]))
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        peft.save_pretrained(folder / f"step-{number}")
    save_projection(folder / "projection.safetensors", torch.nn.Linear(32, 7))
    settings = {"adapters": ["step-0", "step-1"], "layers": 3, "projection": "projection.safetensors"}
    (folder / "searchctl.json").write_text(json.dumps(settings))
    encoder = agree(folder, tmp_path)
    assert encoder.info.dim == 7
    (folder / "searchctl.json").write_text(json.dumps({"layers": [0, 2]}))
    agree(folder, tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attention": Attention.CAUSAL}, "attention is causal"),
        ({"precision": Precision.BF16}, "fp32"),
        ({"device": "cuda"}, "device is cuda"),
    ],
)
def test_what_a_graph_cannot_do_is_left_to_torch(
    changes: dict[str, object], reason: str, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotCompiledError, match=reason):
        open_encoder(config_of(tiny_folder, **changes), cache=tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_another_family_runs_on_torch_and_says_why(
    kind: str, make_folder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(kind, **({"head_dim": 8} if kind == "gemma2" else {}))
    with caplog.at_level(logging.INFO, logger="searchctl"):
        assert isinstance(open_encoder(config_of(folder, runtime=Runtime.AUTO), cache=tmp_path), TransformerEncoder)
    assert any(kind in record.getMessage() for record in caplog.records)
    with pytest.raises(NotCompiledError, match=kind):
        open_encoder(config_of(folder), cache=tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "gelu"},
        {"model_type": "mistral", "sliding_window": 8},
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    ],
)
def test_a_setting_that_the_graph_does_not_compute_is_refused(settings: dict[str, object], tiny_folder: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    with pytest.raises(NotCompiledError):
        decoder_shape(config | settings, 3)


def test_a_tensor_without_a_place_is_refused(make_folder: Make, tmp_path: Path) -> None:
    # A model of another kind under a known name: its biases have no place.
    folder = make_folder("qwen3", head_dim=8)
    config = json.loads((folder / "config.json").read_text())
    shape = decoder_shape(config, 3)
    weights = {"embed_tokens.weight": np.zeros((4, 32), np.float32), "extra.weight": np.zeros(3, np.float32)}
    with (tmp_path / "data").open("wb") as data, pytest.raises(NotCompiledError, match="no tensor"):
        graph.build_graph(shape, weights, None, data)


def test_a_causal_graph_is_not_used(make_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake that the proof is there for."""
    made = onnx.helper.make_node

    def causal(kind: str, *rest: object, **settings: object) -> onnx.NodeProto:
        if kind == "Attention" and "Attention" not in seen:
            settings["is_causal"] = 1
            seen.append(kind)
        return made(kind, *rest, **settings)  # type: ignore[arg-type]

    seen: list[str] = []
    monkeypatch.setattr(graph.helper, "make_node", causal)
    with pytest.raises(NotBidirectionalError, match="layer 0 does not see the future"):
        open_encoder(config_of(make_folder(seed=6)), cache=tmp_path)
    assert not list((tmp_path / "compiled").glob("[!.]*"))


def test_each_failure_of_a_proof_is_named() -> None:
    assert GraphProof(influences=(0.1, 0.2), parts_error=0.0, batch_error=0.0).failures() == []
    proof = GraphProof(influences=(0.1, 0.0), parts_error=0.5, batch_error=float("nan"))
    assert len(proof.failures()) == 3


def test_weights_that_compute_nan_are_refused(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(seed=7)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    model.layers[1].mlp.up_proj.weight.data.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(ModelFilesError, match="NaN"):
        open_encoder(config_of(folder), cache=tmp_path)


def test_a_vector_that_is_not_finite_stores_nothing(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(seed=7)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    # Not the tokens that the proof takes.
    model.embed_tokens.weight.data[[i for i in range(300, 512) if i % 20 != 5]] = float("inf")
    model.save_pretrained(folder)
    encoder = open_encoder(config_of(folder), cache=tmp_path)
    with pytest.raises(NonFiniteError, match="text 2 "):
        encoder.encode(["x", "y", "The capital of France"], role=Role.DOCUMENT)


def test_a_token_beyond_the_table_is_an_error(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(vocab_size=300)
    with pytest.raises(EncoderError, match="not of one model"):
        open_encoder(config_of(folder), cache=tmp_path).encode(["The capital of France"], role=Role.DOCUMENT)


def test_it_is_built_once(tiny_folder: Path, tmp_path: Path) -> None:
    steps: list[PullProgress] = []
    open_encoder(config_of(tiny_folder), cache=tmp_path, progress=steps.append)
    assert [step.done for step in steps] == [0, 1, 2, 3]
    assert {step.stage for step in steps} == {"compile"}
    steps.clear()
    open_encoder(config_of(tiny_folder), cache=tmp_path, progress=steps.append)
    assert steps == []


def compiled_at(cache: Path) -> Path:
    (folder,) = (cache / "compiled").glob("[!.]*")
    return folder


@pytest.mark.parametrize("name", ["weights.bin", "graph.onnx", "compiled.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_graph_is_built_again(
    name: str, damage: str, tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = vectors(open_encoder(config_of(tiny_folder), cache=tmp_path))
    path = compiled_at(tmp_path) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if damage == "cut" else content[:-9] + b"\xff" * 9)
    after = vectors(open_encoder(config_of(tiny_folder), cache=tmp_path))
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert np.array_equal(before, after)
    assert (compiled_at(tmp_path) / name).read_bytes() == content


def test_the_cache_keeps_what_was_used_last(make_folder: Make, tmp_path: Path) -> None:
    folders = [make_folder(seed=20 + i) for i in range(opening.KEPT + 1)]
    for at, folder in enumerate(folders[:-1]):
        open_encoder(config_of(folder), cache=tmp_path)
        os.utime(newest(tmp_path), (at, at))
    # The first is used again, so the second is the oldest.
    open_encoder(config_of(folders[0]), cache=tmp_path)
    before = set((tmp_path / "compiled").glob("[!.]*"))
    oldest = min(before, key=lambda path: path.stat().st_mtime)
    open_encoder(config_of(folders[-1]), cache=tmp_path)
    after = set((tmp_path / "compiled").glob("[!.]*"))
    assert len(after) == opening.KEPT
    assert before - after == {oldest}


def newest(cache: Path) -> Path:
    return max((cache / "compiled").glob("[!.]*"), key=lambda path: path.stat().st_mtime)


def test_a_disk_without_room_is_an_error_with_the_size(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(PullError, match="disk full"):
        open_encoder(config_of(tiny_folder), cache=tmp_path)


def test_two_processes_at_once_build_it_once(tiny_folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from searchctl.encoder.config import EncoderConfig, Runtime; "
        "from searchctl.encoder.open import open_encoder; steps = []; "
        "open_encoder(EncoderConfig(model=sys.argv[1], runtime=Runtime.COMPILED), cache=Path(sys.argv[2]), "
        "progress=lambda step: steps.append(step.stage)); "
        "print('compile' in steps, any(name in sys.modules for name in ('torch', 'transformers', 'peft', 'scipy')))"
    )
    command = [sys.executable, "-c", program, str(tiny_folder), str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in running)
    assert said == ["False False", "True False"]


def test_batches_hold_texts_of_one_length() -> None:
    lengths = [3, 5, 3, 5, 5, 2, 9]
    batches = list(plan_equal_batches(lengths, 10))
    assert batches == [[6], [1, 3], [4], [0, 2], [5]]
    assert list(plan_equal_batches([], 10)) == []


def test_a_gpu_is_for_torch_where_it_is_installed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)), cache=tmp_path)
    auto = EncoderConfig(model=str(tiny_folder))
    monkeypatch.setattr(encoder_open, "_has_gpu", lambda config: config.device != "cpu")
    chosen = {}
    for installed in (True, False):
        monkeypatch.setattr(encoder_open, "find_spec", lambda name, there=installed: there or None)
        for device in ("auto", "cpu", "cuda"):
            chosen[installed, device] = choose_runtime(resolved, replace(auto, device=device))
    runtimes = {key: runtime for key, (runtime, _) in chosen.items()}
    assert runtimes == {
        (True, "auto"): Runtime.TORCH,
        (True, "cpu"): Runtime.COMPILED,
        (True, "cuda"): Runtime.TORCH,
        (False, "auto"): Runtime.COMPILED,
        (False, "cpu"): Runtime.COMPILED,
        (False, "cuda"): Runtime.TORCH,
    }
    assert "torch" in chosen[False, "auto"][1]
