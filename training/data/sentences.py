"""Sentences of a passage that can stand alone as queries, random crops of long ones, and the runs of words in them.

A query that is made from a passage is cut out of all passages where its words stand in a row.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise

LEAST_WORDS, MOST_WORDS = 6, 60
"""Of a sentence; shorter ones say little, and longer ones are seldom one."""
CROP_FROM = 20
"""A sentence of more words is cropped."""
CROP_WORDS = (10, 16)
_LETTERS = 0.75
"""Share of letters and spaces in prose."""
_COMMAS = 3
"""Words per comma, below which a sentence is a list."""

# A sentence ends at . ! ? or a CJK full stop; a blank line, a list item and a table row end one too.
_BORDER = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[\u3002\uff01\uff1f])|\n\s*\n|\n(?=\s*(?:[-*+|>#]|\d+[.)])\s)")
_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"\s*(?:(?:[-*+>]|\d+[.)]|#+|//+)\s+)*")
_END = re.compile(r"[.!?\u3002\uff01\uff1f][\"')\]\u201d\u2019]*\Z")
_ABBREVIATION = re.compile(
    r"(?:\b\w|\b(?:al|approx|cal|capt|cf|ca|col|dr|ed|etc|fig|gen|gov|inc|jr|lt|ltd|mr|mrs|ms|mt|no|op|pp|prof|rev|sen|"
    r"sgt|sr|st|vs|vol))\.\Z",
    re.IGNORECASE,
)
_TAIL = 16
"""Characters that hold either: a pattern without a fixed beginning is looked for from every character."""
_LEANING = frozenset(["he", "it", "its", "she", "that", "their", "these", "they", "this", "those"])
"""A sentence that begins so says something of what the one before named."""
_NO_PROSE = re.compile(r"[{}|=\t\\]|\]\(")
_EMPHASIS = re.compile(r"\*\*|__")
_TOKEN = re.compile(r"\S+")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]")
_CJK_TOKEN = re.compile(rf"{_CJK.pattern}|[^\s{_CJK.pattern[1:-1]}]+")


class Fault(StrEnum):
    """Why a piece of text is no sentence to ask with, in words for a person."""

    SHORT = "too short"
    LONG = "too long"
    LIST = "a list"
    UNFINISHED = "not a whole sentence"
    SYMBOLS = "code, a table or mostly no letters"
    LEANING = "about what the sentence before named"


def pieces_of(text: str) -> Iterator[tuple[str, Fault | None]]:
    """Yield the pieces between sentence borders of `text`, each a verbatim slice of it, with what is wrong with it."""
    start = 0
    broken = False
    fences = [match.span() for match in _FENCED.finditer(text)]
    for border in [*(match.span() for match in _BORDER.finditer(text)), (len(text), len(text))]:
        begin = start + _marker_end(text[start : border[0]])
        sentence = text[begin : border[0]].rstrip()
        fenced = any(begin < end and border[0] > first for first, end in fences)
        if sentence:
            # What follows "John F." begins in the middle of a sentence.
            yield sentence, Fault.SYMBOLS if fenced else Fault.UNFINISHED if broken else _fault(sentence)
        broken = (
            _ABBREVIATION.search(sentence[-_TAIL:]) is not None
            and not sentence[-2].isdigit()  # the number of a list item
            and "\n" not in text[border[0] : border[1]]
        )
        start = border[1]


def sentences_of(text: str) -> list[str]:
    """Return the sentences of `text` that are prose, each a verbatim slice of it, in order.

    They begin with no small letter, end with a full stop or its like, and are not code, table or link list.
    """
    return [sentence for sentence, fault in pieces_of(text) if fault is None]


def cropped(sentence: str, rng: random.Random) -> str:
    """Return a query of one line: a random run of words of a long sentence, a short one whole.

    CJK characters count as words. Emphasis, and punctuation at the ends of a crop, are left out.
    """
    spans = unit_spans(sentence)
    if len(spans) > CROP_FROM:
        length = rng.randint(*CROP_WORDS)
        first = rng.randint(0, len(spans) - length)
        sentence = sentence[spans[first][0] : spans[first + length - 1][1]].strip(" ,;:-()")
    return " ".join(_EMPHASIS.sub("", sentence).split())


def _marker_end(piece: str) -> int:
    """Return where the words begin after the marks of a list item, a quotation or a comment."""
    match = _MARKER.match(piece)
    return match.end() if match is not None else 0


def unit_spans(text: str) -> list[tuple[int, int]]:
    """Return where the words of `text` stand; each CJK character is one."""
    units = _CJK_TOKEN if _CJK.search(text) else _TOKEN
    return [match.span() for match in units.finditer(text)]


def _fault(sentence: str) -> Fault | None:
    words = len(unit_spans(sentence))
    if words < LEAST_WORDS:
        return Fault.SHORT
    if words > MOST_WORDS:
        return Fault.LONG
    if sentence.count(",") * _COMMAS > words:
        return Fault.LIST
    if re.split(r"\W", sentence, maxsplit=1)[0].lower() in _LEANING:
        return Fault.LEANING
    first = next((mark for mark in sentence if mark.isalnum()), "")
    plain = sum(map(str.isalpha, sentence)) + sum(map(str.isspace, sentence))
    if _NO_PROSE.search(sentence) or not first or plain < _LETTERS * len(sentence):
        return Fault.SYMBOLS
    return Fault.UNFINISHED if first.islower() or not _is_whole(sentence) else None


def _is_whole(sentence: str) -> bool:
    """Return whether it ends as sentences do, and no quotation or bracket is left open."""
    tail = sentence[-_TAIL:]
    if _END.search(tail) is None or _ABBREVIATION.search(tail):
        return False
    pairs = (sentence.count(left) == sentence.count(right) for left, right in ("()", "[]", "\u201c\u201d"))
    return all(pairs) and sentence.count('"') % 2 == 0


Words = tuple[str, ...]

_CJK_RANGES = "\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK_RANGES}]|[^\W_{_CJK_RANGES}]+")


def words_of(text: str) -> Words:
    """Return the words of `text` without case and punctuation; each CJK character is one."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return tuple(_WORD.findall(folded.casefold()))


