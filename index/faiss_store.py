"""The FAISS vector store: exact inner products over unit vectors, in a file derived from the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cosine import check_k, check_unit, checked_ids, empty_neighbors, exact_cosines, float32_margin, ranked
from .durable import sync
from .errors import IndexRoomError, StorageError
from .protocol import Ids, Neighbors, StoreInfo, Vectors

_GPU_DISTRIBUTIONS = (
    "faiss-gpu",
    "faiss-gpu-cu11",
    "faiss-gpu-cu12",
    "faiss-gpu-cu13",
    "faiss-gpu-cuvs",
    "faiss-gpu-cu12-cuvs",
)

_SPARE = 32
"""Neighbours asked for beyond k, so that float32 ties at the border are mostly settled in one scan."""

_GATHER_SHARE = 4
"""Up to one in so many allowed, copying the allowed rows beats scanning all with a selector."""


def is_installed(name: str) -> bool:
    """Return whether a distribution of this name is installed."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def load_faiss(*, installed: Callable[[str], bool] = is_installed) -> Any:
    """Return the faiss module. Raises IndexRoomError when two distributions of it are installed over each other."""
    gpu = [name for name in _GPU_DISTRIBUTIONS if installed(name)]
    if gpu and installed("faiss-cpu"):
        raise IndexRoomError(
            f"faiss-cpu and {gpu[0]} are both installed: they overwrite each other's files and may crash. "
            f"Run `pip uninstall faiss-cpu {' '.join(gpu)}` and then `pip install {gpu[0]}` (or faiss-cpu)"
        )
    import faiss

    return faiss


