"""Texts as runs of words: where the words of a query stand in a row."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

Words = tuple[str, ...]

_CJK = "\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


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
