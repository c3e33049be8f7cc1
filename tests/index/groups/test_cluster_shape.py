from __future__ import annotations

import numpy as np
import pytest

from searchctl.index.groups.cluster_shape import describe_clusters


def unit(angles: list[float]) -> np.ndarray:
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_center_cohesion_and_medoid_by_hand() -> None:
    rows = unit([0, 30, 60, 180, 200, 90])
    (first, second), to_center = describe_clusters(rows, np.array([0, 0, 0, 1, 1, -1]))
    assert (1, 3) == (first.medoid, second.medoid)  # 180 and 200 are equally near to 190: the first row
    assert first.cohesion == pytest.approx((1 + 2 * np.cos(np.radians(30))) / 3, abs=1e-6)
    assert second.cohesion == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    expected = np.cos(np.radians([30, 0, 30, 10, 10]))
    np.testing.assert_allclose(to_center[:5], expected, atol=1e-6)
    assert np.isnan(to_center[5])


def test_representatives_are_near_the_center_and_differ() -> None:
    # Four copies at the heart, one on either side, and two far out that are most unlike.
    rows = unit([0, 0, 0, 0, 12, -12, 80, -80, 1, -1])
    (shape,), _ = describe_clusters(rows, np.zeros(10, dtype=np.int64))
    assert 0 == shape.medoid == shape.representatives[0]
    (shape,), _ = describe_clusters(rows[[0, 1, 2, 4, 5, 6, 7, 4, 5, 3]], np.zeros(10, dtype=np.int64))
    assert (0, 3, 4) == shape.representatives


def test_equal_members_have_one_representative_and_the_first_is_the_medoid() -> None:
    (shape,), to_center = describe_clusters(unit([20, 20, 20]), np.zeros(3, dtype=np.int64))
    assert (0, (0,)) == (shape.medoid, shape.representatives)
    assert shape.cohesion == pytest.approx(1)
    assert to_center.tolist() == [to_center[0]] * 3


def test_members_that_cancel_out_have_no_center() -> None:
    (shape,), _ = describe_clusters(unit([0, 180]), np.zeros(2, dtype=np.int64))
    assert (0.0, 0) == (shape.cohesion, shape.medoid)


def test_noise_alone_has_no_shapes() -> None:
    shapes, to_center = describe_clusters(unit([0, 90]), np.array([-1, -1]))
    assert [] == shapes
    assert np.isnan(to_center).all()
