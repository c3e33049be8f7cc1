"""Brute force: the vector store that every other one is compared with."""

from __future__ import annotations

import numpy as np

from searchctl.index.cosine import check_k, check_unit, checked_ids, empty_neighbors, exact_cosines, ranked
from searchctl.index.protocol import Ids, Neighbors, StoreInfo, Vectors


class OracleStore:
    """A VectorStore that compares every query with every vector, in float64."""

    def __init__(self, dim: int) -> None:
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._vectors: Vectors = np.empty((0, dim), dtype=np.float32)
        self._dim = dim

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
