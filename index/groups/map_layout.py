"""Places of vectors on a map: near ones near each other, in two dimensions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from ..cosine import check_unit
from ..errors import MissingPackageError
from ..memory import MIB, check_memory
from ..protocol import Vectors
from .cluster_settings import Layout
from .density import WIDTH
from .principal import principal_components, unit_rows
from .steps import ProgressCallback, StepProgress, ignore_progress, one_thread

PERPLEXITY = 30.0
NEIGHBORS = 15
_LEAST = 5
"""With fewer vectors there is nothing to unfold: two principal components show all."""


def map_layout(
    vectors: Vectors,
    *,
    layout: Layout = Layout.TSNE,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
    available: int | None = None,
) -> Vectors:
    """Return float32 (n, 2) in [-1, 1], of unit rows (n, dim): the wider side fills it, the other keeps its scale.

    Equal vectors only: all at (0, 0). The same rows and seed give the same map; t-SNE starts from the principal
    components and draws nothing, so the seed is UMAP's. Raises MissingPackageError when umap-learn is wanted and not
    there, NotEnoughMemoryError before the start when memory would not suffice (`available` bytes; None asks).
    """
    items, dim = vectors.shape
    rows = check_unit(vectors, dim, what="vectors")
    check_layout(layout, items, dim, available=available)
    reducer = _umap() if layout is Layout.UMAP else None
    if not len(rows):
        return np.empty((0, 2), dtype=np.float32)
    progress(StepProgress(step="drawing the map", done=0, total=1))
    import sklearn.manifold  # noqa: F401 - before one_thread(), which covers only libraries that are loaded

    with one_thread():
        places = _places(rows, reducer, seed)
    progress(StepProgress(step="drawing the map", done=1, total=1))
    return _scaled(places)


def check_layout(layout: Layout, items: int, dim: int, *, available: int | None = None) -> None:
    """Raise what `map_layout` would raise for so many vectors: MissingPackageError, NotEnoughMemoryError."""
    check_memory(
        f"a map of {items:,} vectors", layout_memory(items, dim), available=available,
        instead="cluster documents instead of chunks, or leave the map out",
    )  # fmt: skip
    if layout is Layout.UMAP:
        _umap()
    elif find_spec("sklearn") is None:
        raise MissingPackageError("a map needs the extra cluster: `pip install 'searchctl[cluster]'`")


def layout_memory(items: int, dim: int) -> int:
    """Return about how many bytes a map needs at its peak beside the vectors: some 90 neighbours of each."""
    return 128 * MIB + items * (4 * dim + 6000)


def _places(rows: Vectors, umap: Any, seed: int) -> Vectors:
    reduced = principal_components(rows, WIDTH)
    start = np.zeros((len(rows), 2), dtype=np.float32)
    start[:, : min(2, reduced.shape[1])] = reduced[:, :2]
    if len(rows) < _LEAST or not reduced.shape[1]:
        return start
    # On unit vectors the squared distance is 2 - 2 * cosine: both methods then see the order of cosines.
    unit = unit_rows(reduced)
    if umap is not None:
        model = umap.UMAP(
            n_neighbors=min(NEIGHBORS, len(rows) - 1), metric="euclidean", init=_spread(start, 10.0),
            random_state=seed, n_jobs=1,
        )  # fmt: skip
        places: Vectors = np.asarray(model.fit_transform(unit), dtype=np.float32)
        return places
    from sklearn.manifold import TSNE

    # scikit-learn's own init="pca", but with fixed signs.
    model = TSNE(
        perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init=_spread(start, 1e-4), random_state=seed, n_jobs=1
    )
    return np.asarray(model.fit_transform(unit), dtype=np.float32)


def _spread(start: Vectors, size: float) -> Vectors:
    """Return the places scaled so that the first direction has the standard deviation `size`."""
    deviation = float(start[:, 0].std())
    spread: Vectors = (start * (size / deviation if deviation > 0 else 1.0)).astype(np.float32)
    return spread


def _scaled(places: Vectors) -> Vectors:
    low, high = places.min(axis=0).astype(np.float64), places.max(axis=0).astype(np.float64)
    half = float((high - low).max()) / 2
    if half <= 0:
        return np.zeros_like(places)
    scaled: Vectors = np.clip((places - (low + high) / 2) / half, -1, 1).astype(np.float32)
    return scaled


def _umap() -> Any:
    try:
        import umap
    except ImportError as error:
        raise MissingPackageError("a UMAP map needs the extra report: `pip install 'searchctl[report]'`") from error
    return umap
