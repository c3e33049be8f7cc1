"""Passages of plain text to make pairs of: from JSON lines, from documents of any format that has a reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ...index.documents import Document
from ...index.errors import IndexRoomError, ReadError
from ...index.readers import read_document
from ...index.walk import SkippedFile, WalkOptions, walk
from ..errors import DataError
from .corpus import data_files
from .crops import Passage
from .json_lines import SUFFIXES, Source
from .sentences import SEPARATOR

# Beginnings of a walk's reasons. These are true of a file below a folder only: one that is named is read all the same.
_BY_RULE = ("hidden", "ignored by", "symlink to")
# These are nothing to tell of below a folder, but of a file that a person named.
_NO_TEXT = ("binary", "not a regular file")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """What one file holds."""

    path: Path
    digest: str
    """blake3 of its content, unpacked."""
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that could not be read, and why."""

    path: Path
    reason: str


def text_files(places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files of JSON lines, and the places where documents are: files, and all folders.

    A folder stands for the .jsonl and .jsonl.gz files in it, as in a training run, and for the documents below it.
    Raises DataError for a place that is not there.
    """
    lines: list[Path] = []
    documents: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(place, "no such file or folder: expected JSON lines, a document, or a folder of either")
        if place.is_dir():
            documents.append(place)
            lines += data_files([place]) if any(path.name.endswith(SUFFIXES) for path in place.iterdir()) else []
        else:
            (lines if place.name.endswith(SUFFIXES) else documents).append(place)
    return list(dict.fromkeys(lines)), documents


def read_lines(path: Path) -> TextFile:
    """Return the texts of a file of {"text"}, with "title" where there is one that is not empty.

    Raises DataError with the line for anything else.
    """
    source = Source(path)
    passages = []
    for row in source.rows():
        title = "" if row.fields.get("title") is None else row.string("title").strip()
        passages.append(Passage(row.text("text"), title or None))
    return TextFile(path=path, digest=source.digest, passages=tuple(passages))


def read_documents(
    places: Sequence[Path], told: Callable[[str], None] = lambda name: None, *, apart: Sequence[Path] = ()
) -> Iterator[TextFile | Unread]:
    """Yield each document found below `places` that is none of `apart`, in the order of a walk, or why it is unread.

    Hidden, ignored and binary files below a folder are left out, as an index leaves them out. Each section is a
    passage, its title and headings are the passage's title.
    """
    others = {os.path.realpath(path) for path in apart}
    named = {os.path.realpath(path) for path in places}
    for found in walk(places, WalkOptions()):
        # Path.resolve raises RuntimeError for a symlink that leads to itself.
        real = os.path.realpath(found.path)
        if real in others:
            continue
        if isinstance(found, SkippedFile):
            if not found.reason.startswith(_BY_RULE if real in named else (*_BY_RULE, *_NO_TEXT)):
                yield Unread(path=found.path, reason=found.reason)
            continue
        told(found.path.name)
        try:
            data = found.path.read_bytes()
            document = read_document(data, found.path.name)
        except OSError as error:
            yield Unread(path=found.path, reason=error.strerror or str(error))
        except (ReadError, IndexRoomError) as error:
            yield Unread(path=found.path, reason=str(error))
        else:
            yield TextFile(path=found.path, digest=blake3(data).hexdigest(), passages=_sections(document))


def _sections(document: Document) -> tuple[Passage, ...]:
    found = []
    for section in document.sections:
        parts = [" ".join(part.split()) for part in (document.title or "", *section.headings)]
        title = SEPARATOR.join(dict.fromkeys(filter(None, parts)))
        if section.text.strip():
            found.append(Passage(section.text.strip(), title or None))
    return tuple(found)
