"""What a run of `index` has to do: the files on disk against the files in the catalogue. Reads no unchanged file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ...index.errors import PathNotFoundError
from ...index.protocol import FileRecord
from ...index.walk import FoundFile, Skip, WalkOptions, walk
from ..errors import AppError, ExitCode
from .paths import absolute_path, own_places, stored_path

T = TypeVar("T")

EMPTY_FOLDER_FILES = 10
"""A folder that is there, empty, and held this many files or more is taken for a drive that is not mounted."""

_MOST_NAMED = 10
"""Files named in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file whose content must be looked at."""

    path: str
    """As stored."""
    found: FoundFile
    known: FileRecord | None


@dataclass(slots=True, kw_only=True)
class Survey:
    """The files on disk compared with those of a catalogue."""

    collection: Path
    """Its own folder: stored paths are relative to what holds it."""
    known: Mapping[str, FileRecord]
    """The catalogue's files, by stored path."""
    tasks: list[Task] = field(default_factory=list)
    unchanged: int = 0
    gone: list[str] = field(default_factory=list)
    """Indexed, under a root, and no longer on disk."""
    deselected: list[str] = field(default_factory=list)
    """Indexed, on disk, and now left out by a rule."""
    protected: dict[str, list[str]] = field(default_factory=dict)
    """Files that are gone together with everything in their folder, by that folder: kept unless --prune."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Left out by rule, with the reason."""
    failed: dict[str, str] = field(default_factory=dict)
    """Could not be read, with the reason; an indexed version is kept."""
    carried: dict[str, str] = field(default_factory=dict)
    """Failures of earlier runs outside of these roots: still true."""
    seen: set[str] = field(default_factory=set)
    """Every file the walk found."""

    @property
    def base(self) -> Path:
        """What stored paths are relative to."""
        return self.collection.parent

    def unaccounted(self) -> list[str]:
        """Return the known files that no root had a say about: outside of all, or not of the types asked for."""
        kept = (path for paths in self.protected.values() for path in paths)
        settled = self.seen.union(self.gone, self.deselected, kept, self.failed)
        return [path for path in self.known if path not in settled]

    def walk(self, roots: Sequence[Path], options: WalkOptions, *, prune: bool = False) -> None:
        """Add what there is to do for `roots`, absolute and resolved. Only files under them are considered.

        A root that does not exist is an error of the walk (PathNotFoundError) unless files under it are indexed. A
        file that several walks find is not lost to any of them.
        """
        part = Survey(collection=self.collection, known=self.known)
        part._walk(roots, options, prune=prune)
        self._merge(part)

    def _walk(self, roots: Sequence[Path], options: WalkOptions, *, prune: bool) -> None:
        there = [root for root in roots if is_there(root) or not _under(root, self.known, self.base)]
        found, binary = self._found(there, options)
        self.seen = set(found)
        for path, file in found.items():
            self._add(path, file, self.known.get(path))
        lost = {path: None for root in roots for path in _under(root, self.known, self.base) if path not in found}
        for path in lost:
            if not _of_type(path, options):
                continue
            state = _state(absolute_path(path, self.base))
            if not prune and path in binary:  # A text that a crash has filled with zeros.
                del self.skipped[path]
                self.failed[path] = "binary data where text was indexed before; --prune forgets it"
            if failed_in(path, self.failed) or state is _State.UNREACHABLE:
                self.failed.setdefault(path, "cannot be reached")
            else:
                (self.gone if state is _State.GONE else self.deselected).append(path)
        if not prune:
            self._protect(roots, found)

    def compare(self, path: str) -> None:
        """Add how one indexed file, wherever it is, differs from the one on disk."""
        file = absolute_path(path, self.base)
        try:
            info = file.stat()
        except OSError:
            self.gone.append(path)
            return
        self._add(path, FoundFile.of(file, info), self.known[path])

    def _add(self, path: str, file: FoundFile, record: FileRecord | None) -> None:
        if record is not None and _same(record, file):
            self.unchanged += 1
        else:
            self.tasks.append(Task(path=path, found=file, known=record))

    def _found(self, roots: Sequence[Path], options: WalkOptions) -> tuple[dict[str, FoundFile], set[str]]:
        """Return the files to index, and those skipped as binary; what else is passed over is noted."""
        found: dict[str, FoundFile] = {}
        binary: set[str] = set()
        ours = frozenset(own_places(self.collection))

        def settled(file: FoundFile) -> bool:
            record = self.known.get(stored_path(file.path, self.base))
            return record is not None and _same(record, file)

        for item in walk(roots, options, base=self.base, settled=settled):
            if item.path in ours or not ours.isdisjoint(item.path.parents):
                continue
            path = stored_path(item.path, self.base)
            if isinstance(item, FoundFile):
                found[path] = item
                continue
            # What a person has named is not passed over without a word.
            named = item.why is Skip.BINARY and item.path in roots
            if item.why.by_rule and not named:
                self.skipped[path] = item.reason
                if item.why is Skip.BINARY:
                    binary.add(path)
            else:
                self.failed[path] = item.reason
        return found, binary

    def _protect(self, roots: Sequence[Path], found: Mapping[str, FoundFile]) -> None:
        """Move files out of `gone` that vanished with their whole folder: an unmounted drive looks like that."""
        folders: dict[Path, list[str]] = {}
        for path in self.gone:
            folder = _suspect(absolute_path(path, self.base), roots)
            if folder is not None:
                folders.setdefault(folder, []).append(path)
        for folder, paths in folders.items():
            whole_root = folder in roots and not _under(folder, found, self.base)
            if whole_root or (folder not in roots and len(paths) >= EMPTY_FOLDER_FILES):
                self.protected[stored_path(folder, self.base)] = paths
        kept = {path for paths in self.protected.values() for path in paths}
        self.gone = [path for path in self.gone if path not in kept]

    def _merge(self, other: Survey) -> None:
        """Add the survey of other roots, or of the same with other options; a file either found is not lost."""
        self.tasks += [task for task in other.tasks if task.path not in self.seen]
        twice = self.seen & other.seen
        self.unchanged += other.unchanged - len(twice - {task.path for task in other.tasks})
        self.seen |= other.seen
        self.gone = [path for path in dict.fromkeys((*self.gone, *other.gone)) if path not in self.seen]
        self.deselected = [p for p in dict.fromkeys((*self.deselected, *other.deselected)) if p not in self.seen]
        for mine, theirs in ((self.skipped, other.skipped), (self.failed, other.failed)):
            mine.update(theirs)
            for path in self.seen & mine.keys():
                del mine[path]
        self.protected.update(other.protected)