def holds(words: Words, query: Words) -> bool:
    """Return whether the words of `query` stand in a row in `words`."""
    return any(words[at : at + len(query)] == query for at in range(len(words) - len(query) + 1))


def occurrences(queries: Iterable[Words], passages: Iterable[Iterable[Words]]) -> dict[Words, set[int]]:
    """Return for each query the rows of the passages that hold its words in a row, in one pass over the passages.

    A passage is one or more runs; words do not stand in a row across them. Queries have two words or more.
    """
    found: dict[Words, set[int]] = {query: set() for query in queries}
    by_start: dict[Words, list[Words]] = defaultdict(list)
    for query in found:
        by_start[query[:2]].append(query)
    for row, runs in enumerate(passages):
        for words in runs:
            for at, pair in enumerate(pairwise(words)):
                for query in by_start.get(pair, ()):
                    if words[at : at + len(query)] == query:
                        found[query].add(row)
    return found


SEPARATOR = " > "
"""Between the title and the headings of a context."""
_LEAST_PART = 2
"""Words from which the beginning of a heading is taken for a heading that was shortened."""
_LEAST_FRAGMENT = 3
"""Words of a sentence at a passage's border from which the fragment gives it away."""
_LONE_MARKER = re.compile(r"(?:\A|(?<=\n))[ \t]*(?:[-*+>]|\d+[.)]|#+|//+)\Z")


def without(text: str, piece: str) -> str:
    """Return `text` without each `piece`, its rest joined as if that had never stood there."""
    first, *others = text.split(piece)
    for part in others:
        first = _joined(first, part)
    return first.strip("\n")


def _joined(before: str, after: str) -> str:
    before, after = before.rstrip(" "), after.lstrip(" ")
    if not after or after.startswith("\n"):
        before = _LONE_MARKER.sub("", before)
    lines = len(before) - len(before.rstrip("\n")) + len(after) - len(after.lstrip("\n"))
    if lines:
        return before.rstrip("\n") + "\n" * min(lines, 2) + after.lstrip("\n")
    return f"{before} {after}" if before and after else before + after


def without_heading(context: str, text: str, heading: Words) -> tuple[str, str]:
    """Return a context without its part that is `heading`, and a text without its lines."""
    parts = [part for part in context.split(SEPARATOR) if not _is_heading(words_of(part), heading)]
    lines = [line for line in text.split("\n") if not _is_heading_line(line, heading)]
    return SEPARATOR.join(parts), "\n".join(lines).strip("\n")


def _is_heading(part: Words, heading: Words) -> bool:
    """Return whether a part of a context is the heading, which may have lost its end there."""
    return len(part) >= min(_LEAST_PART, len(heading)) and heading[: len(part)] == part


def _is_heading_line(line: str, heading: Words) -> bool:
    words = words_of(line)
    return words == heading or (line.lstrip().startswith(("#", "=")) and holds(words, heading))


def shared(text: str, sentence: str, *, after: bool) -> str | None:
    """Return what a neighbour has of `sentence`: all of it, else what stands at the border, else None.

    `after` is whether the neighbour follows: it may begin with the sentence's end. Fewer than 3 words are nothing.
    """
    if sentence in text:
        return sentence
    spans = [match.span() for match in _TOKEN.finditer(sentence)]
    pieces = [sentence[start:] for start, _ in spans] if after else [sentence[:end] for _, end in reversed(spans)]
    for piece in pieces[: max(0, len(pieces) - _LEAST_FRAGMENT + 1)]:
        if text.startswith(piece) if after else text.endswith(piece):
            return piece
    return None


SHORTEST_SENTENCE = 24
"""Characters: shorter pieces are abbreviations, list numbers and fragments."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])")


def sentences(texts: Sequence[str]) -> list[str]:
    """Return the sentences of `texts` that are long enough, in order; a text without any is taken whole."""
    found: list[str] = []
    for text in texts:
        parts = [part.strip() for part in _SENTENCE_END.split(text)]
        found += [part for part in parts if len(part) >= SHORTEST_SENTENCE] or [text]
    return found
