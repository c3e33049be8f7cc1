from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from searchctl.index.errors import ClusteringError, NotEnoughMemoryError, TooFewGroupsError
from searchctl.index.groups.cluster_settings import ClusterSettings, Method
from searchctl.index.groups.clustering import by_size, cluster, needed_memory
from searchctl.index.groups.communities import NeighborGraph, neighbor_graph
from searchctl.index.groups.kmeans import means, nearest, spherical_kmeans
from searchctl.index.groups.linkage import ward_linkage
from searchctl.index.groups.steps import StepProgress
from searchctl.index.protocol import Vectors

Blobs = Callable[..., tuple[Vectors, np.ndarray]]
K = 6
EVERY = [
    ClusterSettings(method=Method.KMEANS, n=K),
    ClusterSettings(method=Method.KMEANS),
    ClusterSettings(method=Method.AGGLOMERATIVE, n=K),
    ClusterSettings(method=Method.AGGLOMERATIVE),
    ClusterSettings(method=Method.HDBSCAN),
    ClusterSettings(method=Method.LEIDEN, resolution=0.5),
]
every_method = pytest.mark.parametrize("settings", EVERY, ids=lambda s: f"{s.method}-{s.n}")


def random_rows(n: int, dim: int = 16, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def dense(graph: NeighborGraph) -> np.ndarray:
    n = len(graph.starts) - 1
    table = np.zeros((n, n))
    table[np.repeat(np.arange(n), np.diff(graph.starts)), graph.ends] = graph.weights
    return table


@every_method
def test_planted_clusters_are_found_whatever_the_order(settings: ClusterSettings, make_blobs: Blobs) -> None:
    rows, truth = make_blobs(360, K)
    found = cluster(rows, settings)
    assert 1.0 == adjusted_rand_score(truth, found.labels)
    assert (K, 0) == (found.n, found.noise)
    assert found.silhouette is not None and found.silhouette > 0.5
    order = np.random.default_rng(1).permutation(len(rows))
    assert 1.0 == adjusted_rand_score(truth[order], cluster(rows[order], settings).labels)


def test_the_number_of_clusters_is_chosen_where_the_silhouette_is_best(
    make_blobs: Blobs, subtests: pytest.Subtests
) -> None:
    for method in [Method.KMEANS, Method.AGGLOMERATIVE]:
        for planted in [3, 11]:
            with subtests.test(method=method, planted=planted):
                rows, _ = make_blobs(300, planted)
                found = cluster(rows, ClusterSettings(method=method))
                assert planted == found.n
                assert found.choice is not None
                tried = dict(found.choice)
                assert tried[planted] == max(tried.values()) == pytest.approx(found.silhouette)
                assert (2, 26) == (min(tried), max(tried))  # 1.5 * sqrt(300)


@every_method
def test_the_same_seed_gives_the_same_labels_on_any_number_of_threads(settings: ClusterSettings) -> None:
    rows = random_rows(300)  # without structure, so that a bit decides much
    with threadpool_limits(limits=1):
        expected = cluster(rows, settings)
    with threadpool_limits(limits=3):
        found = cluster(rows, settings)
    assert expected.labels.tolist() == found.labels.tolist()
    assert (expected.silhouette, expected.choice) == (found.silhouette, found.choice)


def test_the_number_of_threads_does_not_change_the_last_bit_of_a_neighbour() -> None:
    rows = random_rows(2500, dim=128)  # large enough for a BLAS to split, which changes thousands of last bits
    with threadpool_limits(limits=1):
        expected = neighbor_graph(rows, 15)
    with threadpool_limits(limits=3):
        found = neighbor_graph(rows, 15)
    assert expected.ends.tolist() == found.ends.tolist()
    assert expected.weights.tobytes() == found.weights.tobytes()


def test_another_seed_is_used(subtests: pytest.Subtests) -> None:
    for method in [Method.KMEANS, Method.LEIDEN]:
        with subtests.test(method=method):
            rows = random_rows(700)
            n = 9 if method is Method.KMEANS else None
            first, second = (cluster(rows, ClusterSettings(method=method, n=n, seed=seed)).labels for seed in (0, 1))
            assert first.tolist() != second.tolist()


def test_clusters_are_numbered_by_size_then_by_first_member() -> None:
    labels = np.array([7, 4, 4, -1, 2, 2, 2, 7, 0])
    assert [1, 2, 2, -1, 0, 0, 0, 1, 3] == by_size(labels).tolist()


def test_kmeans_puts_each_item_to_the_nearest_center() -> None:
    rows = random_rows(500)
    labels = spherical_kmeans(rows, 12, seed=3)
    assert 12 == len(set(labels.tolist()))
    cosines = rows.astype(np.float64) @ means(rows, labels, 12).astype(np.float64).T
    assert labels.tolist() == cosines.argmax(axis=1).tolist()


def test_of_centers_that_float32_cannot_tell_apart_the_nearer_is_found_and_of_equal_ones_the_first() -> None:
    row = random_rows(1, dim=64)
    near = row.copy()
    near[0, np.argmin(np.abs(row))] += 0.002
    near = (near / np.linalg.norm(near)).astype(np.float32)
    for centers, expected in (([near, row], 1), ([row, near], 0), ([near, row, row], 1), ([row, row], 0)):
        labels, cosines = nearest(row, np.concatenate(centers))
        assert [expected] == labels.tolist()
        assert 1.0 == pytest.approx(float(cosines[0]), abs=1e-6)


def test_kmeans_keeps_equal_vectors_together_and_leaves_no_cluster_empty() -> None:
    rows = np.concatenate([random_rows(40)] * 5)
    labels = cluster(rows, ClusterSettings(n=30)).labels
    assert [len(set(labels[row::40].tolist())) for row in range(40)] == [1] * 40
    assert set(range(30)) == set(labels.tolist())


def test_agglomerative_cuts_as_scikit_learn_does() -> None:
    rows = random_rows(120)
    tree = ward_linkage(rows)
    for n in (1, 2, 7, 40, 119, 120):
        theirs = AgglomerativeClustering(n_clusters=n, linkage="ward").fit(rows.astype(np.float64))
        assert n == len(set(tree.cut(n).tolist()))
        assert 1.0 == adjusted_rand_score(theirs.labels_, tree.cut(n)), n


def test_neighbor_graph_is_the_symmetric_union_of_exact_neighbours() -> None:
    rows = random_rows(90, dim=5)
    cosines = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(cosines, -2)
    expected = np.zeros((90, 90))
    for row in range(90):
        near = np.argsort(-cosines[row])[:4]
        expected[row, near] = np.maximum(cosines[row, near], 0)
    expected = np.maximum(expected, expected.T)
    np.testing.assert_allclose(dense(neighbor_graph(rows, 4)), expected, atol=1e-6)


def test_hdbscan_leaves_what_lies_between_as_noise(make_blobs: Blobs) -> None:
    rows, truth = make_blobs(200, 4)
    found = cluster(np.concatenate([rows, random_rows(40, dim=24, seed=5)]), ClusterSettings(method=Method.HDBSCAN))
    assert 4 == found.n
    assert 1.0 == adjusted_rand_score(truth, found.labels[:200])
    assert found.noise >= 20
    assert (found.labels[200:] == -1).sum() == found.noise


def test_hdbscan_makes_no_cluster_below_the_smallest_size(make_blobs: Blobs) -> None:
    rows, truth = make_blobs(200, 4)
    small = np.flatnonzero(truth == 0)[20:]
    rows, truth = np.delete(rows, small, axis=0), np.delete(truth, small)
    found = cluster(rows, ClusterSettings(method=Method.HDBSCAN, min_size=25))
    assert [3, 4] == [found.n, cluster(rows, ClusterSettings(method=Method.HDBSCAN, min_size=15)).n]
    assert np.bincount(found.labels[found.labels >= 0]).min() >= 25
    assert 1.0 == adjusted_rand_score(truth[truth > 0], found.labels[truth > 0])


def test_leiden_gives_more_clusters_at_a_higher_resolution_and_leaves_the_lonely_as_noise() -> None:
    rows = np.abs(random_rows(300, dim=8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    numbers = [cluster(rows, ClusterSettings(method=Method.LEIDEN, resolution=r)).n for r in (0.2, 1.0, 4.0)]
    assert numbers == sorted(set(numbers))
    lonely = np.zeros((301, 9), dtype=np.float32)
    lonely[:300, :8] = rows
    lonely[300, 8] = 1
    labels = cluster(lonely, ClusterSettings(method=Method.LEIDEN)).labels
    assert [300] == np.flatnonzero(labels < 0).tolist()


ONE = [1.0, 0.0, 0.0]
OTHER = [0.6, 0.8, 0.0]


def test_few_or_equal_items(subtests: pytest.Subtests) -> None:
    for rows, method, n, expected in [
        ([], Method.KMEANS, None, []),
        ([], Method.HDBSCAN, None, []),
        ([], Method.AGGLOMERATIVE, None, []),
        ([], Method.LEIDEN, None, []),
        ([ONE], Method.KMEANS, None, [0]),
        ([ONE], Method.HDBSCAN, None, [-1]),
        ([ONE], Method.AGGLOMERATIVE, None, [0]),
        ([ONE], Method.AGGLOMERATIVE, 1, [0]),
        ([ONE], Method.LEIDEN, None, [-1]),
        ([ONE, OTHER], Method.KMEANS, None, [0, 0]),
        ([ONE, OTHER], Method.KMEANS, 2, [0, 1]),
        ([ONE, OTHER], Method.AGGLOMERATIVE, None, [0, 0]),
        ([ONE, OTHER], Method.AGGLOMERATIVE, 2, [0, 1]),
        ([ONE, OTHER], Method.LEIDEN, None, [0, 0]),
        ([ONE] * 12, Method.KMEANS, None, [0] * 12),
        ([ONE] * 12, Method.HDBSCAN, None, [0] * 12),
        ([ONE] * 12, Method.AGGLOMERATIVE, None, [0] * 12),
        ([ONE] * 12, Method.LEIDEN, None, [0] * 12),
        ([OTHER, ONE, ONE, ONE], Method.KMEANS, None, [1, 0, 0, 0]),
        ([OTHER, ONE, ONE, ONE], Method.AGGLOMERATIVE, None, [1, 0, 0, 0]),
        ([ONE] * 12 + [[0.0, 0.0, 1.0]] * 14, Method.HDBSCAN, None, [1] * 12 + [0] * 14),
    ]:
        with subtests.test(rows=rows, method=method, n=n, expected=expected):
            vectors = np.array(rows, dtype=np.float32).reshape(-1, 3)
            found = cluster(vectors, ClusterSettings(method=method, n=n))
            assert expected == found.labels.tolist()
            if found.n < 2:
                assert found.silhouette is None


def test_more_clusters_than_items_or_than_different_items_are_refused(subtests: pytest.Subtests) -> None:
    for method in [Method.KMEANS, Method.AGGLOMERATIVE]:
        with subtests.test(method=method):
            with pytest.raises(
                ClusteringError, match="n is 4, but 3 different vectors are there: ask for at most 3 clusters"
            ):
                cluster(random_rows(3), ClusterSettings(method=method, n=4))
            with pytest.raises(TooFewGroupsError, match=r"n is 4, but only 3 .*of the 9 vectors .*: ask for at most 3"):
                cluster(np.concatenate([random_rows(3)] * 3), ClusterSettings(method=method, n=4))


def test_options_that_make_no_sense_are_refused(subtests: pytest.Subtests) -> None:
    for options, message in [
        (
            {"method": Method.LEIDEN, "n": 4},
            "n is 4, but leiden does not use it: leave it out, or choose kmeans or agg",
        ),
        ({"resolution": 2.0}, "resolution is 2.0, but kmeans does not use it: leave it out, or choose leiden"),
        ({"method": Method.LEIDEN, "min_size": 4}, "min_size is 4, but leiden does not use it"),
        ({"n": 0}, "n is 0: expected at least 1"),
        ({"method": Method.HDBSCAN, "min_size": 1}, "min_size is 1: expected at least 2"),
        (
            {"method": Method.LEIDEN, "resolution": 1e308},
            r"resolution is 1e\+308: expected .* at most 1e\+06",
        ),
        ({"method": Method.LEIDEN, "resolution": 0.0}, "resolution is 0.0: expected a number above 0"),
        ({"method": Method.LEIDEN, "resolution": float("nan")}, "resolution is nan: expected a number above 0"),
        ({"seed": -1}, "seed is -1: expected 0 to 2147483647"),
    ]:
        with subtests.test(options=options, message=message), pytest.raises(ClusteringError, match=message):
            ClusterSettings(**options)  # type: ignore[arg-type]


def test_vectors_that_are_no_unit_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has norm 2"):
        cluster(np.array([[1, 0], [2, 0]], dtype=np.float32), ClusterSettings())


def test_agglomerative_refuses_large_sets_with_the_memory_they_would_need() -> None:
    rows = np.tile(np.array([1, 0], dtype=np.float32), (20_001, 1))
    with pytest.raises(ClusteringError, match=r"at most 20,000 items, there are 20,001: .* 3\.4 GiB .* Use kmeans"):
        cluster(rows, ClusterSettings(method=Method.AGGLOMERATIVE))


def test_memory_is_checked_before_the_start(subtests: pytest.Subtests) -> None:
    for method in list(Method):
        with subtests.test(method=method):
            events: list[StepProgress] = []
            needed = needed_memory(method, 50, 16)
            with pytest.raises(
                NotEnoughMemoryError, match=f"{method} on 50 vectors of 16 numbers needs about"
            ) as caught:
                cluster(random_rows(50), ClusterSettings(method=method), progress=events.append, available=needed - 1)
            assert (needed, needed - 1, []) == (caught.value.needed, caught.value.available, events)
            cluster(random_rows(50), ClusterSettings(method=method), available=needed)


@every_method
def test_progress_of_each_step_grows_to_its_end(settings: ClusterSettings, make_blobs: Blobs) -> None:
    events: list[StepProgress] = []
    cluster(make_blobs(80, 3)[0], ClusterSettings(method=settings.method), progress=events.append)
    steps = {event.step: [e for e in events if e.step == event.step] for event in events}
    assert steps
    for told in steps.values():
        assert [e.done for e in told] == sorted(e.done for e in told)
        assert told[-1].done == told[-1].total
