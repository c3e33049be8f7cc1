"""What a command ends with: exit codes, and how an exception becomes words, a type and the next command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from ..encoder.errors import EncoderError
from ..index.errors import CollectionDamagedError, CollectionLockedError, IndexRoomError
from ..training.errors import TrainingError


class ExitCode(IntEnum):
    """How a command ended; scripts rely on these."""

    OK = 0
    """Done; for `query`: at least one hit."""
    NO_HIT = 1
    ERROR = 2
    """A mistake in the command, or an error that the message explains."""
    INCOMPLETE = 3
    """Something is missing or stale and can be mended: re-run `index`, or run `repair`; for `eval`: a task failed."""
    LOCKED = 4
    """Another process is writing to the collection."""
    DAMAGED = 5
    """The collection cannot be mended from what it holds."""
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class AppError(Exception):
    """A problem with the command or its surroundings, in words for the person who typed it."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.code = code


class ResultNotStoredError(AppError):
    """What a command found could not be kept for later commands; the caller may show it and go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception as a person or a program reads it."""

    error: str
    type: str
    hint: str | None
    """The command to type next, where the message names one."""
    code: ExitCode


_COMMAND = re.compile(r"`(searchctl [^`]+)`")


def explain(error: Exception) -> Failure:
    """Return what to say about `error` and how to exit; an unforeseen one is called a bug."""
    if isinstance(error, AppError):
        code, message = error.code, str(error)
    elif isinstance(error, CollectionLockedError):
        code, message = ExitCode.LOCKED, str(error)
    elif isinstance(error, CollectionDamagedError):
        code, message = ExitCode.DAMAGED, str(error)
    elif isinstance(error, EncoderError | IndexRoomError | TrainingError):
        code, message = ExitCode.ERROR, str(error)
    elif isinstance(error, OSError):
        code, message = ExitCode.ERROR, _os_error(error)
    else:
        message = (
            f"{type(error).__name__}: {error}. This is a bug in searchctl: run the command again with --debug and "
            "report what it prints"
        )
        code = ExitCode.ERROR
    found = _COMMAND.search(message)
    return Failure(error=message, type=type(error).__name__, hint=found.group(1) if found else None, code=code)


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason
