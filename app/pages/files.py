"""Files that an option names for a page or a picture: looked at before the work, written whole after it."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..collection.paths import shown_path
from ..errors import AppError
from ..terminal.console import Terminal


def check_target(option: str, path: Path, *, drawn: bool = True) -> None:
    """Raise AppError, with the option, where nothing can be drawn or `path` cannot be written.

    What is not `drawn` by matplotlib needs no extra.
    """
    if drawn and find_spec("matplotlib") is None:
        raise AppError(f"{option} needs the extra eval: `pip install 'searchctl[eval]'`")
    place = path.expanduser()
    if place.is_dir():
        raise AppError(f"{option} is {path}, a folder: expected a file")
    if _is_special(place):
        return
    folder = Path(os.path.realpath(place)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise AppError(f"{option} is {path}: {folder} is no folder to write to. Make it first")


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place whole, or leave what was there; a link stays, and what it leads to is written.

    Raises OSError that names `path`: a write that fails, as on a full disk, does not say where by itself.
    """
    try:
        _write(path, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: Path, content: bytes) -> None:
    place = path.expanduser()
    if _is_special(place):
        place.write_bytes(content)
        return
    target = Path(os.path.realpath(place))
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_special(place: Path) -> bool:
    """Return whether a pipe or a device is there: it is written to, never replaced.

    The name as given is asked: what /dev/stdout leads to has no path where it is a pipe.
    """
    return place.exists() and not place.is_file()


def write_page(terminal: Terminal, path: Path, page: str) -> None:
    """Put a report's page in its place and say where; a name that is no Unicode is shown by its codes."""
    write_whole(path, page.encode("utf-8", "backslashreplace"))
    terminal.say(f"report: {shown_path(path)}")
