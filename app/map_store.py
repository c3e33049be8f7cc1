"""Places on the map, kept beside the catalogue: the same vectors are laid out once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from blake3 import blake3

from ..index.cluster_settings import Layout
from ..index.items import Items
from ..index.map_layout import map_layout
from ..index.protocol import Vectors
from ..index.steps import ProgressCallback
from .kept_files import keep

MAPS_FOLDER = "maps"
_VERSION = 1


def places_of(
    collection: Path,
    items: Items,
    layout: Layout,
    *,
    seed: int,
    progress: ProgressCallback,
    notice: Callable[[str], None],
) -> Vectors:
    """Return (n, 2) places of the items; those of the last maps are kept in the collection's folder."""
    vectors = items.vectors[items.nodes]
    digest = blake3(f"{_VERSION} {layout} {seed} {vectors.shape}".encode())
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
        notice(f"the map is not kept for the next run: {file}: {error.strerror or error}")
    return places
