"""All pairs of vectors with a cosine of at least some floor: an exact blocked scan, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from ..cosine import check_unit, float32_margin
from ..errors import IndexRoomError
from ..protocol import Ids, Vectors

MOST_PAIRS = 2_000_000
"""Pairs that are kept: the floor is raised to the hundredth that leaves no more."""
BINS = 200
"""Of the histogram: hundredths from -1 to 1."""

_EXACT_FROM = 0.7
_BLOCK = 2048
_GPU_BLOCK = 4096
_GPU_FROM = 20_000
"""Vectors from which a GPU is worth the seconds that importing torch takes."""

Progress = Callable[[int, int], None]
"""Told how many of how many pairs have been looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPairs:
    """Pairs in ascending order of (first, second)."""

    first: Ids
    """(p,) rows of the vectors"""
    second: Ids
    """(p,) rows of the vectors, above `first`; of the other vectors where there are two sets"""
    cosines: Vectors
    """(p,) float32, rounded from a float64 sum: the same whatever the blocks and the device"""
    floor: float
    """Every pair with a cosine of at least this is here, and no other."""
    histogram: NDArray[np.int64]
    """(200,) cosines of all pairs by hundredths from -1; below the floor, and below 0.7, as float32 has them"""


class TooManyPairsError(IndexRoomError, ValueError):
    """More pairs reach a threshold than can be kept."""


def similar_pairs(
    vectors: Vectors,
    *,
    floor: float,
    other: Vectors | None = None,
    texts: tuple[Ids, Ids] | None = None,
    most: int = MOST_PAIRS,
    device: str = "auto",
    progress: Progress | None = None,
) -> SimilarPairs:
    """Return the pairs of `vectors` (n, dim) with a cosine >= `floor`, or those of `vectors` with `other` (m, dim).

    Cost is n * n * dim multiplications (n * m * dim with `other`), halved by symmetry; memory a block and the pairs.
    `texts` are the numbers (n,) and (m,) of what the vectors were made of: pairs of one text are left out.
    When more than `most` pairs reach the floor, it is raised to the lowest hundredth that `most` pairs do not exceed.
    Raises ValueError for vectors that are not unit rows, and TooManyPairsError when over `most` pairs are equal.
    """
    dim = vectors.shape[1] if vectors.ndim == 2 else 0
    left = check_unit(vectors, dim, what="vectors")
    right = left if other is None else check_unit(other, dim, what="the other vectors")
    found = _Found(left, right, floor, most, texts=texts)
    products = _products(left, right, symmetric=other is None, device=device)
    total = len(left) * (len(left) - 1) // 2 if other is None else len(left) * len(right)
    done = 0
    for start, column, block in products:
        done += found.take(start, column, block, diagonal=other is None and start == column)
        if progress is not None:
            progress(done, total)
    return found.result()


class _Found:
    """The pairs found so far, and the floor as it rises."""

    def __init__(
        self, left: Vectors, right: Vectors, floor: float, most: int, *, texts: tuple[Ids, Ids] | None
    ) -> None:
        self._left, self._right, self._texts = left, right, texts
        self._floor, self._most = floor, most
        self._margin = float32_margin(left.shape[1])
        self._parts: list[tuple[Ids, Ids, Vectors]] = []
        self._count = 0
        self._histogram = np.zeros(BINS, dtype=np.int64)
        self._equal = np.zeros(BINS, dtype=np.int64)
        """Of the pairs of one text, which are in the histogram and among no pairs."""

    def take(self, start: int, column: int, block: Vectors, *, diagonal: bool) -> int:
        """Add the pairs of one block of products and return how many pairs it has."""
        if diagonal:
            above = np.triu_indices(len(block), k=1)
            values = block[above]
            near = np.flatnonzero(values >= self._floor - self._margin)
            rows, columns = above[0][near], above[1][near]
        else:
            values = block.ravel()
            rows, columns = np.divmod(np.flatnonzero(values >= self._floor - self._margin), block.shape[1])
        self._histogram += _binned(values)
        self._add(rows + start, columns + column)
        return len(values)

    def _add(self, first: Ids, second: Ids) -> None:
        for at in range(0, len(first), _BLOCK * 16):
            rows, columns = first[at : at + _BLOCK * 16], second[at : at + _BLOCK * 16]
            if self._texts is not None:
                # Before they count: a licence in two thousand files has two million pairs with itself.
                different = self._texts[0][rows] != self._texts[1][columns]
                self._equal += _binned(_pair_cosines(self._left[rows[~different]], self._right[columns[~different]]))
                rows, columns = rows[different], columns[different]
            cosines = _pair_cosines(self._left[rows], self._right[columns])
            keep = cosines >= np.float32(self._floor)
            if keep.any():
                self._parts.append((rows[keep], columns[keep], cosines[keep]))
                self._count += int(keep.sum())
            if self._count > 2 * self._most:
                self._raise_floor()

    def _raise_floor(self) -> None:
        first, second, cosines = self._joined()
        border = np.partition(cosines, len(cosines) - self._most - 1)[len(cosines) - self._most - 1]
        floor = (np.floor(float(border) * 100) + 1) / 100
        if np.float32(floor) <= border:  # a border that is a hundredth itself, rounded down
            floor = (round(floor * 100) + 1) / 100
        keep = cosines >= np.float32(floor)
        if floor > 1.0 or (keep.sum() == 0 and border >= 1.0):
            raise TooManyPairsError(
                f"more than {self._most:,} pairs of different texts have a cosine of {float(border):.4f}: this encoder "
                "does not tell them apart. Index with another one",
                next_command=("index", "--rebuild", "--model", "NAME"),
            )
        self._floor = floor
        self._parts = [(first[keep], second[keep], cosines[keep])]
        self._count = int(keep.sum())

    def _joined(self) -> tuple[Ids, Ids, Vectors]:
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        first, second, cosines = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return first, second, cosines

    def result(self) -> SimilarPairs:
        if self._count > self._most:
            self._raise_floor()
        first, second, cosines = self._joined()
        order = np.lexsort((second, first))
        # Bins that the pairs cover wholly are counted from their exact cosines, from one place on for any lower floor.
        whole = int(np.ceil((max(self._floor, _EXACT_FROM) + 1) * (BINS / 2) - 1e-9))
        self._histogram[whole:] = (_binned(cosines) + self._equal)[whole:]
        return SimilarPairs(
            first=first[order],
            second=second[order],
            cosines=cosines[order],
            floor=float(self._floor),
            histogram=self._histogram,
        )


