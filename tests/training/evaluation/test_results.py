"""Scores on disk: what is written is read back, what is damaged is named, and a kill leaves whole files."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.measurement import Cost, EvalTask, Identity, Samples, TaskInstructions, TaskScore
from searchctl.training.evaluation.results import ResultStore

WHO = Identity(
    label="mine", kind="encoder", name="/models/Tiny One", fingerprint="abcdef0123456789", details={"dim": 8}
)
SETTINGS: dict[str, Any] = {"instructions": {"query": "Find it", "document": None}, "seed": 42}


def task(name: str = "scifact", data: str = "digest-1") -> EvalTask:
    def make() -> Any:
        raise AssertionError("the store reads no data")

    return EvalTask(name=name, task_type="Retrieval", data=data, instructions=TaskInstructions(), make=make)


def score(**changes: Any) -> TaskScore:
    start = TaskScore(
        task="scifact",
        task_type="Retrieval",
        data="digest-1",
        who=WHO,
        settings=SETTINGS,
        metric="ndcg_at_10",
        score=0.1 + 0.2,
        metrics={"ndcg_at_10": 0.1 + 0.2, "recall_at_10": 1 / 3},
        samples=Samples(kind="mean", ids=("q1", "q2"), values=(0.123456789, 1.0)),
        cost=Cost(texts=7, tokens=70, truncated=1, empty=0, encode_s=1.25, total_s=2.5),
        versions={"mteb": "2.26.24"},
        machine="one core",
        finished="2025-01-02T03:04:05.678+00:00",
    )
    return replace(start, **changes)


def test_score_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    assert store.find(WHO, task(), SETTINGS) is None
    assert store.all() == []
    path = store.save(score())
    assert [path] == [file for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert score() == store.find(WHO, task(), SETTINGS)
    assert [score()] == store.all()
    assert path.parent == tmp_path / "results" / "Tiny-One-abcdef01"
    assert path.name.startswith("scifact-")


def test_file_is_for_people_with_samples_on_one_line(tmp_path: Path) -> None:
    lines = ResultStore(tmp_path).save(score()).read_text().splitlines()
    assert '  "task": "scifact",' in lines
    assert '    "values": [0.123456789, 1.0],' in lines


def test_whatever_decides_a_score_is_part_of_the_key(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for other in [
        (replace(WHO, fingerprint="abcdef01ffffffff"), task(), SETTINGS),
        (replace(WHO, kind="search"), task(), SETTINGS),
        (WHO, task(name="cranfield"), SETTINGS),
        (WHO, task(data="digest-2"), SETTINGS),
        (WHO, task(), SETTINGS | {"seed": 43}),
        (WHO, task(), SETTINGS | {"instructions": {"query": "", "document": None}}),
    ]:
        with subtests.test(other=other):
            tmp_path = tmp_path_factory.mktemp("row")
            store = ResultStore(tmp_path)
            store.save(score())
            assert store.find(*other) is None
            who, other_task, settings = other
            second = score(who=who, task=other_task.name, data=other_task.data, settings=settings, score=0.9)
            store.save(second)
            assert score() == store.find(WHO, task(), SETTINGS)
            assert second == store.find(*other)
            assert len(store.all()) == 2


def test_label_is_the_last_one_given_and_the_name_no_part_of_the_key(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save(score())
    renamed = replace(WHO, label="theirs", name="elsewhere/tiny")
    assert score(who=renamed) == store.find(renamed, task(), SETTINGS)
    assert ["theirs"] == [found.who.label for found in store.all()]
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_reading_with_the_same_label_leaves_the_file_alone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    before = store.save(score()).stat()
    store.find(WHO, task(), SETTINGS)
    after = next(tmp_path.rglob("*.json")).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_saving_again_replaces(tmp_path: Path) -> None:
    """By another file under the same name: who reads the old one meanwhile reads it whole."""
    store = ResultStore(tmp_path)
    path = store.save(score())
    before = path.read_text()
    with path.open() as reader:
        assert path == store.save(score(score=0.5))
        assert before == reader.read()
    assert [0.5] == [found.score for found in store.all()]
    assert [path] == list(path.parent.iterdir())


def test_scores_are_sorted(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for name in ("npl", "cranfield", "scifact"):
        store.save(score(task=name))
    store.save(score(task="arguana", who=replace(WHO, name="/a", fingerprint="99")))
    assert ["arguana", "cranfield", "npl", "scifact"] == [found.task for found in store.all()]


def test_the_score_that_was_wanted_last_is_at_the_end(tmp_path: Path) -> None:
    """Computed or reused; and in a copy of the folder too, whose files are all of one moment."""
    store = ResultStore(tmp_path / "results")
    for data, day in (("new", 3), ("old", 2)):
        store.save(score(data=data, finished=f"2025-01-0{day}T12:00:00+00:00"))
    assert ["old", "new"] == [found.data for found in store.all()]
    assert store.find(WHO, task(data="old"), SETTINGS) is not None
    shutil.copytree(tmp_path / "results", tmp_path / "copy", copy_function=shutil.copyfile)
    for folder in ("results", "copy"):
        assert ["new", "old"] == [found.data for found in ResultStore(tmp_path / folder).all()]
    store.save(score(data="new", finished="2999-01-01T12:00:00+00:00"))  # computed once more
    assert ["old", "new"] == [found.data for found in store.all()]


def test_times_are_compared_across_time_zones(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save(score(data="early", finished="2026-01-02T13:30:00+02:00"))
    store.save(score(data="late", finished="2026-01-02T12:00:00+00:00"))
    assert ["early", "late"] == [found.data for found in store.all()]


def test_half_a_mark_of_use_counts_for_none(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for mark in [b"", b"2025-01", b"\xff\xfe"]:
        with subtests.test(mark=mark):
            tmp_path = tmp_path_factory.mktemp("row")
            store = ResultStore(tmp_path)
            path = store.save(score())
            store.find(WHO, task(), SETTINGS)
            [used] = [file for file in path.parent.iterdir() if file != path]
            used.write_bytes(mark)
            store.save(score(data="digest-2", finished="2025-02-02T03:04:05.678+00:00"))
            assert ["digest-1", "digest-2"] == [found.data for found in store.all()]


CHANGES: dict[str, dict[str, Any]] = {
    "schema": {"schema": 0},
    "unknown": {"colour": "red"},
    "text for a number": {"score": "0.3"},
    "nan": {"score": float("nan")},
    "bool": {"score": True},
    "samples": {"samples": {"kind": "mean", "ids": ["q1"], "values": [0.123456789, 1.0], "gold": []}},
    "no time": {"finished": "yesterday"},
    "no offset": {"finished": "2025-01-02T03:04:05"},
    "moved": {"task": "npl"},
}


def damage(path: Path, how: str) -> None:
    document = json.loads(path.read_text())
    if how == "cut":
        path.write_text(path.read_text()[:200])
    elif how == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif how == "list":
        path.write_text("[]")
    elif how == "missing":
        path.write_text(json.dumps({key: value for key, value in document.items() if key != "cost"}))
    else:
        path.write_text(json.dumps(document | CHANGES[how]))


def test_damaged_file_is_named_with_what_to_do(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for how in ["cut", "binary", "list", "missing", *CHANGES]:
        with subtests.test(how=how):
            tmp_path = tmp_path_factory.mktemp("row")
            store = ResultStore(tmp_path)
            path = store.save(score())
            damage(path, how)
            with pytest.raises(EvaluationError, match="Remove the file") as caught:
                store.find(WHO, task(), SETTINGS)
            assert str(path) in str(caught.value)
            if how != "moved":  # a whole file under a wrong name is no harm to a report
                with pytest.raises(EvaluationError, match="Remove the file"):
                    store.all()


def test_result_of_a_newer_version_is_not_to_be_removed(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.save(score())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    for read in (store.all, lambda: store.find(WHO, task(), SETTINGS)):
        with pytest.raises(EvaluationError, match=r"made by a newer searchctl.*--results") as caught:
            read()
        assert str(path) in str(caught.value)
        assert "emove" not in str(caught.value)


def test_files_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.save(score())
    for name in ("web-app/package.json", "web/tsconfig-base.json", f"web/{path.name}", "a-b/scifact-0123456G.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [score()] == store.all()


def test_result_that_cannot_be_read_is_named_with_the_option(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.save(score())
    path.unlink()
    path.mkdir()
    with pytest.raises(EvaluationError, match=r"Is a directory.*--results") as caught:
        store.all()
    assert str(path) in str(caught.value)


def test_folder_that_cannot_be_written_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".unfinished").write_text("")

    def claimed() -> None:
        with ResultStore(tmp_path / "results").claim(WHO, task(), SETTINGS, waiting=lambda: None):
            raise AssertionError

    below = ResultStore(tmp_path / "taken" / "below")
    for use in (ResultStore(tmp_path / "taken").prepare, below.prepare, lambda: below.save(score()), claimed):
        with pytest.raises(EvaluationError, match=r"--results is .*(taken|results).*\. Expected a folder"):
            use()


def test_label_now_in_use_is_kept(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    before = store.save(score()).stat()
    other = replace(WHO, label="theirs")
    assert score(who=other) == store.find(other, task(), SETTINGS, labels={"mine", "theirs"})
    assert ["mine"] == [found.who.label for found in store.all()]
    assert before.st_ino == next(tmp_path.rglob("*.json")).stat().st_ino


def test_number_that_is_not_finite_is_refused_and_nothing_written(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for bad in [
        {"score": float("nan")},
        {"metrics": {"recall": float("inf")}},
        {"samples": Samples(kind="mean", ids=("q",), values=(float("nan"),))},
    ]:
        with subtests.test(bad=bad):
            tmp_path = tmp_path_factory.mktemp("row")
            with pytest.raises(EvaluationError, match=r"scifact of mine: .* nan or infinite"):
                ResultStore(tmp_path).save(score(**bad))
            assert [] == list(tmp_path.rglob("*.json*"))


def test_workspace_stays_until_it_is_finished(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.claim(WHO, task(), SETTINGS, waiting=lambda: None) as workspace:
        assert store.workspace(WHO, task(), SETTINGS) == workspace
        (workspace / "vectors.db").write_text("half")
    with store.claim(WHO, task(), SETTINGS, waiting=lambda: None) as again:
        assert workspace == again
        assert "half" == (workspace / "vectors.db").read_text()
        store.finish(workspace)
    assert [] == list((tmp_path / ".unfinished").iterdir())
    assert store.all() == []


def test_workspaces_of_two_tasks_and_settings_are_apart(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    folders = {
        store.workspace(WHO, task(), SETTINGS),
        store.workspace(WHO, task(name="npl"), SETTINGS),
        store.workspace(WHO, task(), SETTINGS | {"seed": 1}),
        store.workspace(replace(WHO, fingerprint="0"), task(), SETTINGS),
    }
    assert len(folders) == 4
    assert all(folder.is_dir() for folder in folders)


def test_second_claim_waits_for_the_first_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kept in [True, False]:
        with subtests.test(kept=kept):
            tmp_path = tmp_path_factory.mktemp("row")
            waits, holds = threading.Event(), threading.Event()
            inside: list[str] = []

            def second() -> None:
                with ResultStore(tmp_path).claim(WHO, task(), SETTINGS, waiting=waits.set):
                    inside.append("second")
                    holds.set()

            store = ResultStore(tmp_path)
            thread = threading.Thread(target=second)
            with store.claim(WHO, task(), SETTINGS, waiting=lambda: inside.append("never")) as workspace:
                thread.start()
                assert waits.wait(10)
                assert not holds.wait(0.2)
                inside.append("first")
                if kept:
                    (workspace / "vectors.db").write_text("half")
            thread.join(10)
            assert ["first", "second"] == inside


def test_claims_of_different_tasks_do_not_wait(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    waited: list[str] = []
    with (
        store.claim(WHO, task(), SETTINGS, waiting=lambda: waited.append("a")),
        store.claim(WHO, task(name="npl"), SETTINGS, waiting=lambda: waited.append("b")),
    ):
        pass
    assert [] == waited
