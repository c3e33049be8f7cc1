"""Documents to chunks that fit the encoder, counted by its own tokenizer.

The splitter of semantic-text-splitter asks for the size of many overlapping pieces; tokenizing each makes it six
times slower than needed. Here a section is tokenized once, and a piece is counted by where it stands in it. Such a
count can be off by the tokens at its two ends, so every chunk is counted again as the encoder will see it, and the
few that are too long are split once more with exact counts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3
from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

from .documents import Chunk, Document, Section
from .readers.decoding import line_at, line_starts
from .readers.languages import tree_sitter_language

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATOR = " > "
LEAST_TOKENS = 16
"""Of a chunk: with fewer no sense is left in it."""
_WINDOW_CHARS = 16384
"""Split at a time: keeps the search for a piece short."""
_BLOCK_CHARS = 65536
"""Tokenized at a time: keeps memory flat."""
_BATCH = 512
_CHARS_PER_TOKEN = 6
"""Sections longer than this times `max_tokens` are split at once, without asking whether they fit whole."""
_MARGIN = 2
"""Tokens by which a piece's count within its section usually differs from its count alone, at most."""


class _Splitter(Protocol):
    def chunk_indices(self, text: str, /) -> list[tuple[int, str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A chunk to be: section.text[start:end] under a context."""

    section: Section
    context: str
    start: int
    end: int
    tokens: int | None = None

    @property
    def embed_text(self) -> str:
        text = self.section.text[self.start : self.end]
        return f"{self.context}\n{text}" if self.context else text


def most_overlap(max_tokens: int) -> int:
    """Return how many tokens neighbours may share in chunks of `max_tokens`."""
    return max_tokens // 4


class Chunker:
    """Cuts documents at the largest borders of meaning that fit: headings, blocks, sentences, words.

    A chunk's `embed_text` (context and text) has at most `max_tokens` tokens, special tokens not counted; the only
    exception is a single character that is longer by itself. Consecutive chunks of a section share up to `overlap`
    tokens. Context longer than a quarter of `max_tokens` loses its outer headings first, then its end.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int = 256, overlap: int = 32) -> None:
        if max_tokens < LEAST_TOKENS:
            raise ValueError(f"max_tokens is {max_tokens}: expected at least {LEAST_TOKENS}")
        if not 0 <= overlap <= most_overlap(max_tokens):
            raise ValueError(f"overlap is {overlap}: expected 0 to {most_overlap(max_tokens)}, a quarter of max_tokens")
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            raise ValueError("the tokenizer has padding or truncation set: expected neither, for counts would be wrong")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = overlap

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of a document in order; nothing of its text is left out except whitespace."""
        counted = self._count(self._whole_sections(document))
        counted = self._refit(counted, lambda draft: self._split(draft, document.format))
        counted = self._refit(counted, self._split_exactly)
        return list(_chunks(counted))

    def _whole_sections(self, document: Document) -> Iterator[_Draft]:
        context = ""
        known: tuple[str, ...] | None = None
        for section in document.sections:
            start, end = _trimmed(section.text)
            if start == end:
                continue
            if section.headings != known:
                context, known = self._context(document.title, section.headings), section.headings
            yield _Draft(section=section, context=context, start=start, end=end)

    def _context(self, title: str | None, headings: tuple[str, ...]) -> str:
        """Return title and headings joined, cut to a quarter of `max_tokens`."""
        parts = [" ".join(part.split()) for part in (title or "", *headings)]
        parts = [part for part in parts if part]
        if title and len(parts) > 1 and parts[0] == parts[1]:
            del parts[0]
        cap = self._max_tokens // 4
        # The innermost heading says most about the text; the title says which document it is.
        while len(parts) > 2 and self._tokens(SEPARATOR.join(parts)) > cap:
            del parts[1]
        context = SEPARATOR.join(parts)
        while (offsets := self._tokenizer.encode(context, add_special_tokens=False).offsets)[cap:]:
            # The start of the first token too many, not the end of the last one kept: tokens may share a character.
            context = context[: min(offsets[cap][0], len(context) - 1)].rstrip()
        return context

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def _count(self, drafts: Iterable[_Draft]) -> list[_Draft]:
        """Return the drafts with exact token counts, save those too long to be worth counting."""
        counted = list(drafts)
        short = self._max_tokens * _CHARS_PER_TOKEN
        open_rows = [
            row for row, draft in enumerate(counted) if draft.tokens is None and draft.end - draft.start <= short
        ]
        for at in range(0, len(open_rows), _BATCH):
            rows = open_rows[at : at + _BATCH]
            texts = [counted[row].embed_text for row in rows]
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for row, encoding in zip(rows, encodings, strict=True):
                counted[row] = replace(counted[row], tokens=len(encoding))
        return counted

    def _refit(self, drafts: list[_Draft], split: Callable[[_Draft], Iterable[_Draft]]) -> list[_Draft]:
        """Return the drafts with those that do not fit replaced by what `split` makes of them, counted."""
        fitted: list[_Draft] = []
        for draft in drafts:
            fits = draft.tokens is not None and draft.tokens <= self._max_tokens
            fitted.extend([draft] if fits else split(draft))
        return self._count(fitted)

    def _split(self, draft: _Draft, format_name: str) -> Iterator[_Draft]:
        """Yield pieces whose counts are right to within `_MARGIN`, nearly always."""
        text = draft.section.text[draft.start : draft.end]
        starts = self._token_starts(text)
        room = self._max_tokens - _MARGIN - (self._tokens(draft.context + "\n") if draft.context else 0)
        at, width = 0, _WINDOW_CHARS
        while at < len(text):
            window = text[at : at + width]
            last = at + width >= len(text)
            splitter = _splitter(format_name, _located(window, at, starts), room, self._overlap)
            pieces = splitter.chunk_indices(window)
            if not last and len(pieces) < 2:
                if pieces:
                    width *= 2
                else:
                    at += width
                continue
            # The last piece ends where the window does, not where meaning does: the next window starts with it.
            for start, piece in pieces if last else pieces[:-1]:
                if piece.strip():
                    begin = draft.start + at + start
                    yield replace(draft, start=begin, end=begin + len(piece), tokens=None)
            at, width = (len(text) if last else at + pieces[-1][0]), _WINDOW_CHARS

    def _split_exactly(self, draft: _Draft) -> Iterator[_Draft]:
        def size(piece: str) -> int:
            return self._tokens(f"{draft.context}\n{piece}" if draft.context else piece)

        splitter = TextSplitter.from_callback(size, self._max_tokens)
        for start, piece in splitter.chunk_indices(draft.section.text[draft.start : draft.end]):
            if piece.strip():
                begin = draft.start + start
                yield replace(draft, start=begin, end=begin + len(piece), tokens=size(piece))

    def _token_starts(self, text: str) -> array[int]:
        """Return the character at which each token of `text` begins, ascending."""
        starts: array[int] = array("q")
        at = 0
        while at < len(text):
            end = at + _BLOCK_CHARS
            # Cut before a newline where there is one: it begins a token with nearly every tokenizer.
            if end < len(text) and (newline := text.rfind("\n", at + 1, end)) > 0:
                end = newline
            encoding = self._tokenizer.encode(text[at:end], add_special_tokens=False)
            starts.extend(at + start for start, _ in encoding.offsets)
            at = end
        return starts


def _located(window: str, at: int, starts: array[int]) -> Callable[[str], int]:
    """Return a function that counts the tokens of a piece of `window`, which stands at character `at`.

    A piece that occurs twice is counted at its first place: the same text has the same tokens, save at its ends."""

    def size(piece: str) -> int:
        begin = at + window.find(piece)
        first = bisect_left(starts, begin)
        inside_token = first == len(starts) or starts[first] != begin
        return bisect_left(starts, begin + len(piece), lo=first) - first + inside_token

    return size


def _splitter(format_name: str, size: Callable[[str], int], room: int, overlap: int) -> _Splitter:
    if format_name == "markdown":
        return MarkdownSplitter.from_callback(size, room, overlap=overlap)
    language = tree_sitter_language(format_name)
    if language is not None:
        return CodeSplitter.from_callback(language, size, room, overlap=overlap)
    return TextSplitter.from_callback(size, room, overlap=overlap)


def _trimmed(text: str) -> tuple[int, int]:
    """Return the range of `text` without outer whitespace, the indentation of its first line kept."""
    end = len(text.rstrip())
    start = len(text) - len(text.lstrip())
    if start >= end:
        return 0, 0
    indent = start - len(text[:start].rstrip(" \t"))
    return start - indent, end


def _chunks(drafts: Iterable[_Draft]) -> Iterator[Chunk]:
    section, newlines = None, [0]
    for ordinal, draft in enumerate(drafts):
        if draft.section is not section:
            section, newlines = (
                draft.section,
                line_starts(draft.section.text) if draft.section.char is not None else [0],
            )
        line, char = draft.section.line, draft.section.char
        assert draft.tokens is not None
        yield Chunk(
            ordinal=ordinal,
            text=draft.section.text[draft.start : draft.end],
            context=draft.context,
            anchor=draft.section.anchor,
            headings=draft.section.headings,
            line_start=None if line is None else line + line_at(newlines, draft.start) - 1,
            line_end=None if line is None else line + line_at(newlines, draft.end - 1) - 1,
            char_start=None if char is None else char + draft.start,
            char_end=None if char is None else char + draft.end,
            tokens=draft.tokens,
            hash=blake3(draft.embed_text.encode()).hexdigest(),
        )