def _binned(values: Vectors) -> NDArray[np.int64]:
    """Return how many values fall into each hundredth; 1 belongs to the last."""
    scaled = np.clip((values.astype(np.float32) + np.float32(1)) * np.float32(BINS / 2), 0, BINS - 1)
    return np.bincount(scaled.astype(np.uint8), minlength=BINS).astype(np.int64)


def _pair_cosines(left: Vectors, right: Vectors) -> Vectors:
    """Return (p,) float32: cosines of rows with rows, summed in float64."""
    cosines = np.empty(len(left), dtype=np.float32)
    for at in range(0, len(left), _BLOCK):
        a, b = left[at : at + _BLOCK].astype(np.float64), right[at : at + _BLOCK].astype(np.float64)
        cosines[at : at + _BLOCK] = np.einsum("ij,ij->i", a, b)
    return cosines


def pair_cosines(vectors: Vectors, first: Ids, second: Ids, *, other: Vectors | None = None) -> Vectors:
    """Return (p,) float32: the cosines of these pairs, the same numbers that `similar_pairs` gives."""
    return _pair_cosines(vectors[first], (vectors if other is None else other)[second])


def _products(left: Vectors, right: Vectors, *, symmetric: bool, device: str) -> Iterator[tuple[int, int, Vectors]]:
    """Yield blocks of inner products with the row and column they begin at, of a symmetric matrix the upper half."""
    if _use_gpu(device, len(left)):
        yield from _gpu_products(left, right, symmetric=symmetric, device=device)
        return
    for start in range(0, len(left), _BLOCK):
        rows = left[start : start + _BLOCK]
        for column in range(start if symmetric else 0, len(right), _BLOCK):
            yield start, column, rows @ right[column : column + _BLOCK].T


def _use_gpu(device: str, count: int) -> bool:
    if device == "cpu" or (device == "auto" and count < _GPU_FROM):
        return False
    if device == "auto" and find_spec("torch") is None:
        return False
    import torch

    if device == "auto":
        return torch.cuda.is_available()
    if not torch.cuda.is_available():
        raise IndexRoomError(f"device is {device}, but torch finds no GPU here: expected cpu or auto")
    return True


def _gpu_products(left: Vectors, right: Vectors, *, symmetric: bool, device: str) -> Iterator[tuple[int, int, Vectors]]:
    import torch

    place = "cuda" if device == "auto" else device
    there = torch.from_numpy(right).to(place)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 would err by more than the margin
    try:
        for start in range(0, len(left), _GPU_BLOCK):
            rows = torch.from_numpy(left[start : start + _GPU_BLOCK]).to(place)
            for column in range(start if symmetric else 0, len(right), _GPU_BLOCK):
                yield start, column, (rows @ there[column : column + _GPU_BLOCK].T).cpu().numpy()
    finally:
        torch.set_float32_matmul_precision(precision)
