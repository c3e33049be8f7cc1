"""Which files of a tree are to be indexed, and why the others are not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from .errors import IndexRoomError, PathNotFoundError
from .file_names import COLLECTION_FOLDER, TRASH_FOLDER
from .ignore import IgnoreLevel, ancestor_levels, ignored_by, load_level, parse_patterns
from .readers import claims_text, reader_for
from .readers.decoding import SNIFF_BYTES, looks_binary

_NEVER = frozenset({".git", COLLECTION_FOLDER, TRASH_FOLDER})


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkOptions:
    """What to take from a tree."""

    hidden: bool = False
    """Take files and folders whose name begins with a dot; `.git`, `.searchctl` and `.searchctl-trash` never."""
    no_ignore: bool = False
    """Pay no heed to .gitignore, .ignore and .searchctlignore."""
    max_bytes: int = 32 * 2**20
    types: tuple[str, ...] = ()
    """Extensions without dot ("md") or format names ("markdown"), case-insensitive; empty takes all."""
    exclude: tuple[str, ...] = ()
    """Patterns as in .gitignore, relative to each root."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}: expected a whole number of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to index."""

    path: Path
    """Absolute, as reached from its root; symlinks in it are not resolved."""
    size: int
    mtime_ns: int
    """As a catalogue can store it: a clock that was wrong may have said a year beyond 2262."""
    inode: int

    @classmethod
    def of(cls, path: Path, info: os.stat_result) -> FoundFile:
        """Return the file at `path` as `info` tells it."""
        mtime_ns = max(-(2**63), min(info.st_mtime_ns, 2**63 - 1))
        return cls(path=path, size=info.st_size, mtime_ns=mtime_ns, inode=info.st_ino)


