"""Hard negatives: for each pair the texts of a corpus that are near its query, but not as near as its positive.

Shape suffixes: B queries of a block, C corpus rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_SCORES = 2**24
"""Scores in memory at once; a ranking takes about four times their 64 MiB."""

Scores = Callable[[range], Tensor]
"""Scores (B, C) of these queries with every distinct text of a corpus, in the order of their first rows; a new tensor
each time, which is written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What was found for one pair."""

    rows: tuple[int, ...]
    """Of the corpus, the nearest first."""
    scores: tuple[float, ...]
    positive: float
    """Score of the pair's own positive."""
    rejected: int
    """Candidates left out because they were scored above the margin."""


def mine(
    queries: Sequence[str],
    positives: Sequence[int],
    query_vectors: NDArray[np.float32],
    corpus: Sequence[str],
    corpus_vectors: NDArray[np.float32],
    *,
    count: int,
    margin: float = 0.95,
    skip_top: int = 0,
    device: torch.device | None = None,
    block_scores: int = BLOCK_SCORES,
) -> list[list[int]]:
    """Return the rows of `mine_scored`, by the cosines of vectors.

    Vectors are (n, D) and of unit length, and the search is exact. Raises ValueError for what does not fit together.
    """
    _check_vectors(queries, query_vectors, corpus, corpus_vectors)
    found = mine_scored(
        queries,
        positives,
        corpus,
        cosines(query_vectors, corpus_vectors[first_rows(corpus)], device),
        count=count,
        margin=margin,
        skip_top=skip_top,
        block_scores=block_scores,
    )
    return [list(each.rows) for each in found]


