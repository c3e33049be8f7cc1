"""Scores on disk: one JSON file per model, task and settings; and the folders of unfinished work."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from blake3 import blake3
from filelock import FileLock, Timeout

from ...index.durable import write_whole
from ..errors import EvaluationError
from .measurement import Cost, EvalTask, Identity, Json, Samples, TaskScore

SCHEMA = 1
_KINDS = ("encoder", "sentence-transformers", "bm25", "search")


def damaged(path: Path, why: str) -> NoReturn:
    raise EvaluationError(f"{path} is no sound result: {why}. Remove the file; its score is then computed again")


def read_result(path: Path) -> TaskScore:
    """Return the score in a file. Raises EvaluationError, with what to do, for one that is not as `save` writes it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(
            f"{path}: {error.strerror or error}. Expected a result that can be read, or use another --results"
        ) from error
    except (ValueError, RecursionError) as error:
        damaged(path, str(error))
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise EvaluationError(
            f"{path} is of schema {schema}, this version of searchctl reads {SCHEMA}: it was made by a newer "
            "searchctl. Update this one, or use another --results"
        )
    if schema != SCHEMA:
        damaged(path, f"its schema is {schema!r}, this version of searchctl reads {SCHEMA}")
    try:
        return _score(document)
    except (KeyError, TypeError, ValueError) as error:
        damaged(path, f"no entry {error}" if isinstance(error, KeyError) else str(error))


def _score(document: dict[str, Any]) -> TaskScore:
    score = TaskScore(
        task=_text(document, "task"),
        task_type=_text(document, "task_type"),
        data=_text(document, "data"),
        who=_identity(_mapping(document, "who")),
        settings=_mapping(document, "settings"),
        metric=_text(document, "metric"),
        score=_number(document, "score"),
        metrics={name: _number(_mapping(document, "metrics"), name) for name in _mapping(document, "metrics")},
        samples=None if document["samples"] is None else _samples(_mapping(document, "samples")),
        cost=_cost(_mapping(document, "cost")),
        versions={name: _text(_mapping(document, "versions"), name) for name in _mapping(document, "versions")},
        machine=_text(document, "machine"),
        finished=_moment(document, "finished"),
    )
    unknown = sorted(document.keys() - asdict(score).keys() - {"schema"})
    if unknown:
        raise ValueError(f"unknown entry {unknown[0]!r}")
    return score


def _identity(entry: dict[str, Any]) -> Identity:
    kind = _text(entry, "kind")
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(_KINDS)}")
    return Identity(
        label=_text(entry, "label"),
        kind=cast("Any", kind),
        name=_text(entry, "name"),
        fingerprint=_text(entry, "fingerprint"),
        details=_mapping(entry, "details"),
    )


def _samples(entry: dict[str, Any]) -> Samples:
    kind, ids, values, gold = entry["kind"], entry["ids"], entry["values"], entry["gold"]
    if kind not in ("mean", "spearman"):
        raise ValueError(f"kind of samples is {kind!r}, expected mean or spearman")
    if not all(isinstance(id_, str) for id_ in ids):
        raise ValueError("ids of samples: expected strings")
    if len(values) != len(ids) or len(gold) != (len(ids) if kind == "spearman" else 0):
        raise ValueError(f"samples: {len(ids)} ids, {len(values)} values and {len(gold)} gold scores do not fit")
    return Samples(kind=kind, ids=tuple(ids), values=tuple(map(_finite, values)), gold=tuple(map(_finite, gold)))


def _cost(entry: dict[str, Any]) -> Cost:
    counts = {name: _number(entry, name) for name in ("texts", "tokens", "truncated", "empty")}
    for name, count in counts.items():
        if count < 0 or not float(count).is_integer():
            raise ValueError(f"{name} is {count}, expected a count")
    return Cost(
        texts=int(counts["texts"]),
        tokens=int(counts["tokens"]),
        truncated=int(counts["truncated"]),
        empty=int(counts["empty"]),
        encode_s=_number(entry, "encode_s"),
        total_s=_number(entry, "total_s"),
    )


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected text")
    return value


