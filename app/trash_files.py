"""Files on their way into the trash and back: renamed, or copied, compared and only then removed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..index.durable import sync
from .dedup_files import hash_file, state_of
from .errors import AppError
from .trash import Moved, Step

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
        copy_whole(source, part, content_hash, step=step)
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
        copy_whole(source, part, hash_file(source), step=step)
        _name_anew(part, place, step=step)
        sync(place.parent)
        step("copy:named")
        if state_of(source.lstat()) != state_of(seen):
            raise OSError(errno.EBUSY, "it was changed in the trash while it was copied", str(source)) from error
        source.unlink()


def copy_whole(source: Path, part: Path, content_hash: str, *, step: Step) -> None:
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
