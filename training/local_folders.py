"""Which tasks a folder of one's own data holds; the layouts are those of `local_data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .corpus import source_name
from .errors import DataError
from .json_lines import SUFFIXES, Source

Kind = Literal["retrieval", "sts", "pairs", "clustering", "classification"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LAYOUT = (
    "retrieval/NAME/{corpus.jsonl,queries.jsonl,qrels/test.tsv}, sts/NAME.jsonl, pairs/NAME.jsonl, "
    "clustering/NAME.jsonl or classification/NAME/{train,test}.jsonl"
)
_FOLDER_KINDS: tuple[Kind, ...] = ("retrieval", "classification")
_PARTS: dict[Kind, tuple[str, ...]] = {"retrieval": ("corpus", "queries"), "classification": ("train", "test")}
_FIELDS: dict[Kind, frozenset[str]] = {
    "sts": frozenset(["a", "b", "score"]),
    "pairs": frozenset(["a", "b", "label"]),
    "clustering": frozenset(["text", "label"]),
}
_ASIDE = (".md", ".txt", ".rst")
_ASIDE_NAMES = ("README", "LICENSE", "LICENCE", "NOTICE", "COPYING", "CITATION")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """Where the files of one task are."""

    kind: Kind
    name: str
    path: Path
    """A folder for retrieval and classification, else the file."""


def discover(place: Path) -> list[LocalTask]:
    """Return the tasks that `place` holds, kind by kind and by name.

    `place` is the root with folders named by kind, one of these, or a single task's folder or file. Other entries of
    the root are left alone; in a folder of a kind only hidden ones, readmes and licences are. Raises DataError for
    anything else there, for two tasks of one name, and when there is no task at all.
    """
    if place.is_file():
        return [_single_file(place)]
    if not place.is_dir():
        raise DataError(place, f"is no file or folder. Expected a folder with {LAYOUT}")
    tasks = [task for kind in KINDS if (place / kind).is_dir() for task in _of_kind(kind, place / kind)]
    name = _name_of_folder(place)
    if not tasks:
        kind = next((kind for kind in _FOLDER_KINDS if _is_task(kind, place)), None)
        if kind is not None:
            tasks = [LocalTask(kind=kind, name=name, path=place)]
    if not tasks:
        tasks = [task for kind in KINDS if kind == name for task in _of_kind(kind, place)]
    if not tasks:
        raise DataError(place, f"holds no task. Expected {LAYOUT}")
    _check_names(tasks)
    return tasks


def _of_kind(kind: Kind, folder: Path) -> list[LocalTask]:
    tasks = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error})") from error
    for entry in entries:
        if entry.name.startswith(".") or _is_aside(entry):
            continue
        if kind in _FOLDER_KINDS and entry.is_dir():
            tasks.append(LocalTask(kind=kind, name=entry.name, path=entry))
        elif kind not in _FOLDER_KINDS and entry.is_file() and entry.name.endswith(SUFFIXES):
            tasks.append(LocalTask(kind=kind, name=source_name(entry), path=entry))
        else:
            raise DataError(entry, f"is no task of the kind {kind}. Expected {LAYOUT}")
    return tasks


def _is_aside(entry: Path) -> bool:
    return entry.is_file() and (entry.suffix.lower() in _ASIDE or entry.name.upper().startswith(_ASIDE_NAMES))


def _is_task(kind: Kind, folder: Path) -> bool:
    """Return whether `folder` has a part of a task of `kind`; what is missing shows when it is read."""
    parts = (folder / f"{part}{suffix}" for part in _PARTS[kind] for suffix in SUFFIXES)
    return any(part.is_file() for part in parts) or (kind == "retrieval" and (folder / "qrels").is_dir())


def _single_file(path: Path) -> LocalTask:
    if not path.name.endswith(SUFFIXES):
        raise DataError(path, f"is no task. Expected {LAYOUT}")
    if source_name(path) in {part for parts in _PARTS.values() for part in parts} and path.parent.name not in _FIELDS:
        raise DataError(path, f"may be one file of a task: name its folder, {path.parent}")
    for kind in _FIELDS:
        if path.parent.name == kind:
            return LocalTask(kind=kind, name=source_name(path), path=path)
    row = next(Source(path).rows())
    for kind, fields in _FIELDS.items():
        if fields <= row.fields.keys():
            return LocalTask(kind=kind, name=source_name(path), path=path)
    raise row.error(f"has {', '.join(row.fields) or 'no field'}. Expected a, b, score or a, b, label or text, label")


def _check_names(tasks: list[LocalTask]) -> None:
    seen: dict[str, Path] = {}
    for task in tasks:
        if task.name in seen:
            raise DataError(task.path, f"has the name of {seen[task.name]}, expected one task {task.name}: rename one")
        seen[task.name] = task.path


def _name_of_folder(folder: Path) -> str:
    # "." and ".." name no task.
    return folder.name if folder.name not in ("", "..") else folder.resolve().name
