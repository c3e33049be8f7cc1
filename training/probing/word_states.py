"""Word states of a frozen encoder, kept on disk block by block.

Shape suffixes: B batch, L tokens, T tokens of a batch one after the other, D hidden width, W words.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from ...encoder.batching import plan_batches, run_halving
from ...encoder.errors import NonFiniteError
from ...encoder.tokenize import BLOCK as TOKENIZED
from ...encoder.tokenize import TokenRow
from ...encoder.transformer import TransformerEncoder
from ...index.durable import write_whole
from ..errors import EvaluationError
from .word_data import Sentence, WordData
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
    for at in range(0, len(sentences), TOKENIZED):
        part = sentences[at : at + TOKENIZED]
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


BLOCK = 1024
"""Sentences computed between two files: some 20 seconds of the default model on two cores, all that a kill costs."""
VERSION = 1
"""Raised when the states of the same model and data become others."""
_PLAN = "plan.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateProgress:
    """How far one pass over the data has come."""

    tokens_done: int
    """Those read back from an earlier run are among them."""
    tokens_total: int
    tokens_per_s: float
    """Of what this run computed."""

    @property
    def remaining_s(self) -> float | None:
        left = self.tokens_total - self.tokens_done
        return left / self.tokens_per_s if self.tokens_per_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordStates:
    """The states of one split, read from disk as they are needed."""

    blocks: Sequence[NDArray[np.float16]]
    starts: NDArray[np.int64]
    """(sentences + 1,): row of each sentence's first word, counted from the first block on."""
    kept: Sequence[NDArray[np.bool_]]
    """For each sentence, which of its words have a state."""

    def gather(self, sentences: Sequence[int]) -> NDArray[np.float32]:
        """Return float32 (words, dim): the words with a state of these sentences, one after the other."""
        return np.concatenate([self._rows(sentence) for sentence in sentences]).astype(np.float32)

    def _rows(self, sentence: int) -> NDArray[np.float16]:
        block, first = divmod(sentence, BLOCK)
        base = self.starts[block * BLOCK]
        assert first < BLOCK
        return self.blocks[block][self.starts[sentence] - base : self.starts[sentence + 1] - base]

    @property
    def left_out(self) -> int:
        """Words without a state: beyond the length limit, or without a token of their own."""
        return sum(int((~kept).sum()) for kept in self.kept)


def open_states(folder: Path, data: WordData) -> dict[str, WordStates] | None:
    """Return the states in `folder` by split, None when they are not all there; needs no model.

    Raises EvaluationError for a file that is not as `compute_states` writes it.
    """
    path = folder / _PLAN
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        dim, left_out = int(plan["dim"]), plan["left_out"]
        kept = {split: _kept(sentences, left_out[split]) for split, sentences in data.splits.items()}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"{path} is damaged ({error!r}): remove {folder}; it is computed again") from error
    if not all(file.exists() for split in kept for file in _files(folder, split, len(kept[split]))):
        return None
    return {split: _open_split(folder, split, words, dim) for split, words in kept.items()}


def _kept(sentences: Sequence[Sentence], left_out: Sequence[Sequence[int]]) -> list[NDArray[np.bool_]]:
    kept = [np.ones(len(sentence.words), dtype=np.bool_) for sentence in sentences]
    for sentence, word in left_out:
        kept[sentence][word] = False
    return kept


