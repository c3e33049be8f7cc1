"""Errors of this room; `app/cli.py` turns them into messages and exit codes."""

from __future__ import annotations

from pathlib import Path


class TrainingError(Exception):
    """Base of everything this room raises for a user; the message says what, which value and what was expected."""

    def __init__(self, message: str, *, next_command: tuple[str, ...] = ()) -> None:
        """`next_command`: the words of what to type next after "searchctl"; () where nothing in particular helps."""
        super().__init__(message)
        self.next_command = next_command


class DataError(TrainingError, ValueError):
    """A data file is not as its layout says; names the file and, where there is one, the line."""

    def __init__(self, path: Path, what: str, *, line: int | None = None, next_command: tuple[str, ...] = ()) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {what}", next_command=next_command)
        self.path = path
        self.line = line


class EvaluationError(TrainingError):
    """An evaluation cannot be done as asked: unknown task or model, missing extra, damaged result."""


MISSING_EXTRA = "needs the extra eval: `pip install 'searchctl[eval]'`"
