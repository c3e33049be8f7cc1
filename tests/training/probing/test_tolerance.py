"""Tolerance, on tiny decoders: the matrix is computed again with transformers' own hidden states."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from searchctl.encoder.config import Attention, EncoderConfig, Precision, Runtime
from searchctl.encoder.errors import EmptyTextError
from searchctl.encoder.open import open_encoder
from searchctl.encoder.transformer import TransformerEncoder
from searchctl.training.errors import EvaluationError
from searchctl.training.probing.tolerance import Tolerance, cosine_matrix, layer_states, measure_tolerance

MakeFolder = Callable[..., Path]
TEXT = "The heron waits in shallow water; nobody knows for what."
KINDS = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "gemma2": {"head_dim": 8},
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "n_positions": 256},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}


def opened(folder: Path, attention: Attention = Attention.CAUSAL, max_tokens: int | None = None) -> TransformerEncoder:
    config = EncoderConfig(
        model=str(folder),
        attention=attention,
        precision=Precision.FP32,
        runtime=Runtime.TORCH,
        device="cpu",
        max_tokens=max_tokens,
    )
    encoder = open_encoder(config)
    assert isinstance(encoder, TransformerEncoder)
    return encoder


def hidden_states(folder: Path, ids: list[int], *, is_causal: bool) -> np.ndarray:
    """Return (layers + 1, tokens, width) as transformers itself gives them."""
    config = AutoConfig.from_pretrained(folder)
    config.is_causal = is_causal
    model = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return np.stack([state[0].numpy() for state in states])


def test_matrix_equals_that_of_transformers_own_hidden_states(
    make_folder: MakeFolder, subtests: pytest.Subtests
) -> None:
    for kind, changes in KINDS.items():
        with subtests.test(kind=kind):
            folder = make_folder(kind, bos=True, **changes)
            found = measure_tolerance(opened(folder), TEXT)
            ids = opened(folder).tokenizer.encode(TEXT).ids
            causal = hidden_states(folder, ids, is_causal=True)
            both = hidden_states(folder, ids, is_causal=False)
            expected = np.array(
                [
                    [np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(*rows, strict=True)]
                    for rows in zip(causal, both, strict=True)
                ]
            )
            assert (4, len(ids)) == found.cosines.shape
            np.testing.assert_allclose(found.cosines, expected, atol=1e-5)
            assert expected[1:].min() < 0.9999  # else the comparison says nothing
            assert 0 == found.cut


def test_what_must_be_equal_is_equal(make_folder: MakeFolder) -> None:
    """The embedding knows no attention; in the first layer the last token sees the same tokens either way."""
    found = measure_tolerance(opened(make_folder("llama", bos=True)), TEXT)
    assert np.ones(len(found.tokens)).tolist() == found.cosines[0].tolist()
    assert found.cosines[1, -1] == pytest.approx(1.0, abs=1e-7)
    assert found.cosines[1, :-1].max() < 1 - 1e-6


def test_causal_against_causal_is_exactly_one(tiny_folder: Path) -> None:
    encoder = opened(tiny_folder)
    ids = torch.tensor([encoder.tokenizer.encode(TEXT).ids])
    with torch.inference_mode():
        one, one_raw = layer_states(encoder.model, ids)
        other, other_raw = layer_states(encoder.model, ids)
    assert {1.0} == set(cosine_matrix(one, other).ravel().tolist())
    assert {1.0} == set(cosine_matrix(one_raw[None], other_raw[None]).ravel().tolist())


def test_states_before_the_final_norm_are_what_the_norm_gets(tiny_folder: Path) -> None:
    encoder = opened(tiny_folder)
    with torch.inference_mode():
        states, raw = layer_states(encoder.model, torch.tensor([[5, 6, 7]]))
        torch.testing.assert_close(states[-1], encoder.model.norm(raw))
        assert not torch.allclose(states[-1], raw)


def test_cosines_by_hand() -> None:
    one = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]])
    other = torch.tensor([[[4.0, 3.0], [0.0, 5.0], [-2.0, -4.0], [1.0, 0.0]]])
    found = cosine_matrix(one, other)[0]
    assert found[:3].tolist() == pytest.approx([0.96, 0.0, -1.0])
    assert np.isnan(found[3])


def test_the_model_is_left_as_it_was(tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for attention in Attention:
        with subtests.test(attention=attention):
            encoder = opened(tiny_folder, attention)
            ids = torch.tensor([[5, 6, 7, 8]])
            with torch.inference_mode():
                before = encoder.model(input_ids=ids).last_hidden_state
                measure_tolerance(encoder, TEXT)
                after = encoder.model(input_ids=ids).last_hidden_state
            assert torch.equal(before, after)
            assert (attention is Attention.CAUSAL) == encoder.model.config.is_causal


def test_tokens_are_pieces_of_the_text(make_folder: MakeFolder) -> None:
    found = measure_tolerance(opened(make_folder("llama", bos=True)), TEXT)
    assert "<s>" == found.tokens[0]
    assert TEXT == "".join(found.tokens[1:])
    assert ("embedding", "layers.0", "layers.1", "layers.2") == found.rows


def test_a_longer_text_is_cut_and_counted(tiny_folder: Path) -> None:
    whole = measure_tolerance(opened(tiny_folder), TEXT)
    found = measure_tolerance(opened(tiny_folder, max_tokens=9), TEXT)
    assert (4, 9) == found.cosines.shape
    assert len(whole.tokens) - 9 == found.cut
    assert whole.tokens[:9] == found.tokens


def test_a_text_too_short_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(EvaluationError, match="has 1 tokens"):
        measure_tolerance(opened(tiny_folder), "a")
    with pytest.raises(EmptyTextError):
        measure_tolerance(opened(tiny_folder), " \n")


def test_summary_by_hand() -> None:
    tolerance = Tolerance(
        text="a b c",
        tokens=("a", " b", " c"),
        cut=0,
        rows=("embedding", "layers.0", "layers.1"),
        cosines=np.array([[1.0, 1.0, 1.0], [0.2, 0.95, 0.85], [0.4, 0.5, 0.91]]),
        last_before_norm=np.array([0.1, 0.2, 0.3]),
    )
    assert [1.0, pytest.approx(2.0 / 3), pytest.approx(1.81 / 3)] == tolerance.by_row.tolist()
    assert pytest.approx(1.81 / 3) == tolerance.last_layer
    assert pytest.approx(2 / 6) == tolerance.share_near_one  # 0.95 and 0.91 of the six cells below the embedding
    assert pytest.approx(0.3) == tolerance.first_token
    assert pytest.approx((0.9 + 0.705) / 2) == tolerance.similarity
    assert pytest.approx(0.705) == tolerance.lowest_layer
