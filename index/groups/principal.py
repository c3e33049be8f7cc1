"""Principal components with one answer: exact, and with fixed signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..protocol import Vectors

_BLOCK_ROWS = 4096
_NOTHING = 1e-9
"""Share of the variance below which a direction is rounding, not data."""


def principal_components(vectors: Vectors, width: int) -> Vectors:
    """Return float32 (n, at most `width`): the vectors about their mean, along the directions of most variance.

    Fewer columns when the vectors lie in fewer dimensions; none when all are equal. The sign of each direction makes
    its largest weight positive (the first of equal ones), so that a rerun does not mirror a map. An eigenvector of the
    covariance, in float64: no random start.
    """
    n, dim = vectors.shape
    if n == 0:
        return np.empty((0, 0), dtype=np.float32)
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((dim, dim))
    for start in range(0, n, _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS] - mean
        covariance += block.T @ block
    values, directions = np.linalg.eigh(covariance)
    values, directions = values[::-1][:width], directions[:, ::-1][:, :width]
    # Against the length of the vectors too: of equal ones, all that is left is rounding.
    directions = directions[:, values > _NOTHING * max(float(values.sum()), n * 1e-6)]
    directions = directions * _signs(directions)
    parts = [
        ((vectors[start : start + _BLOCK_ROWS] - mean) @ directions).astype(np.float32)
        for start in range(0, n, _BLOCK_ROWS)
    ]
    return np.concatenate(parts)


def unit_rows(vectors: Vectors) -> Vectors:
    """Return the rows divided by their norms; a row of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit


def _signs(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.abs(directions)
    # Two weights that differ by rounding are equal: the first decides.
    first = np.argmax(weights >= weights.max(axis=0, initial=0) * (1 - 1e-9), axis=0)
    return np.where(directions[first, np.arange(directions.shape[1])] < 0, -1.0, 1.0)
