"""Errors of the index room. Each message says what happened, which value, and what was expected."""

from __future__ import annotations


class IndexRoomError(Exception):
    """Base of everything this room raises for a user's eyes."""

    def __init__(self, message: str, *, next_command: tuple[str, ...] = ()) -> None:
        """`next_command`: the words of what to type next after "searchctl"; () where nothing in particular helps."""
        super().__init__(message)
        self.next_command = next_command


class ReadError(IndexRoomError, ValueError):
    """A file is malformed or not of its format; the run goes on without it."""


class CollectionNotFoundError(IndexRoomError, LookupError):
    """There is no collection at or above a folder."""


class CollectionLockedError(IndexRoomError):
    """Another process is writing to the collection; `pid` owns the lock."""

    def __init__(self, message: str, *, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class CollectionDamagedError(IndexRoomError):
    """The SQLite file itself fails its integrity check: nothing derived can fix it."""


class EncoderMismatchError(IndexRoomError, ValueError):
    """A query's or run's encoder is not the one that filled the collection."""


class QuerySyntaxError(IndexRoomError, ValueError):
    """A query or filter cannot be understood."""


class StorageError(IndexRoomError):
    """The disk is full, read-only or failing, or the collection's files cannot be opened or locked."""


class PathNotFoundError(IndexRoomError, LookupError):
    """A path to index does not exist."""


class ClusteringError(IndexRoomError, ValueError):
    """The items cannot be clustered as asked: too few, too many or too alike."""


class NotEnoughMemoryError(IndexRoomError):
    """A run would need more memory than there is: `needed` and `available` in bytes."""

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class MissingPackageError(IndexRoomError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class TooFewGroupsError(ClusteringError):
    """There are fewer different vectors than clusters were asked for."""


class KeptRowsError(IndexRoomError):
    """The file of rows that left a collection for a while is gone, damaged, or of another version."""
