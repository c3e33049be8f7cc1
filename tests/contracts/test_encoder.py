"""What every encoder promises (encoder/protocol.py). Add a factory to run the whole suite on another one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from searchctl.encoder.config import Attention, EncoderConfig, Method, Pooling, Precision, Runtime
from searchctl.encoder.errors import EmptyTextError
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import EncodeProgress, Encoder, Role

FACTORIES: dict[str, Callable[[], Encoder]] = {
    "hashing": lambda: HashingEncoder(max_tokens=64),
    "hashing-dim-1": lambda: HashingEncoder(dim=1, max_tokens=64),
}

TEXTS = [
    "The capital of France is Paris, a city on the Seine.",
    "x",
    "Bread rises because yeast turns sugar into carbon dioxide and alcohol, which the dough holds.",
    "def add(a, b):\n    return a + b",
    "東京 is the capital of Japan; München liegt an der Isar.",
    "...",
    "supercalifragilistic" * 20,
]


TRANSFORMERS = {
    "compiled": {"runtime": Runtime.COMPILED},
    "compiled-batch-of-one": {"runtime": Runtime.COMPILED, "batch_tokens": 1},
    "compiled-weighted": {"runtime": Runtime.COMPILED, "pooling": Pooling.WEIGHTED_MEAN},
    "compiled-echo": {"runtime": Runtime.COMPILED, "method": Method.ECHO},
    "compiled-eos-dim-8": {"runtime": Runtime.COMPILED, "pooling": Pooling.LAST, "dim": 8},
    "transformer": {},
    "transformer-batch-of-one": {"batch_tokens": 1},
    "transformer-causal-weighted": {"attention": Attention.CAUSAL, "pooling": Pooling.WEIGHTED_MEAN},
    "transformer-echo": {"method": Method.ECHO},
    "transformer-eos": {"pooling": Pooling.LAST},
    "transformer-dim-8": {"dim": 8},
}


@pytest.fixture(params=[*sorted(FACTORIES), *TRANSFORMERS], scope="module")
def encoder(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    if request.param in FACTORIES:
        return FACTORIES[request.param]()
    settings = {"runtime": Runtime.TORCH, **TRANSFORMERS[request.param]}
    config = EncoderConfig(model=str(tiny_folder), precision=Precision.FP32, device="cpu", max_tokens=64, **settings)
    return open_encoder(config, cache=tmp_path_factory.mktemp("cache"))


def documents(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encoder.encode(texts, role=Role.DOCUMENT)


def events_of(encoder: Encoder, texts: list[str]) -> list[EncodeProgress]:
    events: list[EncodeProgress] = []
    encoder.encode(texts, role=Role.DOCUMENT, progress=events.append)
    return events


def test_vectors_are_unit_float32_of_the_promised_width(encoder: Encoder) -> None:
    vectors = documents(encoder, TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.info.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.info.normalized


def test_no_texts_give_no_rows_and_the_same_width(encoder: Encoder) -> None:
    vectors = documents(encoder, [])
    assert vectors.shape == (0, encoder.info.dim)
    assert vectors.dtype == np.float32


def test_row_i_belongs_to_text_i_whatever_the_lengths(encoder: Encoder) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    assert np.allclose(documents(encoder, [TEXTS[i] for i in order]), documents(encoder, TEXTS)[order], atol=1e-4)


def test_a_text_alone_and_in_a_batch_has_the_same_vector(encoder: Encoder) -> None:
    together = documents(encoder, TEXTS)
    alone = np.concatenate([documents(encoder, [text]) for text in TEXTS])
    assert (np.sum(together * alone, axis=1) >= 0.9999).all()


def test_equal_calls_give_equal_bits(encoder: Encoder) -> None:
    assert np.array_equal(documents(encoder, TEXTS), documents(encoder, TEXTS))


def test_different_texts_have_different_vectors(encoder: Encoder) -> None:
    if encoder.info.dim == 1:
        pytest.skip("one component has only two unit vectors")
    vectors = documents(encoder, TEXTS)
    assert (vectors @ vectors.T)[~np.eye(len(TEXTS), dtype=bool)].max() < 0.9999


def test_empty_text_is_an_error_naming_its_row(encoder: Encoder, subtests: pytest.Subtests) -> None:
    for bad in ["", " ", "\n\t ", "\u00a0", "\u3000"]:
        with subtests.test(bad=bad):
            with pytest.raises(EmptyTextError, match="text 2 ") as caught:
                documents(encoder, ["a", "b", bad, "c"])
            assert caught.value.row == 2


def test_bare_string_is_a_type_error_and_not_single_letters(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="sequence of strings"):
        encoder.encode("hello", role=Role.QUERY)


def test_text_that_is_no_string_is_a_type_error_naming_its_row(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="text 1 "):
        encoder.encode(["a", None], role=Role.QUERY)  # type: ignore[list-item]


def test_progress_ends_complete_and_never_goes_back(encoder: Encoder) -> None:
    texts = TEXTS * 100
    events = events_of(encoder, texts)
    assert (events[-1].texts_done, events[-1].texts_total) == (len(texts), len(texts))
    assert events[-1].tokens_done == events[-1].tokens_total > 0
    done = [event.texts_done for event in events]
    assert done == sorted(done)


def test_progress_of_no_texts_ends_at_zero_of_zero(encoder: Encoder) -> None:
    last = events_of(encoder, [])[-1]
    assert (last.texts_done, last.texts_total, last.texts_truncated) == (0, 0, 0)


def test_long_text_is_cut_at_a_token_and_counted_from_the_first_event(encoder: Encoder) -> None:
    limit = encoder.info.max_tokens
    start = "word " * (4 * limit)
    texts = ["short", start + "first end", start + "second end"]
    assert {event.texts_truncated for event in events_of(encoder, texts)} == {2}
    assert events_of(encoder, texts)[-1].tokens_total <= 2 * limit + limit // 2
    vectors = documents(encoder, texts)
    assert float(vectors[1] @ vectors[2]) >= 0.9999


def test_text_within_the_limit_is_not_counted_as_cut(encoder: Encoder) -> None:
    assert events_of(encoder, ["short", "also short"])[-1].texts_truncated == 0


def test_long_text_without_spaces_keeps_its_start(encoder: Encoder) -> None:
    """Texts without whitespace were cut to the empty string."""
    assert np.isfinite(documents(encoder, ["漢字" * 2000, "abc" * 2000])).all()


def test_empty_instruction_means_none(encoder: Encoder) -> None:
    plain = encoder.encode(TEXTS, role=Role.DOCUMENT, instruction="")
    assert np.allclose(plain, documents(encoder, TEXTS), atol=1e-6)


def test_tokenizer_neither_pads_nor_cuts(encoder: Encoder) -> None:
    encodings = encoder.tokenizer.encode_batch(["a", "word " * (4 * encoder.info.max_tokens)])
    assert len(encodings[0].ids) < len(encodings[1].ids)
    assert len(encodings[1].ids) > encoder.info.max_tokens


def test_info_names_a_fingerprint(encoder: Encoder) -> None:
    assert len(encoder.info.fingerprint) == 64
    assert int(encoder.info.fingerprint, 16) >= 0
