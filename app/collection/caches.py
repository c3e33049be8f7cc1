"""Files that only save time, kept beside the catalogue: pairs that a scan found, and places on the map.

Another threshold is answered without another scan, and the same vectors are laid out once. The newest of a kind stay.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
from blake3 import blake3

from ...index.durable import write_whole
from ...index.groups.cluster_settings import Layout
from ...index.groups.map_layout import map_layout
from ...index.groups.steps import ProgressCallback
from ...index.groups.text_pairs import TextPairs, first_texts
from ...index.protocol import Items, Vectors

_log = logging.getLogger(__name__)

KEPT = 4
"""Files of a kind that stay: chunks and documents, and two of another kind of question."""


def keep(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, whole or not at all, and drop the oldest of its folder and kind beyond KEPT. Raises OSError."""
    file.parent.mkdir(exist_ok=True)
    write_whole(file, write)
    others = sorted(file.parent.glob(f"*{file.suffix}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in others[KEPT:]:
        path.unlink(missing_ok=True)


PAIRS_FOLDER = "pairs"
_PAIRS_VERSION = 2
"""Raised when the way pairs are found changes, so that those found in another way are not taken for them."""
_ARRAYS = ("texts", "first", "second", "cosines", "jaccard", "histogram")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPairs:
    """Pairs with the floor they were asked for; that of the pairs is higher where there were too many."""

    pairs: TextPairs
    asked: float


def pairs_file(collection: Path, items: Items, other: Items | None) -> Path:
    """Return where the pairs of these very items are kept, named after their texts and vectors."""
    digest = blake3(f"{_PAIRS_VERSION} {items.level} {items.vectors.shape[1]}".encode())
    for part in (items,) if other is None else (items, other):
        digest.update("\n".join(part.names).encode())
        digest.update(part.nodes.astype("<i8").tobytes())
        for text in first_texts(part):
            digest.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(part.vectors, dtype="<f4").tobytes())
    return collection / PAIRS_FOLDER / f"{items.level}-{digest.hexdigest()[:24]}.npz"


def read_pairs(file: Path) -> StoredPairs | None:
    """Return what is kept in a file; None when there is none or it cannot be read, which costs another scan."""
    with suppress(OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        with np.load(file, allow_pickle=False) as held:
            about = json.loads(str(held["about"]))
            arrays = {name: held[name] for name in _ARRAYS}
        return StoredPairs(pairs=TextPairs(**arrays, floor=about["floor"]), asked=about["asked"])
    return None


def write_pairs(file: Path, stored: StoredPairs) -> None:
    """Keep pairs, whole or not at all, and drop the oldest files. Raises OSError where nothing can be written."""
    about = json.dumps({"floor": stored.pairs.floor, "asked": stored.asked})
    arrays = {name: getattr(stored.pairs, name) for name in _ARRAYS}
    keep(file, lambda stream: np.savez(stream, about=np.array(about), **arrays))


MAPS_FOLDER = "maps"
_MAP_VERSION = 1


def places_of(
    collection: Path,
    items: Items,
    layout: Layout,
    *,
    seed: int,
    progress: ProgressCallback,
) -> Vectors:
    """Return (n, 2) places of the items; those of the last maps are kept in the collection's folder."""
    vectors = items.vectors[items.nodes]
    digest = blake3(f"{_MAP_VERSION} {layout} {seed} {vectors.shape}".encode())
    digest.update(np.ascontiguousarray(vectors).tobytes())
    file = collection / MAPS_FOLDER / f"{layout}-{digest.hexdigest()[:24]}.npy"
    with suppress(OSError, ValueError, EOFError, BadZipFile):
        known: Vectors = np.load(file, allow_pickle=False)
        if known.shape == (len(vectors), 2):
            return known
    places = map_layout(vectors, layout=layout, seed=seed, progress=progress)
    try:
        keep(file, lambda stream: np.save(stream, places))
    except OSError as error:
        _log.warning("the map is not kept for the next run: %s: %s", file, error.strerror or error)
    return places
