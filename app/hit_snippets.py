"""The snippet of each hit: the passage of its chunk that answers best, by words, else by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..index.protocol import StoredChunk
from ..index.readers.languages import LANGUAGES
from .snippets import Snippet, best_by_words, candidates, cut_code, cut_snippet, matches_in

if TYPE_CHECKING:
    from ..encoder.protocol import Encoder, Vectors

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
    from ..encoder.protocol import Role

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
