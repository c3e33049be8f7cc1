"""From a query to its hits: candidates of both sides, fused, filtered, paged, with passages and freshness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3

from ..index.collection import FolderCollection
from ..index.errors import CollectionNotFoundError
from ..index.protocol import Filter, Scored, StoredChunk
from ..index.readers.languages import LANGUAGES
from .places import absolute_path
from .settings import DENSE_WEIGHT, SearchMode
from .snippets import Snippet, best_by_words, candidates, cut_code, cut_snippet, matches_in

if TYPE_CHECKING:
    from ..encoder.protocol import Encoder, Vectors

FUSION_DEPTH = 1000
"""Candidates from each side of a hybrid search. Fixed: were it to grow with the page, scores would differ from page to
page, and pages would not add up to one ranking."""
_MOST_SENTENCES = 24
"""Sentences of one chunk that are compared with the query for its snippet."""


class Freshness(StrEnum):
    FRESH = "fresh"
    CHANGED = "changed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query as it was asked."""

    text: str
    id: str | None = None
    instruction: str | None = None
    """None: the one of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """How to search."""

    mode: SearchMode = SearchMode.HYBRID
    k: int = 10
    offset: int = 0
    where: Filter = field(default_factory=Filter)
    instruction: str | None = None
    dense_weight: float | None = None
    """None: what the model recommends, else the default."""
    min_score: float | None = None
    snippets: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score and its parts; None: that side did not take part, or did not find the chunk."""

    total: float
    lexical: float | None = None
    """BM25."""
    dense: float | None = None
    """Cosine."""
    lexical_part: float | None = None
    dense_part: float | None = None
    lexical_rank: int | None = None
    dense_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that answers a query."""

    rank: int
    """1-based, over all pages."""
    score: Score
    chunk: StoredChunk
    file: Path
    freshness: Freshness
    snippet: Snippet | None

    @property
    def line(self) -> int | None:
        """The line of the best passage where the format has lines, else of the chunk."""
        start = self.chunk.line_start
        if start is None or self.snippet is None or self.chunk.char_start is None:
            return start
        at = self.snippet.start + self.snippet.passage[0]
        return start + self.chunk.text.count("\n", 0, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The hits of one query."""

    question: Question
    hits: tuple[Hit, ...]
    more: bool
    """Whether there are hits after these."""
    dense_weight: float | None
    """Share of the dense side in hybrid mode."""


class QueryEncoder(Protocol):
    """What a searcher asks of an encoder; a `LazyEncoder` has it."""

    def open(self) -> Encoder: ...
    def dense_weight(self) -> float | None: ...


