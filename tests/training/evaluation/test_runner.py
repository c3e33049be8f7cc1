"""Models times tasks with mteb's own evaluators: scores by hand, reuse, resumption, and what goes wrong."""

from __future__ import annotations

import logging
import math
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta

from searchctl.training.errors import DataError
from searchctl.training.evaluation.measurement import (
    EvalTask,
    Identity,
    Meter,
    Pulse,
    Samples,
    TaskInstructions,
    TaskScore,
)
from searchctl.training.evaluation.results import UNFINISHED, ResultStore
from searchctl.training.evaluation.runner import (
    Begun,
    Encoding,
    EvalEvent,
    Failed,
    NotApplicable,
    Planned,
    Remark,
    Scored,
    Waiting,
    evaluate,
    settings_of,
)

ANGLES = {"north": 90, "north-east": 45, "east": 0, "almost north": 80, "south": 270, "west": 190, "up": 105}
"""The vector of a text is the unit vector of its angle: every cosine can be computed by hand."""


class Compass:
    """An mteb encoder of the texts in ANGLES."""

    def __init__(self, meter: Meter, doing: Callable[[], None]) -> None:
        self.meter = meter
        self._doing = doing

    @property
    def mteb_model_meta(self) -> ModelMeta:
        return ModelMeta.create_empty()

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        self._doing()
        texts = [text for batch in inputs for text in batch["text"]]
        self.meter.texts += len(texts)
        self.meter.tokens += 3 * len(texts)
        if self.meter.pulse is not None:
            self.meter.pulse(
                Pulse(share=1.0, share_known=0.0, texts_total=len(texts), tokens_done=9, tokens_total=9, elapsed_s=0.5)
            )
        radians = np.radians([ANGLES[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    def similarity(self, first: Any, second: Any) -> torch.Tensor:
        return torch.as_tensor(np.atleast_2d(first) @ np.atleast_2d(second).T)

    def similarity_pairwise(self, first: Any, second: Any) -> torch.Tensor:
        return torch.as_tensor((np.asarray(first) * np.asarray(second)).sum(axis=1))


@dataclass
class Model:
    """What a model opens."""

    model: Any
    meter: Meter


@dataclass
class Baseline:
    """A model that remembers what it was asked to do."""

    label: str = "compass"
    fingerprint: str = "f00d"
    types: Sequence[str] = ("Retrieval", "STS", "Classification")
    doing: Callable[[str, Path], None] = lambda task, workspace: None
    make_model: Callable[[Meter, Callable[[], None]], Any] = Compass
    opened: list[str] = field(default_factory=list)

    def identify(self) -> Identity:
        return Identity(label=self.label, kind="encoder", name="compass", fingerprint=self.fingerprint)

    def supports(self, task_type: str) -> bool:
        return task_type in self.types

    @contextmanager
    def open(self, task: EvalTask, workspace: Path) -> Iterator[Model]:
        self.opened.append(task.name)
        random.random()  # as a loader may do: it must not matter
        np.random.rand(7)
        meter = Meter()
        yield Model(model=self.make_model(meter, lambda: self.doing(task.name, workspace)), meter=meter)


def metadata(name: str, kind: str, metric: str, languages: Any = ("eng-Latn",)) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="made by hand",
        dataset={"path": "none", "revision": "1"},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=languages if isinstance(languages, dict) else list(languages),
        main_score=metric,
    )


def retrieval_of(
    queries: Mapping[str, str], documents: Mapping[str, str], judgements: Mapping[str, Mapping[str, int]]
) -> Any:
    class Task(AbsTaskRetrieval):
        metadata = metadata("by-hand", "Retrieval", "ndcg_at_10")

    made = Task()
    rows = [{"id": id_, "text": text, "title": ""} for id_, text in documents.items()]
    made.dataset = {
        "default": {
            "test": {
                "queries": Dataset.from_list([{"id": id_, "text": text} for id_, text in queries.items()]),
                "corpus": Dataset.from_list(rows),
                "relevant_docs": {id_: dict(docs) for id_, docs in judgements.items()},
                "top_ranked": None,
            }
        }
    }
    made.data_loaded = True
    return made


def retrieval() -> Any:
    return retrieval_of(
        {"q1": "north", "q2": "east"},
        {"a": "north-east", "b": "almost north", "c": "south", "d": "east"},
        {"q1": {"a": 1}, "q2": {"d": 1}},
    )


def sts() -> Any:
    class Task(AbsTaskSTS):
        metadata = metadata("pairs-by-hand", "STS", "cosine_spearman")

    made = Task()
    rows = [("north", "almost north", 4.0), ("north", "north-east", 5.0), ("north", "east", 2.0), ("up", "south", 0.0)]
    made.dataset = DatasetDict(
        {"test": Dataset.from_list([{"sentence1": a, "sentence2": b, "score": gold} for a, b, gold in rows])}
    )
    made.data_loaded = True
    return made


def classification() -> Any:
    class Task(AbsTaskClassification):
        metadata = metadata("sides", "Classification", "accuracy")
        samples_per_label = 3
        n_experiments = 4

    made = Task()
    texts = sorted(ANGLES) * 4
    rows = [{"text": text, "label": (number * 5 + number // 7) % 2} for number, text in enumerate(texts)]
    made.dataset = DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[3:19])})
    made.data_loaded = True
    return made


def eval_task(make: Callable[[], Any], **changes: Any) -> EvalTask:
    made = make()
    start = EvalTask(
        name=made.metadata.name,
        task_type=made.metadata.type,
        data=f"digest of {made.metadata.name}",
        instructions=TaskInstructions(query="Find it"),
        make=make,
    )
    return replace(start, **changes)


@dataclass
class Told:
    """All events of a run."""

    events: list[EvalEvent] = field(default_factory=list)

    def __call__(self, event: EvalEvent) -> None:
        self.events.append(event)

    def of(self, kind: Any) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def run(
    models: Sequence[Baseline], makers: Sequence[Callable[[], Any]], folder: Path, **options: Any
) -> tuple[list[TaskScore], Told]:
    told = Told()
    scores = evaluate(models, [eval_task(make) for make in makers], ResultStore(folder), told=told, **options)
    return scores, told


def test_retrieval_score_by_hand_with_one_value_a_query(tmp_path: Path) -> None:
    """q1 (90 degrees) has b (80) before a (45): its answer stands second. q2 has its answer first."""
    [score], _ = run([Baseline()], [retrieval], tmp_path)
    second = 1 / math.log2(3)
    assert Samples(kind="mean", ids=("q1", "q2"), values=(pytest.approx(second), 1.0)) == score.samples
    assert (second + 1) / 2 == pytest.approx(score.score, abs=1e-5)
    assert ("ndcg_at_10", "Retrieval", "by-hand") == (score.metric, score.task_type, score.task)
    assert score.score == score.metrics["ndcg_at_10"]
    assert 0.5 == score.metrics["recall_at_1"]
    assert (6, 18) == (score.cost.texts, score.cost.tokens)
    assert 0 < score.cost.total_s < 60
    assert mteb.__version__ == score.versions["mteb"]


def test_answers_count_down_to_rank_ten(tmp_path: Path) -> None:
    """From north everything is nearer than south: it stands seventh of seven."""

    def make() -> Any:
        return retrieval_of({"q": "north"}, {text: text for text in ANGLES}, {"q": {"south": 1}})

    [score], _ = run([Baseline()], [make], tmp_path)
    assert 1 / math.log2(8) == pytest.approx(score.score, abs=1e-5)


def test_sts_score_by_hand_with_one_value_a_pair(tmp_path: Path) -> None:
    """Cosines 0.985, 0.707, 0, -0.966 against gold 4, 5, 2, 0: two neighbours change places, 1 - 6 * 2 / (4 * 15)."""
    [score], _ = run([Baseline()], [sts], tmp_path)
    assert 0.8 == pytest.approx(score.score)
    assert score.samples is not None
    assert ("spearman", ("0", "1", "2", "3"), (4.0, 5.0, 2.0, 0.0)) == (
        score.samples.kind,
        score.samples.ids,
        score.samples.gold,
    )
    cosines = [math.cos(math.radians(angle)) for angle in (10, 45, 90, 165)]
    assert cosines == pytest.approx(score.samples.values, abs=1e-6)


def test_several_subsets_are_averaged_and_have_no_samples(tmp_path: Path) -> None:
    class Task(AbsTaskSTS):
        metadata = metadata("two-tongues", "STS", "cosine_spearman", {"en": ["eng-Latn"], "de": ["deu-Latn"]})

    def make() -> Any:
        made = Task()
        straight = [("north", "almost north", 3.0), ("north", "north-east", 2.0), ("north", "south", 0.0)]
        crossed = [("north", "almost north", 2.0), ("north", "north-east", 3.0), ("north", "south", 0.0)]
        made.dataset = {
            name: DatasetDict(
                {"test": Dataset.from_list([{"sentence1": a, "sentence2": b, "score": gold} for a, b, gold in rows])}
            )
            for name, rows in (("en", straight), ("de", crossed))
        }
        made.data_loaded = True
        return made

    [score], _ = run([Baseline()], [make], tmp_path)
    assert (1 + 0.5) / 2 == pytest.approx(score.score)
    assert score.samples is None


def test_second_run_opens_nothing_and_leaves_the_files_alone(tmp_path: Path) -> None:
    first, _ = run([Baseline()], [retrieval, sts], tmp_path)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}
    baseline = Baseline()
    second, told = run([baseline], [retrieval, sts], tmp_path)
    assert [] == baseline.opened
    assert first == second
    assert [True, True] == [event.reused for event in told.of(Scored)]
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}


