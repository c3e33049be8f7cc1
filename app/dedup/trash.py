"""The trash folder beside a collection: a folder for each `searchctl dedup apply`, with a manifest to undo it by.

Files are renamed on their way into it and back, or copied, compared and only then removed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from blake3 import blake3

from ...index.durable import sync, write_whole
from ...index.file_names import TRASH_FOLDER
from ..errors import AppError, ExitCode
from .files import hash_file, state_of

MANIFEST_FILE = "manifest.json"
ROWS_FILE = "rows.db"
PART_FILE = "part"
"""A file on its way in from another file system."""
FILES_FOLDER = "files"
OUTSIDE_FOLDER = "outside"
"""For files with an absolute stored path, which do not lie below the collection's root."""

_SCHEMA = 1
_MANIFEST_PART = f"{MANIFEST_FILE}.part"
_ID = re.compile(r"\d{4}-\d{2}-\d{2}-\d{6}-[0-9a-f]{6,}")

Step = Callable[[str], None]


class State(StrEnum):
    """How far an apply, or its undo, has come."""

    APPLYING = "applying"
    """Begun; a killed one stays so until it is finished or undone."""
    APPLIED = "applied"
    UNDOING = "undoing"
    PARTLY = "partly undone"
    """Something else was in the place of a file, which is still in the trash."""
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One file of an apply, as it was."""

    path: str
    """As the collection stores it."""
    target: str
    """Its place in the folder of the apply."""
    size: int
    mtime_ns: int
    mode: int
    content_hash: str
    kept: str
    tier: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that is needed to finish an apply or to take it back."""

    id: str
    made: datetime
    state: State
    collection: str
    """The name of the collection's own folder: the trash may be that of several."""
    plan: str
    """Digest of the plan and of what was left out of it by --skip-changed."""
    files: tuple[Moved, ...]
    """Once it is applied, only those that were taken."""
    rows: bool = True
    """The rows were kept in a file; false when the apply was ended before that, as its undo found."""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


