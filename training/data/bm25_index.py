"""BM25 over texts in memory: Lucene's formula and defaults over English stems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MISSING_EXTRA, EvaluationError

SETTINGS: dict[str, Any] = {
    "k1": 1.2,
    "b": 0.75,
    "formula": "lucene",
    "lower": True,
    "words": r"(?u)\b\w\w+\b",
    "stop_words": (
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with"
    ),
    "stemmer": "english",
}
"""All that decides a rank, as it is used: lowercased words of two letters or more without Lucene's English stop words,
and Snowball's stemmer."""


class Bm25Index:
    """BM25 over texts in memory, each known by its row."""

    def __init__(self) -> None:
        """Raises EvaluationError without the extra eval."""
        try:
            import bm25s
            from Stemmer import Stemmer
        except ImportError as error:
            raise EvaluationError(f"bm25 {MISSING_EXTRA} ({error})") from error
        self._bm25s: Any = bm25s
        self._stemmer = Stemmer(SETTINGS["stemmer"])
        self._index: Any = None
        self._size = 0

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each text as they are looked up."""
        found: list[list[str]] = self._bm25s.tokenize(
            list(texts),
            lower=SETTINGS["lower"],
            token_pattern=SETTINGS["words"],
            stopwords=str(SETTINGS["stop_words"]).split(),
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )
        return found

    def fill(self, words: Sequence[list[str]]) -> None:
        """Index texts, given as their words; a new call replaces the old ones."""
        self._size = len(words)
        self._index = None
        if any(words):
            self._index = self._bm25s.BM25(k1=SETTINGS["k1"], b=SETTINGS["b"], method=SETTINGS["formula"])
            self._index.index(words, show_progress=False)

    def scores(self, words: list[str]) -> NDArray[np.float32]:
        """Return the score of each text, 0 where it has none of these words."""
        if self._index is None or not words:
            return np.zeros(self._size, dtype=np.float32)
        return np.asarray(self._index.get_scores(words), dtype=np.float32)
