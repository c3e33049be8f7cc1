"""The seam for documents that leave a collection for a while."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """What became of documents that were to be put back, by path."""

    restored: tuple[str, ...]
    present: tuple[str, ...]
    """Indexed again meanwhile with the same content: left as they are."""
    conflicting: tuple[str, ...]
    """Indexed again meanwhile with other content: left as they are."""
    foreign: tuple[str, ...]
    """Not put back, as the collection has another encoder or chunks of another size now: to be indexed again."""


class Keeper(Protocol):
    """Takes documents out of a collection and puts them back, alive inside `Collection.keeper()`.

    Each method is one transaction, on the disk when it returns. After a change of documents the generation is raised
    and the FAISS file published. What is complete or incomplete, skipped or unused stays as it is.
    """

    def keep(self, paths: Iterable[str], file: Path) -> int:
        """Copy the rows of the documents at these paths into `file` and return how many there are.

        The file is whole and on the disk, or not there; one that is there already stays as it is."""
        ...

    def set_aside(self, paths: AbstractSet[str], file: Path) -> int:
        """Drop documents that `file` has and that are indexed as they are there, and return how many were.

        With them go their vectors that no other chunk uses."""
        ...

    def put_back(self, paths: AbstractSet[str], file: Path) -> PutBack:
        """Put documents back from `file` with the ids they had, as far as their paths are not indexed meanwhile.

        A vector whose hash has come back under another id is used under that. Raises KeptRowsError when the file is
        missing, damaged or of another version; nothing is changed then."""
        ...
