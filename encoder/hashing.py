"""A lexical encoder without weights: hashed words and letter trigrams. For tests and dry runs of the whole product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import log

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from .config import Attention, EncoderConfig, Method, Precision
from .errors import EmptyTextError, EncoderError
from .protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from .tokenize import check_texts

NAME = "hashing"
VERSION = 1
"""Raised when vectors change: collections made with another one are refused."""
DIM, MAX_TOKENS = 256, 512
BLOCK = 512
TRIGRAM_WEIGHT = 0.5


class HashingEncoder:
    """Matches spelling, not meaning: texts that share words or parts of words are near. No language model.

    A text's vector is the sum over its distinct words, lowercased, of 1 + ln(count) times the word's features: the word
    itself (weight 1) and the letter trigrams of "<word>" (weight 0.5), each hashed to one signed component
    (Weinberger et al., arXiv 0902.2206). Queries and documents are encoded alike and instructions are ignored: they
    neither enter the vector nor count as tokens.
    """

    def __init__(self, dim: int = DIM, max_tokens: int = MAX_TOKENS) -> None:
        if dim < 1 or max_tokens < 1:
            raise ValueError(f"dim is {dim} and max_tokens is {max_tokens}: expected whole numbers of at least 1")
        self._tokenizer = Tokenizer(models.WordLevel(vocab={"[UNK]": 0}, unk_token="[UNK]"))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        self._info = EncoderInfo(
            name=NAME,
            revision=str(VERSION),
            dim=dim,
            max_tokens=max_tokens,
            pooling="sum",
            normalized=True,
            fingerprint=blake3(f"searchctl {NAME} {VERSION} dim={dim}".encode()).hexdigest(),
        )

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """Words and runs of punctuation; every token has id 0, since words are hashed and not numbered."""
        return self._tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim) as the protocol says; `role` and `instruction` change nothing."""
        check_texts(texts)
        words, counts = self._words(texts)
        truncated = sum(count > self._info.max_tokens for count in counts)
        lengths = [len(row) for row in words]
        out = np.zeros((len(texts), self._info.dim), dtype=np.float32)
        for start in range(0, max(len(texts), 1), BLOCK):
            end = min(start + BLOCK, len(texts))
            for row in range(start, end):
                out[row] = self._vector(words[row])
            if progress is not None:
                progress(
                    EncodeProgress(
                        texts_done=end,
                        texts_total=len(texts),
                        tokens_done=sum(lengths[:end]),
                        tokens_total=sum(lengths),
                        texts_truncated=truncated,
                    )
                )
        return out

    def _words(self, texts: Sequence[str]) -> tuple[list[list[str]], list[int]]:
        """Return each text's words within `max_tokens`, and how many it has altogether."""
        words: list[list[str]] = []
        counts: list[int] = []
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            encodings = self._tokenizer.encode_batch(list(block))
            for row, (text, encoding) in enumerate(zip(block, encodings, strict=True), start):
                spans = encoding.offsets
                if not spans:
                    raise EmptyTextError(row, text)
                counts.append(len(spans))
                words.append([text[a:b].lower() for a, b in spans[: self._info.max_tokens]])
        return words, counts

    def _vector(self, words: list[str]) -> NDArray[np.float32]:
        # In order of first use, so that sums are rounded alike on every run.
        features = [(_features(word, self._info.dim), 1 + log(count)) for word, count in Counter(words).items()]
        buckets = np.concatenate([found[0] for found, _ in features])
        weights = np.concatenate([found[1] * weight for found, weight in features])
        vector = np.bincount(buckets, weights=weights, minlength=self._info.dim)
        norm = float(np.linalg.norm(vector))
        if norm < 1e-9:
            # Features of opposite sign met in one component and nothing is left (seen with a tiny dim).
            vector[_hash(" ".join(words)) % self._info.dim] = norm = 1.0
        return (vector / norm).astype(np.float32)


def hashing_encoder(config: EncoderConfig) -> HashingEncoder:
    """Return the encoder for a configuration. Raises EncoderError for a setting that it does not have."""
    unset = {
        "adapters": not config.adapters,
        "pooling": config.pooling is None,
        "attention": config.attention is Attention.BIDIRECTIONAL,
        "method": config.method is Method.PLAIN,
        "precision": config.precision is not Precision.BF16,
        "device": config.device in ("auto", "cpu"),
    }
    for name, is_default in unset.items():
        if not is_default:
            raise EncoderError(
                f"{name} is {getattr(config, name)!r}, but the model {NAME!r} is no language model and has no such "
                "setting: leave it out, or choose another model",
                next_command=("models", "list"),
            )
    return HashingEncoder(dim=config.dim or DIM, max_tokens=config.max_tokens or MAX_TOKENS)


def _hash(feature: str) -> int:
    return int.from_bytes(blake3(feature.encode("utf-8", "surrogatepass")).digest(8), "little")


@lru_cache(maxsize=1 << 16)
def _features(word: str, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the components and signed weights of one lowercased word."""
    framed = f"<{word}>"
    trigrams = [framed[i : i + 3] for i in range(len(framed) - 2)]
    hashes = [_hash(f"w {word}"), *(_hash(f"t {trigram}") for trigram in trigrams)]
    weights = np.array([1.0] + [TRIGRAM_WEIGHT] * len(trigrams))
    signs = np.array([1.0 if value >> 63 else -1.0 for value in hashes])
    buckets = np.array([(value & ((1 << 63) - 1)) % dim for value in hashes], dtype=np.int64)
    return buckets, weights * signs
