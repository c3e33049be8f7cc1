"""Unit vectors with known clusters."""

from collections.abc import Callable

import numpy as np
import pytest

from searchctl.index.protocol import Ids, Vectors

Blobs = Callable[..., tuple[Vectors, Ids]]


@pytest.fixture
def make_blobs() -> Blobs:
    """Return a function: n unit rows about k random directions, with the number of each one's direction."""

    def make(n: int, k: int, *, dim: int = 24, spread: float = 0.4, seed: int = 0) -> tuple[Vectors, Ids]:
        random = np.random.default_rng(seed)
        centers, _ = np.linalg.qr(random.normal(size=(dim, k)))
        truth = np.sort(random.integers(k, size=n))[random.permutation(n)].astype(np.int64)
        rows = centers.T[truth] + spread * random.normal(size=(n, dim)) / np.sqrt(dim)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth

    return make
