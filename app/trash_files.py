"""Files on their way into the trash and back: renamed, or copied, compared and only then removed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from ..training.whole_files import sync
from .dedup_checks import hash_file
from .errors import AppError
from .trash import Moved, Step


def as_noted(path: Path, file: Moved) -> bool:
    """Return whether the file is there itself, as the manifest describes it; read only when its time is another."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(info.st_mode) or info.st_size != file.size or os.path.realpath(path) != str(path):
        return False
    return info.st_mtime_ns == file.mtime_ns or hash_file(path) == file.content_hash


def is_there(path: Path) -> bool:
    """Return whether anything has this name, a dangling symlink too."""
    return os.path.lexists(path)


def move_in(source: Path, target: Path, part: Path, content_hash: str, *, step: Step) -> None:
    """Move a file into the trash, where nothing is at `target`; `part` is its place while it is copied."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_whole(source, part, content_hash, step=step)
        part.rename(target)
        step("copy:named")
        sync(target.parent)
        source.unlink()


def move_back(source: Path, place: Path, part: Path, *, step: Step) -> None:
    """Move a file out of the trash to its place. Raises FileExistsError when something is there.

    `part`, beside the place, is where a copy stands until it is whole.
    """
    try:
        _name_anew(source, place, step=step)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_whole(source, part, hash_file(source), step=step)
        _name_anew(part, place, step=step)
        sync(place.parent)
        step("copy:named")
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
