"""Hard negatives: for each pair the texts of a corpus that are near its query, but not as near as its positive.

Shape suffixes: B queries of a block, C corpus rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_SCORES = 2**24
"""Scores in memory at once; a ranking takes about four times their 64 MiB."""


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
    """Return for each pair up to `count` rows of `corpus`, the nearest to its query first, equal scores by row.

    `positives`[i] is the row of pair i's positive. Never taken: the query's own text, a positive of the same query in
    any pair, and all but the first row of an equal text. Of the rest the `skip_top` nearest are left out, then those
    scored above `margin` of the positive's score, which may well answer the query too (TopK-PercPos of NV-Retriever,
    arXiv 2407.15831, section 3). A positive scored below 0 has its limit the same share below it. Vectors are (n, D)
    and of unit length: scores are cosines, and the search is exact. Raises ValueError for what does not fit together.
    """
    _check(queries, positives, query_vectors, corpus, corpus_vectors, count=count, margin=margin, skip_top=skip_top)
    place = device or torch.device("cpu")
    first: dict[str, int] = {}
    for row, text in enumerate(corpus):
        first.setdefault(text, row)
    rows = np.fromiter(first.values(), dtype=np.int64)
    column = {text: at for at, text in enumerate(first)}
    own = [column[corpus[row]] for row in positives]
    right: dict[str, set[int]] = {query: {column[query]} if query in column else set() for query in queries}
    for query, at in zip(queries, own, strict=True):
        right[query].add(at)
    candidates_CD = torch.from_numpy(corpus_vectors[rows]).to(place)
    size = max(1, block_scores // len(rows))
    found: list[list[int]] = []
    for start in range(0, len(queries), size):
        block = range(start, min(start + size, len(queries)))
        scores_BC = torch.from_numpy(query_vectors[block.start : block.stop]).to(place) @ candidates_CD.T
        own_B1 = torch.tensor([[own[i]] for i in block], device=place)
        positive_B1 = scores_BC.gather(1, own_B1)
        known = [(i - start, at) for i in block for at in right[queries[i]]]
        scores_BC[tuple(torch.tensor(known, device=place).T)] = float("-inf")
        if skip_top:
            scores_BC.masked_fill_(_nearest(scores_BC, skip_top), float("-inf"))
        limit_B1 = positive_B1 - (1 - margin) * positive_B1.abs()
        scores_BC.masked_fill_(scores_BC > limit_B1, float("-inf"))
        found += _ranked(scores_BC, count, rows)
    return found


def _nearest(scores_BC: Tensor, count: int) -> Tensor:
    """Return bool (B, C): the `count` highest of each row, the leftmost of equal ones; all where there are fewer."""
    count = min(count, scores_BC.shape[1])
    least_B1 = scores_BC.topk(count, dim=1).values[:, -1:]
    above_BC = scores_BC > least_B1
    room_B1 = count - above_BC.sum(dim=1, keepdim=True)
    equal_BC = scores_BC == least_B1
    return above_BC | (equal_BC & (equal_BC.cumsum(dim=1, dtype=torch.int32) <= room_B1))


def _ranked(scores_BC: Tensor, count: int, rows: NDArray[np.int64]) -> list[list[int]]:
    """Return the corpus rows of the `count` highest finite scores of each row, highest first."""
    taken_BC = _nearest(scores_BC, count) & scores_BC.isfinite()
    ranked: list[list[int]] = [[] for _ in range(len(scores_BC))]
    line, at = taken_BC.nonzero(as_tuple=True)  # by line, then column
    scores = scores_BC[line, at].cpu().numpy()
    lines, columns = line.cpu().numpy(), at.cpu().numpy()
    for place in np.lexsort((columns, -scores, lines)):
        ranked[lines[place]].append(int(rows[columns[place]]))
    return ranked


def _check(
    queries: Sequence[str],
    positives: Sequence[int],
    query_vectors: NDArray[np.float32],
    corpus: Sequence[str],
    corpus_vectors: NDArray[np.float32],
    *,
    count: int,
    margin: float,
    skip_top: int,
) -> None:
    """Raise ValueError for settings and shapes that make no sense together."""
    if count < 1 or skip_top < 0 or not 0 < margin <= 1:
        raise ValueError(
            f"count is {count}, skip_top {skip_top} and margin {margin}: expected at least 1, at least 0, and more "
            "than 0 and at most 1"
        )
    if query_vectors.ndim != 2 or corpus_vectors.shape != (len(corpus), query_vectors.shape[1]):
        raise ValueError(
            f"vectors are {query_vectors.shape} and {corpus_vectors.shape}: expected (n, D), the second with "
            f"{len(corpus)} rows"
        )
    if not len(queries) == len(positives) == len(query_vectors):
        raise ValueError(
            f"{len(queries)} queries, {len(positives)} positives, {len(query_vectors)} query vectors: expected equally "
            "many"
        )
    outside = [row for row in positives if not 0 <= row < len(corpus)]
    if outside:
        raise ValueError(f"a positive is row {outside[0]}: expected 0 to {len(corpus) - 1}")
