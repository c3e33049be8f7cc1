"""The globs of `query --path`: a path as it is in the working directory becomes the one that a collection stores."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .places import stored_path, working_directory

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