class Trash:
    """The trash folder of a collection."""

    def __init__(self, collection: Path) -> None:
        """`collection` is its own folder. Raises AppError when something else is in the trash folder's place."""
        self.root = collection.parent
        self.folder = self.root / TRASH_FOLDER
        self._name = collection.name
        try:
            mode = self.folder.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise AppError(
                f"{self.folder} is {'a symlink' if stat.S_ISLNK(mode) else 'no folder'}: expected the folder that "
                "searchctl makes for what `dedup apply` takes away. Move it out of the way"
            )

    def path_of(self, manifest: Manifest) -> Path:
        """Return the folder of one apply."""
        return self.folder / manifest.id

    def manifests(self) -> list[Manifest]:
        """Return every apply to this collection, the oldest first."""
        mine = (manifest for manifest in self._all() if manifest.collection == self._name)
        return sorted(mine, key=lambda manifest: (manifest.made, manifest.id))

    def missing(self) -> list[str]:
        """Return the names of collections that are not here, and of which something lies in the trash: renamed ones."""
        held = {manifest.collection for manifest in self._all() if manifest.state is not State.UNDONE}
        return sorted(name for name in held if not (self.root / name).exists())

    def _all(self) -> list[Manifest]:
        if not self.folder.is_dir():
            return []
        return [
            read_manifest(folder / MANIFEST_FILE)
            for folder in sorted(self.folder.iterdir())
            if _ID.fullmatch(folder.name) and (folder / MANIFEST_FILE).is_file()
        ]

    def begin(self, manifest: Manifest, *, step: Step) -> Manifest:
        """Make the folder of an apply with its manifest, on the disk when this returns; the id is chosen here."""
        self.folder.mkdir(exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.is_file():
            # Other collections beside this one, each with a lock of its own, may be doing the same.
            write_whole(ignore, b"*\n", part=self.folder / f".gitignore-{self._name}.part")
        sync(self.root)
        step("trash:made")
        earlier = self.manifests()
        for undone in earlier:
            if undone.state is State.UNDONE:
                self.clean(undone)  # whose undo was killed at its very end
        # One left by a killed process is empty, or has a manifest that never counted.
        new = self.folder / f".new-{self._name}"
        new.mkdir(exist_ok=True)
        if earlier:  # the latest is told by this, also when the clock was put back
            manifest = replace(manifest, made=max(manifest.made, earlier[-1].made + timedelta(microseconds=1)))
        made = replace(manifest, id=self._new_id(manifest), collection=self._name)
        self._write(new, made)
        step("trash:manifest")
        new.rename(self.path_of(made))
        sync(self.folder)
        step("trash:begun")
        return made

    def _new_id(self, manifest: Manifest) -> str:
        seed = f"{manifest.plan} {manifest.made.isoformat()}"
        digest = blake3(seed.encode()).hexdigest()
        stem = f"{manifest.made:%Y-%m-%d-%H%M%S}"
        # Longer until nothing has this name: two in one second are of different plans, or of one undone in between.
        return next(id_ for length in range(6, 65) if not (self.folder / (id_ := f"{stem}-{digest[:length]}")).exists())

    def update(self, manifest: Manifest, **changes: Any) -> Manifest:
        """Write the manifest with these fields changed, on the disk when this returns, and return it."""
        changed = replace(manifest, **changes)
        if changed != manifest:
            self._write(self.path_of(manifest), changed)
        return changed

    def _write(self, folder: Path, manifest: Manifest) -> None:
        document = {"schema": _SCHEMA, **asdict(manifest), "made": manifest.made.isoformat(), "bytes": manifest.bytes}
        content = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        # Whoever writes it holds the collection's write lock.
        write_whole(folder / MANIFEST_FILE, content.encode(), part=folder / _MANIFEST_PART)

    def clean(self, manifest: Manifest) -> None:
        """Remove what an undone apply needs no more; the manifest stays, to be listed."""
        folder = self.path_of(manifest)
        for name in (ROWS_FILE, f"{ROWS_FILE}.part", PART_FILE, _MANIFEST_PART):
            (folder / name).unlink(missing_ok=True)
        for entry in folder.iterdir():
            remove_empty(entry)


def remove_empty(top: Path) -> None:
    """Remove the folders at and below `top` that hold no file; symlinks are not followed."""
    if top.is_symlink() or not top.is_dir():
        return
    for entry in top.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            remove_empty(entry)
    if not any(top.iterdir()):
        top.rmdir()


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in `path`. Raises AppError when it is not what searchctl wrote."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema") != _SCHEMA:
            raise ValueError("it is of another version of searchctl")
        del data["bytes"]
        files = tuple(Moved(**item) for item in data.pop("files"))
        return Manifest(
            id=data.pop("id"),
            made=datetime.fromisoformat(data.pop("made")),
            state=State(data.pop("state")),
            files=files,
            **data,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AppError(
            f"{path} cannot be read ({error}): expected what `dedup apply` wrote. Move the folder "
            f"{path.parent} out of the trash, for until then nothing else in it can be applied or undone. The files "
            "that were taken away lie in it, each under its own path, to be moved back by hand",
            code=ExitCode.INCOMPLETE,
        ) from error


DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that are no file's own: every other one would meet them too."""


def as_noted(path: Path, file: Moved) -> bool:
    """Return whether the file is there itself, as the manifest describes it; read only when its time is another."""
    return _is_like(path, file) and (path.lstat().st_mtime_ns == file.mtime_ns or has_bytes(path, file))


def has_bytes(path: Path, file: Moved) -> bool:
    """Return whether the file is there itself with the bytes that the manifest says; they are read."""
    return _is_like(path, file) and hash_file(path) == file.content_hash


def _is_like(path: Path, file: Moved) -> bool:
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(info.st_mode) and info.st_size == file.size and os.path.realpath(path) == str(path)


def is_there(path: Path) -> bool:
    """Return whether anything has this name, a dangling symlink too."""
    return os.path.lexists(path)


def make_folder(folder: Path, top: Path) -> None:
    """Make a folder below `top`, or `top` itself, and those between, their names on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    while folder != top:
        folder = folder.parent
        sync(folder)


def sync_names(folders: Iterable[Path]) -> None:
    """Bring the names in these folders to the disk, as far as they are there and may be read."""
    for folder in sorted(folders):
        # One that may be written and not read cannot be opened to be synced.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            sync(folder)


def move_in(source: Path, target: Path, part: Path, content_hash: str, *, step: Step) -> bool:
    """Move a file into the trash, where nothing is at `target`; `part` is its place while it is copied.

    Returns False when it changed while it was copied: it is where it was then, as after an OSError."""
    try:
        source.rename(target)
        return True
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    seen = source.lstat()
    try:
        _copy_whole(source, part, content_hash, step=step)
    except AppError:
        if state_of(source.lstat()) != state_of(seen):
            return False
        raise
    part.rename(target)
    step("copy:named")
    return drop_original(source, target, seen)


def drop_original(source: Path, target: Path, seen: os.stat_result) -> bool:
    """Remove a file that was copied to `target`, or the copy when it is not as it was `seen`; return which."""
    try:
        sync(target.parent)
        unchanged = state_of(source.lstat()) == state_of(seen)
        if unchanged:
            source.unlink()
    except FileNotFoundError:
        return True  # somebody else took it away, and the copy is all there is
    except OSError:
        target.unlink()
        raise
    if not unchanged:
        target.unlink()
    return unchanged


def move_back(source: Path, place: Path, part: Path, *, step: Step) -> None:
    """Move a file out of the trash to its place. Raises FileExistsError when something is there.

    `part`, beside the place, is where a copy stands until it is whole.
    """
    try:
        _name_anew(source, place, step=step)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        seen = source.lstat()
        _copy_whole(source, part, hash_file(source), step=step)
        _name_anew(part, place, step=step)
        sync(place.parent)
        step("copy:named")
        if state_of(source.lstat()) != state_of(seen):
            raise OSError(errno.EBUSY, "it was changed in the trash while it was copied", str(source)) from error
        source.unlink()


def _copy_whole(source: Path, part: Path, content_hash: str, *, step: Step) -> None:
    """Copy a file with its times, mode and owner to `part`, on the disk and compared when this returns."""
    try:
        shutil.copy2(source, part, follow_symlinks=False)
        info = source.lstat()
        with suppress(PermissionError):  # only root may give a file away; the person's own are theirs already
            os.chown(part, info.st_uid, info.st_gid)
            part.chmod(stat.S_IMODE(info.st_mode))  # chown takes some bits away
        sync(part)
        if hash_file(part) != content_hash:
            raise AppError(
                f"the copy of {source} on another disk is not what was read: nothing of it was taken away. Check the "
                "disk, then run the command again"
            )
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    step("copy:copied")


def _name_anew(source: Path, place: Path, *, step: Step) -> None:
    """Rename a file to a place where nothing is. Raises FileExistsError, also for what comes there meanwhile."""
    try:
        os.link(source, place, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        # A file system without hard links, or a file that may not be linked: looked at, then renamed.
        if is_there(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from error
        source.rename(place)
        return
    step("back:linked")
    source.unlink()
