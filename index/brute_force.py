"""Brute force: the vector store that every other one is compared with, and a store for small sets without faiss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .cosine import check_unit, exact_cosines, ranked
from .protocol import Ids, Neighbors, StoreInfo, Vectors


class OracleStore:
    """A VectorStore that compares every query with every vector, in float64."""

    def __init__(self, dim: int, *, path: Path | None = None) -> None:
        """Make a store in memory, or one that is read from and flushed to the .npz file `path`."""
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._vectors: Vectors = np.empty((0, dim), dtype=np.float32)
        self._dim = dim
        self._path = path
        if path is not None and path.exists():
            with np.load(path) as data:
                self._ids, self._vectors = data["ids"], data["vectors"]

    @property
    def info(self) -> StoreInfo:
        return StoreInfo(backend="brute-force", dim=self._dim, count=len(self._ids))

    def add(self, ids: Ids, vectors: Vectors) -> None:
        ids = checked_ids(ids, self._ids)
        rows = check_unit(vectors, self._dim, what="vectors")
        if len(rows) != len(ids):
            raise ValueError(f"{len(ids)} ids for {len(rows)} vectors: expected one each")
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, rows])

    def remove(self, ids: Ids) -> int:
        keep = ~np.isin(self._ids, ids)
        self._ids, self._vectors = self._ids[keep], self._vectors[keep]
        return int(len(keep) - keep.sum())

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Neighbors:
        rows = check_unit(queries, self._dim, what="queries")
        check_k(k)
        result = empty_neighbors(len(rows), k)
        mask = np.ones(len(self._ids), dtype=bool) if allowed is None else np.isin(self._ids, allowed)
        for number, query in enumerate(rows):
            ids, scores = ranked(self._ids[mask], exact_cosines(self._vectors[mask], query), k)
            result.ids[number, : len(ids)] = ids
            result.scores[number, : len(ids)] = scores
        return result

    def fetch(self, ids: Ids) -> Vectors:
        where = {int(id_): row for row, id_ in enumerate(self._ids)}
        return self._vectors[[where[int(id_)] for id_ in np.asarray(ids)]].reshape(-1, self._dim)

    def flush(self) -> None:
        if self._path is None:
            return
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with temporary.open("wb") as stream:
            np.savez(stream, ids=self._ids, vectors=self._vectors)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path)

    def close(self) -> None:
        self.flush()


def checked_ids(ids: Ids, present: Ids) -> Ids:
    """Return `ids` as int64 (n,). Raises ValueError for a negative one, one given twice or one that is present."""
    array = np.ascontiguousarray(ids, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"ids must have shape (n,), got {array.shape}")
    if len(array) and array.min() < 0:
        raise ValueError(f"id {int(array.min())} is negative: expected 0 or more (-1 means no neighbour)")
    values, counts = np.unique(array, return_counts=True)
    if len(values) != len(array):
        raise ValueError(f"id {int(values[counts > 1][0])} is given twice: expected distinct ids")
    there = np.intersect1d(values, present)
    if len(there):
        raise ValueError(f"id {int(there[0])} is already stored: remove it first")
    return array


def check_k(k: int) -> None:
    """Raise ValueError unless k is at least 1."""
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1")


def empty_neighbors(queries: int, k: int) -> Neighbors:
    """Return a result that says "none" everywhere: id -1, score -inf."""
    return Neighbors(
        ids=np.full((queries, k), -1, dtype=np.int64),
        scores=np.full((queries, k), -np.inf, dtype=np.float32),
    )
