"""The LLM2Vec encoder on tiny random models: against hand-made vectors, in any batch, and in failure."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel

from searchctl.encoder import open as opening
from searchctl.encoder.config import Attention, EncoderConfig, Method, Pooling, Precision, Runtime
from searchctl.encoder.errors import EncoderError, ModelFilesError, NonFiniteError, NotBidirectionalError
from searchctl.encoder.load import _place
from searchctl.encoder.protocol import EncodeProgress, Encoder, Role

TEXTS = [
    "The capital of France is Paris, a city on the Seine.",
    "Rust",
    "Bread rises because yeast turns sugar into carbon dioxide and alcohol, which the dough holds. " * 3,
    "東京 is the capital of Japan.",
    "x",
]


Opener = Callable[..., Encoder]


def fp32(folder: Path, **changes: object) -> EncoderConfig:
    return replace(
        EncoderConfig(model=str(folder), precision=Precision.FP32, runtime=Runtime.TORCH, device="cpu"), **changes
    )


@pytest.fixture(scope="module")
def open_encoder(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Open encoders with a cache folder of the test's own: the user's is left alone."""
    return partial(opening.open_encoder, cache=tmp_path_factory.mktemp("cache"))


def silent(_line: str) -> None:
    pass


def test_vector_equals_the_one_made_by_hand(open_encoder: Opener, tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for attention in list(Attention):
        with subtests.test(attention=attention):
            encoder = open_encoder(fp32(tiny_folder, attention=attention))
            config = AutoConfig.from_pretrained(tiny_folder)
            config.is_causal = attention is Attention.CAUSAL
            model = AutoModel.from_pretrained(tiny_folder, config=config, dtype=torch.float32).eval()
            ids = torch.tensor([encoder.tokenizer.encode(TEXTS[0]).ids])
            with torch.no_grad():
                state = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
            expected = (state / state.norm()).numpy()
            assert np.abs(encoder.encode([TEXTS[0]], role=Role.DOCUMENT)[0] - expected).max() < 1e-6


def test_same_text_same_vector_in_any_batch(open_encoder: Opener, tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for pooling in list(Pooling):
        for method in list(Method):
            with subtests.test(pooling=pooling, method=method):
                together = open_encoder(fp32(tiny_folder, pooling=pooling, method=method))
                few = open_encoder(fp32(tiny_folder, pooling=pooling, method=method, batch_tokens=40))
                all_at_once = together.encode(TEXTS, role=Role.QUERY, instruction="Find the same")
                assert all_at_once.shape == (5, 32)
                assert np.allclose(np.linalg.norm(all_at_once, axis=1), 1, atol=1e-6)
                split = few.encode(TEXTS, role=Role.QUERY, instruction="Find the same")
                alone = np.concatenate(
                    [together.encode([t], role=Role.QUERY, instruction="Find the same") for t in TEXTS]
                )
                for other in (split, alone):
                    assert (np.sum(all_at_once * other, axis=1) >= 0.99999).all()


def test_instruction_changes_the_vector_though_it_is_not_pooled(open_encoder: Opener, tiny_folder: Path) -> None:
    encoder = open_encoder(fp32(tiny_folder))
    plain = encoder.encode(TEXTS[:1], role=Role.QUERY)
    guided = encoder.encode(TEXTS[:1], role=Role.QUERY, instruction="Classify the language")
    assert 0.1 < float(np.sum(plain * guided)) < 0.99999


def test_causal_prefix_is_blind_and_bidirectional_is_not(open_encoder: Opener, tiny_folder: Path) -> None:
    """With FIRST pooling a causal model cannot tell texts that begin alike (paper, section 4.1)."""
    pair = ["The capital of France", "The garbage collector"]
    causal = open_encoder(fp32(tiny_folder, attention=Attention.CAUSAL, pooling=Pooling.FIRST))
    both = open_encoder(fp32(tiny_folder, pooling=Pooling.FIRST))
    a, b = causal.encode(pair, role=Role.DOCUMENT)
    assert float(a @ b) == pytest.approx(1.0, abs=1e-6)
    a, b = both.encode(pair, role=Role.DOCUMENT)
    assert float(a @ b) < 0.9999


def test_progress_counts_tokens_and_truncation(open_encoder: Opener, tiny_folder: Path) -> None:
    encoder = open_encoder(fp32(tiny_folder, max_tokens=20, batch_tokens=20))
    seen: list[EncodeProgress] = []
    encoder.encode(TEXTS, role=Role.DOCUMENT, progress=seen.append)
    assert seen[0].texts_done == 0
    assert seen[-1].texts_done == seen[-1].texts_total == 5
    assert seen[-1].tokens_done == seen[-1].tokens_total
    too_long = sum(len(encoder.tokenizer.encode(text).ids) > 20 for text in TEXTS)
    assert 0 < too_long < 5
    assert {event.texts_truncated for event in seen} == {too_long}
    assert [event.tokens_done for event in seen] == sorted(event.tokens_done for event in seen)


def test_dim_keeps_the_first_components_and_renormalises(open_encoder: Opener, tiny_folder: Path) -> None:
    whole = open_encoder(fp32(tiny_folder)).encode(TEXTS, role=Role.DOCUMENT)[:, :8]
    short = open_encoder(fp32(tiny_folder, dim=8)).encode(TEXTS, role=Role.DOCUMENT)
    assert np.allclose(short, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)


def test_nan_weights_are_an_error_and_not_a_vector(open_encoder: Opener, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(seed=3)
    encoder = open_encoder(fp32(folder))
    with torch.no_grad():
        encoder.model.norm.weight[0] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(NonFiniteError, match="NaN or Inf for text"):
        encoder.encode(TEXTS, role=Role.DOCUMENT)


def test_nan_weights_in_the_files_are_told_as_such_at_load(
    open_encoder: Opener, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(seed=4)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for attention in Attention:
        with pytest.raises(ModelFilesError, match="states are NaN or infinite"):
            open_encoder(replace(fp32(folder), attention=attention))


def test_a_token_that_the_model_has_no_embedding_for_is_an_error(
    open_encoder: Opener, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(seed=5)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    missing = rows - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([f"[X{i}]" for i in range(missing + 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    encoder = open_encoder(fp32(folder))
    assert encoder.encode(["plain"], role=Role.DOCUMENT).shape == (1, 32)
    with pytest.raises(
        EncoderError, match=rf"token {rows} of its tokenizer, '\[X{missing}\]', and the model has .* {rows}"
    ):
        encoder.encode([f"a [X{missing}] b"], role=Role.DOCUMENT)


def test_code_in_a_folder_is_neither_run_nor_asked_about(
    open_encoder: Opener, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(seed=6)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('the code ran')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ModelFilesError, match="contains custom code"):
        open_encoder(fp32(folder))


def test_out_of_memory_halves_the_batch_and_gives_the_same_vectors(
    open_encoder: Opener, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = open_encoder(fp32(tiny_folder, batch_tokens=4096))
    expected = encoder.encode(TEXTS, role=Role.DOCUMENT)
    forward = encoder.model.forward  # type: ignore[attr-defined]

    def small_memory(input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.numel() > 150:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **kwargs)

    encoder.model.forward = small_memory  # type: ignore[attr-defined]
    assert np.allclose(encoder.encode(TEXTS, role=Role.DOCUMENT), expected, atol=1e-6)
    assert any("out of memory" in line for line in caplog.messages)


def test_bf16_stays_near_fp32(open_encoder: Opener, tiny_folder: Path) -> None:
    exact = open_encoder(fp32(tiny_folder)).encode(TEXTS, role=Role.DOCUMENT)
    rough = open_encoder(fp32(tiny_folder, precision=Precision.BF16)).encode(TEXTS, role=Role.DOCUMENT)
    assert (np.sum(exact * rough, axis=1) > 0.995).all()


def test_log_says_precision_device_and_why(
    open_encoder: Opener, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="searchctl")
    open_encoder(fp32(tiny_folder))
    (record,) = caplog.records
    assert (record.levelname, "fp32 on cpu (asked for)" in record.getMessage()) == ("INFO", True)


def test_unknown_device_is_an_error(open_encoder: Opener, tiny_folder: Path) -> None:
    with pytest.raises(EncoderError, match="'warp': expected auto, cpu, cuda"):
        open_encoder(fp32(tiny_folder, device="warp"))


def test_a_full_gpu_falls_back_loudly_only_when_chosen_automatically(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FullGpu(torch.nn.Linear):
        def to(self, device: object, **kwargs: object) -> "FullGpu":  # type: ignore[override]
            if torch.device(str(device)).type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self

    model = FullGpu(1, 1)
    placed, device = _place(model, torch.device("cuda"), automatic=True)  # type: ignore[arg-type]
    assert placed is model
    assert device == torch.device("cpu")
    assert ["WARNING"] == [record.levelname for record in caplog.records]
    with pytest.raises(EncoderError, match="--device cpu"):
        _place(model, torch.device("cuda"), automatic=False)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens where no GPU is")
def test_missing_gpu_is_an_error_when_asked_for(open_encoder: Opener, tiny_folder: Path) -> None:
    with pytest.raises(EncoderError, match="0 CUDA devices"):
        open_encoder(fp32(tiny_folder, device="cuda"))


def test_missing_weights_are_an_error_not_random_numbers(
    open_encoder: Opener, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(seed=4)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFilesError, match=r"1 tensors are not in the weights.*layers.1.mlp.up_proj"):
        open_encoder(fp32(folder))


def test_a_model_that_stays_causal_is_refused_at_load(open_encoder: Opener, make_folder: Callable[..., Path]) -> None:
    folder = make_folder("lfm2", layer_types=["full_attention", "conv", "full_attention"])
    with pytest.raises(NotBidirectionalError, match=r"layers\.1"):
        open_encoder(fp32(folder))
    encoder = open_encoder(fp32(folder, attention=Attention.CAUSAL))
    assert encoder.encode(TEXTS, role=Role.DOCUMENT).shape == (5, 32)


def test_d6_template_is_stored_with_the_model_not_keyed_on_its_name(
    open_encoder: Opener, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(seed=5)
    before = open_encoder(fp32(folder))
    (folder / "searchctl.json").write_text(json.dumps({"prompt": {"prefix": "[INST] ", "suffix": " [/INST]"}}))
    after = open_encoder(fp32(folder))
    assert before.info.fingerprint != after.info.fingerprint
    a = before.encode(["[INST] x [/INST]"], role=Role.DOCUMENT)
    b = after.encode(["x"], role=Role.DOCUMENT)
    assert not np.allclose(a, b)


def test_bf16_rounds_weights_and_not_the_rotary_frequencies(tiny_folder: Path, open_encoder: Opener) -> None:
    exact, rounded = (
        open_encoder(replace(fp32(tiny_folder), precision=precision)).model  # type: ignore[attr-defined]
        for precision in (Precision.FP32, Precision.BF16)
    )
    assert {torch.bfloat16} == {weight.dtype for weight in rounded.parameters()}
    assert torch.equal(exact.rotary_emb.inv_freq, rounded.rotary_emb.inv_freq)
