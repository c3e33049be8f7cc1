"""Sentences of a passage that can stand alone as queries, and random crops of long ones."""

from __future__ import annotations

import random
import re

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
_ABBREVIATION = re.compile(r"(?:\b\w|\b(?:al|cf|ca|dr|etc|fig|mr|mrs|no|vs|vol))\.\Z", re.IGNORECASE)
_LEANING = frozenset(["he", "it", "its", "she", "that", "their", "these", "they", "this", "those"])
"""A sentence that begins so says something of what the one before named."""
_NO_PROSE = re.compile(r"[{}|=\t\\]|\]\(")
_EMPHASIS = re.compile(r"\*\*|__")
_TOKEN = re.compile(r"\S+")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]")


def sentences_of(text: str) -> list[str]:
    """Return the sentences of `text` that are prose, each a verbatim slice of it, in order.

    They begin with no small letter, end with a full stop or its like, and are not code, table or link list.
    """
    found = []
    start = 0
    fences = [match.span() for match in _FENCED.finditer(text)]
    for border in [*(match.span() for match in _BORDER.finditer(text)), (len(text), len(text))]:
        begin = start + _marker_end(text[start : border[0]])
        sentence = text[begin : border[0]].rstrip()
        if _is_prose(sentence) and not any(begin < end and border[0] > first for first, end in fences):
            found.append(sentence)
        start = border[1]
    return found


def cropped(sentence: str, rng: random.Random) -> str:
    """Return a query of one line: a random run of words of a long sentence, a short one whole.

    CJK characters count as words. Emphasis, and punctuation at the ends of a crop, are left out.
    """
    spans = [match.span() for match in _units(sentence)]
    if len(spans) > CROP_FROM:
        length = rng.randint(*CROP_WORDS)
        first = rng.randint(0, len(spans) - length)
        sentence = sentence[spans[first][0] : spans[first + length - 1][1]].strip(" ,;:-()")
    return " ".join(_EMPHASIS.sub("", sentence).split())


def _marker_end(piece: str) -> int:
    """Return where the words begin after the marks of a list item, a quotation or a comment."""
    match = _MARKER.match(piece)
    return match.end() if match is not None else 0


def _units(sentence: str) -> list[re.Match[str]]:
    if _CJK.search(sentence):
        return list(re.finditer(rf"{_CJK.pattern}|[^\s{_CJK.pattern[1:-1]}]+", sentence))
    return list(_TOKEN.finditer(sentence))


def _is_prose(sentence: str) -> bool:
    if not LEAST_WORDS <= len(_units(sentence)) <= MOST_WORDS:
        return False
    if sentence.count(",") * _COMMAS > len(_units(sentence)):
        return False
    if _END.search(sentence) is None or _ABBREVIATION.search(sentence) or _NO_PROSE.search(sentence):
        return False
    if re.split(r"\W", sentence, maxsplit=1)[0].lower() in _LEANING:
        return False
    first = next((mark for mark in sentence if mark.isalnum()), "")
    plain = sum(mark.isalpha() or mark.isspace() for mark in sentence)
    return first != "" and not first.islower() and plain >= _LETTERS * len(sentence)
