"""Which documents a filter lets through, by type, gitignore-style glob and date, and the memory of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import numpy as np
from pathspec import GitIgnoreSpec

from .errors import QuerySyntaxError
from .protocol import Filter, Ids

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a filter looks at in a document."""

    id: int
    path: str
    format: str
    date_us: int
    """Its own date, else its file's mtime, in microseconds since 1970."""


def microseconds(date: datetime) -> int:
    """Return an aware date in microseconds since 1970, exactly. Raises QuerySyntaxError for a naive one."""
    if date.tzinfo is None:
        raise QuerySyntaxError(f"the date {date} has no time zone: give one, as in {date.isoformat()}+00:00")
    return (date - _EPOCH) // timedelta(microseconds=1)


def matching_documents(candidates: Sequence[Candidate], where: Filter) -> Ids:
    """Return the ascending ids of the documents that `where` lets through.

    Globs see a path as it is stored: nothing is folded, `_` and `%` are plain characters. Raises QuerySyntaxError for
    an empty type or glob, a negated glob, or a date without time zone.
    """
    types = tuple(_file_type(type_) for type_ in where.types)
    paths = _globs(where.paths)
    exclude = _globs(where.exclude)
    after = None if where.after is None else microseconds(where.after)
    before = None if where.before is None else microseconds(where.before)
    found = [
        candidate.id
        for candidate in candidates
        if (not types or _has_type(candidate, types))
        and (after is None or candidate.date_us >= after)
        and (before is None or candidate.date_us < before)
        and (paths is None or paths.match_file(candidate.path))
        and (exclude is None or not exclude.match_file(candidate.path))
    ]
    return np.array(sorted(found), dtype=np.int64)


def _file_type(type_: str) -> str:
    name = type_.strip().removeprefix(".").casefold()
    if not name:
        raise QuerySyntaxError(f"the file type {type_!r} is empty: expected an extension (md) or a format (markdown)")
    return name


def _has_type(candidate: Candidate, types: Sequence[str]) -> bool:
    name = PurePosixPath(candidate.path).name.casefold()
    return any(candidate.format.casefold() == type_ or name.endswith(f".{type_}") for type_ in types)


def _globs(globs: Sequence[str]) -> GitIgnoreSpec | None:
    """Return one spec that matches what any of the globs matches, None for no glob."""
    return GitIgnoreSpec.from_lines([_line(glob) for glob in globs]) if globs else None


def _line(glob: str) -> str:
    """Return a glob as a line of a .gitignore, where comments, negation and trailing spaces would be syntax."""
    text = glob.removeprefix("./")
    if not text.strip() or not text.strip("/"):
        raise QuerySyntaxError(f"the glob {glob!r} is empty: expected a pattern such as docs/ or *.md")
    if text.startswith("!"):
        raise QuerySyntaxError(f"the glob {glob!r} is negated: give {text[1:]!r} as a glob to exclude instead")
    if text.startswith("#"):
        text = "\\" + text
    bare = text.rstrip(" ")
    text = bare + "\\ " * (len(text) - len(bare))
    try:
        GitIgnoreSpec.from_lines([text])
    except (ValueError, re.error) as error:  # pathspec lets the latter out: a range such as [9-0]
        raise QuerySyntaxError(f"the glob {glob!r} cannot be understood ({error}): use * ? [abc] and **") from error
    return text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restriction:
    """Which chunks may be found: those of the documents that are also among the chunks; None: all of that kind."""

    documents: Ids | None
    chunks: Ids | None
    """Ascending, each once."""

    @property
    def lets_none_through(self) -> bool:
        """Whether nothing qualifies, as far as is known without looking."""
        return any(ids is not None and not len(ids) for ids in (self.documents, self.chunks))

    def sql(self, chunk: str) -> tuple[str, list[str]]:
        """Return a condition on `chunk`, an expression for a chunk's id, that begins with AND, and its arguments."""
        condition, arguments = "", []
        if self.documents is not None:
            documents = "SELECT id FROM chunks WHERE document_id IN (SELECT value FROM json_each(?))"
            condition += f" AND {chunk} IN ({documents})"
            arguments.append(json.dumps(self.documents.tolist()))
        if self.chunks is not None:
            condition += f" AND {chunk} IN (SELECT value FROM json_each(?))"
            arguments.append(json.dumps(self.chunks.tolist()))
        return condition, arguments
