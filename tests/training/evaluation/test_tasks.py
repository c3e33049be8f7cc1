"""Names, suites and local folders become tasks, offline; what is unknown or cannot be fetched says so."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from searchctl.training.errors import DataError, EvaluationError
from searchctl.training.evaluation.instructions import InstructionTable
from searchctl.training.evaluation.measurement import EvalTask, TaskInstructions
from searchctl.training.evaluation.suites import PAPER15, hub_task
from searchctl.training.evaluation.tasks import find_tasks

STS = '{"a": "A", "b": "B", "score": 5}\n{"a": "C", "b": "D", "score": 0}\n'


@dataclass
class Table:
    """Stands in for the instruction table: says what it was asked."""

    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    def for_task(
        self, name: str, task_type: str, prompt: str | Mapping[str, str] | None, default: str | None
    ) -> TaskInstructions:
        self.asked.append((name, task_type, prompt, default))
        return TaskInstructions(query=f"told {name}")


def find(
    *names: str, suite: str | None = None, local: Path | None = None, table: Table | None = None
) -> dict[str, EvalTask]:
    tasks = find_tasks(names, suite=suite, local=local, table=cast(InstructionTable, table or Table()))
    assert len({task.name for task in tasks}) == len(tasks)
    return {task.name: task for task in tasks}


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "sts").mkdir()
    for name in ("mine", "SciFact"):
        (tmp_path / "sts" / f"{name}.jsonl").write_text(STS)
    return tmp_path


def test_local_folder_alone_gives_all_its_tasks(local: Path) -> None:
    table = Table()
    tasks = find(local=local, table=table)
    assert ["SciFact", "mine"] == list(tasks)
    assert list(tasks) == list(find(local=local, suite="local"))
    assert ("mine", "STS", None, "Retrieve semantically similar text.") == table.asked[1]
    assert "told mine" == tasks["mine"].instructions.query
    task = tasks["mine"].make()
    assert ("mine", tasks["mine"].data) == (task.metadata.name, task.metadata.revision)


def test_local_wins_over_hub_by_name_and_in_a_suite(local: Path) -> None:
    assert "Retrieval" == find("SciFact")["SciFact"].task_type
    assert "STS" == find("SciFact", local=local)["SciFact"].task_type
    tasks = find(suite="paper15", local=local)
    assert ("STS", "Retrieval") == (tasks["SciFact"].task_type, tasks["NFCorpus"].task_type)


def test_named_come_first_and_each_once(local: Path) -> None:
    assert ["mine", "STS17", "SciFact"] == list(find("mine", "STS17", "mine", suite="local", local=local))


def test_paper15_is_the_papers_subset_in_english() -> None:
    tasks = find(suite="paper15")
    assert PAPER15 == tuple(tasks)
    counts = {kind: [task.task_type for task in tasks.values()].count(kind) for kind in ("Retrieval", "STS")}
    assert {"Retrieval": 3, "STS": 3} == counts
    assert "hub mteb/sts17-crosslingual-sts@faeb762787bd10488a50c8b5be4a3b82e411949c en-en" == tasks["STS17"].data
    assert "hub mteb/scifact@d56462d0e63a25450459c4f213e49ffdb866f7f9" == tasks["SciFact"].data
    assert tasks["MassiveIntentClassification"].data.endswith(" en")


def test_suites_of_mteb(subtests: pytest.Subtests) -> None:
    for suite, count in [("paper56", 56), ("mteb-eng-v2", 41), ("nanobeir", 13)]:
        with subtests.test(suite=suite, count=count):
            tasks = find(suite=suite)
            assert count == len(tasks)
            assert all(re.fullmatch(r"hub \S+@[0-9a-f]{40}( \S+)?", task.data) for task in tasks.values())
            assert len({task.data for task in tasks.values()}) == count


def test_named_hub_task_is_restricted_as_in_the_benchmark() -> None:
    table = Table()
    tasks = find("STS22", "STS17", "CQADupstackRetrieval", "AmazonReviewsClassification", table=table)
    assert tasks["STS22"].data.endswith(" en")
    assert (
        tasks["STS17"] == find(suite="paper56")["STS17"] or tasks["STS17"].data == find(suite="paper56")["STS17"].data
    )
    assert ("STS22", "STS", None, "Retrieve semantically similar text.") == table.asked[0]
    assert ("CQADupstackRetrieval", "Retrieval") == table.asked[2][:2]


def test_hub_task_runs_on_its_splits_and_subsets_only(subtests: pytest.Subtests) -> None:
    for name, splits, subsets in [
        ("STS17", ["test"], ["en-en"]),
        ("MassiveIntentClassification", ["test"], ["en"]),
        ("MSMARCO", ["dev"], ["default"]),
        ("NanoSciFactRetrieval", ["train"], ["default"]),
        ("SwednClusteringP2P", ["summaries", "articles"], ["default"]),
    ]:
        with subtests.test(name=name, splits=splits, subsets=subsets):
            described = hub_task(name)
            assert described is not None
            task = described.empty()
            assert (splits, subsets) == (list(task.eval_splits), task.hf_subsets)


def test_hub_task_that_cannot_be_fetched_names_the_data_set() -> None:
    for name, data_set in (("SciFact", "mteb/scifact"), ("CQADupstackRetrieval", "mteb/CQADupstack")):
        with pytest.raises(EvaluationError, match=rf"^{name}: the data set {data_set}\S* could not be .*--local DIR"):
            find(name)[name].make()


def test_nothing_known_to_evaluate_on(subtests: pytest.Subtests) -> None:
    for names, suite, what in [
        ([], None, "Name tasks of mteb, a suite (`--suite paper15`;"),
        ([], "paper", "suite 'paper' is not known, expected one of paper15, paper56, mteb-eng-v2, nanobeir, local"),
        ([], "local", "--suite local needs --local DIR"),
        (["scifact"], None, "no task 'scifact' among the local ones and mteb's. Close to it: SciFact"),
        (["CIFAR10"], None, "task CIFAR10 is about image: expected a task on text alone"),
    ]:
        with (
            subtests.test(names=names, suite=suite, what=what),
            pytest.raises(EvaluationError, match=re.escape(what)),
        ):
            find(*names, suite=suite)


def test_close_names_are_local_ones_too(local: Path) -> None:
    with pytest.raises(EvaluationError, match="Close to it: mine"):
        find("Mines", local=local)


def test_malformed_local_file_shows_when_made_and_a_missing_one_at_once(local: Path) -> None:
    (local / "sts" / "mine.jsonl").write_text(STS + "{}\n")
    task = find("mine", local=local)["mine"]
    with pytest.raises(DataError, match=r"mine\.jsonl, line 3: a is missing"):
        task.make()
    (local / "retrieval" / "half").mkdir(parents=True)
    assert ["mine"] == list(find("mine", local=local))
    with pytest.raises(DataError, match=r"test\.tsv: is missing"):
        find(local=local)


def test_local_file_that_changed_meanwhile_is_an_error(local: Path) -> None:
    task = find("mine", local=local)["mine"]
    task.make()
    (local / "sts" / "mine.jsonl").write_text(STS.replace("5", "4"))
    with pytest.raises(DataError, match="changed after the evaluation began"):
        task.make()


@pytest.mark.parametrize(("names", "suite"), [(["SciFact"], None), ([], "nanobeir"), (["mine"], None)])
def test_missing_extra_is_named(
    names: list[str], suite: str | None, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(
        EvaluationError, match=re.escape("evaluation needs the extra eval: `pip install 'searchctl[eval]'`")
    ):
        find(*names, suite=suite, local=local)