def mine_scored(
    queries: Sequence[str],
    positives: Sequence[int],
    corpus: Sequence[str],
    scores: Scores,
    *,
    count: int,
    margin: float = 0.95,
    skip_top: int = 0,
    least: float | None = None,
    taken: Sequence[Sequence[str]] = (),
    block_scores: int = BLOCK_SCORES,
) -> Iterator[Mined]:
    """Yield for each pair up to `count` rows of `corpus`, the nearest to its query first, equal scores by row.

    `positives`[i] is the row of pair i's positive. Never taken, in whatever case and white space: the query's own text,
    a positive of the same query in any pair, and a text of `taken`[i]; nor any but the first row of an equal text. Of
    the rest the `skip_top` nearest are left out, then those scored above `margin` of the positive's score, which may
    well answer the query too (TopK-PercPos of NV-Retriever, arXiv 2407.15831, section 3), and those scored `least` or
    lower. A positive scored below 0 has its limit the same share below it. Raises ValueError for what does not fit
    together.
    """
    _check(queries, positives, corpus, count=count, margin=margin, skip_top=skip_top)
    rows = first_rows(corpus)
    column = {corpus[row]: at for at, row in enumerate(rows)}
    own = [column[corpus[row]] for row in positives]
    alike = _alike(corpus, rows)
    bare = list(map(_bare, queries))
    right = _right(bare, [corpus[row] for row in positives], alike)
    size = max(1, block_scores // max(1, len(rows)))
    for start in range(0, len(queries), size):
        block = range(start, min(start + size, len(queries)))
        scores_BC = scores(block)
        place = scores_BC.device
        positive_B1 = scores_BC.gather(1, torch.tensor([[own[i]] for i in block], device=place))
        known = [(i - start, at) for i in block for at in right[bare[i]]]
        if taken:
            known += [(i - start, at) for i in block for text in taken[i] for at in alike.get(_bare(text), ())]
        scores_BC[tuple(torch.tensor(known, device=place).T)] = float("-inf")
        if least is not None:
            scores_BC.masked_fill_(scores_BC <= least, float("-inf"))
        if skip_top:
            scores_BC.masked_fill_(_nearest(scores_BC, skip_top), float("-inf"))
        yield from _below(scores_BC, positive_B1, rows, count=count, margin=margin)


def first_rows(corpus: Sequence[str]) -> NDArray[np.int64]:
    """Return the first row of each distinct text, ascending."""
    first: dict[str, int] = {}
    for row, text in enumerate(corpus):
        first.setdefault(text, row)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def cosines(
    query_vectors: NDArray[np.float32],
    candidate_vectors: NDArray[np.float32],
    device: torch.device | None = None,
    *,
    rows: NDArray[np.int64] | None = None,
) -> Scores:
    """Return the scores of unit vectors (n, D) with those of the distinct texts, (C, D); computed on `device`.

    `rows` are the vectors of the queries in turn, where several queries have one.
    """
    place = device or torch.device("cpu")
    candidates_CD = torch.from_numpy(candidate_vectors).to(place)

    def scores(block: range) -> Tensor:
        span = slice(block.start, block.stop)
        queries_BD = query_vectors[span] if rows is None else query_vectors[rows[span]]
        return torch.from_numpy(queries_BD).to(place) @ candidates_CD.T

    return scores


def _bare(text: str) -> str:
    """Return what two texts have in common that differ in case and white space alone."""
    return " ".join(text.casefold().split())


def _alike(corpus: Sequence[str], rows: NDArray[np.int64]) -> dict[str, list[int]]:
    """Return the columns of the distinct texts that say each thing."""
    columns: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        columns.setdefault(_bare(corpus[row]), []).append(at)
    return columns


def _right(bare: Sequence[str], positives: Sequence[str], alike: dict[str, list[int]]) -> dict[str, set[int]]:
    """Return for each bare query the columns that are no negatives of it: its own text, and the positives it has."""
    right: dict[str, set[int]] = {}
    for query, positive in zip(bare, positives, strict=True):
        right.setdefault(query, set(alike.get(query, ()))).update(alike[_bare(positive)])
    return right


def _below(
    scores_BC: Tensor, positive_B1: Tensor, rows: NDArray[np.int64], *, count: int, margin: float
) -> Iterator[Mined]:
    """Yield for each query of a block the nearest below the margin, -inf being none; `scores_BC` is written to."""
    too_near_BC = scores_BC > positive_B1 - (1 - margin) * positive_B1.abs()
    rejected_B = too_near_BC.sum(dim=1)
    scores_BC.masked_fill_(too_near_BC, float("-inf"))
    for ranked, positive, rejected in zip(
        _ranked(scores_BC, count), positive_B1[:, 0].tolist(), rejected_B.tolist(), strict=True
    ):
        yield Mined(
            rows=tuple(int(rows[at]) for at, _ in ranked),
            scores=tuple(score for _, score in ranked),
            positive=positive,
            rejected=rejected,
        )


def _nearest(scores_BC: Tensor, count: int) -> Tensor:
    """Return bool (B, C): the `count` highest of each row, the leftmost of equal ones; all where there are fewer."""
    count = min(count, scores_BC.shape[1])
    least_B1 = scores_BC.topk(count, dim=1).values[:, -1:]
    above_BC = scores_BC > least_B1
    room_B1 = count - above_BC.sum(dim=1, keepdim=True)
    equal_BC = scores_BC == least_B1
    return above_BC | (equal_BC & (equal_BC.cumsum(dim=1, dtype=torch.int32) <= room_B1))


def _ranked(scores_BC: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """Return columns and scores of the `count` highest finite scores of each row, highest first."""
    taken_BC = _nearest(scores_BC, count) & scores_BC.isfinite()
    ranked: list[list[tuple[int, float]]] = [[] for _ in range(len(scores_BC))]
    line, at = taken_BC.nonzero(as_tuple=True)  # by line, then column
    scores = scores_BC[line, at].cpu().numpy()
    lines, columns = line.cpu().numpy(), at.cpu().numpy()
    for place in np.lexsort((columns, -scores, lines)):
        ranked[lines[place]].append((int(columns[place]), float(scores[place])))
    return ranked


def _check(
    queries: Sequence[str], positives: Sequence[int], corpus: Sequence[str], *, count: int, margin: float, skip_top: int
) -> None:
    """Raise ValueError for settings and rows that make no sense together."""
    if count < 1 or skip_top < 0 or not 0 < margin <= 1:
        raise ValueError(
            f"count is {count}, skip_top {skip_top} and margin {margin}: expected at least 1, at least 0, and more "
            "than 0 and at most 1"
        )
    if len(queries) != len(positives):
        raise ValueError(f"{len(queries)} queries, {len(positives)} positives: expected equally many")
    outside = [row for row in positives if not 0 <= row < len(corpus)]
    if outside:
        raise ValueError(f"a positive is row {outside[0]}: expected 0 to {len(corpus) - 1}")


def _check_vectors(
    queries: Sequence[str],
    query_vectors: NDArray[np.float32],
    corpus: Sequence[str],
    corpus_vectors: NDArray[np.float32],
) -> None:
    """Raise ValueError for vectors that are not those of the texts."""
    if query_vectors.ndim != 2 or corpus_vectors.shape != (len(corpus), query_vectors.shape[1]):
        raise ValueError(
            f"vectors are {query_vectors.shape} and {corpus_vectors.shape}: expected (n, D), the second with "
            f"{len(corpus)} rows"
        )
    if len(query_vectors) != len(queries):
        raise ValueError(f"{len(queries)} queries, {len(query_vectors)} query vectors: expected equally many")
