"""From a query to its hits: candidates of both sides, fused, filtered, paged, with passages and freshness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...index.errors import CollectionNotFoundError
from ...index.protocol import Collection, Filter, Scored, StoredChunk
from ..collection.paths import absolute_path
from ..collection.stored_groups import Members, StoredDuplicates
from ..options import DENSE_WEIGHT, SearchMode
from .collapse import Ranking, Sameness, collapsed_page
from .hits import Answer, Answers, Duplicate, Freshness, Hit, Question, Score, SearchRequest, freshness
from .snippets import QueryEncoder, Snippet, find_snippets

if TYPE_CHECKING:
    from ...encoder.protocol import EncodeProgress, Vectors


FUSION_DEPTH = 1000
"""Candidates from each side of a hybrid search. Fixed: were it to grow with the page, scores would differ from page to
page, and pages would not add up to one ranking."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The vector of each question, None in lexical mode."""

    vectors: Sequence[Vectors | None]
    cut: int
    max_tokens: int | None


class Searcher:
    """Answers questions from one collection; loads the encoder only for modes that need it."""

    def __init__(self, collection: Collection, encoder: QueryEncoder) -> None:
        self._collection = collection
        self._encoder = encoder
        self._freshness: dict[str, Freshness] = {}
        self._members: tuple[int, Members, tuple[int, ...]] | None = None

    def search(
        self,
        questions: Sequence[Question],
        request: SearchRequest,
        *,
        within: Members | None = None,
        duplicates: StoredDuplicates | None = None,
    ) -> Answers:
        """Return one answer per question, in order: of what is `within`, and each of `duplicates` once.

        Raises CollectionNotFoundError for an empty collection."""
        encoded = self._encoded(questions, request)
        weight = self._dense_weight(request)
        same = None if duplicates is None else Sameness(duplicates)
        answers = []
        for question, vector in zip(questions, encoded.vectors, strict=True):
            with self._collection.snapshot():
                narrowed = request if within is None else replace(request, where=self._narrowed(request.where, within))
                answers.append(self._answer(question, vector, narrowed, weight, same))
        return Answers(answers=answers, queries_cut=encoded.cut, max_tokens=encoded.max_tokens)

    def _narrowed(self, where: Filter, within: Members) -> Filter:
        """Return the filter with the chunks of these members, looked up once per commit; inside a snapshot."""
        changes = self._collection.changes
        if self._members is None or self._members[:2] != (changes, within):
            self._members = (changes, within, tuple(within.find(self._collection).tolist()))
        return replace(where, chunks=self._members[2])

    def rank(self, questions: Sequence[Question], request: SearchRequest) -> list[list[tuple[int, Score]]]:
        """Return per question chunk ids with scores, best first, to offset + k at least; reads no chunk: to measure."""
        vectors = self._encoded(questions, request).vectors
        weight, depth = self._dense_weight(request), request.offset + request.k
        return [self._ranked(q.text, v, request, weight, depth=depth) for q, v in zip(questions, vectors, strict=True)]

    def _dense_weight(self, request: SearchRequest) -> float | None:
        if request.mode is not SearchMode.HYBRID:
            return None
        if request.dense_weight is not None:
            return request.dense_weight
        recommended = self._encoder.dense_weight()
        return DENSE_WEIGHT if recommended is None else recommended

    def _encoded(self, questions: Sequence[Question], request: SearchRequest) -> _Encoded:
        """Return one per question, None in lexical mode; those with the same instruction are encoded as one batch."""
        if self._collection.settings is None:
            raise CollectionNotFoundError(
                f"the collection {self._collection.path} is empty", next_command=("index", "PATH")
            )
        if request.mode is SearchMode.LEXICAL:
            return _Encoded(vectors=[None] * len(questions), cut=0, max_tokens=None)
        import numpy as np

        from ...encoder.protocol import Role

        encoder = self._encoder.open()
        cut = 0
        rows = np.empty((len(questions), encoder.info.dim), dtype=np.float32)
        grouped: dict[str | None, list[int]] = {}
        for row, question in enumerate(questions):
            instruction = request.instruction if question.instruction is None else question.instruction
            grouped.setdefault(instruction, []).append(row)
        for instruction, members in grouped.items():
            texts = [questions[row].text for row in members]
            events: list[EncodeProgress] = []
            rows[members] = encoder.encode(texts, role=Role.QUERY, instruction=instruction, progress=events.append)
            cut += sum(event.texts_truncated for event in events[-1:])
        return _Encoded(vectors=list(rows), cut=cut, max_tokens=encoder.info.max_tokens)

    def _answer(
        self,
        question: Question,
        vector: Vectors | None,
        request: SearchRequest,
        weight: float | None,
        same: Sameness | None,
    ) -> Answer:
        end = request.offset + request.k

        def rank(depth: int, where: Filter) -> Ranking:
            found = self._ranked(question.text, vector, replace(request, where=where), weight, depth=depth)
            least = -math.inf if request.min_score is None else request.min_score
            good = [item for item in found if item[1].total >= least]
            return Ranking(items=good, is_whole=request.mode is SearchMode.HYBRID or len(good) < max(depth, len(found)))

        if same is None:
            ranked = rank(end + 1, request.where).items
            page, more = ranked[request.offset : end], len(ranked) > end
            hanging: Sequence[tuple[Duplicate, ...]] = [()] * len(page)
        else:
            collapsed = collapsed_page(self._collection, same, rank, request.where, offset=request.offset, end=end)
            page, more, hanging = collapsed.items, collapsed.more, collapsed.duplicates
        chunks = self._collection.chunks([id_ for id_, _ in page])
        snippets: Sequence[Snippet | None] = [None] * len(page)
        if request.snippets:
            snippets = find_snippets(chunks, question.text, vector, self._encoder)
        parts = zip(page, chunks, snippets, hanging, strict=True)
        hits = tuple(
            Hit(
                rank=place,
                score=score,
                chunk=chunk,
                file=absolute_path(chunk.path, self._collection.root),
                freshness=self._fresh(chunk),
                snippet=snippet,
                duplicates=duplicates,
            )
            for place, ((_, score), chunk, snippet, duplicates) in enumerate(parts, start=request.offset + 1)
        )
        return Answer(question=question, hits=hits, more=more, dense_weight=weight)

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

        from ...index.fusion import fuse

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

    def _fresh(self, chunk: StoredChunk) -> Freshness:
        """Return whether the chunk's file is as it was indexed: by size and time, and by content where they differ."""
        if chunk.path not in self._freshness:
            self._freshness[chunk.path] = freshness(absolute_path(chunk.path, self._collection.root), chunk)
        return self._freshness[chunk.path]


def _rows(found: Scored) -> list[tuple[int, int, float]]:
    """Return 1-based rank, id and score."""
    pairs = zip(found.ids.tolist(), found.scores.tolist(), strict=True)
    return [(rank, id_, score) for rank, (id_, score) in enumerate(pairs, start=1)]
