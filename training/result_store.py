"""Scores on disk: one JSON file per contender, task and settings; and the folders of unfinished work."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from blake3 import blake3
from filelock import FileLock, Timeout

from .errors import EvaluationError
from .measurement import Cost, EvalTask, Identity, Json, Samples, TaskScore

SCHEMA = 1
UNFINISHED = ".unfinished"
_LONGEST_NAME = 60
_KINDS = ("encoder", "sentence-transformers", "bm25", "search")


class ResultStore:
    """A folder of scores: NAME-FINGERPRINT/TASK-KEY.json, where the key is of everything that decides the score.

    Files are written under a temporary name, synced and renamed: a kill leaves the old file or the new one. Any
    number of processes may share the folder; of one contender and one task they take turns (`claim`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, identity: Identity, task: EvalTask, settings: Mapping[str, Json]) -> TaskScore | None:
        """Return the stored score, None when there is none. Raises EvaluationError for a damaged file.

        Its label is that of `identity`, and a file with another one is written anew: reports then know the contender
        by the name it was last given.
        """
        for path in sorted(self.folder.glob(f"*-{_short(identity)}/{_file(identity, task.name, task.data, settings)}")):
            score = _read(path)
            if _key(score.who, score.task, score.data, score.settings) != _key(
                identity, task.name, task.data, settings
            ):
                _damaged(path, "it holds the score of something else than its name says")
            score, label = replace(score, who=identity), score.who.label
            if label != identity.label:
                self.save(score)
            return score
        return None

    def save(self, score: TaskScore) -> Path:
        """Write the score in place of an older one of the same key and return its file.

        Raises EvaluationError for a number that is not finite.
        """
        name = _file(score.who, score.task, score.data, score.settings)
        text = _dump({"schema": SCHEMA, **asdict(score)}, what=f"{score.task} of {score.who.label}")
        earlier = sorted(self.folder.glob(f"*-{_short(score.who)}/{name}"))
        path = earlier[0] if earlier else self.folder / f"{_slug(Path(score.who.name).name)}-{_short(score.who)}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return path

    def all(self) -> list[TaskScore]:
        """Return all scores, by name and fingerprint of the contender, task and time of writing."""
        found = [_read(path) for path in self.folder.glob("[!.]*/[!.]*.json")]
        return sorted(found, key=lambda s: (s.who.name, s.who.fingerprint, s.task, s.data, s.finished))

    def workspace(self, identity: Identity, task: EvalTask, settings: Mapping[str, Json]) -> Path:
        """Return the folder, made if need be, where unfinished work of this contender and task is kept."""
        folder = self.folder / UNFINISHED / _work(identity, task, settings)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, workspace: Path) -> None:
        """Remove a workspace whose score is stored."""
        shutil.rmtree(workspace, ignore_errors=True)

    @contextmanager
    def claim(
        self, identity: Identity, task: EvalTask, settings: Mapping[str, Json], *, waiting: Callable[[], None]
    ) -> Iterator[Path]:
        """Yield the workspace while no other process works on this contender and task.

        When one does, `waiting` is called once and the claim comes when that one ends, however it ends: look for its
        score before you begin.
        """
        name = _work(identity, task, settings)
        lock = FileLock(self.folder / UNFINISHED / f"{name}.lock")
        (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            yield self.workspace(identity, task, settings)
        finally:
            with suppress(OSError):
                (self.folder / UNFINISHED / name).rmdir()  # succeeds only where nothing was kept
            # While it is held: a process that waits for it sees that the file is gone, and makes it anew.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _damaged(path: Path, why: str) -> NoReturn:
    raise EvaluationError(f"{path} is no sound result: {why}. Remove the file; its score is then computed again")


def _read(path: Path) -> TaskScore:
    """Return the score in a file. Raises EvaluationError, with what to do, for one that is not as `save` writes it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        _damaged(path, str(error))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        _damaged(path, f"its schema is {schema!r}, this version of searchctl reads {SCHEMA}")
    try:
        return _score(document)
    except (KeyError, TypeError, ValueError) as error:
        _damaged(path, f"no entry {error}" if isinstance(error, KeyError) else str(error))


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
        finished=_text(document, "finished"),
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
