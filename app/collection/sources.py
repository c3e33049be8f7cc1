"""What a collection was made from: the paths and options of its `index` runs, so that a refresh needs no arguments.

Kept in `sources.json` in the collection's folder. Losing it loses no content: `index PATH` writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...index.durable import write_whole
from ...index.walk import WalkOptions
from ..errors import AppError

FILE_NAME = "sources.json"
PART_NAME = f"{FILE_NAME}.tmp"
"""Its place until it is whole."""
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One path that was indexed, and how."""

    path: str
    """As the catalogue stores paths; "." is the folder that holds the collection."""
    options: WalkOptions

    def covers(self, other: Source) -> bool:
        """Return whether a run of this source looks at everything a run of `other` does."""
        mine, theirs = set(self.options.types), set(other.options.types)
        return self.path == other.path and (not mine or (bool(theirs) and theirs <= mine))


def widened(options: WalkOptions, earlier: WalkOptions) -> WalkOptions:
    """Return `options` with the types of an earlier run of the same path too: its files are in the collection."""
    if not options.types or not earlier.types:
        return replace(options, types=())
    return replace(options, types=tuple(dict.fromkeys((*earlier.types, *options.types))))


def read_sources(collection: Path) -> list[Source]:
    """Return the sources of a collection in the order they came, [] when they are not known."""
    return _read(collection)[0]


def read_unfinished(collection: Path) -> list[Source]:
    """Return the sources, with the options of that run, whose run was begun and has not ended."""
    return _read(collection)[1]


def _read(collection: Path) -> tuple[list[Source], list[Source]]:
    path = collection / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [_source(item) for item in data["sources"]], [_source(item) for item in data.get("unfinished", [])]
    except FileNotFoundError:
        return [], []
    except (ValueError, KeyError, TypeError) as error:
        raise AppError(
            f"{path} is damaged ({error}): expected what index writes. Delete it, then index again",
            next_command=("index", "PATH"),
        ) from error


def remember_sources(
    collection: Path, sources: Sequence[Source], *, unfinished: Sequence[Source], forget: Collection[str] = ()
) -> None:
    """Add these to a collection's sources but for the paths in `forget`, and replace those that are unfinished.

    One with the same path takes the place of the earlier, whose types it keeps.
    """
    known = {source.path: source for source in read_sources(collection)}
    for source in sources:
        earlier = known.get(source.path)
        options = source.options if earlier is None else widened(source.options, earlier.options)
        known[source.path] = Source(path=source.path, options=options)
    data = {
        "schema": _SCHEMA,
        "sources": _items([source for source in known.values() if source.path not in forget]),
        "unfinished": _items(list(dict.fromkeys(unfinished))),
    }
    content = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    # The collection has one writer at a time.
    write_whole(collection / FILE_NAME, content.encode(), part=collection / PART_NAME)


def _items(sources: Sequence[Source]) -> list[dict[str, object]]:
    return [{"path": source.path, **asdict(source.options)} for source in sources]


def _source(item: dict[str, object]) -> Source:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
    path = values.pop("path")
    if not isinstance(path, str):
        raise TypeError(f"path is {path!r}")
    return Source(path=path, options=WalkOptions(**values))  # type: ignore[arg-type]
