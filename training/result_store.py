"""Scores on disk: one JSON file per contender, task and settings; and the folders of unfinished work."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from blake3 import blake3
from filelock import FileLock, Timeout

from .errors import EvaluationError
from .measurement import EvalTask, Identity, Json, TaskScore
from .result_reading import SCHEMA, damaged, read_result
from .whole_files import write_whole

UNFINISHED = ".unfinished"
_ANEW = "anew"
"""Marks a workspace of a score that is computed once more: what it holds is of that computation alone."""
_LONGEST_NAME = 60
_FILES = f"[!.]*-*/[!.]*-{'[0-9a-f]' * 8}.json"
"""What `save` names its files; the folder may hold others of other programs."""


class ResultStore:
    """A folder of scores: NAME-FINGERPRINT/TASK-KEY.json, where the key is of everything that decides the score.

    Files are written under a temporary name, synced and renamed: a kill leaves the old file or the new one. Any
    number of processes may share the folder; of one contender and one task they take turns (`claim`).
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

        Its label is that of `identity`, and a file with another one is written anew: reports then know the contender
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

        A run wants what it computes and what it reuses. Scores of one moment go by contender, task and data.
        """
        found = [(path, read_result(path)) for path in self.folder.glob(_FILES)]
        found.sort(key=lambda one: (one[1].who.name, one[1].who.fingerprint, one[1].task, one[1].data))
        return [score for _, score in sorted(found, key=lambda one: _wanted(*one))]

    def workspace(self, identity: Identity, task: EvalTask, settings: Mapping[str, Json]) -> Path:
        """Return the folder, made if need be, where unfinished work of this contender and task is kept."""
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
        """Return the workspaces of contenders and tasks that are not among `own`, and that no process works in now."""
        names = {_work(*one) for one in own}
        folders = sorted(path for path in (self.folder / UNFINISHED).glob("*") if path.is_dir())
        return [folder for folder in folders if folder.name not in names and not _is_held(folder)]

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
            # While it is held: a process that waits for it sees that the file is gone, and makes it anew.
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
