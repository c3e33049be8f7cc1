"""The tasks that a command names, with errors that name its options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.data.local_data import LAYOUT
from ..training.errors import DataError
from ..training.evaluation.instructions import InstructionTable
from ..training.evaluation.tasks import find_tasks
from .console import Terminal
from .errors import AppError
from .eval_progress import hushed

if TYPE_CHECKING:
    from ..training.evaluation.measurement import EvalTask


def named_tasks(
    terminal: Terminal, names: Sequence[str], *, suite: str | None, local: Path | None, table: InstructionTable
) -> list[EvalTask]:
    """Return what `find_tasks` returns. Raises AppError for a --local that cannot be read."""
    local = None if local is None else local.expanduser()  # no shell expands what comes from the environment
    with terminal.waiting("reading the tasks"), hushed(terminal.detail):
        try:
            return find_tasks(names, suite=suite, local=local, table=table)
        except DataError as error:
            if error.path != local:
                raise
            raise AppError(f"--local {error}") from error
        except OSError as error:
            if local is None or not str(error.filename).startswith(str(local)):
                raise
            place = "" if str(error.filename) == str(local) else f"{error.filename}: "
            expected = f"Expected a folder that can be read, with {LAYOUT}"
            raise AppError(f"--local {local}: {place}{error.strerror}. {expected}") from error
