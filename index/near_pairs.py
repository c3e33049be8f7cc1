"""Texts that say the same in nearly the same words: normalised to be equal, shingled and MinHashed to be near."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from .errors import IndexRoomError
from .lexical import CJK
from .protocol import Ids, Vectors

SHINGLE_WORDS = 5
NEAR_FLOOR = 0.5
"""Pairs with a lower Jaccard similarity are not kept."""
_PERMUTATIONS = 126
_BAND = 3
"""42 bands of 3 values: a pair at NEAR_FLOOR shares a band with probability 1 - (1 - 0.5**3)**42 = 0.996, one at 0.7
with 1 - 2e-8 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4.2)."""
_SEED = 1
_BATCH = 4096
_MOST_CANDIDATES = 20_000_000
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPairs:
    """Pairs in ascending order of (first, second)."""

    first: Ids
    """(p,) rows of the texts"""
    second: Ids
    """(p,) rows of the texts, above `first`"""
    jaccard: Vectors
    """(p,) float32: exact Jaccard similarity of the two sets of shingles, at least NEAR_FLOOR"""


def normalised(text: str) -> str:
    """Return what two texts that differ in case, width of characters or white space only have in common."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> str:
    """Return the blake3 hex digest of `normalised(text)`."""
    return blake3(normalised(text).encode("utf-8", "surrogatepass")).hexdigest()


def shingles(text: str) -> set[str]:
    """Return each run of five words of a text, or all its words where there are fewer; no punctuation.

    A character of a script that is written without spaces is a word. A text without words is its own shingle.
    """
    plain = normalised(text)
    words = _WORD.findall(plain)
    if not words:
        return {plain}
    if len(words) <= SHINGLE_WORDS:
        return {" ".join(words)}
    return {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}


def near_pairs(
    texts: Sequence[str], *, sides: Sequence[set[int]] | None = None, progress: Progress | None = None
) -> NearPairs:
    """Return the pairs of texts whose shingles have a Jaccard similarity >= NEAR_FLOOR, as MinHash-LSH finds them.

    What shares a band is compared exactly, so no pair is there by chance; one may be missed with the probability that
    `_BAND` states. With two `sides`, sets of rows that may overlap, only pairs of a text of the one with a text of the
    other. Texts should be distinct: equal ones are pairs like any other. Raises IndexRoomError when more candidates
    share a band than can be compared.
    """
    hashes, digests = _sketches(texts, progress)
    found: dict[tuple[int, int], float] = {}
    for first, second in _candidates(digests, sides):
        a, b = hashes[first], hashes[second]
        shared = len(np.intersect1d(a, b, assume_unique=True))
        jaccard = shared / (len(a) + len(b) - shared)
        if jaccard >= NEAR_FLOOR:
            found[first, second] = jaccard
    order = sorted(found)
    return NearPairs(
        first=np.array([first for first, _ in order], dtype=np.int64),
        second=np.array([second for _, second in order], dtype=np.int64),
        jaccard=np.array([found[pair] for pair in order], dtype=np.float32),
    )


def _sketches(texts: Sequence[str], progress: Progress | None) -> tuple[list[NDArray[np.uint64]], NDArray[np.uint32]]:
    """Return the hashed shingles of each text, and its MinHash values (n, 126)."""
    from rensa import RMinHash

    hashes: list[NDArray[np.uint64]] = []
    digests = np.empty((len(texts), _PERMUTATIONS), dtype=np.uint32)
    for at in range(0, len(texts), _BATCH):
        # Sorted: what is hashed must not depend on the order in which Python happens to walk a set.
        sets = [sorted(shingles(text)) for text in texts[at : at + _BATCH]]
        hashed = RMinHash.hash_token_sets(sets)
        hashes += [np.unique(np.array(row, dtype=np.uint64)) for row in hashed]
        rows = RMinHash.digest_matrix_from_token_hash_sets(hashed, _PERMUTATIONS, _SEED).to_rows()
        digests[at : at + len(sets)] = np.array(rows, dtype=np.uint32)
        if progress is not None:
            progress(at + len(sets), len(texts))
    return hashes, digests


def _candidates(digests: NDArray[np.uint32], sides: Sequence[set[int]] | None) -> Iterator[tuple[int, int]]:
    """Yield each pair of rows that share a band, once."""
    count = len(digests)
    seen: set[int] = set()
    for band in range(0, _PERMUTATIONS, _BAND):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for row, key in enumerate(np.ascontiguousarray(digests[:, band : band + _BAND])):
            buckets[key.tobytes()].append(row)
        for rows in buckets.values():
            if len(rows) < 2:
                continue
            for at, first in enumerate(rows):
                for second in rows[at + 1 :]:
                    if sides is not None and not _across(sides, first, second):
                        continue
                    code = first * count + second
                    if code not in seen:
                        seen.add(code)
                        yield first, second
            if len(seen) > _MOST_CANDIDATES:
                raise IndexRoomError(
                    f"more than {_MOST_CANDIDATES:,} pairs of texts share many words: they cannot be compared one by "
                    "one. Narrow the run with --path or --type"
                )


def _across(sides: Sequence[set[int]], first: int, second: int) -> bool:
    left, right = sides
    return (first in left and second in right) or (second in left and first in right)
