"""Where a collection is, and how its stored paths, a person's own and the globs of `query --path` become each other."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ...index.errors import CollectionNotFoundError
from ...index.file_names import COLLECTION_FOLDER
from ..errors import AppError
from .swap import SUFFIXES, companions, foreign_entry, is_collection, is_own_file, promotion_folders, swap_lock_file


def existing_collection(given: Path | None) -> Path:
    """Return the folder of the collection a command means. Raises CollectionNotFoundError when there is none."""
    found = _find(given)
    if found is None:
        where = f"{working_directory()} or above it" if given is None else str(given)
        raise CollectionNotFoundError(
            f"there is no collection in {where}: make one, or name one with --collection",
            next_command=("index", "PATH"),
        )
    return found


def collection_to_write(given: Path | None) -> Path:
    """Return the folder of the collection to write to, whether it is there or not.

    Without `given` it is the one found as git finds its own, else `.searchctl` in the working directory. A folder
    with other things in it is taken to hold `.searchctl`, like a working directory. Raises AppError for a name that
    stands for something else beside another collection.
    """
    found = _find(given)
    if found is not None:
        return found
    if given is None:
        return working_directory() / COLLECTION_FOLDER
    folder = _named_collection(given)
    if folder.is_dir() and any(not is_own_file(entry.name) for entry in folder.iterdir()):
        return resolved(given) / COLLECTION_FOLDER
    if folder.name.endswith(SUFFIXES):
        raise AppError(
            f"--collection is {given}: names that end in {', '.join(SUFFIXES)} are kept for what stands beside a "
            "collection, and may be deleted with it. Choose another name"
        )
    return folder


def _find(given: Path | None) -> Path | None:
    if given is None:
        here = working_directory()
        candidates = [folder / COLLECTION_FOLDER for folder in (here, *here.parents)]
    else:
        candidates = [_named_collection(given), resolved(given) / COLLECTION_FOLDER]
    return next((candidate for candidate in candidates if is_collection(candidate)), None)


def _named_collection(given: Path) -> Path:
    """Return the collection's own folder, a link `.searchctl` as it is: stored paths are relative to what holds it."""
    path = _absolute(given)
    return path.parent.resolve() / path.name if path.name == COLLECTION_FOLDER else resolved(given)


def working_directory() -> Path:
    """Return the working directory. Raises AppError when it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise AppError(
            "the working directory was deleted: expected one that exists. Go to another with `cd`, then run the "
            "command again"
        ) from error


def resolved(given: Path) -> Path:
    """Return a path a person typed, absolute and without symlinks.

    Raises AppError in a deleted directory, for links that go round, and for a name that is not UTF-8.
    """
    path = _absolute(given)
    try:
        found = path.resolve()
    except (RuntimeError, OSError) as error:  # Python 3.11 has a RuntimeError for links that go round.
        raise AppError(f"{given}: {error}. Expected the path of a file or a folder") from error
    try:
        str(found).encode()
    except UnicodeEncodeError:
        raise AppError(
            f"{given} is {os.fsencode(found)!r}, which is not UTF-8: expected a path whose every name is. Rename it, "
            "or index the folder it is in, where a file with such a name is told and left out"
        ) from None
    return found


def _absolute(given: Path) -> Path:
    # Only what a shell would have made the home folder: Office keeps files whose names begin with ~$.
    path = given.expanduser() if given.parts[:1] == ("~",) and not os.path.lexists(given) else given
    return path if path.is_absolute() else working_directory() / path


def stored_path(path: Path, base: Path) -> str:
    """Return an absolute path as a collection stores it: relative to `base` below it, else absolute; POSIX."""
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return path.as_posix()


def absolute_path(stored: str, base: Path) -> Path:
    """Return the file of a stored path."""
    return base / stored


def shown_path(path: Path) -> str:
    """Return a path as short as a person in the working directory can use it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    if relative.startswith("-"):  # in a command it would be an option
        return f"./{relative}"
    return relative if relative.count("..") <= 2 else str(path)


def own_places(collection: Path) -> tuple[Path, ...]:
    """Return the collection's own folder and what is beside it that searchctl keeps there."""
    test_set = collection.with_name(f"{collection.name}.eval")  # of `searchctl eval init`
    folders = (*companions(collection), *promotion_folders(collection))
    kept = [folder for folder in folders if foreign_entry(folder) is None]
    # Reached by a link it is in two places.
    return (collection, Path(os.path.realpath(collection)), *kept, swap_lock_file(collection), test_set)


_GLOB_MARKS = re.compile(r"[\\*?\[\]]")


def rooted_globs(globs: Sequence[str], root: Path) -> tuple[str, ...]:
    """Return the globs of --path for a collection that stores paths relative to `root`.

    A path as a person has it in the working directory becomes the stored one: what is there, what begins with `..`,
    and what is absolute. Any other glob stays as it is. A folder that holds all of `root` lets everything through,
    which is no glob at all.
    """
    found: list[str] = []
    for glob in globs:
        if not glob.strip():
            found.append(glob)  # the filter says what is wrong with it
            continue
        path = Path(os.path.normpath(working_directory() / glob))
        exists = os.path.lexists(path)
        if exists and not path.is_relative_to(root):
            path = path.resolve()
        is_plain = glob.split("/")[0] not in ("", "..")
        if not exists and is_plain:
            found.append(glob)
            continue
        if not is_plain or glob == "." or path.is_relative_to(root):
            if root.is_relative_to(path):
                return ()
        else:
            # A name both here and in a collection elsewhere, as --collection may say: either may be meant.
            found.append(glob)
        found.append(_pattern(path, root) + ("/" if glob.endswith("/") and not exists else ""))
    return tuple(found)


def _pattern(path: Path, root: Path) -> str:
    """Return an absolute path as a pattern of stored paths: what is there of it stands for itself, the rest matches."""
    there = next(part for part in (path, *path.parents) if os.path.lexists(part))
    parts = stored_path(path, root).lstrip("/").split("/")
    names = len(parts) - len(path.relative_to(there).parts)
    return "/" + "/".join([*(_GLOB_MARKS.sub(r"\\\g<0>", part) for part in parts[:names]), *parts[names:]])
