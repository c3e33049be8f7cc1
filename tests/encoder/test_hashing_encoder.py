"""The hashing encoder beyond the contract: it matches spelling, honestly, and refuses settings it does not have."""

import subprocess
import sys
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from searchctl.encoder.config import Attention, EncoderConfig, Method, Pooling, Precision
from searchctl.encoder.errors import EncoderError
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.open import identify, open_encoder
from searchctl.encoder.protocol import EncodeProgress, Role


def cosine(a: str, b: str) -> float:
    left, right = HashingEncoder(dim=4096).encode([a, b], role=Role.DOCUMENT)
    return float(left @ right)


def by_hand(text: str, dim: int) -> np.ndarray:
    vector = np.zeros(dim)
    for word, count in Counter(text.lower().split()).items():
        framed = f"<{word}>"
        features = [("w " + word, 1.0)] + [("t " + framed[i : i + 3], 0.5) for i in range(len(framed) - 2)]
        for feature, weight in features:
            value = int.from_bytes(blake3(feature.encode()).digest()[:8], "little")
            sign = 1 if value >= 1 << 63 else -1
            vector[value % (1 << 63) % dim] += sign * weight * (1 + log(count))
    return vector / np.linalg.norm(vector)


def test_vector_equals_the_one_made_by_hand() -> None:
    text = "The cat sat on the mat and the dog sat too"
    assert np.allclose(HashingEncoder(dim=64).encode([text], role=Role.QUERY)[0], by_hand(text, 64), atol=1e-6)


def test_shared_words_are_nearer_than_shared_letters_than_nothing() -> None:
    same, alike, other = (cosine("garbage collector", text) for text in ("the collector", "collection", "yeast dough"))
    assert same > alike > 0.1
    assert abs(other) < 0.1


def test_case_changes_nothing_and_instruction_neither() -> None:
    encoder = HashingEncoder()
    query = encoder.encode(["RUST Ownership"], role=Role.QUERY, instruction="Find the passage")
    assert np.array_equal(query, encoder.encode(["rust ownership"], role=Role.DOCUMENT))


def test_vectors_are_the_same_in_another_process() -> None:
    code = (
        "from searchctl.encoder.hashing import HashingEncoder as H; from searchctl.encoder.protocol import Role;"
        "import sys; sys.stdout.write(H().encode(['the same everywhere'], role=Role.QUERY).tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other == HashingEncoder().encode(["the same everywhere"], role=Role.QUERY).tobytes().hex()


def test_cut_is_exact() -> None:
    encoder = HashingEncoder(max_tokens=3)
    events: list[EncodeProgress] = []
    vectors = encoder.encode(["a b c d e", "a b c"], role=Role.DOCUMENT, progress=events.append)
    assert np.array_equal(vectors[0], vectors[1])
    assert (events[-1].texts_truncated, events[-1].tokens_total) == (1, 6)


def test_identify_equals_the_open_encoders_info_and_names_dim() -> None:
    config = EncoderConfig(model="hashing", dim=32, max_tokens=40)
    info = identify(config)
    assert info == open_encoder(config).info
    assert (info.dim, info.max_tokens, info.name) == (32, 40, "hashing")
    assert info.fingerprint != identify(EncoderConfig(model="hashing")).fingerprint


def test_setting_it_does_not_have_is_refused(subtests: pytest.Subtests) -> None:
    for setting, value in [
        ("adapters", (Path("x"),)),
        ("pooling", Pooling.MEAN),
        ("attention", Attention.CAUSAL),
        ("method", Method.ECHO),
        ("precision", Precision.BF16),
        ("device", "cuda"),
    ]:
        with subtests.test(setting=setting, value=value):
            config = EncoderConfig(model="hashing", **{setting: value})  # type: ignore[arg-type]
            with pytest.raises(EncoderError, match=f"^{setting} is"):
                open_encoder(config)
            with pytest.raises(EncoderError, match=f"^{setting} is"):
                identify(config)
