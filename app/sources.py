"""What a collection was made from: the paths and options of its `index` runs, so that a refresh needs no arguments.

Kept in `sources.json` in the collection's folder. Losing it loses no content: `index PATH` writes it anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ..index.walk import WalkOptions
from .errors import AppError

FILE_NAME = "sources.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One path that was indexed, and how."""

    path: str
    """As the catalogue stores paths; "." is the folder that holds the collection."""
    options: WalkOptions


def read_sources(collection: Path) -> list[Source]:
    """Return the sources of a collection in the order they came, [] when they are not known."""
    path = collection / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [_source(item) for item in data["sources"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise AppError(
            f"{path} is damaged ({error}): expected what `searchctl index PATH` writes. Delete it, then run "
            "`searchctl index PATH` again"
        ) from error


def remember_sources(collection: Path, sources: list[Source]) -> None:
    """Add these to a collection's sources; one with the same path is replaced."""
    known = {source.path: source for source in read_sources(collection)}
    known.update({source.path: source for source in sources})
    data = {
        "schema": _SCHEMA,
        "sources": [{"path": source.path, **asdict(source.options)} for source in known.values()],
    }
    temporary = collection / f"{FILE_NAME}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(collection / FILE_NAME)


def _source(item: dict[str, object]) -> Source:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
    path = values.pop("path")
    if not isinstance(path, str):
        raise TypeError(f"path is {path!r}")
    return Source(path=path, options=WalkOptions(**values))  # type: ignore[arg-type]
