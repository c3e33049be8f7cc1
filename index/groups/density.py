"""HDBSCAN: clusters are where vectors are dense, and what lies between is noise."""

from __future__ import annotations

import numpy as np

from ..protocol import Vectors
from .principal import principal_components, unit_rows
from .silhouette import Labels
from .steps import ProgressCallback, StepProgress, ignore_progress, one_thread

MIN_SIZE = 10
"""Smallest cluster when the caller says nothing."""
WIDTH = 50
"""Principal components kept: in hundreds of dimensions all distances are alike and nothing is dense."""
_NEIGHBORS = 5
"""Neighbours that decide how dense a place is, fewer than scikit-learn's default (the smallest cluster's size), which
makes most of a collection of short texts noise."""


def hdbscan(vectors: Vectors, min_size: int, *, progress: ProgressCallback = ignore_progress) -> Labels:
    """Return labels (n,), -1 for noise, of clusters with at least `min_size` members; all noise when n is smaller.

    scikit-learn's HDBSCAN (excess of mass) on the principal components, normalised. Vectors that are all equal are one
    cluster.
    """
    from sklearn.cluster import HDBSCAN

    if len(vectors) < min_size:
        return np.full(len(vectors), -1, dtype=np.int64)
    with one_thread():
        progress(StepProgress(step="reducing", done=0, total=1))
        reduced = unit_rows(principal_components(vectors, WIDTH)).astype(np.float64)
        progress(StepProgress(step="reducing", done=1, total=1))
        if not reduced.shape[1]:
            return np.zeros(len(vectors), dtype=np.int64)
        progress(StepProgress(step="finding dense places", done=0, total=1))
        model = HDBSCAN(min_cluster_size=min_size, min_samples=min(_NEIGHBORS, min_size), copy=True)
        labels: Labels = model.fit(reduced).labels_.astype(np.int64)
    progress(StepProgress(step="finding dense places", done=1, total=1))
    return labels
