"""One suite for every VectorStore: values and order equal brute force in plain numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchctl.index.errors import IndexRoomError, StorageError
from searchctl.index.faiss_store import FaissStore, load_faiss
from searchctl.index.protocol import Ids, Vectors, VectorStore

from .oracle_store import OracleStore

DIM = 24
Make = Callable[..., VectorStore]


@pytest.fixture(params=[OracleStore, FaissStore])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


def unit(rows: int, seed: int, dim: int = DIM) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute(ids: Ids, vectors: Vectors, query: Vectors, k: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
    """The specification, in Python: descending cosine, ties by ascending id, padded with (-1, -inf)."""
    rows = [
        (-float(np.float32(np.dot(vector.astype(np.float64), query.astype(np.float64)))), int(id_))
        for id_, vector in zip(ids, vectors, strict=True)
        if allowed is None or id_ in allowed
    ]
    found = [(id_, -score) for score, id_ in sorted(rows)[:k]]
    return found + [(-1, -np.inf)] * (k - len(found))


def result(store: VectorStore, queries: Vectors, k: int, allowed: Ids | None = None) -> list[list[tuple[int, float]]]:
    near = store.search(queries, k, allowed=allowed)
    assert near.ids.shape == near.scores.shape == (len(queries), k)
    assert (near.ids.dtype, near.scores.dtype) == (np.int64, np.float32)
    return [list(zip(i, s, strict=True)) for i, s in zip(near.ids.tolist(), near.scores.tolist(), strict=True)]


def test_values_and_order(make: Make, subtests: pytest.Subtests) -> None:
    for k in [1, 7, 100]:
        for queries in [1, 40]:  # faiss changes its algorithm at 20 queries
            with subtests.test(k=k, queries=queries):
                ids, vectors = np.random.default_rng(1).permutation(10_000)[:700].astype(np.int64), unit(700, 2)
                store = make(DIM)
                store.add(ids, vectors)
                asked = unit(queries, 3)
                assert result(store, asked, k) == [brute(ids, vectors, query, k) for query in asked]


def test_filters_of_any_selectivity(make: Make, subtests: pytest.Subtests) -> None:
    for share in [0.001, 0.01, 0.1, 0.24, 0.26, 0.5, 0.9, 1.0]:
        with subtests.test(share=share):
            ids, vectors = np.arange(5, 2005, dtype=np.int64), unit(2000, 4)
            store = make(DIM)
            store.add(ids, vectors)
            allowed = np.random.default_rng(5).choice(ids, max(1, int(share * len(ids))), replace=False)
            for query in unit(5, 6):
                assert result(store, query[None], 10, allowed) == [brute(ids, vectors, query, 10, allowed)]


def test_filter_of_unknown_or_no_ids(make: Make) -> None:
    store = make(DIM)
    store.add(np.arange(9), unit(9, 7))
    query = unit(1, 8)
    assert result(store, query, 2, np.array([], dtype=np.int64)) == [[(-1, -np.inf)] * 2]
    assert result(store, query, 2, np.array([77, 99])) == [[(-1, -np.inf)] * 2]
    assert [id_ for id_, _ in result(store, query, 2, np.array([77, 3, 3]))[0]] == [3, -1]


def test_ties_are_broken_by_id_also_at_the_border(make: Make, subtests: pytest.Subtests) -> None:
    """Equal vectors, more than k of them, stored in descending order of id."""
    for copies in [3, 90, 400]:
        with subtests.test(copies=copies):
            vectors = np.concatenate([np.repeat(unit(1, 9), copies, axis=0), unit(150, 10)])
            ids = np.arange(len(vectors), 0, -1, dtype=np.int64)
            store = make(DIM)
            store.add(ids, vectors)
            for allowed in (None, ids[::2], ids[ids % 9 == 0]):
                for k in (1, 2, 50, 300):
                    expected = brute(ids, vectors, vectors[0], k, allowed)
                    assert result(store, vectors[:1], k, allowed) == [expected]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 7)), unique_by=lambda row: row[0], max_size=80),
    k=st.integers(1, 90),
    gone=st.sets(st.integers(0, 300), max_size=40),
    allowed=st.none() | st.sets(st.integers(0, 300), max_size=200),
)
@pytest.mark.parametrize("kind", [OracleStore, FaissStore])
def test_equals_brute_force_on_vectors_full_of_ties(
    kind: Make, rows: list[tuple[int, int]], k: int, gone: set[int], allowed: set[int] | None
) -> None:
    palette = unit(8, 11)
    ids = np.array([id_ for id_, _ in rows], dtype=np.int64)
    vectors = palette[[colour for _, colour in rows]].reshape(-1, DIM)
    store = kind(DIM)
    store.add(ids, vectors)
    assert store.remove(np.array(sorted(gone), dtype=np.int64)) == len(gone & set(ids.tolist()))
    stay = ~np.isin(ids, sorted(gone))
    assert store.info.count == int(stay.sum())
    only = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    assert result(store, palette[:2], k, only) == [brute(ids[stay], vectors[stay], q, k, only) for q in palette[:2]]


def test_k_beyond_the_count_is_padded(make: Make) -> None:
    store = make(DIM)
    store.add(np.array([4, 2]), unit(2, 12))
    rows = result(store, unit(1, 13), 5)[0]
    assert {id_ for id_, _ in rows[:2]} == {2, 4}
    assert rows[2:] == [(-1, -np.inf)] * 3


def test_empty_store_and_empty_input(make: Make) -> None:
    store = make(DIM)
    assert result(store, unit(1, 14), 3) == [[(-1, -np.inf)] * 3]
    store.add(np.empty(0, dtype=np.int64), np.empty((0, DIM), dtype=np.float32))
    assert store.info.count == 0
    assert store.fetch(np.empty(0, dtype=np.int64)).shape == (0, DIM)
    assert store.search(np.empty((0, DIM), dtype=np.float32), 3).ids.shape == (0, 3)
    assert store.remove(np.array([1])) == 0


def test_fetch_is_exact_and_in_the_order_asked(make: Make) -> None:
    ids, vectors = np.array([30, 10, 20]), unit(3, 15)
    store = make(DIM)
    store.add(ids, vectors)
    np.testing.assert_array_equal(store.fetch(np.array([20, 30, 20])), vectors[[2, 0, 2]])
    with pytest.raises(KeyError, match="11"):
        store.fetch(np.array([10, 11]))


def test_what_is_refused_leaves_the_store_as_it_was(make: Make, subtests: pytest.Subtests) -> None:
    for ids, vectors, message in [
        ([5], unit(1, 16), "id 5 is already stored"),
        ([6, 6], unit(2, 16), "id 6 is given twice"),
        ([-1], unit(1, 16), "id -1 is negative"),
        ([6], unit(2, 16), "1 ids for 2 vectors"),
        ([6], unit(1, 16, dim=DIM + 1), rf"shape \(n, {DIM}\), got \(1, {DIM + 1}\)"),
        ([6], np.full((1, DIM), np.nan, dtype=np.float32), "row 0 holds a value that is not finite"),
        ([6], np.full((1, DIM), np.inf, dtype=np.float32), "row 0 holds a value that is not finite"),
        ([6], 2 * unit(1, 16), "row 0 has norm 2, expected 1"),
        ([6], np.zeros((1, DIM), dtype=np.float32), "row 0 has norm 0, expected 1"),
    ]:
        with subtests.test(ids=ids, vectors=vectors, message=message):
            store = make(DIM)
            store.add(np.array([5]), unit(1, 17))
            with pytest.raises(ValueError, match=message):
                store.add(np.array(ids, dtype=np.int64), vectors)
            assert store.info.count == 1
            np.testing.assert_array_equal(store.fetch(np.array([5])), unit(1, 17))


def test_cosine_is_checked_never_assumed(make: Make, subtests: pytest.Subtests) -> None:
    """vicinity: un-normalised vectors gave distances off by up to 9.4."""
    for queries, message in [
        (3 * unit(1, 18), "queries row 0 has norm 3"),
        (unit(1, 18, dim=3), "queries must have shape"),
    ]:
        with subtests.test(queries=queries, message=message), pytest.raises(ValueError, match=message):
            make(DIM).search(queries, 1)


def test_k_of_nothing_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        make(DIM).search(unit(1, 19), 0)


def test_removed_id_may_come_back_with_another_vector(make: Make) -> None:
    store = make(DIM)
    store.add(np.arange(50), unit(50, 20))
    assert store.remove(np.array([7, 7, 99])) == 1
    store.add(np.array([7]), unit(1, 21))
    assert result(store, unit(1, 21), 1)[0][0][0] == 7
    assert store.info.count == 50


def test_a_file_gives_the_same_results(tmp_path: Path) -> None:
    path = tmp_path / "store.file"
    ids, vectors = np.arange(100, 0, -1, dtype=np.int64), unit(100, 22)
    store = FaissStore(DIM)
    store.add(ids, vectors)
    store.remove(np.array([50]))
    store.write(path)
    store.add(np.array([1000]), unit(1, 23))
    store.write(path)
    again = FaissStore.read(path, DIM)
    stay = ids != 50
    ids, vectors = np.append(ids[stay], 1000), np.concatenate([vectors[stay], unit(1, 23)])
    assert result(again, unit(3, 24), 12) == [brute(ids, vectors, query, 12) for query in unit(3, 24)]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_faiss_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"not an index at all")
    with pytest.raises(ValueError, match="is not a FAISS file"):
        FaissStore.read(tmp_path / "noise", DIM)
    FaissStore(3).write(tmp_path / "narrow")
    with pytest.raises(ValueError, match=f"width 3, expected exact vectors of {DIM}"):
        FaissStore.read(tmp_path / "narrow", DIM)


def test_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere.*Free disk space"):
        FaissStore(DIM).write(tmp_path / "nowhere" / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    with pytest.raises(StorageError, match=r"cannot write .*folder"):
        FaissStore(DIM).write(tmp_path / "folder")


def test_two_faiss_distributions_are_refused() -> None:
    with pytest.raises(IndexRoomError, match="pip uninstall faiss-cpu faiss-gpu-cuvs"):
        load_faiss(installed=lambda name: name in ("faiss-cpu", "faiss-gpu-cuvs"))
