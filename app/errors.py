"""What a command ends with: exit codes, and how an exception becomes words, a type and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ..index.errors import CollectionDamagedError, CollectionLockedError


class ExitCode(IntEnum):
    """How a command ended; scripts rely on these."""

    OK = 0
    """Done; for `query`: at least one hit."""
    NO_HIT = 1
    ERROR = 2
    """A mistake in the command, or an error that the message explains."""
    INCOMPLETE = 3
    """Something is missing or stale and can be fixed: re-run `index`, or run `repair`; for `eval`: a task failed."""
    LOCKED = 4
    """Another process is writing to the collection."""
    DAMAGED = 5
    """The collection cannot be fixed from what it holds."""
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class AppError(Exception):
    """A problem with the command or its surroundings, in words for the person who typed it."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.ERROR, next_command: tuple[str, ...] = ()) -> None:
        """`next_command`: the words of what to type next after "searchctl"; () where nothing in particular helps."""
        super().__init__(message)
        self.code = code
        self.next_command = next_command


class ResultNotStoredError(AppError):
    """What a command found could not be kept for later commands; the caller may show it and go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception as a person or a program reads it."""

    error: str
    type: str
    hint: str | None
    """The command to type next, where there is one."""
    code: ExitCode


_OF_A_COLLECTION = (
    ("index",),
    ("query",),
    ("status",),
    ("verify",),
    ("repair",),
    ("dedup",),
    ("cluster",),
    ("models", "promote"),
    ("eval", "init"),
    ("eval", "own"),
)
"""Commands that take --collection, by their first words."""


def typed(words: Sequence[str], *, collection: Path | None = None) -> str:
    """Return a command as it is typed into a shell, for the collection of the command that named one."""
    takes = any(tuple(words[: len(first)]) == first for first in _OF_A_COLLECTION)
    named = (
        ["--collection", str(collection)] if takes and collection is not None and "--collection" not in words else []
    )
    return shlex.join(["searchctl", *words, *named])


def explain(error: Exception, *, collection: Path | None = None) -> Failure:
    """Return what to say about `error` and how to exit; an unforeseen one is called a bug.

    `collection` is the --collection of the command that failed: the next one is about the same.
    """
    code, message, words = ExitCode.ERROR, str(error), tuple[str, ...]()
    if hasattr(error, "next_command"):  # the errors of every room have one, and no others
        # An error of a lower room may stand in the words of another: what helps is still the same.
        words = error.next_command or getattr(error.__cause__, "next_command", ())
        if isinstance(error, AppError):
            code = error.code
        elif isinstance(error, CollectionLockedError):
            code = ExitCode.LOCKED
        elif isinstance(error, CollectionDamagedError):
            code = ExitCode.DAMAGED
    elif isinstance(error, ModuleNotFoundError) and _extra_of(error) is not None:
        message = f"this needs {error.name}, which is not installed: `pip install 'searchctl[{_extra_of(error)}]'`"
    elif isinstance(error, OSError):
        message = _os_error(error)
    else:
        message = (
            f"{type(error).__name__}: {error}. This is a bug in searchctl: run the command again with --debug and "
            "report what it prints"
        )
    hint = typed(words, collection=collection) if words else None
    return Failure(error=message, type=type(error).__name__, hint=hint, code=code)


_EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "safetensors"), "torch"),
    **dict.fromkeys(("sklearn", "scipy"), "cluster"),
}


def _extra_of(error: ModuleNotFoundError) -> str | None:
    """Return the extra that brings the package which is not installed."""
    return _EXTRAS.get((error.name or "").partition(".")[0])


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason
