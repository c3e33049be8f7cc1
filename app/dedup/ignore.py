"""The collection's .searchctlignore when documents leave the index but their files stay, and when they come back."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from ...index.durable import sync, write_whole
from ...index.ignore import OWN_IGNORE_FILE
from ..errors import AppError
from .files import hash_file
from .trash import IGNORE_FILE, PART_FILE, IgnoreChange, Manifest, Step, copy_whole

_SPECIAL = re.compile(r"[\\*?\[\]#!]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # not str.splitlines: names may hold what that takes for a line end
_TRAILING = re.compile(r"\s+\Z")


def can_be_ignored(path: str) -> bool:
    """Return whether an ignore file can name this path: a line break in it would end its line."""
    return "\n" not in path and "\r" not in path


def pattern_for(path: str) -> str:
    """Return the line that ignores the file at a relative path, and no other."""
    escaped = _SPECIAL.sub(r"\\\g<0>", path)
    # White space at the end of a line does not count, but a set of one such character does.
    return "/" + _TRAILING.sub(lambda found: "".join(f"[{mark}]" for mark in found.group()), escaped)


def with_block(text: str, id_: str, paths: Iterable[str]) -> str:
    """Return the text of an ignore file with a block that ignores these files, at its end."""
    start = f"{text}\n" if text and not text.endswith("\n") else text
    lines = [_first(id_), *map(pattern_for, paths), _last(id_)]
    return start + "".join(f"{line}\n" for line in lines)


def has_block(text: str, id_: str) -> bool:
    """Return whether the block of this apply, or what a person left of it, begins in the text."""
    return _first(id_) in _lines(text)


def without_block(text: str, id_: str) -> str:
    """Return the text without the block of this apply; without its last line it is taken to end with its patterns."""
    kept: list[str] = []
    inside = False
    for line in _LINE.findall(text):
        plain = line.rstrip("\r\n")
        if plain == _first(id_):
            inside = True
        elif inside and plain == _last(id_):
            inside = False
        elif inside and not plain.startswith("/"):  # its last line is gone: what follows is a person's
            inside = False
            kept.append(line)
        elif not inside:
            kept.append(line)
    return "".join(kept)


def _first(id_: str) -> str:
    return f"# searchctl dedup {id_}: taken out of the index; `searchctl dedup undo {id_}` takes these lines away"


def _last(id_: str) -> str:
    return f"# end of searchctl dedup {id_}"


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.split("\n")]


def read_ignore(root: Path) -> str | None:
    """Return the text of the collection's ignore file, None when there is none.

    Raises AppError when lines cannot be added to it: it is a link, no file, or not in UTF-8.
    """
    path = root / OWN_IGNORE_FILE
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise AppError(
            f"{path} is {'a symlink' if stat.S_ISLNK(mode) else 'no file'}: expected an ignore file to put lines into. "
            "Put a file in its place, or move the files to the trash with --from files"
        )
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AppError(
            f"{path} is not UTF-8 at byte {error.start}: lines in UTF-8 cannot be put into it. Convert it, or move the "
            "files to the trash with --from files"
        ) from error


def plan_change(root: Path, manifest: Manifest, earlier: Iterable[Manifest]) -> IgnoreChange | None:
    """Return what is to become of the ignore file, None when it has the block of this apply already.

    `earlier` are the applies to the same collection."""
    text = read_ignore(root)
    if text is not None and has_block(text, manifest.id):
        return None
    made = text is None or any(
        one.ignore is not None and one.ignore.made and has_block(text, one.id) for one in earlier
    )
    before = None if text is None else _digest(text)
    return IgnoreChange(before=before, written=_digest(_new_text(text, manifest)), made=made)


def write_change(root: Path, folder: Path, manifest: Manifest, *, step: Step) -> None:
    """Put the block into the ignore file; the file before, itself, is kept in the folder of the apply."""
    path, kept = root / OWN_IGNORE_FILE, folder / IGNORE_FILE
    text = read_ignore(root)
    kept.unlink(missing_ok=True)  # of a killed run, whose file is still in its place
    if text is not None:
        _keep(path, kept, folder / PART_FILE, step=step)
    step("ignore:kept")
    _write(path, _new_text(text, manifest), manifest, step=step)
    step("ignore:written")


def take_back(root: Path, folder: Path, manifest: Manifest, *, step: Step) -> None:
    """Make the ignore file what it was; one that a person changed meanwhile only loses the block."""
    change, path, kept = manifest.ignore, root / OWN_IGNORE_FILE, folder / IGNORE_FILE
    if change is None:
        return
    _part(path, manifest).unlink(missing_ok=True)  # of a killed process
    text = read_ignore(root)
    if text is None or not has_block(text, manifest.id):
        return
    rest = without_block(text, manifest.id)
    if _digest(text) == change.written and change.before is not None and kept.is_file():
        kept.replace(path)
        sync(root)
    elif change.made and not rest:
        path.unlink()
        sync(root)
    else:
        _write(path, rest, manifest, step=step)
    step("ignore:back")


def _new_text(text: str | None, manifest: Manifest) -> str:
    return with_block(text or "", manifest.id, (file.path for file in manifest.files))


def _keep(path: Path, kept: Path, part: Path, *, step: Step) -> None:
    """Give the file a second name, so that it comes back as the same file; a copy where that is not possible."""
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:
        copy_whole(path, part, hash_file(path), step=step)
        part.replace(kept)
    sync(kept.parent)


def _part(path: Path, manifest: Manifest) -> Path:
    return path.with_name(f"{path.name}.{manifest.id}.part")  # a name that no person's file has


def _write(path: Path, text: str, manifest: Manifest, *, step: Step) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    write_whole(path, text.encode(), part=_part(path, manifest))
    step("ignore:renamed")
    if mode is not None:
        path.chmod(mode)


def _digest(text: str) -> str:
    return blake3(text.encode()).hexdigest()
