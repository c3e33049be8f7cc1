"""The files that a plan names, as they are now: those that go, and those that stay for their sake."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from ...index.file_names import TRASH_FOLDER
from ..collection.paths import absolute_path
from .plan import Kept


class DoesNotFitError(Exception):
    """Why an action cannot be done."""


def hash_file(file: Path) -> str:
    """Return the blake3 hex of a file's bytes."""
    return blake3(max_threads=1).update_mmap(file).hexdigest()


def state_of(info: os.stat_result) -> tuple[int, ...]:
    """Return what is another after any change of a file."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def said(error: OSError) -> str:
    """Return the reason of an error as part of a sentence."""
    return (error.strerror or str(error)).lower()


def look_at_file(file: Path) -> os.stat_result:
    """Return the state of a file. Raises DoesNotFitError when it is gone, a link, reached through one, or trash."""
    try:
        info = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise DoesNotFitError("it is gone") from None
    except OSError as error:
        raise DoesNotFitError(f"it cannot be reached ({said(error)})") from error
    if stat.S_ISLNK(info.st_mode):
        raise DoesNotFitError(f"it is a symlink to {file.readlink()}: only files themselves are taken away")
    if not stat.S_ISREG(info.st_mode):
        raise DoesNotFitError("it is no regular file")
    real = os.path.realpath(file)
    if real != str(file):
        raise DoesNotFitError(
            f"it is reached through a symlink, and lies in {real}: only files themselves are taken away"
        )
    _check_no_trash(real, "it")
    return info


def look_at_kept(kept: Kept, base: Path) -> os.stat_result:
    """Return the state of a file that stays, whose bytes are read. Raises DoesNotFitError."""
    what = f"the kept file {kept.path}"
    file = absolute_path(kept.path, base)
    try:
        info = file.stat()
        if not stat.S_ISREG(info.st_mode):
            raise DoesNotFitError(f"{what} is no file any more")
        _check_no_trash(os.path.realpath(file), what)
        if hash_file(file) != kept.content_hash:
            raise DoesNotFitError(f"{what} has changed since it was indexed")
    except OSError as error:
        raise DoesNotFitError(f"{what} cannot be read ({said(error)})") from error
    return info


def _check_no_trash(real: str, what: str) -> None:
    # Whoever takes it for a copy would lose it with the trash; and an undo would not find it where it was put.
    if any(part.casefold() == TRASH_FOLDER for part in Path(real).parts):
        raise DoesNotFitError(f"{what} lies in the trash folder of `dedup apply`: {real}")


class KeptFiles:
    """The files that stay, looked at once more before each file that goes for their sake."""

    def __init__(self, base: Path, seen: Mapping[Kept, os.stat_result]) -> None:
        """`seen` is the state of those that were read already, by the same process."""
        self._base = base
        self._seen = dict(seen)

    def check(self, kept: Kept, source: Path) -> None:
        """Raise DoesNotFitError unless the kept file has its bytes and is another one than `source`.

        It is read again only when its state is another than the last time."""
        file = absolute_path(kept.path, self._base)
        seen = self._seen.get(kept)
        try:
            unchanged = seen is not None and state_of(file.stat()) == state_of(seen)
        except OSError:
            unchanged = False
        if not unchanged:
            self._seen[kept] = look_at_kept(kept, self._base)
        if self._seen[kept].st_ino == (info := source.lstat()).st_ino and self._seen[kept].st_dev == info.st_dev:
            raise DoesNotFitError(f"the kept file {kept.path} is the same file now")
