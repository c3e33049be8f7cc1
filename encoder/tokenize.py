"""From texts to token ids and the span of tokens that is pooled, cut exactly at a token and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from .config import Method
from .errors import EmptyTextError, EncoderError, ModelFilesError
from .prompts import PromptFormat
from .protocol import Role

# Texts handed to the tokenizer at a time: its Encodings take some 100 bytes a token until they are dropped.
BLOCK = 512

# Prompt of Echo embeddings (arXiv 2402.15449, section 3.2).
ECHO_FIRST = "Rewrite the passage: "
ECHO_SECOND = "\nRewritten passage: "


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One text ready for the model; tokens [start, end) are pooled, all of `ids` are attended to."""

    ids: NDArray[np.int32]
    start: int
    end: int
    truncated: bool


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the folder's tokenizer without padding or truncation. Raises ModelFilesError without tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFilesError(
            f"{path}: {error}. Expected a fast tokenizer in tokenizer.json; transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one."
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_texts(texts: Sequence[str]) -> None:
    """Raise TypeError for a bare string or a non-string, EmptyTextError for an empty or whitespace-only text."""
    if isinstance(texts, str):
        raise TypeError(f"texts is the string {texts[:30]!r}: expected a sequence of strings, e.g. [text]")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {row} is a {type(text).__name__}: expected a string")
        if not text or text.isspace():
            raise EmptyTextError(row, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTokenizer:
    """Dresses, tokenises and cuts texts for one model."""

    tokenizer: Tokenizer
    """Without padding or truncation."""
    prompt: PromptFormat
    max_tokens: int
    method: Method = Method.PLAIN
    eos: int | None = None
    """Token appended for EOS pooling and pooled alone; None appends nothing."""

    def __call__(self, texts: Sequence[str], *, role: Role, instruction: str | None) -> list[TokenRow]:
        """Return one row per text, in order; raises as `check_texts`, and EncoderError without room for text."""
        check_texts(texts)
        rows: list[TokenRow] = []
        for at in range(0, len(texts), BLOCK):
            dressed = [self._dress(text, role, instruction) for text in texts[at : at + BLOCK]]
            encodings = self.tokenizer.encode_batch([full for full, _ in dressed])
            rows += [
                self._row(at + i, text, encoding, spans)
                for i, (text, encoding, (_, spans)) in enumerate(
                    zip(texts[at : at + BLOCK], encodings, dressed, strict=True)
                )
            ]
        return rows

    def _dress(self, text: str, role: Role, instruction: str | None) -> tuple[str, list[tuple[int, int]]]:
        """Return the full string and the character spans of each copy of the text; the last copy is pooled."""
        if self.method is Method.PLAIN:
            prompt = self.prompt.dress(text, role=role, instruction=instruction)
            return prompt.full, [(prompt.start, prompt.end)]
        twice = ECHO_FIRST + text + ECHO_SECOND + text
        prompt = self.prompt.dress(twice, role=role, instruction=instruction)
        first = prompt.start + len(ECHO_FIRST)
        return prompt.full, [(first, first + len(text)), (prompt.end - len(text), prompt.end)]

    def _row(self, row: int, text: str, encoding: Encoding, spans: list[tuple[int, int]]) -> TokenRow:
        ids = np.asarray(encoding.ids, dtype=np.int32)
        offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        ordinary = np.asarray(encoding.special_tokens_mask, dtype=np.int8) == 0
        token_spans = [_token_span(offsets, ordinary, start, end) for start, end in spans]
        if any(a == b for a, b in token_spans):
            raise EmptyTextError(row, text)
        room = self.max_tokens - (1 if self.eos is not None else 0)
        truncated = len(ids) > room
        if truncated:
            ids, token_spans = self._cut(row, ids, token_spans, room)
        start, end = token_spans[-1]
        if self.eos is not None:
            ids = np.append(ids, np.int32(self.eos))
            start, end = len(ids) - 1, len(ids)
        return TokenRow(ids=ids, start=start, end=end, truncated=truncated)

    def _cut(
        self, row: int, ids: NDArray[np.int32], spans: list[tuple[int, int]], room: int
    ) -> tuple[NDArray[np.int32], list[tuple[int, int]]]:
        """Shorten each copy of the text at its end; markup, instruction and special tokens stay whole."""
        markup = len(ids) - sum(b - a for a, b in spans)
        keep = (room - markup) // len(spans)
        if keep < 1:
            raise EncoderError(
                f"text {row}: instruction and template take {markup} of {self.max_tokens} tokens and leave no room "
                "for text. Use a shorter instruction or a larger --max-tokens."
            )
        pieces: list[NDArray[np.int32]] = []
        cut: list[tuple[int, int]] = []
        at = length = 0
        for a, b in spans:
            end = min(b, a + keep)
            pieces += [ids[at:a], ids[a:end]]
            length += a - at
            cut.append((length, length + end - a))
            length += end - a
            at = b
        pieces.append(ids[at:])
        return np.concatenate(pieces), cut


def _token_span(offsets: NDArray[np.int64], ordinary: NDArray[np.bool_], start: int, end: int) -> tuple[int, int]:
    """Return [a, b) of the ordinary tokens that hold a character of [start, end).

    By offsets of the whole string, never by tokenising the text again: BPE merges differ at the borders.
    A token across the border counts as the text's.
    """
    inside = np.flatnonzero(
        ordinary & (offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 1] > offsets[:, 0])
    )
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