def test_again_computes_anew(tmp_path: Path) -> None:
    run([Baseline()], [retrieval], tmp_path)
    baseline = Baseline()
    [score], told = run([baseline], [retrieval], tmp_path, again=True)
    assert ["by-hand"] == baseline.opened
    assert [False] == [event.reused for event in told.of(Scored)]
    assert [score] == ResultStore(tmp_path).all()


def test_again_takes_nothing_over_but_from_itself(tmp_path: Path) -> None:
    """Each encoding adds a file to the workspace, as vectors are kept there; the second one is interrupted."""
    found: list[list[str]] = []

    def baseline(*, stop: bool) -> Baseline:
        def doing(task: str, workspace: Path) -> None:
            found.append(sorted(path.name for path in workspace.glob("vectors-*")))
            (workspace / f"vectors-{len(found)}").mkdir()
            if stop and len(found) % 2 == 0:
                raise KeyboardInterrupt

        return Baseline(doing=doing)

    for again in (False, True, True):
        with pytest.raises(KeyboardInterrupt):
            run([baseline(stop=True)], [retrieval], tmp_path, again=again)
    # The first --again began with nothing, the second with what the first had left.
    assert [[], ["vectors-1"], [], ["vectors-3"], ["vectors-3", "vectors-4"]] == found[:5]
    run([baseline(stop=False)], [retrieval], tmp_path, again=True)
    assert "vectors-3" in found[-1]
    run([baseline(stop=False)], [retrieval], tmp_path, again=True)
    assert [] == found[-2]
    assert [] == list((tmp_path / ".unfinished").iterdir())