class Skip(Enum):
    """Why a file is not indexed."""

    HIDDEN = auto()
    EXCLUDED = auto()
    IGNORED = auto()
    OTHER_TYPE = auto()
    BINARY = auto()
    TOO_LARGE = auto()
    NO_FILE = auto()
    """A pipe, a socket, a device."""
    LINK = auto()
    """To where nothing is indexed, or to what is indexed already."""
    NAME = auto()
    """Which cannot be stored."""
    UNREADABLE = auto()

    @property
    def by_rule(self) -> bool:
        """Whether it was meant to be left out; else a person wanted it and does not get it."""
        return self not in (Skip.NAME, Skip.UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """A file, or a whole folder, that is not indexed."""

    path: Path
    why: Skip
    reason: str
    """In words."""


_Why = tuple[Skip, str]
Settled = Callable[[FoundFile], bool]
"""Whether a file is known to be a document, so that its content need not be looked at."""


def _unsettled(file: FoundFile) -> bool:
    return False


def walk(
    roots: Sequence[Path], options: WalkOptions, *, base: Path | None = None, settled: Settled = _unsettled
) -> Iterator[FoundFile | SkippedFile]:
    """Yield each file below `roots` once, sorted within its folder, files before folders, symlinks last.

    A root that is a file is taken whatever the ignore rules say. An ignored or hidden folder is one SkippedFile;
    `.git`, `.searchctl` and `.searchctl-trash` are passed over in silence. The .searchctlignore of `base`, the folder
    that holds the collection, counts for all roots below it. A symlink is followed only to where some root contains
    it, and never to a file already seen. Of files that are not `settled` and whose names say no more than text the
    beginning is read, to leave out binaries. Raises PathNotFoundError, before anything is yielded, when a root does not
    exist, and IndexRoomError when it lies in a trash folder.
    """
    absolute = [Path(os.path.abspath(root)) for root in roots]  # noqa: PTH100 (Path.resolve would follow symlinks)
    for root in absolute:
        if not root.exists():
            raise PathNotFoundError(f"{root}: no such file or folder. Check the spelling of the path to index.")
        if any(part.casefold() == TRASH_FOLDER for part in Path(os.path.realpath(root)).parts):
            raise IndexRoomError(
                f"{root} lies in the trash folder of `dedup apply`, which is never indexed: expected a path "
                "outside of it. Bring files back, or copy them elsewhere",
                next_command=("dedup", "undo"),
            )
    return _Walk(absolute, options, base, settled).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """A folder still to be listed."""

    path: Path
    real: str
    root: Path
    levels: tuple[IgnoreLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A symlink kept for the second pass: its target may be reached directly."""

    path: Path
    folder: _Folder


class _Walk:
    """State of one walk."""

    def __init__(self, roots: Sequence[Path], options: WalkOptions, base: Path | None, settled: Settled) -> None:
        self._options = options
        self._settled = settled
        self._base = base
        self._roots = roots
        self._allowed = tuple(os.path.realpath(root) for root in roots)
        self._types = frozenset(kind.lower().lstrip(".") for kind in options.types)
        self._exclude = parse_patterns(options.exclude, "exclude") if options.exclude else None
        self._seen: set[str] = set()
        self._links: list[_Link] = []

    def run(self) -> Iterator[FoundFile | SkippedFile]:
        for root, real in zip(self._roots, self._allowed, strict=True):
            if root.is_dir():
                levels = () if self._options.no_ignore else ancestor_levels(root, self._base)
                yield from self._tree(_Folder(path=root, real=real, root=root, levels=levels))
            else:
                yield from self._file(root, real, Path(real).stat(), explicit=True)
        while self._links:
            links, self._links = self._links, []
            for link in links:
                yield from self._follow(link)

    def _tree(self, top: _Folder) -> Iterator[FoundFile | SkippedFile]:
        stack = [top]
        while stack:
            folder = stack.pop()
            if folder.real in self._seen:
                continue
            self._seen.add(folder.real)
            try:
                with os.scandir(folder.path) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                yield SkippedFile(path=folder.path, why=Skip.UNREADABLE, reason=_reason(error))
                continue
            levels = folder.levels
            if not self._options.no_ignore:
                level = load_level(folder.path, {entry.name for entry in entries})
                levels = (*levels, level) if level is not None else levels
            folder = _Folder(path=folder.path, real=folder.real, root=folder.root, levels=levels)
            below: list[_Folder] = []
            for entry in entries:
                yield from self._entry(entry, folder, below)
            stack.extend(reversed(below))

    def _entry(
        self, entry: os.DirEntry[str], folder: _Folder, below: list[_Folder]
    ) -> Iterator[FoundFile | SkippedFile]:
        path = folder.path / entry.name
        if entry.name in _NEVER:
            return
        try:
            is_dir = entry.is_dir()
            refusal = self._refusal(path, folder, is_dir=is_dir)
            if refusal is not None:
                yield SkippedFile(path=path, why=refusal[0], reason=refusal[1])
            elif entry.is_symlink():
                self._links.append(_Link(path=path, folder=folder))
            elif is_dir:
                real = f"{folder.real.rstrip(os.sep)}{os.sep}{entry.name}"
                below.append(_Folder(path=path, real=real, root=folder.root, levels=folder.levels))
            else:
                real = f"{folder.real.rstrip(os.sep)}{os.sep}{entry.name}"
                yield from self._file(path, real, entry.stat(follow_symlinks=False))
        except OSError as error:
            yield SkippedFile(path=path, why=Skip.UNREADABLE, reason=_reason(error))

    def _refusal(self, path: Path, folder: _Folder, *, is_dir: bool) -> _Why | None:
        """Return why rules hide a file or folder, None when they do not."""
        try:
            path.name.encode()
        except UnicodeEncodeError:
            return Skip.NAME, "its name is not valid UTF-8 and cannot be stored; rename it"
        if not self._options.hidden and path.name.startswith("."):
            return Skip.HIDDEN, "hidden"
        if self._exclude is not None:
            relative = path.relative_to(folder.root).as_posix() + ("/" if is_dir else "")
            if self._exclude.check_file(relative).include:
                return Skip.EXCLUDED, "excluded by a pattern given for this run"
        source = ignored_by(path, folder.levels, is_dir=is_dir)
        return (Skip.IGNORED, f"ignored by {source}") if source is not None else None

    def _file(
        self, path: Path, real: str, info: os.stat_result, *, explicit: bool = False
    ) -> Iterator[FoundFile | SkippedFile]:
        if real in self._seen:
            return
        self._seen.add(real)
        found = FoundFile.of(path, info)
        why = self._unfit(path, info)
        if why is None and not explicit and not self._wanted(path.name):
            why = Skip.OTHER_TYPE, f"not of type {', '.join(sorted(self._types))}"
        why = why or self._sniffed(found)
        yield found if why is None else SkippedFile(path=path, why=why[0], reason=why[1])

    def _unfit(self, path: Path, info: os.stat_result) -> _Why | None:
        """Return why a file cannot be read as a document, None when it may be."""
        if not stat.S_ISREG(info.st_mode):
            return Skip.NO_FILE, f"not a regular file ({_kind(info.st_mode)})"
        if info.st_size > self._options.max_bytes:
            return Skip.TOO_LARGE, f"{info.st_size:,} bytes, more than the cap of {self._options.max_bytes:,}"
        if not os.access(path, os.R_OK):
            return Skip.UNREADABLE, "permission denied"
        return None

    def _sniffed(self, file: FoundFile) -> _Why | None:
        """Return why the beginning of a file is none of a text, None when it may be."""
        if not claims_text(file.path.name) or self._settled(file):
            return None
        try:
            with file.path.open("rb") as stream:
                return (Skip.BINARY, "binary") if looks_binary(stream.read(SNIFF_BYTES)) else None
        except OSError as error:
            return Skip.UNREADABLE, _reason(error)

    def _wanted(self, name: str) -> bool:
        if not self._types:
            return True
        kinds = {name.rpartition(".")[2].lower()} if "." in name else set()
        found = reader_for(name)
        kinds.add(found[0] if found is not None else "text")
        return not self._types.isdisjoint(kinds)

    def _follow(self, link: _Link) -> Iterator[FoundFile | SkippedFile]:
        try:
            # strict: a dangling link and a loop are OSErrors here.
            real = os.path.realpath(link.path, strict=True)
            inside = any(
                real == allowed or real.startswith(allowed.rstrip(os.sep) + os.sep) for allowed in self._allowed
            )
            if not inside:
                yield SkippedFile(
                    path=link.path, why=Skip.LINK, reason=f"symlink to {real}, outside of what is indexed"
                )
            elif not _NEVER.isdisjoint(Path(real).parts):
                yield SkippedFile(path=link.path, why=Skip.LINK, reason=f"symlink to {real}, which is never indexed")
            elif real in self._seen:
                yield SkippedFile(path=link.path, why=Skip.LINK, reason=f"symlink to {real}, already seen")
            elif Path(real).is_dir():
                yield from self._tree(
                    _Folder(path=link.path, real=real, root=link.folder.root, levels=link.folder.levels)
                )
            else:
                yield from self._file(link.path, real, Path(real).stat())
        except OSError as error:
            yield SkippedFile(path=link.path, why=Skip.UNREADABLE, reason=f"symlink: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "device"), (stat.S_ISCHR, "device"))
    return next((name for test, name in kinds if test(mode)), "special file")
