"""Hard negatives for a file of pairs: the corpus they are looked for in, how it is scored, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...encoder.protocol import EncodeProgress, Encoder, Role
from .bm25_index import Bm25Index
from .corpus import Pair
from .mining import BLOCK_SCORES, Mined, Scores, cosines, mine_scored

SLICE = 16_384
"""Texts encoded by one call: enough to sort by length, and no more vectors in memory twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningSettings:
    """Which of the texts near a query are taken."""

    count: int = 4
    """Negatives of a pair, those it had before counted."""
    margin: float = 0.95
    """Share of the positive's score above which a text may answer the query too."""
    skip_top: int = 0
    """Nearest texts left out before the margin is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedPair:
    """A pair with the negatives it had and those found, in this order."""

    pair: Pair
    own: int
    """Negatives it had before."""
    found: Mined


@dataclass(slots=True)
class MiningCounts:
    """What became of all pairs."""

    pairs: int = 0
    own: int = 0
    """Negatives that were there before."""
    mined: int = 0
    rejected: int = 0
    """Candidates scored above the margin, over all pairs."""
    with_rejected: int = 0
    """Pairs that lost one so."""
    by_negatives: Counter[int] = field(default_factory=Counter)
    """Pairs by how many negatives they have now."""

    def add(self, mined: MinedPair) -> None:
        self.pairs += 1
        self.own += mined.own
        self.mined += len(mined.pair.negatives) - mined.own
        self.rejected += mined.found.rejected
        self.with_rejected += mined.found.rejected > 0
        self.by_negatives[len(mined.pair.negatives)] += 1


def corpus_of(pairs: Sequence[Pair], more: Sequence[str] = ()) -> list[str]:
    """Return the distinct positives of `pairs`, then the texts of `more` that are none of them."""
    return list(dict.fromkeys([*(pair.positive for pair in pairs), *more]))


def mine_pairs(
    pairs: Sequence[Pair],
    corpus: Sequence[str],
    scores: Scores,
    settings: MiningSettings,
    *,
    least: float | None = None,
    block_scores: int = BLOCK_SCORES,
) -> Iterator[MinedPair]:
    """Yield each pair, in order, with negatives out of `corpus`, which holds every positive once.

    Those it has are kept first, and filled up to `settings.count`. `scores` and `least` are those of
    `mining.mine_scored`, which says what is never taken.
    """
    row = {text: at for at, text in enumerate(corpus)}
    found = mine_scored(
        [pair.query for pair in pairs],
        [row[pair.positive] for pair in pairs],
        corpus,
        scores,
        count=settings.count,
        margin=settings.margin,
        skip_top=settings.skip_top,
        least=least,
        taken=[pair.negatives for pair in pairs],
        block_scores=block_scores,
    )
    for pair, mined in zip(pairs, found, strict=True):
        room = max(0, settings.count - len(pair.negatives))
        negatives = (*pair.negatives, *(corpus[at] for at in mined.rows[:room]))
        yield MinedPair(pair=replace(pair, negatives=negatives), own=len(pair.negatives), found=mined)


def lexical_scores(pairs: Sequence[Pair], corpus: Sequence[str]) -> Scores:
    """Return the BM25 scores of the pairs' queries with a corpus of distinct texts; 0 for no common word.

    Raises EvaluationError without the extra eval.
    """
    index = Bm25Index()
    index.fill(index.words(corpus))
    words = index.words([pair.query for pair in pairs])
    return lambda block: torch.from_numpy(np.stack([index.scores(words[at]) for at in block]))


def dense_scores(
    pairs: Sequence[Pair],
    corpus: Sequence[str],
    encoder: Encoder,
    folder: Path,
    *,
    instruction: str | None,
    symmetric: bool,
    device: torch.device,
    told: Callable[[int, int, EncodeProgress], None] = lambda done, of, progress: None,
    slice_texts: int = SLICE,
) -> tuple[Scores, int]:
    """Return the cosines of the pairs' queries with a corpus of distinct texts, and how many texts were cut.

    Queries have the instruction; documents have none, unless the source is symmetric. Vectors go to a file in `folder`,
    so that memory does not grow with them. `told` hears how many texts are done, of how many, and the progress of the
    slice under way.
    """
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    role = Role.QUERY if symmetric else Role.DOCUMENT
    asked = instruction if symmetric else None
    encoding = _Encoding(encoder, len(queries) + len(corpus), told, slice_texts)
    query_vectors = encoding.run(queries, Role.QUERY, instruction, folder / "queries.npy")
    corpus_vectors = encoding.run(corpus, role, asked, folder / "corpus.npy")
    at = {query: row for row, query in enumerate(queries)}
    rows = [at[pair.query] for pair in pairs]
    return cosines(query_vectors, corpus_vectors, device, rows=np.array(rows)), encoding.cut


class _Encoding:
    """Texts encoded in slices, the vectors of each put in their place in a file."""

    def __init__(
        self, encoder: Encoder, total: int, told: Callable[[int, int, EncodeProgress], None], slice_texts: int
    ) -> None:
        self._encoder = encoder
        self._total = total
        self._told = told
        self._slice = slice_texts
        self._done = 0
        self.cut = 0
        """Texts longer than the encoder reads."""

    def run(self, texts: Sequence[str], role: Role, instruction: str | None, path: Path) -> NDArray[np.float32]:
        shape = (len(texts), self._encoder.info.dim)
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for at in range(0, len(texts), self._slice):
            last: list[EncodeProgress] = []

            def relay(progress: EncodeProgress, last: list[EncodeProgress] = last) -> None:
                last[:] = [progress]
                self._told(self._done, self._total, progress)

            part = texts[at : at + self._slice]
            vectors[at : at + len(part)] = self._encoder.encode(
                part, role=role, instruction=instruction, progress=relay
            )
            self._done += len(part)
            self.cut += sum(progress.texts_truncated for progress in last)
        return vectors