class FaissStore:
    """A VectorStore on faiss.IndexIDMap2(IndexFlatIP): exact, in memory, equal to brute force in values and order.

    FAISS finds the candidates in float32; their scores are then computed again in float64 (`exact_cosines`), with
    every candidate within the float32 error of the border included. Not safe for writing from two threads.
    """

    def __init__(self, dim: int) -> None:
        self._faiss = load_faiss()
        self._index: Any = self._faiss.IndexIDMap2(self._faiss.IndexFlatIP(dim))
        self._adopt()

    @classmethod
    def read(cls, path: Path, dim: int) -> FaissStore:
        """Return a store in memory that begins with the vectors of a file. Raises ValueError when it holds others."""
        store = cls(dim)
        store._index = store._read(path, dim)
        store._adopt()
        return store

    def _read(self, path: Path, dim: int) -> Any:
        faiss = self._faiss
        try:
            index = faiss.read_index(str(path))  # downcast already; downcast_index would not keep it alive
        except RuntimeError as error:  # faiss raises nothing narrower
            raise ValueError(f"{path} is not a FAISS file: {str(error).splitlines()[0]}") from error
        inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else None
        if not isinstance(inner, faiss.IndexFlatIP) or index.d != dim:
            raise ValueError(f"{path} holds {type(index).__name__} of width {index.d}, expected exact vectors of {dim}")
        return index

    def _adopt(self) -> None:
        """Renew what is derived from the index after it changed."""
        self._flat: Any = self._faiss.downcast_index(self._index.index)
        self._ids: Ids = self._faiss.vector_to_array(self._index.id_map)
        self._order: Ids = np.argsort(self._ids, kind="stable")
        self._sorted: Ids = self._ids[self._order]

    def _rows(self) -> Vectors:
        """Return the stored vectors (n, dim) without copying; valid until the next change."""
        if not len(self._ids):
            return np.empty((0, self._index.d), dtype=np.float32)
        view: Vectors = self._faiss.rev_swig_ptr(self._flat.get_xb(), len(self._ids) * self._index.d)
        return view.reshape(len(self._ids), self._index.d)

    def _positions(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each id its row (0 where absent) and whether it is there."""
        if not len(self._ids):
            return np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=bool)
        slots = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
        return self._order[slots], self._sorted[slots] == ids

    @property
    def info(self) -> StoreInfo:
        return StoreInfo(backend="faiss-flat", dim=self._index.d, count=len(self._ids))

    @property
    def ids(self) -> Ids:
        """All ids, ascending."""
        return self._sorted

    def add(self, ids: Ids, vectors: Vectors) -> None:
        ids = checked_ids(ids, self._sorted)
        rows = check_unit(vectors, self._index.d, what="vectors")
        if len(rows) != len(ids):
            raise ValueError(f"{len(ids)} ids for {len(rows)} vectors: expected one each")
        if len(ids):
            self._index.add_with_ids(rows, ids)
            self._adopt()

    def remove(self, ids: Ids) -> int:
        gone = np.intersect1d(np.asarray(ids, dtype=np.int64), self._sorted)
        if len(gone):
            self._index.remove_ids(gone)
            self._adopt()
        return len(gone)

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Neighbors:
        rows = check_unit(queries, self._index.d, what="queries")
        check_k(k)
        result = empty_neighbors(len(rows), k)
        positions: Ids | None = None
        if allowed is not None:
            found, there = self._positions(np.unique(np.asarray(allowed, dtype=np.int64)))
            positions = found[there]
        if not len(self._ids) or (positions is not None and not len(positions)):
            return result
        few = positions is not None and len(positions) * _GATHER_SHARE <= len(self._ids)
        for number, query in enumerate(rows):
            near = (
                self._gather(query, k, positions) if few and positions is not None else self._scan(query, k, positions)
            )
            ids, scores = ranked(self._ids[near], exact_cosines(self._rows()[near], query), k)
            result.ids[number, : len(ids)] = ids
            result.scores[number, : len(ids)] = scores
        return result

    def _gather(self, query: Vectors, k: int, positions: Ids) -> Ids:
        """Return the rows among `positions` that may be in the top k, by a product with just these."""
        if len(positions) <= k:
            return positions
        rows = self._rows()
        scores = np.concatenate([rows[part] @ query for part in _parts(positions)])
        border = np.partition(scores, len(scores) - k)[len(scores) - k]
        near: Ids = positions[scores >= border - float32_margin(self._index.d)]
        return near

    def _scan(self, query: Vectors, k: int, positions: Ids | None) -> Ids:
        """Return the rows that may be in the top k, by a FAISS scan of all, restricted to `positions` if given."""
        params = None
        count = len(self._ids)
        if positions is not None:
            count = len(positions)
            mask = np.zeros(len(self._ids), dtype=bool)
            mask[positions] = True
            bits = np.packbits(mask, bitorder="little")
            params = self._faiss.SearchParameters(sel=self._faiss.IDSelectorBitmap(bits))
        wanted = min(k + _SPARE, count)
        scores, near = self._flat.search(query[None], wanted, params=params)
        if wanted < count:
            border = scores[0, k - 1] - float32_margin(self._index.d)
            if scores[0, -1] >= border:
                _, _, near = self._flat.range_search(query[None], float(np.nextafter(border, -np.inf)), params=params)
        rows: Ids = near.reshape(-1)
        return rows

    def fetch(self, ids: Ids) -> Vectors:
        wanted = np.asarray(ids, dtype=np.int64)
        positions, there = self._positions(wanted)
        if not there.all():
            raise KeyError(int(wanted[~there][0]))
        return self._rows()[positions]

    def write(self, path: Path, *, step: Callable[[str], None] = lambda name: None) -> None:
        """Write the index to `path` through a temporary file beside it: complete and on the disk, or not there.

        `step` is told each step by name as it is done; a crash test ends the process there.
        """
        temporary = path.with_name(f"{path.name}.tmp")
        step("write")
        try:
            self._faiss.write_index(self._index, str(temporary))
            step("written")
            sync(temporary)
            step("synced")
            temporary.replace(path)
            step("renamed")
            sync(path.parent)
        except (OSError, RuntimeError) as error:  # faiss raises RuntimeError for whatever fails
            raise StorageError(
                f"cannot write {temporary}: {str(error).splitlines()[0]}. Free disk space or make the folder "
                "writable, then index again: nothing that was embedded is lost",
                next_command=("index",),
            ) from error
        step("folder-synced")


def _parts(positions: Ids) -> list[Ids]:
    return [positions[start : start + 8192] for start in range(0, len(positions), 8192)]
