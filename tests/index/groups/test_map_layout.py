from __future__ import annotations

import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from searchctl.index.errors import MissingPackageError, NotEnoughMemoryError
from searchctl.index.groups.cluster_settings import Layout
from searchctl.index.groups.map_layout import layout_memory, map_layout
from searchctl.index.groups.principal import principal_components
from searchctl.index.protocol import Vectors

Blobs = Callable[..., tuple[Vectors, np.ndarray]]


def test_clusters_are_apart_on_the_map_and_fill_it(make_blobs: Blobs) -> None:
    rows, truth = make_blobs(100, 4)
    places = map_layout(rows)
    assert (np.float32, (100, 2)) == (places.dtype, places.shape)
    assert silhouette_score(places, truth) > 0.5
    assert 1.0 == pytest.approx(np.abs(places).max())
    assert np.abs(places).max() <= 1
    spans = places.max(axis=0) - places.min(axis=0)
    assert 2.0 == pytest.approx(spans.max())


def test_the_same_rows_give_the_same_map_on_any_number_of_threads(make_blobs: Blobs) -> None:
    rows, _ = make_blobs(60, 3)
    with threadpool_limits(limits=1):
        first = map_layout(rows)
    with threadpool_limits(limits=3):
        assert first.tobytes() == map_layout(rows).tobytes()


def test_few_or_equal_vectors(subtests: pytest.Subtests) -> None:
    for rows, expected in [
        ([], []),
        ([[1, 0, 0]], [[0, 0]]),
        ([[1, 0, 0], [0, 1, 0]], [[1, 0], [-1, 0]]),
        ([[1, 0, 0]] * 3, [[0, 0]] * 3),
        ([[1, 0, 0]] * 9, [[0, 0]] * 9),
        ([[0.6, 0.8, 0], [0.6, 0.8, 0], [0, 0, 1]], [[-1, 0], [-1, 0], [1, 0]]),
    ]:
        with subtests.test(rows=rows, expected=expected):
            places = map_layout(np.array(rows, dtype=np.float32).reshape(-1, 3))
            np.testing.assert_allclose(places, np.array(expected, dtype=np.float32).reshape(-1, 2), atol=1e-5)


def test_small_maps_tell_vectors_apart(make_blobs: Blobs, subtests: pytest.Subtests) -> None:
    for n in [3, 4, 5, 6, 12]:
        with subtests.test(n=n):
            places = map_layout(make_blobs(n, 3)[0])
            assert np.isfinite(places).all()
            assert n == len(np.unique(places.round(4), axis=0))


def test_a_map_along_one_direction_is_a_line() -> None:
    angles = np.radians([0, 1, 2, 3])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    places = map_layout(rows)
    assert sorted(places[:, 0].tolist()) in (places[:, 0].tolist(), places[::-1, 0].tolist())


def test_components_are_those_of_a_singular_value_decomposition_with_fixed_signs(make_blobs: Blobs) -> None:
    rows, _ = make_blobs(80, 5)
    centered = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    expected = []
    for direction in directions[:6]:
        sign = np.sign(direction[np.argmax(np.abs(direction))])
        expected.append(centered @ direction * sign)
    found = principal_components(rows, 6)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)
    assert (80, 24) == principal_components(rows, 50).shape
    assert (80, 0) == principal_components(np.repeat(rows[:1], 80, axis=0), 50).shape


def test_memory_is_checked_before_the_start(make_blobs: Blobs) -> None:
    needed = layout_memory(20, 24)
    with pytest.raises(NotEnoughMemoryError, match=r"a map of 20 vectors needs about .* or leave the map out"):
        map_layout(make_blobs(20, 2)[0], available=needed - 1)


def test_umap_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    message = "a UMAP map needs the extra report: `pip install 'searchctl[report]'`"
    with pytest.raises(MissingPackageError, match=re.escape(message)):
        map_layout(np.eye(3, dtype=np.float32), layout=Layout.UMAP)


def test_umap_keeps_clusters_apart(make_blobs: Blobs) -> None:
    pytest.importorskip("umap", reason="the extra report is not installed")
    rows, truth = make_blobs(120, 4)
    places = map_layout(rows, layout=Layout.UMAP)
    assert silhouette_score(places, truth) > 0.5
    assert places.tobytes() == map_layout(rows, layout=Layout.UMAP).tobytes()
