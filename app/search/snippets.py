"""The snippet of each hit: the passage of its chunk that answers best, by words, else by meaning."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...index.lexical import matching_spans
from ...index.protocol import StoredChunk
from ...index.readers.languages import LANGUAGES

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder, Vectors


Span = tuple[int, int]

SNIPPET_CHARS = 280
_PASSAGE_CHARS = 240
"""A longer sentence is cut at its matches."""

# Words that match nearly everywhere: they say nothing about where a query is answered.
_COMMON = frozenset(
    word
    for line in (
        "a about an and are as at be been but by can could did do does for from had has have how i if in into is",
        "it its me my no not of on or our should so some than that the their them then there these they this",
        "those to was we were what when where which while who why will with would you your",
    )
    for word in line.split()
)
# A sentence ends at . ! ? or a CJK full stop; a blank line, a list item, a table row and a heading end one too.
_BORDER = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[\u3002\uff01\uff1f])|\n\s*\n|\n(?=\s*(?:[-*+|>]|#{1,6}|\d+[.)])\s)")
_LINE = re.compile(r"\n")
_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r" {0,3}#{1,6} ")
_HEADING_LINE = re.compile(r"^ {0,3}#{1,6} .*\n", re.MULTILINE)
_CODE_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A stretch of a chunk's text; spans count in characters of `text`."""

    text: str
    start: int
    """Where it begins in the chunk's text."""
    passage: Span
    """The best sentence."""
    matches: tuple[Span, ...]
    """Words that match the query."""
    cut_before: bool
    cut_after: bool


def sentences(text: str, *, code: bool = False) -> list[Span]:
    """Return the spans of the sentences of `text`, without surrounding space; [] for a blank text.

    In code, and between the fences of a Markdown block, each line is one.
    """
    spans: list[Span] = []
    start = 0
    borders = [match.span() for match in (_LINE if code else _BORDER).finditer(text)]
    if not code:
        fences = _fences(text)
        borders += [(match.end() - 1, match.end()) for match in _HEADING_LINE.finditer(text)]
        borders = [b for b in borders if not any(s <= b[0] < e for s, e in fences)]
        for begin, end in fences:
            borders += [line.span() for line in _LINE.finditer(text, max(begin - 1, 0), min(end + 1, len(text)))]
    for border in [*sorted(set(borders)), (len(text), len(text))]:
        if border[0] < start:
            continue
        piece = text[start : border[0]]
        trimmed = piece.strip()
        if trimmed:
            begin = start + len(piece) - len(piece.lstrip())
            spans.append((begin, begin + len(trimmed)))
        start = border[1]
    return spans


def candidates(text: str, *, code: bool = False) -> list[Span]:
    """Return the sentences that may be the best one: headings, which are shown apart, only if there is nothing else."""
    spans = sentences(text, code=code)
    fences = [] if code else _fences(text)
    return [span for span in spans if code or not _is_heading(text, span[0], fences)] or spans


def _fences(text: str) -> list[Span]:
    return [match.span() for match in _FENCED.finditer(text)]


def _is_heading(text: str, at: int, fences: Sequence[Span]) -> bool:
    """Return whether the sentence that begins at `at` is a heading line, or the beginning of one."""
    line = text.rfind("\n", 0, at) + 1
    if not _HEADING.match(text, line) or text[line:at].strip():
        return False
    return not any(start <= at < end for start, end in fences)


def matches_in(query: str, text: str) -> list[Span]:
    """Return the spans of words that match the query; common words only when the query has no others."""
    spans = matching_spans(query, text)
    telling = [span for span in spans if text[slice(*span)].lower() not in _COMMON]
    if telling:
        return telling
    # "to be or not to be" is a query too.
    return spans if all(word in _COMMON for word in re.findall(r"\w+", query.lower())) else []


def best_by_words(text: str, matches: Sequence[Span], *, code: bool = False) -> Span | None:
    """Return the sentence with the most and the rarest matching words, None without a match."""
    words = [text[slice(*span)].lower() for span in matches]
    frequency = Counter(words)
    best: tuple[float, Span] | None = None
    for start, end in candidates(text, code=code):
        inside = {word for span, word in zip(matches, words, strict=True) if start <= span[0] < end}
        score = sum(1 / frequency[word] + 1 for word in inside)
        if inside and (best is None or score > best[0]):
            best = (score, (start, end))
    return None if best is None else best[1]


