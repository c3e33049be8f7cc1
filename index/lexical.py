"""Lexical search: what FTS5 indexes, how a query becomes FTS5 syntax, and which words of a text it matched."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .cosine import check_k, ranked
from .protocol import Scored

if TYPE_CHECKING:
    from .filters import Restriction

TEXT_WEIGHT, CONTEXT_WEIGHT, PATH_WEIGHT = 1.0, 1.0, 0.3
"""BM25 weights of a word in the chunk, in its title and headings, and in its path."""

# Han, kana, bopomofo and hangul: written without spaces, or with endings glued on, so that a "word" of unicode61 is
# a whole clause. Each character is its own token, and a word of the query is a phrase of them.
CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3031-\u3035\u303b\u3040-\u309f\u30a0-\u30fa\u30fc-\u30ff\u3100-\u312f"
    "\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_CJK_CHARACTER = re.compile(f"[{CJK}]")
_CJK_RUN = re.compile(f"[{CJK}]+")
_QUOTED = re.compile(r'"([^"]*)"|\u201c([^\u201c\u201d]*)\u201d|\u201e([^\u201c\u201d\u201e]*)[\u201c\u201d]')

_SPARE = 64
"""Rows asked for beyond k: SQL sorts by float64, results by float32, whose ties at the border must be resolved."""


def searchable(text: str | None) -> str | None:
    """Return `text` as FTS5 indexes it: compatibility characters composed, each CJK character a word of its own.

    Registered in SQLite as search_text(): the index holds no copy of the texts, and snippets are cut from the original.
    """
    if text is None or text.isascii():
        return text
    return _CJK_CHARACTER.sub(r" \g<0> ", unicodedata.normalize("NFKC", text))


def register(connection: sqlite3.Connection) -> None:
    """Make search_text() known to a connection; the view chunk_texts cannot be read without it."""
    connection.create_function("search_text", 1, searchable, deterministic=True)


def search(connection: sqlite3.Connection, query: str, k: int, *, only: Restriction | None = None) -> Scored:
    """Return the k best chunks by BM25 over any of the query's words, of those the restriction lets through.

    A filter does not change the scores, which count words over the whole collection. A query without a letter or
    digit finds nothing.
    """
    check_k(k)
    expression = match_expression(query)
    if not expression or (only is not None and only.lets_none_through):
        return Scored(ids=np.empty(0, dtype=np.int64), scores=np.empty(0, dtype=np.float32))
    # The plus keeps SQLite from looking up each allowed row in FTS5 by itself: 100 times slower at 3,000 rows.
    where, arguments = ("", []) if only is None else only.sql("+rowid")
    sql = (
        f"SELECT rowid, -bm25(chunk_fts, {TEXT_WEIGHT}, {CONTEXT_WEIGHT}, {PATH_WEIGHT}) AS score"
        f" FROM chunk_fts WHERE chunk_fts MATCH ?{where} ORDER BY score DESC, rowid LIMIT ?"
    )
    limit = k + _SPARE
    while True:
        rows = connection.execute(sql, [expression, *arguments, limit]).fetchall()
        ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        scores = np.fromiter((row[1] for row in rows), dtype=np.float32, count=len(rows))
        best_ids, best_scores = ranked(ids, scores, k)
        if len(rows) < limit or scores[-1] < best_scores[-1]:
            return Scored(ids=best_ids, scores=best_scores)
        limit *= 4


def match_expression(query: str) -> str:
    """Return the FTS5 expression of a query, "" when it has no words: its words and phrases, quoted, joined by OR.

    Everything is quoted, so that punctuation and AND, NOT, NEAR are never syntax. A text in double quotes is one
    phrase. A word with punctuation inside ("re-index", "index.py", "max_tokens") is its parts or, better, all of them
    in a row. A CJK run is its bigrams or, better, all of it in a row.
    """
    return " OR ".join(f'"{term}"' for term in _terms(query))


def _terms(query: str) -> Iterator[str]:
    position = 0
    text = unicodedata.normalize("NFKC", query)
    for match in _QUOTED.finditer(text):
        yield from _loose_terms(text[position : match.start()])
        phrase = " ".join(_tokens(next(group for group in match.groups() if group is not None)))
        if phrase:
            yield phrase
        position = match.end()
    yield from _loose_terms(text[position:])


def _loose_terms(text: str) -> Iterator[str]:
    for compound in text.split():
        words = _words(compound)
        for word in words:
            if _CJK_CHARACTER.match(word):
                yield from _bigrams(word)
            else:
                yield word
        tokens = [token for word in words for token in (word if _CJK_CHARACTER.match(word) else [word])]
        if len(words) > 1 or (len(words) == 1 and len(tokens) > 2):
            yield " ".join(tokens)


def _bigrams(run: str) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(run)] or [run]


def _tokens(text: str) -> list[str]:
    """Return the tokens of a text as FTS5 makes them, before stemming."""
    return [token for word in _words(text) for token in (word if _CJK_CHARACTER.match(word) else [word])]


def _words(text: str) -> list[str]:
    """Return the runs of letters, digits and marks in `text`, cut where CJK begins or ends."""
    return [text[start:end] for start, end in _word_spans(text)]


def _word_spans(text: str) -> Iterator[tuple[int, int]]:
    start: int | None = None
    cjk = False
    for position, character in enumerate(text):
        is_word = character.isalnum() or unicodedata.category(character) in ("Mn", "Mc", "Co")
        is_cjk = is_word and _CJK_CHARACTER.match(character) is not None
        if start is not None and (not is_word or is_cjk != cjk):
            yield start, position
            start = None
        if is_word and start is None:
            start, cjk = position, is_cjk
    if start is not None:
        yield start, len(text)


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("porter")


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return what two words must have in common to match: FTS5's folding (case, diacritics), then Porter's stem."""
    decomposed = unicodedata.normalize("NFKD", word).lower()
    folded = "".join(character for character in decomposed if not 0x300 <= ord(character) <= 0x36F)
    stem: str = _stemmer().stemWord(folded) if folded.isascii() and len(folded) > 2 else folded
    return stem


@dataclass(frozen=True, slots=True)
class _Wanted:
    stems: frozenset[str]
    runs: tuple[str, ...]
    """CJK bigrams, and single characters that stand alone in the query."""


@lru_cache(maxsize=64)
def _wanted(query: str) -> _Wanted:
    words = _words(unicodedata.normalize("NFKC", query))
    cjk = [word for word in words if _CJK_CHARACTER.match(word)]
    return _Wanted(
        frozenset(stem(word) for word in words if not _CJK_CHARACTER.match(word)),
        tuple({bigram.replace(" ", "") for run in cjk for bigram in _bigrams(run)}),
    )


def matching_spans(query: str, text: str) -> list[tuple[int, int]]:
    """Return the character spans of `text`, ascending and apart, whose words match a word of the query by stem.

    In CJK text the spans are those characters that share two in a row with the query.
    """
    wanted = _wanted(query)
    spans: list[tuple[int, int]] = []
    for start, end in _word_spans(text):
        if _CJK_CHARACTER.match(text[start]):
            spans += _merged(_run_spans(wanted.runs, text, start, end))
        elif stem(text[start:end]) in wanted.stems:
            spans.append((start, end))
    return spans


def _run_spans(runs: Iterable[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    found = []
    for run in runs:
        at = text.find(run, start, end)
        while at >= 0:
            found.append((at, at + len(run)))
            at = text.find(run, at + 1, end)
    return sorted(found)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
