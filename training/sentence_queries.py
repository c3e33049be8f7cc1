"""Sentences of a passage that can stand alone as queries, and random crops of long ones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from enum import StrEnum

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