def cut_snippet(text: str, passage: Span | None, matches: Sequence[Span], *, limit: int = SNIPPET_CHARS) -> Snippet:
    """Return about `limit` characters of `text` around `passage`, ending at words; the beginning without one."""
    body = _body_start(text)
    start, end = (body, body) if passage is None else _narrowed(text, passage, matches)
    spare = max(0, limit - (end - start))
    # What follows usually says more than what came before.
    left = _word_start(text, max(0, start - spare // 4))
    left = min(max(left, body), start)
    right = _word_end(text, min(len(text), left + max(limit, end - left)))
    right = max(right, end)
    lead = len(text[left:right]) - len(text[left:right].lstrip())
    left += lead if left + lead <= start or passage is None else 0
    right = left + len(text[left:right].rstrip())
    inside = tuple((s - left, e - left) for s, e in matches if left <= s and e <= right)
    return Snippet(
        text=text[left:right],
        start=left,
        passage=(start - left, end - left) if passage is not None else (0, 0),
        matches=inside,
        cut_before=bool(text[body:left].strip()),
        cut_after=bool(text[right:].strip()),
    )


def cut_code(text: str, passage: Span | None, matches: Sequence[Span]) -> Snippet:
    """Return the lines of code around the best one, whole."""
    starts = [0, *(match.end() for match in _LINE.finditer(text))]
    at = 0 if passage is None else bisect_right(starts, passage[0]) - 1
    first = max(0, min(at - _CODE_LINES // 2, len(starts) - _CODE_LINES))
    left = starts[first]
    right = starts[first + _CODE_LINES] - 1 if first + _CODE_LINES < len(starts) else len(text)
    return Snippet(
        text=text[left:right],
        start=left,
        passage=(0, 0) if passage is None else (passage[0] - left, passage[1] - left),
        matches=tuple((s - left, e - left) for s, e in matches if left <= s and e <= right),
        cut_before=bool(text[:left].strip()),
        cut_after=bool(text[right:].strip()),
    )


def _body_start(text: str) -> int:
    """Return where the text below the leading headings begins; 0 where there is none."""
    at = 0
    for line in text.splitlines(keepends=True):
        if line.strip() and not _HEADING.match(line):
            return at
        at += len(line)
    return 0


def _narrowed(text: str, passage: Span, matches: Sequence[Span]) -> Span:
    """Return the passage, or the part of a long one that begins near its first match."""
    start, end = passage
    if end - start <= _PASSAGE_CHARS:
        return passage
    first = next((s for s, _ in matches if start <= s < end), start)
    if first - start > _PASSAGE_CHARS // 2:
        start = min(_word_start(text, first - _PASSAGE_CHARS // 4), first)
    return start, max(min(_word_end(text, min(end, start + _PASSAGE_CHARS)), end), start)


def _word_start(text: str, at: int, reach: int = 24) -> int:
    """Return the beginning of the first word at or after `at`; `at` itself where no space is near."""
    if at == 0 or text[at - 1].isspace():
        return at
    found = re.search(r"\s", text[at : at + reach])
    return at + found.end() if found else at


def _word_end(text: str, at: int, reach: int = 24) -> int:
    """Return the end of the last word that ends at or before `at`; `at` itself where no space is near."""
    if at >= len(text) or text[at].isspace():
        return at
    found = [match.start() for match in re.finditer(r"\s", text[max(0, at - reach) : at])]
    return max(0, at - reach) + found[-1] if found else at


_MOST_SENTENCES = 24
"""Sentences of one chunk that are compared with the query for its snippet."""


class QueryEncoder(Protocol):
    """What a searcher asks of an encoder; a `LazyEncoder` has it."""

    def open(self) -> Encoder: ...
    def dense_weight(self) -> float | None: ...


def find_snippets(
    chunks: Sequence[StoredChunk], query: str, vector: Vectors | None, encoder: QueryEncoder
) -> list[Snippet]:
    """Return the best passage of each chunk: by words, else by meaning where there is a vector of the query."""
    matches = [matches_in(query, chunk.text) for chunk in chunks]
    code = [chunk.format in LANGUAGES for chunk in chunks]
    passages = [
        best_by_words(chunk.text, found, code=lines) for chunk, found, lines in zip(chunks, matches, code, strict=True)
    ]
    if vector is not None:
        lacking = [row for row, passage in enumerate(passages) if passage is None]
        near = _nearest([(chunks[row].text, code[row]) for row in lacking], vector, encoder)
        for row, passage in zip(lacking, near, strict=True):
            passages[row] = passage
    return [
        (cut_code if lines else cut_snippet)(chunk.text, passage, found)
        for chunk, passage, found, lines in zip(chunks, passages, matches, code, strict=True)
    ]


def _nearest(texts: Sequence[tuple[str, bool]], vector: Vectors, encoder: QueryEncoder) -> list[tuple[int, int] | None]:
    """Return the sentence of each text, of code its line, whose vector is nearest to the query's."""
    from ...encoder.protocol import Role

    spans = [candidates(text, code=code)[:_MOST_SENTENCES] for text, code in texts]
    pieces = [text[start:end] for (text, _), found in zip(texts, spans, strict=True) for start, end in found]
    if not pieces:
        return [None] * len(texts)
    cosines = encoder.open().encode(pieces, role=Role.DOCUMENT) @ vector
    best: list[tuple[int, int] | None] = []
    at = 0
    for found in spans:
        best.append(found[int(cosines[at : at + len(found)].argmax())] if found else None)
        at += len(found)
    return best