def _files(folder: Path, split: str, sentences: int) -> list[Path]:
    return [folder / f"{split}-{number:05d}.npy" for number in range(-(-sentences // BLOCK))]


def _open_split(folder: Path, split: str, kept: Sequence[NDArray[np.bool_]], dim: int) -> WordStates:
    starts = np.concatenate([[0], np.cumsum([int(words.sum()) for words in kept])]).astype(np.int64)
    blocks = []
    for number, file in enumerate(_files(folder, split, len(kept))):
        end = min((number + 1) * BLOCK, len(kept))
        shape = (int(starts[end] - starts[number * BLOCK]), dim)
        try:
            # An empty array cannot be mapped.
            block = np.load(file, mmap_mode="r" if shape[0] else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{file} is damaged ({error}): remove it; its block is computed again") from error
        if block.shape != shape or block.dtype != np.float16:
            raise EvaluationError(
                f"{file} holds {block.dtype} {block.shape}, expected float16 {shape}: remove it; its block is computed "
                "again"
            )
        blocks.append(block)
    return WordStates(blocks=blocks, starts=starts, kept=kept)


def compute_states(
    encoder: TransformerEncoder,
    data: WordData,
    alignment: Alignment,
    folder: Path,
    *,
    progress: Callable[[StateProgress], None] | None = None,
) -> dict[str, WordStates]:
    """Return the states of all splits by name, written to `folder`; blocks that are there already are left as they are.

    A word's state is the mean, in float32, of the last hidden states (after the final norm) at its tokens, or one
    position before them, kept as float16. The folder is of one encoder, alignment and data: the caller names it
    accordingly. On disk words x dim x 2 bytes: 347 MB for CoNLL-2003 and 576 components; in memory one block. Raises
    EvaluationError when the disk has no room, NonFiniteError for NaN or Inf.
    """
    rows = _prepare(encoder, data, folder)
    missing = [
        (file, part) for split, of in rows.items() for file, part in _blocks(folder, split, of) if not file.exists()
    ]
    _require_room(folder, sum(int(row.kept.sum()) for _, part in missing for row in part) * encoder.state_width * 2)
    total = sum(len(row.ids) for of in rows.values() for row in of)
    track = _Track(total, total - sum(len(row.ids) for _, part in missing for row in part), progress)
    for file, part in missing:
        states = _block_states(encoder, part, alignment, track.add)
        write_whole(file, partial(_save, states))
    opened = open_states(folder, data)
    assert opened is not None
    return opened


def _prepare(encoder: TransformerEncoder, data: WordData, folder: Path) -> dict[str, list[WordRow]]:
    """Return the rows of each split, and write down which words have no state: reading the blocks takes no model."""
    start = start_token(encoder)
    rows = {
        split: word_rows(encoder.tokenizer, sentences, start=start, max_tokens=encoder.info.max_tokens)
        for split, sentences in data.splits.items()
    }
    left_out = {
        split: [[number, int(word)] for number, row in enumerate(of) for word in np.flatnonzero(~row.kept)]
        for split, of in rows.items()
    }
    plan = json.dumps({"dim": encoder.state_width, "start_token": start, "left_out": left_out})
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _PLAN, lambda file: file.write(plan.encode()))
    return rows


def _blocks(folder: Path, split: str, rows: Sequence[WordRow]) -> Iterator[tuple[Path, Sequence[WordRow]]]:
    for number, file in enumerate(_files(folder, split, len(rows))):
        yield file, rows[number * BLOCK : (number + 1) * BLOCK]


def _block_states(
    encoder: TransformerEncoder,
    rows: Sequence[WordRow],
    alignment: Alignment,
    add: Callable[[int], None],
) -> NDArray[np.float16]:
    """Return float16 (words with a state, dim) of the rows, in their order."""
    starts = np.concatenate([[0], np.cumsum([int(row.kept.sum()) for row in rows])]).astype(np.int64)
    out = np.empty((int(starts[-1]), encoder.state_width), dtype=np.float16)

    def forward(batch: list[int]) -> None:
        means_WD = word_means(encoder, [rows[i] for i in batch], alignment)
        # Comparisons with NaN are false: this also catches what is not finite.
        if not (np.abs(means_WD) <= np.finfo(np.float16).max).all():
            raise NonFiniteError(
                f"{encoder.info.name} returned NaN, Inf or a state above {np.finfo(np.float16).max} for a sentence of "
                "the data: nothing of its block was kept. Try --precision fp32."
            )
        at = 0
        for i in batch:
            count = int(starts[i + 1] - starts[i])
            out[starts[i] : starts[i + 1]] = means_WD[at : at + count]
            at += count
        add(sum(len(rows[i].ids) for i in batch))

    def halved(count: int) -> None:
        encoder.batch_tokens = max(1, encoder.batch_tokens // 2)
        _log.warning(
            "out of memory: going on with %d sentences, then %s tokens a batch", count, f"{encoder.batch_tokens:,}"
        )

    for batch in plan_batches([len(row.ids) for row in rows], encoder.batch_tokens):
        run_halving(batch, forward, halved=halved)
    return out


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EvaluationError(
            f"{folder}: the token states need {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free: choose "
            "another results folder"
        )


def _save(states: NDArray[np.float16], file: BinaryIO) -> None:
    np.save(file, states)


class _Track:
    """Counts tokens; the rate is of what was computed, not of what was read back."""

    def __init__(self, total: int, read_back: int, progress: Callable[[StateProgress], None] | None) -> None:
        self._total = total
        self._read_back = read_back
        self._computed = 0
        self._progress = progress
        self._began = time.monotonic()
        self.add(0)

    def add(self, tokens: int) -> None:
        self._computed += tokens
        if self._progress is not None:
            seconds = time.monotonic() - self._began
            self._progress(
                StateProgress(
                    tokens_done=self._read_back + self._computed,
                    tokens_total=self._total,
                    tokens_per_s=self._computed / seconds if seconds > 0 else 0.0,
                )
            )
