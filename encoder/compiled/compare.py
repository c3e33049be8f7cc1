"""Two runtimes of one encoder on the same texts."""

from __future__ import annotations

import random

from tokenizers import Tokenizer

from ..errors import EncoderError
from ..protocol import Encoder, Role

LEAST_COSINE = 0.99999


def sample_texts(tokenizer: Tokenizer, longest: int, *, count: int = 200, seed: int = 0) -> list[str]:
    """Return texts of random tokens, from one to some `longest` of them: every length, and words of every kind."""
    chosen = random.Random(seed)
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    lengths = [max(1, round(longest ** (at / (count - 1)))) for at in range(count)]
    texts = (tokenizer.decode([chosen.randrange(size) for _ in range(length)]) for length in lengths)
    return [text if text.strip() else "a" for text in texts]


def require_same(first: Encoder, second: Encoder) -> float:
    """Return the least cosine of both encoders' vectors of 200 texts. Raises EncoderError where it is too small."""
    texts = sample_texts(first.tokenizer, first.info.max_tokens)
    ours, theirs = (encoder.encode(texts, role=Role.DOCUMENT) for encoder in (first, second))
    least = float((ours * theirs).sum(axis=1).min())
    if not least >= LEAST_COSINE:
        raise EncoderError(
            f"{first.info.name}: the compiled encoder and torch give vectors with a cosine of {least:.6f}, expected at "
            f"least {LEAST_COSINE}: use --runtime torch, and report this model"
        )
    return least
