"""Files that only save time, kept beside the catalogue: the newest of a kind stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..index.durable import write_whole

KEPT = 4
"""Files of a kind that stay: chunks and documents, and two of another kind of question."""


def keep(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, whole or not at all, and drop the oldest of its folder and kind beyond KEPT. Raises OSError."""
    file.parent.mkdir(exist_ok=True)
    write_whole(file, write)
    others = sorted(file.parent.glob(f"*{file.suffix}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in others[KEPT:]:
        path.unlink(missing_ok=True)