class Searcher:
    """Answers questions from one collection; loads the encoder only for modes that need it."""

    def __init__(self, collection: FolderCollection, encoder: QueryEncoder) -> None:
        self._collection = collection
        self._encoder = encoder
        self._freshness: dict[str, Freshness] = {}

    def search(self, questions: Sequence[Question], request: SearchRequest) -> list[Answer]:
        """Return one answer per question, in order. Raises CollectionNotFoundError for an empty collection."""
        vectors = self._vectors(questions, request)
        weight = self._dense_weight(request)
        answers = []
        for question, vector in zip(questions, vectors, strict=True):
            with self._collection.snapshot():
                answers.append(self._answer(question, vector, request, weight))
        return answers

    def rank(self, questions: Sequence[Question], request: SearchRequest) -> list[list[tuple[int, Score]]]:
        """Return per question chunk ids with scores, best first, to offset + k at least; reads no chunk: to measure."""
        vectors = self._vectors(questions, request)
        weight, depth = self._dense_weight(request), request.offset + request.k
        return [self._ranked(q.text, v, request, weight, depth=depth) for q, v in zip(questions, vectors, strict=True)]

    def _dense_weight(self, request: SearchRequest) -> float | None:
        if request.mode is not SearchMode.HYBRID:
            return None
        if request.dense_weight is not None:
            return request.dense_weight
        recommended = self._encoder.dense_weight()
        return DENSE_WEIGHT if recommended is None else recommended

    def _vectors(self, questions: Sequence[Question], request: SearchRequest) -> Sequence[Vectors | None]:
        """Return one per question, None in lexical mode; those with the same instruction are encoded as one batch."""
        if self._collection.settings is None:
            raise CollectionNotFoundError(
                f"the collection {self._collection.path} is empty: run `searchctl index PATH` to fill it"
            )
        if request.mode is SearchMode.LEXICAL:
            return [None] * len(questions)
        import numpy as np

        from ..encoder.protocol import Role

        encoder = self._encoder.open()
        rows = np.empty((len(questions), encoder.info.dim), dtype=np.float32)
        grouped: dict[str | None, list[int]] = {}
        for row, question in enumerate(questions):
            instruction = request.instruction if question.instruction is None else question.instruction
            grouped.setdefault(instruction, []).append(row)
        for instruction, members in grouped.items():
            texts = [questions[row].text for row in members]
            rows[members] = encoder.encode(texts, role=Role.QUERY, instruction=instruction)
        return list(rows)

    def _answer(
        self, question: Question, vector: Vectors | None, request: SearchRequest, weight: float | None
    ) -> Answer:
        end = request.offset + request.k
        ranked = self._ranked(question.text, vector, request, weight, depth=end + 1)
        if request.min_score is not None:
            ranked = [item for item in ranked if item[1].total >= request.min_score]
        page = ranked[request.offset : end]
        chunks = self._collection.chunks([id_ for id_, _ in page])
        hits = tuple(
            Hit(
                rank=request.offset + position + 1,
                score=score,
                chunk=chunk,
                file=absolute_path(chunk.path, self._collection.root),
                freshness=self._fresh(chunk),
                snippet=None,
            )
            for position, ((_, score), chunk) in enumerate(zip(page, chunks, strict=True))
        )
        if request.snippets:
            hits = self._with_snippets(hits, question.text, vector)
        return Answer(question=question, hits=hits, more=len(ranked) > end, dense_weight=weight)

    def _ranked(
        self, text: str, vector: Vectors | None, request: SearchRequest, weight: float | None, *, depth: int
    ) -> list[tuple[int, Score]]:
        """Return chunk ids with their scores, best first: `depth` of them, or the whole fused ranking."""
        if vector is None:
            found = self._collection.lexical(text, depth, where=request.where)
            return [(id_, Score(total=score, lexical=score, lexical_rank=rank)) for rank, id_, score in _rows(found)]
        if request.mode is SearchMode.DENSE:
            found = self._collection.dense(vector, depth, where=request.where)
            return [(id_, Score(total=score, dense=score, dense_rank=rank)) for rank, id_, score in _rows(found)]
        assert weight is not None
        return self._fused(text, vector, request.where, weight)

    def _fused(self, text: str, vector: Vectors, where: Filter, weight: float) -> list[tuple[int, Score]]:
        import numpy as np

        from ..index.fusion import fuse

        lexical = self._collection.lexical(text, FUSION_DEPTH, where=where)
        dense = self._collection.dense(vector, FUSION_DEPTH, where=where)
        # Every candidate gets its exact cosine, also one that only its words found.
        others = np.setdiff1d(lexical.ids, dense.ids)
        found = {id_: rank for rank, id_, _ in _rows(dense)}
        ids = np.concatenate([dense.ids, others])
        scores = np.concatenate([dense.scores, self._collection.cosines(vector, others)])
        order = np.lexsort((ids, -scores))
        fused = fuse(lexical, Scored(ids=ids[order], scores=scores[order]), dense_weight=weight)
        return [
            (
                item.id,
                Score(
                    total=item.score,
                    lexical=item.lexical_score,
                    dense=item.dense_score,
                    lexical_part=item.lexical_part,
                    dense_part=item.dense_part,
                    lexical_rank=item.lexical_rank,
                    dense_rank=item.dense_rank if item.id in found else None,
                ),
            )
            for item in fused
        ]

    def _with_snippets(self, hits: Sequence[Hit], query: str, vector: Vectors | None) -> tuple[Hit, ...]:
        """Return the hits with their best passage: by words, else by meaning where the encoder is at hand."""
        matches = [matches_in(query, hit.chunk.text) for hit in hits]
        code = [hit.chunk.format in LANGUAGES for hit in hits]
        passages = [
            best_by_words(hit.chunk.text, found, code=lines)
            for hit, found, lines in zip(hits, matches, code, strict=True)
        ]
        if vector is not None:
            lacking = [row for row, passage in enumerate(passages) if passage is None]
            near = self._nearest([(hits[row].chunk.text, code[row]) for row in lacking], vector)
            for row, passage in zip(lacking, near, strict=True):
                passages[row] = passage
        return tuple(
            replace(hit, snippet=(cut_code if lines else cut_snippet)(hit.chunk.text, passage, found))
            for hit, passage, found, lines in zip(hits, passages, matches, code, strict=True)
        )

    def _nearest(self, texts: Sequence[tuple[str, bool]], vector: Vectors) -> list[tuple[int, int] | None]:
        """Return the sentence of each text, of code its line, whose vector is nearest to the query's."""
        from ..encoder.protocol import Role

        spans = [candidates(text, code=code)[:_MOST_SENTENCES] for text, code in texts]
        pieces = [text[start:end] for (text, _), found in zip(texts, spans, strict=True) for start, end in found]
        if not pieces:
            return [None] * len(texts)
        cosines = self._encoder.open().encode(pieces, role=Role.DOCUMENT) @ vector
        best: list[tuple[int, int] | None] = []
        at = 0
        for found in spans:
            best.append(found[int(cosines[at : at + len(found)].argmax())] if found else None)
            at += len(found)
        return best

    def _fresh(self, chunk: StoredChunk) -> Freshness:
        """Return whether the chunk's file is as it was indexed: by size and time, and by content where they differ."""
        if chunk.path not in self._freshness:
            self._freshness[chunk.path] = freshness(absolute_path(chunk.path, self._collection.root), chunk)
        return self._freshness[chunk.path]


def freshness(file: Path, known: StoredChunk) -> Freshness:
    """Return how a file on disk compares with what the catalogue knows of it."""
    try:
        info = file.stat()
        if (info.st_size, info.st_mtime_ns) == (known.size, known.mtime_ns):
            return Freshness.FRESH
        if info.st_size != known.size:
            return Freshness.CHANGED
        same = blake3(file.read_bytes()).hexdigest() == known.content_hash
    except OSError:
        return Freshness.MISSING
    return Freshness.FRESH if same else Freshness.CHANGED


def _rows(found: Scored) -> list[tuple[int, int, float]]:
    """Return 1-based rank, id and score."""
    return [
        (rank, int(id_), float(score))
        for rank, (id_, score) in enumerate(zip(found.ids, found.scores, strict=True), start=1)
    ]