def _moment(entry: Mapping[str, Any], name: str) -> str:
    value = _text(entry, name)
    with suppress(ValueError):
        if datetime.fromisoformat(value).tzinfo is not None:
            return value
    raise ValueError(f"{name} is {value!r}, expected a time of ISO 8601 with its offset")


def _number(entry: Mapping[str, Any], name: str) -> float:
    try:
        return _finite(entry[name])
    except TypeError:
        raise TypeError(f"{name} is {entry[name]!r}, expected a number") from None


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no finite number")
    return float(value)


def _mapping(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = entry[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r}, expected an object")
    return value


UNFINISHED = ".unfinished"
_ANEW = "again"
"""Marks a workspace of a score that is computed once more: what it holds is of that computation alone."""
_LONGEST_NAME = 60
_FILES = f"[!.]*-*/[!.]*-{'[0-9a-f]' * 8}.json"
"""What `save` names its files; the folder may hold others of other programs."""


class ResultStore:
    """A folder of scores: NAME-FINGERPRINT/TASK-KEY.json, where the key is of everything that decides the score.

    Files are written under a temporary name, synced and renamed: a kill leaves the old file or the new one. Any
    number of processes may share the folder; of one model and one task they take turns (`claim`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder, so that a place where none can be shows before the work. Raises EvaluationError."""
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Have what the system says against the folder told with its option and what was expected."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            place = "" if error.filename in (None, str(self.folder)) else f"{error.filename}: "
            raise EvaluationError(
                f"--results is {self.folder}: {place}{reason}. Expected a folder that can be written to, or a place "
                "for a new one"
            ) from error

    def find(
        self, identity: Identity, task: EvalTask, settings: Mapping[str, Json], *, labels: Collection[str] = ()
    ) -> TaskScore | None:
        """Return the stored score, None when there is none. Raises EvaluationError for a damaged file.

        Its label is that of `identity`, and a file with another one is written again: reports then know the model
        by the name it was last given. A file whose label is in `labels`, the others now in use, keeps it. That the
        score was wanted now is noted beside it, for `all`.
        """
        for path in sorted(self.folder.glob(f"*-{_short(identity)}/{_file(identity, task.name, task.data, settings)}")):
            score = read_result(path)
            if _key(score.who, score.task, score.data, score.settings) != _key(
                identity, task.name, task.data, settings
            ):
                damaged(path, "it holds the score of something else than its name says")
            score, label = replace(score, who=identity), score.who.label
            if label not in (identity.label, *labels):
                self.save(score)
            _mark_used(path)
            return score
        return None

    def save(self, score: TaskScore) -> Path:
        """Write the score in place of an older one of the same key and return its file.

        Raises EvaluationError for a number that is not finite, and when the file cannot be written.
        """
        text = _dump({"schema": SCHEMA, **asdict(score)}, what=f"{score.task} of {score.who.label}")
        with self._usable():
            return self._write(score, text)

    def _write(self, score: TaskScore, text: str) -> Path:
        name = _file(score.who, score.task, score.data, score.settings)
        earlier = sorted(self.folder.glob(f"*-{_short(score.who)}/{name}"))
        path = earlier[0] if earlier else self.folder / f"{_slug(Path(score.who.name).name)}-{_short(score.who)}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
        return path

    def all(self) -> list[TaskScore]:
        """Return all scores, the one that a run wanted last at the end; other files are left alone.

        A run wants what it computes and what it reuses. Scores of one moment go by model, task and data.
        """
        found = [(path, read_result(path)) for path in self.folder.glob(_FILES)]
        found.sort(key=lambda one: (one[1].who.name, one[1].who.fingerprint, one[1].task, one[1].data))
        return [score for _, score in sorted(found, key=lambda one: _wanted(*one))]

    def workspace(self, identity: Identity, task: EvalTask, settings: Mapping[str, Json]) -> Path:
        """Return the folder, made if need be, where unfinished work of this model and task is kept."""
        folder = self.folder / UNFINISHED / _work(identity, task, settings)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def begin_anew(self, workspace: Path) -> None:
        """Empty a workspace, for a score to be computed once more; one that such a computation left is gone on with."""
        mark = workspace / _ANEW
        if not mark.exists():
            with self._usable():
                shutil.rmtree(workspace)
                workspace.mkdir()
                mark.touch()

    def finish(self, workspace: Path) -> None:
        """Remove a workspace whose score is stored."""
        shutil.rmtree(workspace, ignore_errors=True)

    def left_over(self, own: Iterable[tuple[Identity, EvalTask, Mapping[str, Json]]]) -> list[Path]:
        """Return the workspaces of models and tasks that are not among `own`, and that no process works in now."""
        names = {_work(*one) for one in own}
        folders = sorted(path for path in (self.folder / UNFINISHED).glob("*") if path.is_dir())
        return [folder for folder in folders if folder.name not in names and not _is_held(folder)]

    @contextmanager
    def claim(
        self, identity: Identity, task: EvalTask, settings: Mapping[str, Json], *, waiting: Callable[[], None]
    ) -> Iterator[Path]:
        """Yield the workspace while no other process works on this model and task.

        When one does, `waiting` is called once and the claim comes when that one ends, however it ends: look for its
        score before you begin.
        """
        name = _work(identity, task, settings)
        lock = FileLock(self.folder / UNFINISHED / f"{name}.lock")
        with self._usable():
            (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
            had = _had(lock)
        if not had:
            waiting()
            lock.acquire()
        try:
            yield self.workspace(identity, task, settings)
        finally:
            _remove_empty(self.folder / UNFINISHED / name)
            # While it is held: a process that waits for it sees that the file is gone, and makes it again.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.stem}.used")


def _mark_used(path: Path) -> None:
    """Note that the score in `path` was wanted now; with a time inside, since copies of a file lose its own."""
    with suppress(OSError):  # a folder that can only be read has its scores all the same
        _mark(path).write_text(f"{datetime.now().astimezone().isoformat()}\n", encoding="utf-8")


def _wanted(path: Path, score: TaskScore) -> datetime:
    """Return when a run last computed or reused the score in `path`."""
    finished = datetime.fromisoformat(score.finished)
    with suppress(OSError, ValueError):  # never reused, or a mark that a kill left half written
        return max(finished, datetime.fromisoformat(_mark(path).read_text(encoding="utf-8").strip()).astimezone())
    return finished


def _key(identity: Identity, task: str, data: str, settings: Mapping[str, Json]) -> str:
    """Return the digest of everything that decides a score."""
    parts = [identity.kind, identity.fingerprint, task, data, dict(settings)]
    return blake3(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _file(identity: Identity, task: str, data: str, settings: Mapping[str, Json]) -> str:
    return f"{_slug(task)}-{_key(identity, task, data, settings)[:8]}.json"


def _work(identity: Identity, task: EvalTask, settings: Mapping[str, Json]) -> str:
    return f"{_short(identity)}-{_file(identity, task.name, task.data, settings).removesuffix('.json')}"


def _short(identity: Identity) -> str:
    return _slug(identity.fingerprint)[:8]


def _slug(name: str) -> str:
    """Return `name` as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:_LONGEST_NAME] or "unnamed"


def _is_held(workspace: Path) -> bool:
    """Return whether a process works in it."""
    path = workspace.with_name(f"{workspace.name}.lock")
    if not path.exists():  # a killed process leaves its file, and the lock goes with the process
        return False
    lock = FileLock(path)
    if not _had(lock):
        return True
    lock.release()
    return False


def _remove_empty(workspace: Path) -> None:
    """Remove a workspace in which nothing was kept."""
    with suppress(OSError):
        if [path.name for path in workspace.iterdir()] == [_ANEW]:
            (workspace / _ANEW).unlink()
        workspace.rmdir()


def _had(lock: FileLock) -> bool:
    """Return whether the lock could be had at once, and is."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _dump(value: Mapping[str, Any], *, what: str) -> str:
    """Return JSON for people: an entry a line, lists on one line. Raises EvaluationError for nan and infinity."""

    def lines(value: Any, margin: str) -> str:
        if isinstance(value, Mapping) and value:
            entries = (f"{margin}  {json.dumps(str(k))}: {lines(v, margin + '  ')}" for k, v in value.items())
            return "{\n" + ",\n".join(entries) + f"\n{margin}}}"
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    try:
        return lines(value, "") + "\n"
    except ValueError as error:
        raise EvaluationError(f"{what}: a number of the score is nan or infinite, expected finite ones") from error
