"""Errors of this room; `app/cli.py` turns them into messages and exit codes."""

from __future__ import annotations

from pathlib import Path


class TrainingError(Exception):
    """Base of everything this room raises for a user; the message says what, which value and what was expected."""


class DataError(TrainingError, ValueError):
    """A data file is not as its layout says; names the file and, where there is one, the line."""

    def __init__(self, path: Path, what: str, *, line: int | None = None) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {what}")
        self.path = path
        self.line = line


class EvaluationError(TrainingError):
    """An evaluation cannot be done as asked: unknown task or contender, missing extra, damaged result."""


MISSING_EXTRA = "needs the extra eval: `pip install 'searchctl[eval]'`"