class _State(Enum):
    GONE = "gone"
    THERE = "there"
    UNREACHABLE = "unreachable"


def outside(known: Mapping[str, T], roots: Sequence[Path], base: Path) -> dict[str, T]:
    """Return those of `known`, keyed by stored path, that no root contains."""
    inside = {path for root in roots for path in _under(root, known, base)}
    return {path: value for path, value in known.items() if path not in inside}


def check_places(places: Iterable[tuple[Path, WalkOptions]], known: Mapping[str, object], base: Path) -> None:
    """Raise PathNotFoundError for a place that is not there and never was, before anything is written."""
    for path, _ in places:
        if not is_there(path) and not _under(path, known, base):
            raise PathNotFoundError(f"{path}: no such file or folder. Check the spelling of the path to index.")


def check_read(lacking: Iterable[str], failed: Mapping[str, str], base: Path) -> None:
    """Raise AppError when one of the indexed files that a rebuild lacks could not be read for it."""
    reasons = {path: reason for path in sorted(lacking) if (reason := failed_in(path, failed)) is not None}
    if not reasons:
        return
    named = ", ".join(f"{absolute_path(path, base)} ({reason})" for path, reason in list(reasons.items())[:_MOST_NAMED])
    more = f" and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    raise AppError(
        f"{named}{more}: cannot be read now, and the version indexed before would be lost. The collection is as it "
        "was, and what was rebuilt is kept. Fix or delete the files and repeat the command, which goes on from there, "
        "or do without them",
        next_command=("index", "--rebuild", "--prune"),
        code=ExitCode.INCOMPLETE,
    )


def _same(record: FileRecord, file: FoundFile) -> bool:
    """Return whether a file is taken for unchanged without reading it."""
    return (file.size, file.mtime_ns, file.inode) == (record.size, record.mtime_ns, record.inode)


def _under(root: Path, known: Mapping[str, object], base: Path) -> list[str]:
    """Return the stored paths at or below a root."""
    top = stored_path(root, base)
    if top == ".":
        return [path for path in known if not path.startswith("/")]
    prefix = top.rstrip("/") + "/"
    below = [path for path in known if path == top or path.startswith(prefix)]
    # A root above the collection: relative paths are below it too.
    return below + ([path for path in known if not path.startswith("/")] if root in base.parents else [])


def _of_type(path: str, options: WalkOptions) -> bool:
    """Return whether a run restricted to some types has a say about this file."""
    if not options.types:
        return True
    from ...index.readers import reader_for

    name = path.rpartition("/")[2].lower()
    reader = reader_for(name)
    kinds = {name.rpartition(".")[2], "text" if reader is None else reader[0]}
    return not kinds.isdisjoint(kind.lower().lstrip(".") for kind in options.types)


def _state(path: Path) -> _State:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _State.GONE
    except OSError:
        return _State.UNREACHABLE
    return _State.THERE


def is_there(path: Path) -> bool:
    """Return whether a path leads to something; what cannot be reached is not there."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def is_gone(path: Path) -> bool:
    """Return whether there is nothing; what cannot be reached is not gone."""
    return _state(path) is _State.GONE


def failed_in(path: str, failed: Mapping[str, str]) -> str | None:
    """Return why the file, or a folder above it, could not be read; None when it could."""
    parts = path.split("/")
    above = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((failed[name] for name in (*above, ".") if name in failed), None)


def _suspect(path: Path, roots: Sequence[Path]) -> Path | None:
    """Return the root of a vanished file, or the folder between them that is there and empty; None for neither.

    A root counts when it is missing or holds no indexed file, which the caller checks.
    """
    root = next((root for root in roots if root == path or root in path.parents), None)
    if root is None or root == path:
        return root
    for folder in path.parents:
        if folder == root:
            return root
        if folder.is_dir():
            with os.scandir(folder) as entries:
                return root if any(entries) else folder
    return root
