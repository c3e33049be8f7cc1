"""Texts that say the same in nearly the same words: normalised to be equal, shingled and MinHashed to be near."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ..errors import IndexRoomError
from ..lexical import CJK
from ..protocol import Ids, Vectors
from .words import combining_marks

SHINGLE_WORDS = 5
NEAR_FLOOR = 0.5
"""Pairs with a lower Jaccard similarity are not kept."""
_PERMUTATIONS = 126
_BAND = 3
"""42 bands of 3 values: a pair at NEAR_FLOOR shares a band with probability 1 - (1 - 0.5**3)**42 = 0.996, one at 0.7
with 1 - 2e-8 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4.2)."""
_SEED = 1
_BATCH = 4096
_BATCH_CHARS = 2_000_000
MOST_CANDIDATES = 2_000_000
"""Pairs that are compared at most: about a minute, and 100 MB."""

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
    """Return what texts that differ in case, width of characters, ligatures or white space only have in common.

    Not NFKC, for which 10² is 102, and not case folding, for which Maße are Masse.
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(_widths())).lower().split())


@cache
def _widths() -> dict[int, str]:
    """Return the usual form of wide and narrow characters (Unicode Standard Annex 11), and Latin ligatures in letters.

    PDF files have the ligatures, where other files have the letters.
    """
    forms = {code: unicodedata.decomposition(chr(code)).split() for code in (0x3000, *range(0xFF01, 0xFFEF))}
    usual = {code: chr(int(form[1], 16)) for code, form in forms.items() if form and form[0] in ("<wide>", "<narrow>")}
    return usual | {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}


@cache
def _word() -> re.Pattern[str]:
    # Python's \w leaves out combining marks, without which different words of Hindi or Thai are the same.
    letter = rf"(?:[^\W_{CJK}]|[{combining_marks()}])"
    return re.compile(rf"[{CJK}]|{letter}+")


def text_digest(text: str) -> str:
    """Return the blake3 hex digest of `normalised(text)`."""
    return blake3(normalised(text).encode("utf-8", "surrogatepass")).hexdigest()


def shingles(text: str) -> set[str]:
    """Return each run of five words of a text, or all its words where there are fewer; no punctuation.

    A character of a script that is written without spaces is a word. A text without words is its own shingle.
    """
    plain = normalised(text)
    words = _word().findall(plain)
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
    other. Texts should be distinct: equal ones are pairs like any other. Raises IndexRoomError, before they are
    compared, when more than MOST_CANDIDATES pairs share a band. `progress` counts texts, then pairs.
    """
    hashes, digests = _sketches(texts, progress)
    codes = _candidates(digests, sides)
    first, second = np.divmod(codes, max(len(texts), 1))
    jaccard = np.empty(len(codes), dtype=np.float32)
    for row, (one, two) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        a, b = hashes[one], hashes[two]
        shared = len(np.intersect1d(a, b, assume_unique=True))
        jaccard[row] = shared / (len(a) + len(b) - shared)
        if progress is not None and row % _BATCH == 0:
            progress(row, len(codes))
    keep = jaccard >= np.float32(NEAR_FLOOR)
    return NearPairs(first=first[keep], second=second[keep], jaccard=jaccard[keep])


def _sketches(texts: Sequence[str], progress: Progress | None) -> tuple[list[NDArray[np.uint64]], NDArray[np.uint32]]:
    """Return the hashed shingles of each text, sorted, and its MinHash values (n, 126)."""
    from rensa import RMinHash

    hashes: list[NDArray[np.uint64]] = []
    digests = np.empty((len(texts), _PERMUTATIONS), dtype=np.uint32)
    for at, end in _batches(texts):
        # Sorted: what is hashed must not depend on the order in which Python happens to walk a set.
        hashed = RMinHash.hash_token_sets([sorted(shingles(text)) for text in texts[at:end]])
        hashes += [np.unique(np.array(row, dtype=np.uint64)) for row in hashed]
        rows = RMinHash.digest_matrix_from_token_hash_sets(hashed, _PERMUTATIONS, _SEED).to_rows()
        digests[at:end] = np.array(rows, dtype=np.uint32)
        if progress is not None:
            progress(end, len(texts))
    return hashes, digests


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where batches begin and end: a few thousand texts, or a few long ones: shingles take 30 times as much."""
    start = size = 0
    for row, text in enumerate(texts):
        if row > start and (row - start == _BATCH or size + len(text) > _BATCH_CHARS):
            yield start, row
            start, size = row, 0
        size += len(text)
    if start < len(texts):
        yield start, len(texts)


def _candidates(digests: NDArray[np.uint32], sides: Sequence[set[int]] | None) -> NDArray[np.int64]:
    """Return the pairs of rows that share a band, ascending, as first * n + second."""
    count = len(digests)
    found = np.empty(0, dtype=np.int64)
    for band in range(0, _PERMUTATIONS, _BAND):
        keys = np.ascontiguousarray(digests[:, band : band + _BAND]).view(f"V{4 * _BAND}").ravel()
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        buckets = [bucket for bucket in np.split(order, borders) if len(bucket) > 1]
        if sum(_pairs_in(bucket, sides) for bucket in buckets) > MOST_CANDIDATES:
            raise _too_many()
        found = np.union1d(found, np.concatenate([found[:0], *(_codes(bucket, sides, count) for bucket in buckets)]))
        if len(found) > MOST_CANDIDATES:
            raise _too_many()
    return found


def _too_many() -> IndexRoomError:
    return IndexRoomError(
        f"more than {MOST_CANDIDATES:,} pairs of texts share many words, as texts made from one template do: too many "
        "to compare one by one. Look at a part with --path or --exclude",
        next_command=("dedup", "run", "--path", "FOLDER/"),
    )


def _pairs_in(bucket: Ids, sides: Sequence[set[int]] | None) -> int:
    """Return how many pairs a bucket has; with two sides at most as many."""
    if sides is None:
        return len(bucket) * (len(bucket) - 1) // 2
    left, right = (sum(row in side for row in bucket.tolist()) for side in sides)
    return left * right


def _codes(bucket: Ids, sides: Sequence[set[int]] | None, count: int) -> NDArray[np.int64]:
    if sides is None:
        one, two = (bucket[rows] for rows in np.triu_indices(len(bucket), k=1))
    else:
        left, right = (np.array([row for row in bucket.tolist() if row in side], dtype=np.int64) for side in sides)
        one, two = np.repeat(left, len(right)), np.tile(right, len(left))
        one, two = one[one != two], two[one != two]
    codes: NDArray[np.int64] = np.minimum(one, two) * count + np.maximum(one, two)
    return codes
