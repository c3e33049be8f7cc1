"""Training data: JSON lines, checked whole before the first step, sampled in an order that a resumed run repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .json_lines import SUFFIXES, Row, Source


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with a text that answers it and any that look like it but do not."""

    query: str
    positive: str
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """Plain texts, for MNTP and SimCSE."""

    name: str
    digest: str
    texts: tuple[str, ...]
    unread: tuple[str, ...] = ()
    """Fields that some line has and nothing reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSource:
    """Pairs of one kind: a batch is sampled from one source, so that its negatives are of that kind too."""

    name: str
    digest: str
    pairs: tuple[Pair, ...]
    unread: tuple[str, ...] = ()
    """As of texts: a misspelt "negativ" would otherwise be missed by nobody."""


_OF_PAIRS = {"query", "positive", "negative", "negatives"}


def source_name(path: Path) -> str:
    """Return what a data file is called where its suffix does not matter: in a recipe, as a task, by its manifest."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def data_files(places: Sequence[Path]) -> list[Path]:
    """Return the .jsonl and .jsonl.gz files that `places` name, files as they are and folders with what is in them.

    Raises DataError for a place that is not there or holds none.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(path for path in place.iterdir() if path.name.endswith(SUFFIXES))
            if not inside:
                raise DataError(place, "holds no .jsonl or .jsonl.gz file: expected one JSON object a line")
            found += inside
        elif place.is_file() and place.name.endswith(SUFFIXES):
            found.append(place)
        else:
            raise DataError(place, "is no .jsonl or .jsonl.gz file and no folder of them")
    return list(dict.fromkeys(found))


def read_texts(path: Path) -> TextSource | None:
    """Return the texts of a file whose objects have the key "text", None when it holds pairs.

    Raises DataError with the line for anything else, an empty text included.
    """
    source = Source(path)
    texts: list[str] = []
    for row in source.rows():
        if not texts and "text" not in row.fields and "query" in row.fields:
            return None
        texts.append(row.text("text"))
    return TextSource(name=source_name(path), digest=source.digest, texts=tuple(texts), unread=source.unread(("text",)))


def read_pairs(path: Path) -> PairSource:
    """Return the pairs of a file whose objects have "query" and "positive".

    "negative" is a text, "negatives" a list of texts; both may be missing. Raises DataError with the line.
    """
    source = Source(path)
    pairs = tuple(Pair(row.text("query"), row.text("positive"), _negatives(row)) for row in source.rows())
    return PairSource(name=source_name(path), digest=source.digest, pairs=pairs, unread=source.unread(_OF_PAIRS))


# One entry for each source of a recipe and some to spare: every step of an epoch asks for the same permutation.
@lru_cache(maxsize=16)
def order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the permutation of range(count) for one pass: the same for the same seed and epoch, on any machine.

    The array is shared between calls and cannot be written to.
    """
    permutation = np.random.default_rng([seed, epoch]).permutation(count)
    permutation.setflags(write=False)
    return permutation


def endless(count: int, seed: int, start: int = 0) -> Iterator[int]:
    """Yield row numbers without end, each epoch in a new order, from the `start`-th on."""
    epoch, at = divmod(start, count)
    while True:
        for row in order(count, seed, epoch)[at:]:
            yield int(row)
        epoch, at = epoch + 1, 0


def _negatives(row: Row) -> tuple[str, ...]:
    several = row.fields.get("negatives")
    if several is None:
        several = []
    if not isinstance(several, list):
        raise row.error(f"negatives is {several!r}, expected a list of texts")
    found = [] if row.fields.get("negative") is None else [row.text("negative")]
    return (*found, *(replace(row, fields={"negatives": value}).text("negatives") for value in several))