def test_again_that_fails_before_it_encodes_leaves_nothing(tmp_path: Path) -> None:
    def fail(task: str, workspace: Path) -> None:
        raise ValueError("no")

    _, told = run([Baseline(doing=fail)], [retrieval], tmp_path, again=True)
    assert 1 == len(told.of(Failed))
    assert [] == list((tmp_path / ".unfinished").iterdir())


def test_other_instructions_are_another_score(tmp_path: Path) -> None:
    told = Told()
    for query in ("Find it", "Find it", "", None):
        task = eval_task(retrieval, instructions=TaskInstructions(query=query))
        evaluate([Baseline()], [task], ResultStore(tmp_path), told=told)
    assert [False, True, False, False] == [event.reused for event in told.of(Scored)]
    assert {"Find it", "", None} == {s.settings["instructions"]["query"] for s in ResultStore(tmp_path).all()}  # type: ignore[call-overload, index]


def test_instructions_are_no_setting_of_those_who_read_none(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kind, details, computed in [
        ("bm25", {}, 1),
        ("sentence-transformers", {}, 1),
        ("search", {"mode": "lexical"}, 1),
        ("search", {"mode": "hybrid"}, 2),
        ("encoder", {}, 2),
    ]:
        with subtests.test(kind=kind, details=details, computed=computed):
            tmp_path = tmp_path_factory.mktemp("row")

            class Kind(Baseline):
                def identify(self) -> Identity:
                    return Identity(label="a", kind=kind, name="a", fingerprint="f", details=details)

            baseline = Kind()
            for query in ("Find it", "Look for it"):
                task = eval_task(retrieval, instructions=TaskInstructions(query=query))
                evaluate([baseline], [task], ResultStore(tmp_path), told=lambda event: None)
            assert computed == len(baseline.opened) == len(ResultStore(tmp_path).all())


def test_a_score_kept_with_instructions_is_read_by_those_who_read_none(tmp_path: Path) -> None:
    class Bm25(Baseline):
        def identify(self) -> Identity:
            return Identity(label="bm25", kind="bm25", name="bm25", fingerprint="f")

    [score], _ = run([Bm25()], [retrieval], tmp_path / "new")
    told = {"query": "Find it", "document": None}
    store = ResultStore(tmp_path / "old")
    store.prepare()
    store.save(replace(score, settings={"instructions": told, **score.settings}))
    baseline = Bm25()
    [found], _ = run([baseline], [retrieval], tmp_path / "old")
    assert ([], score.score) == (baseline.opened, found.score)


def test_process_that_waited_for_another_takes_its_score(tmp_path: Path) -> None:
    task, store = eval_task(retrieval), ResultStore(tmp_path)
    [there], _ = run([Baseline()], [retrieval], tmp_path / "elsewhere")
    waits, baseline, scores = threading.Event(), Baseline(), list[TaskScore]()

    def told(event: EvalEvent) -> None:
        if isinstance(event, Waiting):
            waits.set()

    thread = threading.Thread(target=lambda: scores.extend(evaluate([baseline], [task], store, told=told)))
    with store.claim(baseline.identify(), task, settings_of(task), waiting=lambda: None):
        thread.start()
        assert waits.wait(20)
        store.save(there)
    thread.join(20)
    assert ([there], []) == (scores, baseline.opened)


class Searching(Baseline):
    """One of several models that rank the same collection."""

    def identify(self) -> Identity:
        return replace(super().identify(), kind="search", details={"mode": self.label, "collection": "c0de"})


def test_work_shared_with_a_pair_that_another_process_scores_is_removed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for elsewhere in [0, 1]:
        with subtests.test(elsewhere=elsewhere):
            tmp_path = tmp_path_factory.mktemp("row")

            def keep(task: str, workspace: Path) -> None:
                (workspace / "kept").touch()

            prints = {"dense": "f00d", "hybrid": "beef"}
            models = [Searching(label=label, fingerprint=prints[label], doing=keep) for label in prints]
            there, _ = run(models, [retrieval], tmp_path / "elsewhere")
            store = ResultStore(tmp_path / "here")
            kept = []

            def told(event: EvalEvent) -> None:
                if isinstance(event, Planned if elsewhere == 0 else Scored) and not kept:
                    kept.extend(path for path in store.folder.glob(f"{UNFINISHED}/*/kept"))
                    store.save(there[elsewhere])

            assert there == [
                replace(mine, cost=yours.cost, finished=yours.finished)
                for mine, yours in zip(evaluate(models, [eval_task(retrieval)], store, told=told), there, strict=True)
            ]
            assert elsewhere == len(kept)
            assert [] == list((store.folder / UNFINISHED).iterdir())


def test_model_is_closed_after_its_last_task_and_before_the_next_is_opened(tmp_path: Path) -> None:
    order: list[str] = []

    class Closing(Baseline):
        def close(self) -> None:
            order.append(f"close {self.label}")

    def note(label: str) -> Callable[[str, Path], None]:
        return lambda task, workspace: order.append(f"{task} {label}")

    baselines = [Closing(label="a", doing=note("a")), Closing(label="b", fingerprint="b", doing=note("b"))]
    run(baselines, [retrieval, sts], tmp_path)
    whole = ["by-hand", "pairs-by-hand", "close"]
    assert [f"{what} {label}" for label in "ab" for what in whole] == list(dict.fromkeys(order))


def test_equal_models_are_measured_once_under_the_first_label(tmp_path: Path) -> None:
    baselines = [Baseline(label="model"), Baseline(label="bi"), Baseline(label="other", fingerprint="b")]
    scores, told = run(baselines, [retrieval, sts], tmp_path)
    assert [["by-hand", "pairs-by-hand"], [], ["by-hand", "pairs-by-hand"]] == [
        baseline.opened for baseline in baselines
    ]
    assert ["model", "model", "other", "other"] == [score.who.label for score in scores]
    assert [(number, 4) for number in (1, 2, 3, 4)] == [(e.pair.number, e.pair.total) for e in told.of(Scored)]
    swapped = [Baseline(label="bi"), Baseline(label="model")]
    again, _ = run(swapped, [retrieval, sts], tmp_path)
    assert ["bi", "bi"] == [score.who.label for score in again]
    assert ["model"] * 2 + ["other"] * 2 == sorted(score.who.label for score in ResultStore(tmp_path).all())
    assert [[], []] == [baseline.opened for baseline in swapped]


def test_settings_name_instructions_seed_and_the_version_of_mteb() -> None:
    expected = {
        "instructions": {"query": "Find it", "document": None},
        "seed": 42,
        "mteb": ".".join(mteb.__version__.split(".")[:2]),
    }
    assert expected == settings_of(eval_task(retrieval))


def test_same_evaluation_twice_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Classification draws its training samples: the sample must not depend on what was sampled before."""
    makers = [retrieval, sts, classification]
    first, _ = run([Baseline()], makers, tmp_path / "first")
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    second, _ = run([Baseline()], list(reversed(makers)), tmp_path / "second")
    by_name = {score.task: score for score in second}
    for score in first:
        other = by_name[score.task]
        assert (score.score, score.metrics, score.samples) == (other.score, other.metrics, other.samples)
    assert 0 < first[2].score < 1  # else the sample would not show


def test_unsupported_pair_is_told(tmp_path: Path) -> None:
    baselines = [Baseline(types=("Retrieval",)), Baseline(label="b", fingerprint="b")]
    scores, told = run(baselines, [sts, retrieval], tmp_path)
    assert [("compass", "by-hand"), ("b", "pairs-by-hand"), ("b", "by-hand")] == [(s.who.label, s.task) for s in scores]
    [event] = told.of(NotApplicable)
    assert ("compass", "pairs-by-hand", 1, 4) == (
        event.pair.label,
        event.pair.task,
        event.pair.number,
        event.pair.total,
    )


def test_error_in_one_task_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fail(task: str, workspace: Path) -> None:
        if task == "by-hand":
            raise RuntimeError("out of memory")

    scores, told = run([Baseline(doing=fail)], [retrieval, sts], tmp_path)
    assert ["pairs-by-hand"] == [score.task for score in scores]
    [failed] = told.of(Failed)
    assert ("by-hand", "out of memory") == (failed.pair.task, str(failed.error))
    fixed = Baseline()
    scores, told = run([fixed], [retrieval, sts], tmp_path)
    assert ["by-hand"] == fixed.opened
    assert ["by-hand", "pairs-by-hand"] == [score.task for score in scores]


def test_malformed_data_ends_the_run_before_anything_is_encoded(tmp_path: Path) -> None:
    def malformed() -> Any:
        raise DataError(Path("queries.jsonl"), "no _id", line=3)

    baseline = Baseline()
    tasks = [eval_task(retrieval), replace(eval_task(sts), make=malformed)]
    with pytest.raises(DataError, match=r"queries\.jsonl, line 3: no _id"):
        evaluate([baseline], tasks, ResultStore(tmp_path), told=Told())
    assert [] == baseline.opened


def test_data_of_the_hub_are_not_read_beforehand(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> Any:
        made.append("made")
        return retrieval()

    task = replace(eval_task(retrieval), make=make, data="hub by-hand@1")
    told = Told()
    evaluate([Baseline()], [task], ResultStore(tmp_path), told=told)
    assert ["made"] == made
    assert [Planned(total=1, todo={1: None})] == told.of(Planned)


def test_plan_counts_what_must_be_computed_with_its_size(tmp_path: Path) -> None:
    class Late(AbsTaskRetrieval):
        metadata = metadata("by-hand", "Retrieval", "ndcg_at_10")

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = retrieval().dataset
            self.data_loaded = True

    run([Baseline()], [sts], tmp_path)
    _, told = run([Baseline(types=("STS", "Retrieval"))], [Late, sts, classification], tmp_path)
    [plan] = told.of(Planned)
    assert (3, [1]) == (plan.total, list(plan.todo))
    texts = "north east north-east almost north south east"
    assert len(texts) / 2 < plan.todo[1] < 1000


def test_events_come_in_order_with_the_progress_of_encoding(tmp_path: Path) -> None:
    _, told = run([Baseline()], [retrieval], tmp_path)
    kinds = [type(event) for event in told.events if not isinstance(event, Remark)]
    assert [Planned, Begun, Encoding, Encoding, Scored] == kinds
    assert 18.0 == told.of(Encoding)[0].pulse.tokens_per_s


def test_ctrl_c_keeps_what_is_finished_and_the_workspace(tmp_path: Path) -> None:
    seen: list[Path] = []

    def press(task: str, workspace: Path) -> None:
        seen.append(workspace)
        (workspace / "vectors").write_text("half")
        if task == "pairs-by-hand":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Baseline(doing=press)], [retrieval, sts], tmp_path)
    assert ["by-hand"] == [score.task for score in ResultStore(tmp_path).all()]
    assert not seen[0].exists()
    assert "half" == (seen[-1] / "vectors").read_text()

    found: list[str] = []

    def look(task: str, workspace: Path) -> None:
        found.append((workspace / "vectors").read_text())

    after = Baseline(doing=look)
    scores, _ = run([after], [retrieval, sts], tmp_path)
    assert (["pairs-by-hand"], ["half", "half"]) == (after.opened, found)
    assert 2 == len(scores)
    assert not seen[-1].exists()


def test_half_written_predictions_of_a_killed_run_do_no_harm(tmp_path: Path) -> None:
    task = eval_task(sts)
    store = ResultStore(tmp_path)
    left = store.workspace(Baseline().identify(), task, settings_of(task)) / "predictions"
    left.mkdir()
    (left / "pairs-by-hand_predictions.json").write_text('{"default": {"test": {"cos')
    [score], _ = run([Baseline()], [sts], tmp_path)
    assert 0.8 == pytest.approx(score.score)


def test_score_that_is_no_number_fails_the_task(tmp_path: Path) -> None:
    def make() -> Any:
        made = sts()
        rows = [{"sentence1": "north", "sentence2": text, "score": 1.0} for text in ("east", "west", "south")]
        made.dataset = DatasetDict({"test": Dataset.from_list(rows)})
        return made

    scores, told = run([Baseline()], [make], tmp_path)
    assert [] == scores
    assert "cosine_spearman is nan" in str(told.of(Failed)[0].error)
    assert [] == ResultStore(tmp_path).all()


class Searcher:
    """An mteb search model that answers only the queries it likes."""

    def __init__(self, meter: Meter, doing: Callable[[], None]) -> None:
        self.mteb_model_meta = ModelMeta.create_empty()

    def index(self, corpus: Any, **_: Any) -> None:
        pass

    def search(self, queries: Any, **_: Any) -> dict[str, dict[str, float]]:
        return {"q2": {"d": 1.0}}


def test_model_that_leaves_queries_out_does_not_get_their_mean(tmp_path: Path) -> None:
    scores, told = run([Baseline(make_model=Searcher)], [retrieval], tmp_path)
    assert [] == scores
    assert "1 of 2 queries were scored" in str(told.of(Failed)[0].error)


def test_what_libraries_say_is_told_and_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def warn(task: str, workspace: Path) -> None:
        logging.getLogger("mteb.tasks").warning("a scoring bug")
        logging.getLogger("mteb.tasks").info("chatter")
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)

    _, told = run([Baseline(doing=warn)], [retrieval], tmp_path)
    messages = [event.message for event in told.of(Remark)]
    assert {"a scoring bug", "deprecated"} <= set(messages)
    assert "chatter" not in messages
    assert ("", "") == capfd.readouterr()


def test_task_of_several_tasks_is_their_mean_without_samples(tmp_path: Path) -> None:
    """As CQADupstack is: here one of 0.8 and one of 1."""

    def exact() -> Any:
        made = sts()
        rows = [("north", "almost north", 3.0), ("north", "north-east", 2.0), ("north", "south", 0.0)]
        made.metadata = metadata("exact", "STS", "cosine_spearman")
        made.dataset = DatasetDict(
            {"test": Dataset.from_list([{"sentence1": a, "sentence2": b, "score": gold} for a, b, gold in rows])}
        )
        return made

    def both() -> Any:
        class Both(AbsTaskAggregate):
            metadata = AggregateTaskMetadata(
                name="both",
                description="made by hand",
                type="STS",
                category="t2t",
                tasks=[sts(), exact()],
                eval_splits=["test"],
                eval_langs=["eng-Latn"],
                main_score="cosine_spearman",
                reference=None,
            )

        return Both()

    task = replace(eval_task(sts), name="both", make=both, data="hub both@1")
    [score] = evaluate([Baseline()], [task], ResultStore(tmp_path), told=Told())
    assert (pytest.approx(0.9), None) == (score.score, score.samples)
