"""One ranking from two: lexical and dense candidates with their parts of the score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .protocol import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A candidate with its fused score and where it comes from; None: that side did not find it."""

    id: int
    score: float
    """Exactly lexical_part + dense_part."""
    lexical_score: float | None
    dense_score: float | None
    lexical_part: float
    dense_part: float
    lexical_rank: int | None
    """1-based."""
    dense_rank: int | None


def fuse(lexical: Scored, dense: Scored, *, dense_weight: float) -> list[Fused]:
    """Return the union of both sides in descending order of fused score, ties by the heavier side's rank, then by id.

    Adds the sides' scores, each scaled to [0, 1] per query, in the shares 1 - dense_weight and dense_weight
    (Bruch, Gai, Ingber, TOIS 2023). A chunk the lexical side did not find has BM25 0, the least there is; the dense
    side should hold the cosine of every candidate, one that it lacks counts as its worst.
    With dense_weight 0 the lexical side keeps its order and comes first, with 1 the dense.
    Raises ValueError for a weight outside of [0, 1] or a score that is not finite.
    """
    if not 0.0 <= dense_weight <= 1.0:
        raise ValueError(f"dense_weight is {dense_weight}: expected a number from 0 (lexical only) to 1 (dense only)")
    for name, side in (("lexical", lexical), ("dense", dense)):
        if not np.isfinite(side.scores).all():
            raise ValueError(f"the {name} side holds a score that is not finite")
        if len(np.unique(side.ids)) != len(side.ids):
            raise ValueError(f"the {name} side holds an id twice")
    lexical_parts = _parts(lexical, 1.0 - dense_weight, floor=0.0)
    dense_parts = _parts(dense, dense_weight, floor=None)
    sides = (_by_id(lexical, lexical_parts), _by_id(dense, dense_parts))
    fused = [_fused(id_, sides[0].get(id_), sides[1].get(id_)) for id_ in sides[0].keys() | sides[1].keys()]
    # The least of a side scores 0, as one it did not find does, and scaling may round two scores to one: the rank
    # decides, or weight 0 and 1 would not give that side's own order.
    return sorted(
        fused,
        key=lambda f: (-f.score, (f.dense_rank if dense_weight > 0.5 else f.lexical_rank) or len(fused) + 1, f.id),
    )


def _parts(side: Scored, share: float, *, floor: float | None) -> NDArray[np.float64]:
    """Return each candidate's part of the fused score, in the side's order; `floor` is the least score possible."""
    scores = side.scores.astype(np.float64)
    if not len(scores):
        return scores
    low = float(scores.min()) if floor is None else min(floor, float(scores.min()))
    span = float(scores.max()) - low
    return share * ((scores - low) / span if span > 0 else np.ones_like(scores))


@dataclass(frozen=True, slots=True)
class _Side:
    rank: int
    score: float
    part: float


def _by_id(side: Scored, parts: NDArray[np.float64]) -> dict[int, _Side]:
    return {
        int(id_): _Side(rank, float(score), float(part))
        for rank, (id_, score, part) in enumerate(zip(side.ids, side.scores, parts, strict=True), start=1)
    }


def _fused(id_: int, lexical: _Side | None, dense: _Side | None) -> Fused:
    lexical_part = 0.0 if lexical is None else lexical.part
    dense_part = 0.0 if dense is None else dense.part
    return Fused(
        id=id_,
        score=lexical_part + dense_part,
        lexical_score=None if lexical is None else lexical.score,
        dense_score=None if dense is None else dense.score,
        lexical_part=lexical_part,
        dense_part=dense_part,
        lexical_rank=None if lexical is None else lexical.rank,
        dense_rank=None if dense is None else dense.rank,
    )
