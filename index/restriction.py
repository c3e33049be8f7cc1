"""What a filter lets through at one commit, as ids, and the memory of it for the queries that follow."""

from __future__ import annotations

import sqlite3

import numpy as np

from .catalogue import read_state
from .filters import Candidate, Restriction, matching_documents
from .protocol import Filter, Ids
from .rows import read_candidates


class FilterMemory:
    """Makes restrictions of filters; the last one is the very same object until the catalogue changes."""

    def __init__(self) -> None:
        self._candidates: tuple[int, list[Candidate]] = (-1, [])
        self._last: tuple[int, Filter, Restriction] | None = None

    def restriction(self, connection: sqlite3.Connection, where: Filter | None) -> Restriction | None:
        """Return what `where` lets through in the connection's snapshot, None when that is everything.

        Raises QuerySyntaxError for a filter that cannot be understood.
        """
        if where is None or where.is_empty:
            return None
        changes = read_state(connection).changes
        remembered = self._last
        if remembered is not None and remembered[:2] == (changes, where):
            return remembered[2]
        chunks = None if where.chunks is None else np.unique(np.array(where.chunks, dtype=np.int64))
        made = Restriction(documents=self._documents(connection, where, changes), chunks=chunks)
        self._last = (changes, where, made)
        return made

    def _documents(self, connection: sqlite3.Connection, where: Filter, changes: int) -> Ids | None:
        if where == Filter(chunks=where.chunks):
            return None
        known, candidates = self._candidates
        if known != changes:
            candidates = read_candidates(connection)
            self._candidates = (changes, candidates)
        return matching_documents(candidates, where)
