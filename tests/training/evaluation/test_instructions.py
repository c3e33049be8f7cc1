"""Which instruction each side of a task gets, and what is refused in a user's table."""

import json
from pathlib import Path

import pytest

from searchctl.training.errors import DataError, EvaluationError
from searchctl.training.evaluation.instructions import InstructionTable
from searchctl.training.evaluation.measurement import TaskInstructions

STS = "Retrieve semantically similar text."
CLAIMS = "Given a scientific claim, retrieve abstracts that support or refute the claim"


def table(tmp_path: Path, toml: str) -> InstructionTable:
    path = tmp_path / "mine.toml"
    path.write_text(toml, encoding="utf-8")
    return InstructionTable.load(path)


def entry(query: str | None = None, document: str | None = None) -> TaskInstructions:
    return TaskInstructions(query=query, document=document)


ALL = {
    "user_tasks": {"t": entry("1")},
    "user_types": {"Retrieval": entry("2"), "STS": entry("2")},
    "tasks": {"t": entry("3")},
    "types": {"Retrieval": entry("5"), "STS": entry("5")},
}


def test_sources_are_asked_in_order(subtests: pytest.Subtests) -> None:
    for left, expected in [
        (("user_tasks", "user_types", "tasks", "types"), "1"),
        (("user_types", "tasks", "types"), "2"),
        (("tasks", "types"), "3"),
        (("types",), "4"),
    ]:
        with subtests.test(left=left, expected=expected):
            found = InstructionTable(**{name: ALL[name] for name in left})
            assert entry(expected) == found.for_task("t", "Retrieval", "4", "6")
            assert entry(expected, expected) == found.for_task("t", "STS", "4", "6")


def test_the_type_wins_over_the_default_alone() -> None:
    assert entry("5") == InstructionTable(types=ALL["types"]).for_task("t", "Retrieval", None, "6")
    assert entry("6") == InstructionTable().for_task("t", "Retrieval", None, "6")
    assert entry() == InstructionTable().for_task("t", "Retrieval", None, "")


def test_the_prompt_of_mteb(subtests: pytest.Subtests) -> None:
    for task_type, prompt, expected in [
        ("Retrieval", "find", entry("find")),
        ("Retrieval", {"query": "find"}, entry("find")),
        ("Retrieval", {"query": "find", "document": "this"}, entry("find")),
        ("Reranking", {"query": "find", "passage": "this"}, entry("find")),
        ("STS", "find", entry("find", "find")),
        ("PairClassification", {"query": "a", "document": "b"}, entry("a", "b")),
        ("PairClassification", {"query": "a", "passage": "b"}, entry("a", "b")),
        ("PairClassification", {"query": "a"}, entry("a", "a")),
        ("STS", "", entry("default", "default")),
        ("STS", None, entry("default", "default")),
    ]:
        with subtests.test(task_type=task_type, prompt=prompt, expected=expected):
            assert expected == InstructionTable().for_task("t", task_type, prompt, "default")


def test_each_side_takes_the_first_source_that_says_something_for_it() -> None:
    found = InstructionTable(user_tasks={"t": entry(document="d")}, tasks={"t": entry("q", "other")})
    assert entry("q", "d") == found.for_task("t", "Retrieval", None, None)
    assert entry("q", "d") == found.for_task("t", "STS", None, None)


def test_the_empty_instruction_is_said_and_not_left_out() -> None:
    found = InstructionTable(user_tasks={"t": entry("")}, tasks={"t": entry("q")})
    assert entry("", "") == found.for_task("t", "STS", "p", "d")


def test_none_says_none_to_both_sides_of_every_task() -> None:
    for task_type in ("Retrieval", "STS"):
        assert entry("", "") == InstructionTable.none().for_task("scifact", task_type, "p", "d")


def test_the_packaged_table_has_the_local_tasks_and_gives_documents_of_retrieval_none() -> None:
    found = InstructionTable.load(None)
    assert entry(CLAIMS) == found.for_task("scifact", "Retrieval", None, "default")
    assert entry(STS, STS) == found.for_task("stsb-test", "STS", None, "default")
    assert entry("Given an X", None) == found.for_task("OnHub", "Retrieval", {"query": "Given an X"}, "default")


def test_tasks_of_mteb_without_wording_have_that_of_the_paper() -> None:
    for name in ("CQADupstackRetrieval", "HotpotQAHardNegatives", "Touche2020Retrieval.v3", "SummEval"):
        found = InstructionTable.load().for_task(name, "Retrieval", None, "a default")
        general = InstructionTable.load().for_task("unknown", "Retrieval", None, "a default")
        assert found.query not in (general.query, "a default")


def test_a_users_table_wins_key_by_key(tmp_path: Path) -> None:
    found = table(tmp_path, '[task.scifact]\ndocument = "abstract"\n[type.STS]\nquery = "mine"\n')
    assert entry(CLAIMS, "abstract") == found.for_task("scifact", "Retrieval", None, "default")
    assert entry("mine", "mine") == found.for_task("stsb-test", "STS", None, "default")
    assert entry("mine", "mine") == found.for_task("STS12", "STS", "its own", "default")


def test_tasks_of_the_users_table_that_are_in_no_run_are_named(tmp_path: Path) -> None:
    found = table(tmp_path, '[task.known]\nquery = "a"\n[task.mistyped]\nquery = "b"\n[type.STS]\nquery = "c"\n')
    assert ["mistyped"] == found.unused(["known", "other"])
    assert [] == InstructionTable.load(None).unused(["known"])


def test_a_name_with_a_dot_needs_quotes(tmp_path: Path) -> None:
    found = table(tmp_path, '[task."News.v2"]\nquery = "mine"\n')
    assert entry("mine", "mine") == found.for_task("News.v2", "Clustering", None, None)
    with pytest.raises(DataError, match=r"unknown key task\.News\.v2.*quotes"):
        table(tmp_path, '[task.News.v2]\nquery = "mine"\n')


def test_a_wrong_table_is_an_error_with_file_and_key(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for toml, message in [
        ("query = 'x'", "unknown key 'query'"),
        ("[task.a]\nquery = 3", r"task\.a\.query is 3, expected a string"),
        ("[task.a]\nqueries = 'x'", r"unknown key task\.a\.queries, expected query or document"),
        ("[task]\na = 'x'", r"task\.a is 'x', expected a table"),
        ("task = 3", "task is 3"),
        ("[type.Sts]\nquery = 'x'", r"type\.Sts is no type of task, expected one of .*STS"),
        ("[task.a\n", "no valid TOML .*line 1"),
    ]:
        with subtests.test(toml=toml, message=message):
            tmp_path = tmp_path_factory.mktemp("row")
            with pytest.raises(DataError, match=rf"mine\.toml: {message}"):
                table(tmp_path, toml)


def test_a_missing_or_undecodable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.toml: cannot be read"):
        InstructionTable.load(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(json.dumps({"a": "\xe4"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.toml: cannot be read"):
        InstructionTable.load(tmp_path / "latin.toml")


def test_a_prompt_with_an_unknown_key_names_the_task() -> None:
    with pytest.raises(EvaluationError, match=r"task t: .*'question'"):
        InstructionTable().for_task("t", "Retrieval", {"question": "x"}, None)
