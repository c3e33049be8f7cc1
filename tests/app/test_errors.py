"""What an error says and which command it names, at the one boundary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from searchctl.app.cli import app
from searchctl.app.errors import AppError, ExitCode, explain, typed
from searchctl.encoder.errors import UnknownModelError
from searchctl.index.errors import CollectionDamagedError, CollectionLockedError, CollectionNotFoundError
from searchctl.training.errors import TrainingError


def test_a_command_names_the_collection_where_it_takes_one(subtests: pytest.Subtests) -> None:
    for words, shown in [
        (("index", "PATH"), "searchctl index PATH --collection 'my notes'"),
        (("models", "promote", "--rollback"), "searchctl models promote --rollback --collection 'my notes'"),
        (("models", "list"), "searchctl models list"),
        (("index", "--rebuild", "--collection", "other"), "searchctl index --rebuild --collection other"),
        (("dedup", "undo", "2026 x"), "searchctl dedup undo '2026 x' --collection 'my notes'"),
    ]:
        with subtests.test(words=words, shown=shown):
            assert shown == typed(words, collection=Path("my notes"))


def test_the_commands_that_take_a_collection_are_those_of_the_command_line() -> None:
    wrong = []

    def visit(command: Any, words: tuple[str, ...]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            visit(child, (*words, name))
        if not hasattr(command, "commands"):
            takes = any("--collection" in parameter.opts for parameter in command.params)
            if takes != ("--collection" in typed(words, collection=Path("c"))):
                wrong.append(" ".join(words))

    visit(get_command(app), ())
    assert wrong == ["train pairs"], "which reads one collection among other sources"


def test_code_and_hint_are_values_of_the_error(subtests: pytest.Subtests) -> None:
    for error, code, hint in [
        (AppError("no", code=ExitCode.INCOMPLETE, next_command=("index",)), 3, "searchctl index"),
        (AppError("no"), 2, None),
        (CollectionNotFoundError("none", next_command=("index", "PATH")), 2, "searchctl index PATH"),
        (CollectionDamagedError("bad", next_command=("repair",)), 5, "searchctl repair"),
        (CollectionLockedError("busy", pid=7), 4, None),
        (FileNotFoundError(2, "No such file", "x"), 2, None),
        (ValueError("a bug"), 2, None),
    ]:
        with subtests.test(error=error, code=code, hint=hint):
            failure = explain(error)
            assert (code, hint, type(error).__name__) == (failure.code, failure.hint, failure.type)
            assert ("This is a bug" in failure.error) == isinstance(error, ValueError)


def test_what_helps_an_error_of_a_lower_room_helps_the_one_it_stands_in() -> None:
    try:
        raise TrainingError("the teacher is unknown") from UnknownModelError("x", next_command=("models", "list"))
    except TrainingError as error:
        assert explain(error).hint == "searchctl models list"
