"""Pairs that a scan has found, kept beside the catalogue: another threshold is answered without another scan."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from blake3 import blake3

from ..index.items import Items
from ..index.text_pairs import TextPairs, first_texts
from .kept_files import keep

PAIRS_FOLDER = "pairs"
_VERSION = 2
"""Raised when the way pairs are found changes, so that those found in another way are not taken for them."""
_ARRAYS = ("texts", "first", "second", "cosines", "jaccard", "histogram")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPairs:
    """Pairs with the floor they were asked for; that of the pairs is higher where there were too many."""

    pairs: TextPairs
    asked: float


def pairs_file(collection: Path, items: Items, other: Items | None) -> Path:
    """Return where the pairs of these very items are kept, named after their texts and vectors."""
    digest = blake3(f"{_VERSION} {items.level} {items.vectors.shape[1]}".encode())
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
