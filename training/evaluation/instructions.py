"""What an encoder is told on each task: a table that comes with searchctl, and one of the user's that wins over it."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import DataError, EvaluationError
from .measurement import TaskInstructions

PACKAGED = "instructions.toml"
ASYMMETRIC = frozenset(["Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking"])
"""Types of mteb whose queries and documents are different things; only their queries are told what to look for."""
TEXT_TYPES = ASYMMETRIC | {
    "BitextMining",
    "Classification",
    "Clustering",
    "MultilabelClassification",
    "PairClassification",
    "Regression",
    "STS",
    "Summarization",
    "ZeroShotClassification",
}
"""mteb's types of tasks on text alone."""
_EMPTY = TaskInstructions()
_EXAMPLE = '[task.stsb-test] or [type.STS] with query = "..." and document = "..."'


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionTable:
    """Instructions by task and by type of task; None in an entry leaves the side to the next source."""

    user_tasks: Mapping[str, TaskInstructions] = field(default_factory=dict)
    user_types: Mapping[str, TaskInstructions] = field(default_factory=dict)
    tasks: Mapping[str, TaskInstructions] = field(default_factory=dict)
    types: Mapping[str, TaskInstructions] = field(default_factory=dict)
    silent: bool = False
    """No instruction at all, not even the model's own."""

    @classmethod
    def load(cls, user: Path | None = None) -> InstructionTable:
        """Return the table that comes with searchctl, below the one in the TOML file `user`.

        Raises DataError naming the file, and the key where one is wrong.
        """
        resource = files(__package__).joinpath(PACKAGED)
        tasks, types = _parse(resource.read_text(encoding="utf-8"), Path(PACKAGED))
        if user is None:
            return cls(tasks=tasks, types=types)
        user = user.expanduser()
        try:
            text = user.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(user, f"cannot be read ({error}). Expected TOML in UTF-8: {_EXAMPLE}") from error
        user_tasks, user_types = _parse(text, user)
        return cls(user_tasks=user_tasks, user_types=user_types, tasks=tasks, types=types)

    @classmethod
    def none(cls) -> InstructionTable:
        """Return a table that gives "" for both sides of every task."""
        return cls(silent=True)

    def unused(self, tasks: Collection[str]) -> list[str]:
        """Return the tasks of the user's table that are not among `tasks`: mistyped, or of another run."""
        return [name for name in self.user_tasks if name not in tasks]

    def for_task(
        self, name: str, task_type: str, prompt: str | Mapping[str, str] | None, default: str | None
    ) -> TaskInstructions:
        """Return what each side is told.

        First of: user's table by name, by type; the packaged one by name; `prompt`, mteb's own of the task (a string
        is for queries); the packaged one by type; `default`, mteb's for the kind of task. Each side takes the first
        that says something for it. In a symmetric task both sides take the same, unless one source tells them apart;
        documents of an asymmetric task take nothing but a table's `document`. Raises EvaluationError for a `prompt`
        of another form.
        """
        if self.silent:
            return TaskInstructions(query="", document="")
        own = _of_prompt(name, prompt)
        sources = [
            self.user_tasks.get(name, _EMPTY),
            self.user_types.get(task_type, _EMPTY),
            self.tasks.get(name, _EMPTY),
            own,
            self.types.get(task_type, _EMPTY),
            TaskInstructions(query=default or None),
        ]
        query = _first([source.query for source in sources])
        if task_type in ASYMMETRIC:
            return TaskInstructions(query=query, document=_first([s.document for s in sources if s is not own]))
        return TaskInstructions(query=query, document=_first([_first([s.document, s.query]) for s in sources]))


def _first(values: Sequence[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def _of_prompt(name: str, prompt: str | Mapping[str, str] | None) -> TaskInstructions:
    """Return mteb's TaskMetadata.prompt in our form; "" there says nothing."""
    if not prompt:
        return _EMPTY
    if isinstance(prompt, str):
        return TaskInstructions(query=prompt)
    unknown = sorted(set(prompt) - {"query", "document", "passage"})
    if unknown:
        raise EvaluationError(
            f"task {name}: its prompt has the key {unknown[0]!r}, expected query, document or passage"
        )
    return TaskInstructions(
        query=prompt.get("query") or None, document=prompt.get("document") or prompt.get("passage") or None
    )


def _parse(text: str, path: Path) -> tuple[dict[str, TaskInstructions], dict[str, TaskInstructions]]:
    """Return the entries by task and by type."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(path, f"no valid TOML ({error}). Expected {_EXAMPLE}") from error
    for key in data:
        if key not in ("task", "type"):
            raise DataError(path, f"unknown key {key!r}, expected {_EXAMPLE}")
    types = _entries(data.get("type", {}), path, "type")
    for name in types:
        if name not in TEXT_TYPES:
            raise DataError(path, f"type.{name} is no type of task, expected one of {', '.join(sorted(TEXT_TYPES))}")
    return _entries(data.get("task", {}), path, "task"), types


def _entries(data: Any, path: Path, kind: str) -> dict[str, TaskInstructions]:
    if not isinstance(data, dict):
        raise DataError(path, f"{kind} is {data!r}, expected {_EXAMPLE}")
    found = {}
    for name, entry in data.items():
        if not isinstance(entry, dict):
            raise DataError(path, f"{kind}.{name} is {entry!r}, expected a table with query and document")
        for key, value in entry.items():
            if key not in ("query", "document"):
                hint = " (a name with a dot needs quotes)" if isinstance(value, dict) else ""
                raise DataError(path, f"unknown key {kind}.{name}.{key}, expected query or document{hint}")
            if not isinstance(value, str):
                raise DataError(path, f"{kind}.{name}.{key} is {value!r}, expected a string; '' is no instruction")
        found[name] = TaskInstructions(query=entry.get("query"), document=entry.get("document"))
    return found
