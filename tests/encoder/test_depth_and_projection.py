"""A model cut to some of its layers, and vectors through a projection: by hand, in files and in exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from searchctl.encoder.config import EncoderConfig, ExportFormat, Precision, Runtime
from searchctl.encoder.depth import keep_adapter_layers, keep_layers, parse_layers, stated_layers
from searchctl.encoder.errors import EncoderError, ModelFilesError
from searchctl.encoder.export.check import sentence_transformers_loader
from searchctl.encoder.export.export import ExportRequest, export_model
from searchctl.encoder.export.model_card import Origin
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.projection import load_projection, projection_shape, save_projection
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.models.sidecar import Sidecar, read_sidecar, write_sidecar
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Encoder, Role

TEXTS = ["The capital of France is Paris.", "Rust", "Bread rises because yeast turns sugar into carbon dioxide."]
Make = Callable[..., Path]


def opened(folder: Path, **changes: object) -> Encoder:
    config = EncoderConfig(model=str(folder), precision=Precision.FP32, device="cpu", runtime=Runtime.TORCH, **changes)  # type: ignore[arg-type]
    return open_encoder(config)


def vectors(folder: Path, **changes: object) -> np.ndarray:
    return opened(folder, **changes).encode(TEXTS, role=Role.DOCUMENT)


def project(folder: Path, components: int = 6, *, bias: bool = True, seed: int = 3) -> torch.nn.Linear:
    torch.manual_seed(seed)
    linear = torch.nn.Linear(32, components, bias=bias)
    save_projection(folder / "projection.safetensors", linear)
    return linear


def test_layers_as_they_are_said(subtests: pytest.Subtests) -> None:
    for said, layers, again in [
        (3, (0, 1, 2), 3),
        (1, (0,), 1),
        ([0, 1], (0, 1), 2),
        ([0, 2, 5], (0, 2, 5), [0, 2, 5]),
        ([4], (4,), [4]),
    ]:
        with subtests.test(said=said, layers=layers, again=again):
            assert parse_layers(said) == layers
            assert stated_layers(layers) == again


def test_what_says_no_layers_is_refused(subtests: pytest.Subtests) -> None:
    for said in [0, -1, True, 2.0, "3", [], [1, 1], [2, 1], [-1, 2], [0, True], None, [0, "1"]]:
        with subtests.test(said=said), pytest.raises(ValueError, match="expected a number above 0"):
            parse_layers(said)


def test_a_cut_model_gives_the_states_after_its_layers(make_folder: Make, subtests: pytest.Subtests) -> None:
    for kind in ["llama", "qwen2", "qwen3", "gpt2", "gemma2"]:
        with subtests.test(kind=kind):
            sizes = {"head_dim": 8} if kind in ("gemma2", "qwen3") else {}
            folder = make_folder(kind, seed=2, num_hidden_layers=4, **sizes)
            config = AutoConfig.from_pretrained(folder)
            whole = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
            ids = torch.tensor([[5, 9, 30, 7]])
            kept = [(0, 1), (0, 3)]
            expected = []
            with torch.no_grad():
                for numbers in kept:
                    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
                    # Layers that are not kept made to do nothing: the same states as without them.
                    stack = model.h if kind == "gpt2" else model.layers
                    for number in set(range(4)) - set(numbers):
                        stack[number].forward = lambda hidden_states, *args, **kwargs: hidden_states
                    expected.append(model(input_ids=ids, use_cache=False).last_hidden_state)
                assert float((expected[0] - whole(input_ids=ids, use_cache=False).last_hidden_state).abs().max()) > 1e-3
                for numbers, states in zip(kept, expected, strict=True):
                    cut = keep_layers(AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), numbers)
                    torch.testing.assert_close(cut(input_ids=ids, use_cache=False).last_hidden_state, states)
                    assert cut.config.num_hidden_layers == 2
                    assert len(getattr(cut.config, "layer_types", None) or numbers) == 2
            with pytest.raises(ModelFilesError, match=r"layers reach to number 4, and .* has 4, from 0 on"):
                keep_layers(whole, (0, 4))


def test_an_adapter_of_the_whole_model_fits_the_cut_one(
    tiny_folder: Path, make_folder: Make, bring_adapter: Make
) -> None:
    folder = make_folder(seed=4)
    bring_adapter(folder, "lora")
    tensors = load_file(folder / "lora" / "adapter_model.safetensors")
    cut = keep_adapter_layers(tensors, (0, 2))
    assert len(cut) == len(tensors) * 2 // 3
    for name, value in cut.items():
        before = name.replace("layers.1.", "layers.2.")
        assert torch.equal(value, tensors[before])
    # Merged and cut is cut and merged.
    write_sidecar(folder, Sidecar(adapters=("lora",), layers=(0, 2)))
    save_file(cut, folder / "lora" / "adapter_model.safetensors")
    found = vectors(folder)
    save_file(tensors, folder / "lora" / "adapter_model.safetensors")
    write_sidecar(folder, Sidecar(adapters=("lora",)))
    whole = opened(folder)
    keep_layers(whole.model, (0, 2))  # type: ignore[attr-defined]
    np.testing.assert_allclose(whole.encode(TEXTS, role=Role.DOCUMENT), found, atol=1e-6)


def test_a_vector_is_the_projected_mean_of_the_states(make_folder: Make, subtests: pytest.Subtests) -> None:
    for bias in [True, False]:
        with subtests.test(bias=bias):
            folder = make_folder(seed=5)
            encoder = opened(folder)
            rows = encoder.texts(TEXTS, role=Role.DOCUMENT, instruction=None)  # type: ignore[attr-defined]
            linear = project(folder, bias=bias)
            write_sidecar(folder, Sidecar(projection="projection.safetensors"))
            found = vectors(folder)
            assert found.shape == (3, 6)
            for row, vector in zip(rows, found, strict=True):
                with torch.inference_mode():
                    states, _ = encoder.states([row])  # type: ignore[attr-defined]
                    made = linear(states[0, row.start : row.end].mean(dim=0))
                np.testing.assert_allclose(vector, (made / made.norm()).numpy(), atol=1e-6)
            # Fewer components are the first ones, of unit length again.
            short = vectors(folder, dim=4)
            np.testing.assert_allclose(
                short, found[:, :4] / np.linalg.norm(found[:, :4], axis=1, keepdims=True), atol=1e-6
            )
            with pytest.raises(EncoderError, match=r"dim is 7: .* has 6 components"):
                identify(EncoderConfig(model=str(folder), dim=7))


def test_the_fingerprint_knows_layers_and_projection(make_folder: Make) -> None:
    folder = make_folder(seed=6)
    project(folder)
    seen = set()
    for sidecar in (
        Sidecar(),
        Sidecar(layers=(0, 1)),
        Sidecar(layers=(0, 2)),
        Sidecar(projection="projection.safetensors"),
        Sidecar(projection="projection.safetensors", layers=(0, 1)),
    ):
        write_sidecar(folder, sidecar)
        assert read_sidecar(folder) == sidecar
        seen.add(identify(EncoderConfig(model=str(folder))).fingerprint)
    project(folder, seed=4)
    seen.add(identify(EncoderConfig(model=str(folder))).fingerprint)
    assert len(seen) == 6


def test_a_chain_cut_short_leaves_the_projection_out(make_folder: Make, bring_adapter: Make) -> None:
    folder = make_folder(seed=7)
    bring_adapter(folder, "lora")
    project(folder)
    write_sidecar(folder, Sidecar(adapters=("lora",), projection="projection.safetensors"))
    assert identify(EncoderConfig(model=str(folder))).dim == 6
    assert identify(EncoderConfig(model=str(folder), chain=1)).dim == 6
    assert identify(EncoderConfig(model=str(folder), chain=0)).dim == 32


def test_files_that_are_no_projection_are_refused(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(seed=8)
    config = EncoderConfig(model=str(folder))
    write_sidecar(folder, Sidecar(projection="projection.safetensors"))
    path = folder / "projection.safetensors"
    with pytest.raises(ModelFilesError, match="no such file"):
        resolve(config)
    for tensors in (
        {"weight": torch.zeros(2, 32)},
        {"linear.weight": torch.zeros(32)},
        {"linear.weight": torch.zeros(2, 32), "linear.bias": torch.zeros(3)},
        {"linear.weight": torch.zeros(2, 32), "more": torch.zeros(3)},
    ):
        save_file(tensors, path)
        with pytest.raises(ModelFilesError, match=r"expected linear\.weight of two dimensions"):
            resolve(config)
    save_file({"linear.weight": torch.zeros(2, 31)}, path)
    with pytest.raises(ModelFilesError, match=r"projects states of 31 components, and those of .* have 32"):
        identify(config)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFilesError, match="bytes long, but its header says"):
        resolve(config)
    for bad in ("../projection.safetensors", "/projection.safetensors", "", 3):
        (folder / "searchctl.json").write_text(json.dumps({"projection": bad}))
        with pytest.raises(ModelFilesError, match=r"projection is .*, expected a file inside"):
            resolve(config)
    (folder / "searchctl.json").write_text(json.dumps({"layers": 0}))
    with pytest.raises(ModelFilesError, match="layers is 0: expected a number above 0"):
        resolve(config)


def test_projections_are_read_as_they_were_written(tmp_path: Path) -> None:
    for bias in (True, False):
        linear = torch.nn.Linear(5, 4, bias=bias)
        save_projection(tmp_path / "p.safetensors", linear)
        assert projection_shape(tmp_path / "p.safetensors") == (4, 5)
        again = load_projection(tmp_path / "p.safetensors")
        assert torch.equal(again.weight, linear.weight) and (again.bias is None) is not bias
        assert not again.weight.requires_grad


def test_exports_hold_the_layers_that_are_used_and_the_projection(
    make_folder: Make, bring_adapter: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for form, dim in [
        (ExportFormat.MERGED, None),
        (ExportFormat.SENTENCE_TRANSFORMERS, None),
        (ExportFormat.SENTENCE_TRANSFORMERS, 4),
    ]:
        with subtests.test(form=form, dim=dim):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = make_folder(seed=9)
            bring_adapter(folder, "lora")
            tensors = load_file(folder / "lora" / "adapter_model.safetensors")
            save_file(keep_adapter_layers(tensors, (0, 2)), folder / "lora" / "adapter_model.safetensors")
            project(folder)
            write_sidecar(folder, Sidecar(adapters=("lora",), layers=(0, 2), projection="projection.safetensors"))
            config = EncoderConfig(model=str(folder), precision=Precision.FP32, dim=dim)
            exported = export_model(
                ExportRequest(
                    config=config,
                    output=tmp_path / "out",
                    form=form,
                    describe=lambda resolved: Origin(
                        base="tiny", source=None, hub_base=None, revision="local", licence="Apache-2.0", adapters=()
                    ),
                    command="searchctl models export tiny",
                    versions={"searchctl": "0"},
                    loader=sentence_transformers_loader(),
                ),
                told=lambda message: None,
            )
            # Stock sentence-transformers loaded it and gave the same vectors, or searchctl did.
            assert exported.cosine is not None and exported.cosine > 0.99999
            assert AutoConfig.from_pretrained(tmp_path / "out").num_hidden_layers == 2
            np.testing.assert_allclose(vectors(tmp_path / "out", dim=dim), vectors(folder, dim=dim), atol=1e-5)
            if form is ExportFormat.SENTENCE_TRANSFORMERS:
                modules = json.loads((tmp_path / "out" / "modules.json").read_text())
                assert [each["path"] for each in modules] == ["", "1_Pooling", "2_Dense", "3_Normalize"]
