"""From the words of a sentence to token ids, and back to one state per word.

Shape suffixes: B batch, L tokens, T tokens of a batch one after the other, D hidden width, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from ..encoder.tokenize import BLOCK, TokenRow
from ..encoder.transformer import TransformerEncoder
from .errors import EvaluationError
from .word_data import Sentence
from .word_steps import Alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class WordRow:
    """One sentence as token ids, with the tokens [a, b) of each word; a == b == 0 is a word without a state."""

    ids: NDArray[np.int32]
    spans: NDArray[np.int64]
    """(words, 2)"""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which words have a state, bool (words,)."""
        return self.spans[:, 1] > self.spans[:, 0]


def start_token(encoder: TransformerEncoder) -> int | None:
    """Return the id to put before each sentence, None where the tokenizer puts one there itself.

    The state before a sentence's first token is what the anchor takes for its first word after MNTP, and its
    tokenizers all begin with BOS. Without one, every first word would be lost: so the model's own bos_token_id stands
    there, or its eos_token_id, which parts the documents that such models are trained on. All steps read the same
    rows. Raises EvaluationError when the model names neither.
    """
    probe = encoder.tokenizer.encode("a")
    if probe.special_tokens_mask and probe.special_tokens_mask[0]:
        return None
    config = encoder.model.config.get_text_config()
    for name in ("bos_token_id", "eos_token_id"):
        value = getattr(config, name, None)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int):
            return value
    raise EvaluationError(
        f"{encoder.info.name} names neither bos_token_id nor eos_token_id in config.json, and its tokenizer puts no "
        "token before a text: the first word of a sentence would have no state before it. Set bos_token_id"
    )


def word_rows(
    tokenizer: Tokenizer, sentences: Sequence[Sentence], *, start: int | None, max_tokens: int
) -> list[WordRow]:
    """Return a row per sentence: its words joined by single spaces, tokenised once, cut at `max_tokens`.

    A token is a word's when it holds a character of it or of the space before it (the anchor's tokenizers keep that
    space with the word). A token that holds two words is both's. Words not wholly within the limit get no tokens.
    """
    rows: list[WordRow] = []
    for at in range(0, len(sentences), BLOCK):
        part = sentences[at : at + BLOCK]
        encodings = tokenizer.encode_batch([sentence.text for sentence in part])
        rows += [_row(s.words, e, start, max_tokens) for s, e in zip(part, encodings, strict=True)]
    return rows


def _row(words: Sequence[str], encoding: Encoding, start: int | None, max_tokens: int) -> WordRow:
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    usable = (np.asarray(encoding.special_tokens_mask) == 0) & (offsets[:, 1] > offsets[:, 0])
    lead = 0 if start is None else 1
    ids = np.asarray([*([start] if start is not None else []), *encoding.ids], dtype=np.int32)
    spans = np.zeros((len(words), 2), dtype=np.int64)
    tokens = np.flatnonzero(usable)
    begins, ends = offsets[tokens, 0], offsets[tokens, 1]
    end = -1
    for number, word in enumerate(words):
        # From the end of the word before: the space between them is this word's.
        begin, end = max(end, 0), end + 1 + len(word)
        own = tokens[(ends > begin) & (begins < end)]
        if len(own) and own[-1] + lead < max_tokens:
            spans[number] = own[0] + lead, own[-1] + 1 + lead
    return WordRow(ids=ids[:max_tokens], spans=spans)


def word_means(encoder: TransformerEncoder, rows: Sequence[WordRow], alignment: Alignment) -> NDArray[np.float32]:
    """Return float32 (words with a state, dim) of one batch, in the order of the rows."""
    shift = 1 if alignment is Alignment.NEXT_TOKEN else 0
    tokens = [TokenRow(ids=row.ids, start=0, end=len(row.ids), truncated=False) for row in rows]
    with torch.inference_mode():
        states_BLD, _ = encoder.states(tokens)
        width = states_BLD.shape[1]
        spans = np.concatenate([row.spans[row.kept] + number * width for number, row in enumerate(rows)]) - shift
        return _means(states_BLD.flatten(0, 1), spans).cpu().numpy()


def _means(states_TD: Tensor, spans_W2: NDArray[np.int64]) -> Tensor:
    """Return float32 (W, D): the mean of rows [a, b) for each span."""
    counts = spans_W2[:, 1] - spans_W2[:, 0]
    word_of = np.repeat(np.arange(len(counts)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    positions = np.arange(len(word_of)) - np.repeat(first - spans_W2[:, 0], counts)
    device = states_TD.device
    picked = states_TD[torch.from_numpy(positions).to(device)].float()
    sums_WD = torch.zeros(len(counts), states_TD.shape[1], device=device)
    sums_WD.index_add_(0, torch.from_numpy(word_of).to(device), picked)
    return sums_WD / torch.from_numpy(counts).to(device)[:, None]
