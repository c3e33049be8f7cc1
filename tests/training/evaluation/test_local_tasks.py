"""Hand-made tasks through mteb's own evaluators: scores equal values computed by hand from the angles of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, log, log2, radians, sin
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pytest
from mteb.models import ModelMeta
from mteb.similarity_functions import cos_sim, pairwise_cos_sim

from searchctl.training.data.local_data import (
    ClassificationData,
    ClusteringData,
    Kind,
    LabelledTexts,
    LocalData,
    PairData,
    RetrievalData,
    StsData,
)
from searchctl.training.evaluation.local_tasks import FORMS, make_task

Call = tuple[str | None, list[str]]


class Angles:
    """An encoder of mteb that knows the angle of each text, in degrees; any other text is a KeyError."""

    def __init__(self, angles: Mapping[str, float]) -> None:
        self.angles = angles
        self.calls: list[Call] = []
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/angles", "revision": "1"})

    def encode(self, inputs: Any, *, prompt_type: Any = None, **rest: Any) -> np.ndarray:
        texts = [text for batch in inputs for text in batch["text"]]
        self.calls.append((prompt_type and prompt_type.value, texts))
        turns = [radians(self.angles[text]) for text in texts]
        return np.array([[cos(turn), sin(turn)] for turn in turns], dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        return pairwise_cos_sim(embeddings1, embeddings2)


@dataclass(frozen=True)
class Case:
    kind: Kind
    data: LocalData
    angles: Mapping[str, float]
    calls: list[Call]
    expected: float


DOCUMENTS = [f"d{number:02}" for number in range(1, 13)]
RETRIEVAL = Case(
    kind="retrieval",
    data=RetrievalData(
        document_ids=tuple(DOCUMENTS),
        titles=("Wings", *[""] * 11),
        texts=tuple(f"text {id_}" for id_ in DOCUMENTS),
        query_ids=("q1", "q2"),
        queries=("low", "high"),
        judgements={"q1": {"d02": 2, "d03": 1, "d05": 0, "d11": 1}, "q2": {"d12": 1}},
        unjudged=0,
        digest="digest",
    ),
    # 5 degrees apart: from 0 the order is d01, d02 ... and from 62 it is d12, d11 ...
    angles={
        "low": 0,
        "high": 62,
        "Wings text d01": 5,
        **{f"text {id_}": 5 * number for number, id_ in enumerate(DOCUMENTS[1:], start=2)},
    },
    calls=[
        ("query", ["low", "high"]),
        ("document", ["Wings text d01", *[f"text {id_}" for id_ in DOCUMENTS[1:]]]),
    ],
    # q1 finds grade 2 at rank 2 and 1 at rank 3; d11 comes too late at rank 11, and counts in the ideal. q2: rank 1.
    expected=((2 / log2(3) + 1 / log2(4)) / (2 / log2(2) + 1 / log2(3) + 1 / log2(4)) + 1) / 2,
)
STS = Case(
    kind="sts",
    data=StsData(first=("a0", "a1", "a2", "a3"), second=("b10", "b50", "b30", "b80"), scores=(5, 3, 1, 0), digest="d"),
    angles={"a0": 0, "a1": 0, "a2": 0, "a3": 0, "b10": 10, "b50": 50, "b30": 30, "b80": 80},
    calls=[(None, ["a0", "a1", "a2", "a3"]), (None, ["b10", "b50", "b30", "b80"])],
    # Ranks by cosine 4, 2, 3, 1 against 4, 3, 2, 1: squared differences 0, 1, 1, 0.
    expected=1 - 6 * 2 / (4 * (4**2 - 1)),
)
PAIRS = Case(
    kind="pairs",
    data=PairData(first=("a",) * 4, second=("b30", "b20", "b10", "b40"), labels=(1, 0, 1, 0), digest="d"),
    angles={"a": 0, "b10": 10, "b20": 20, "b30": 30, "b40": 40},
    calls=[(None, ["a"] * 4), (None, ["b30", "b20", "b10", "b40"])],
    # Ranked 1, 0, 1, 0: precision 1 at the first relevant one, 2/3 at the second.
    expected=(1 + 2 / 3) / 2,
)
GROUPS = {"n0": 0.0, "n1": 0.0, "f2": 90.0, "f3": 90.0, "f4": 90.0, "f5": 90.0}


def clustering(labels: tuple[str, ...], expected: float) -> Case:
    data = ClusteringData(rows=LabelledTexts(texts=tuple(GROUPS), labels=labels), digest="d")
    return Case(kind="clustering", data=data, angles=GROUPS, calls=[(None, list(GROUPS))], expected=expected)


def entropy(*shares: float) -> float:
    return -sum(share * log(share) for share in shares)


def v_measure() -> float:
    """V-measure of the labels a a a b b b in the clusters {a a} and {a b b b}."""
    homogeneity = 1 - 4 / 6 * entropy(1 / 4, 3 / 4) / entropy(1 / 2, 1 / 2)
    completeness = 1 - 3 / 6 * entropy(2 / 3, 1 / 3) / entropy(2 / 6, 4 / 6)
    return 2 * homogeneity * completeness / (homogeneity + completeness)


CLASSIFICATION = Case(
    kind="classification",
    data=ClassificationData(
        train=LabelledTexts(texts=("l1", "l2", "l3", "r1", "r2"), labels=("left", "left", "left", "right", "right")),
        test=LabelledTexts(texts=("l4", "l5", "r3", "lost"), labels=("left", "left", "right", "right")),
        digest="d",
    ),
    angles={"l1": 0, "l2": 2, "l3": 4, "l4": 5, "l5": 6, "r1": 90, "r2": 88, "r3": 85, "lost": 3},
    calls=[(None, ["l1", "l2", "l3", "r1", "r2"]), (None, ["l4", "l5", "r3", "lost"])],
    # "lost" lies among the left ones.
    expected=3 / 4,
)
CASES = {
    "retrieval": RETRIEVAL,
    "sts": STS,
    "pairs": PAIRS,
    "clusters as labels": clustering(("a", "a", "b", "b", "b", "b"), 1.0),
    "clusters across labels": clustering(("a", "a", "a", "b", "b", "b"), v_measure()),
    "classification": CLASSIFICATION,
}


def score_of(model: Angles, task: mteb.AbsTask) -> float:
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return float(result.task_results[0].get_score())


def test_mteb_scores_as_by_hand_and_encodes_each_side_once(subtests: pytest.Subtests) -> None:
    for name in list(CASES):
        with subtests.test(name=name):
            case = CASES[name]
            model = Angles(case.angles)
            # mteb rounds nDCG to five places.
            assert case.expected == pytest.approx(score_of(model, make_task(name, case.kind, case.data)), abs=6e-6)
            assert case.calls == model.calls


def test_unjudged_grades_and_ties_of_ids_change_nothing() -> None:
    """A document with the id of the query is a document like others: ids of the two sides have nothing in common."""
    data = RetrievalData(
        document_ids=("1", "2"),
        titles=("", ""),
        texts=("near", "far"),
        query_ids=("1",),
        queries=("ask",),
        judgements={"1": {"1": 1}},
        unjudged=0,
        digest="d",
    )
    assert 1.0 == score_of(Angles({"ask": 0, "near": 1, "far": 9}), make_task("ids", "retrieval", data))


def test_task_is_one_of_mteb_with_the_digest_as_revision() -> None:
    task = make_task("mine", "sts", STS.data)
    assert isinstance(task, mteb.AbsTask)
    assert ("mine", "STS", "d", "cosine_spearman") == (
        task.metadata.name,
        task.metadata.type,
        task.metadata.revision,
        task.metadata.main_score,
    )
    assert "Retrieve semantically similar text." == FORMS["sts"].prompt


def test_task_with_a_name_of_mteb_leaves_that_of_mteb_alone() -> None:
    before = {task.metadata.name: task.metadata.type for task in mteb.get_tasks(tasks=["SciFact", "STS17"])}
    local = make_task("SciFact", "sts", STS.data)
    score_of(Angles(STS.angles), local)
    after = {task.metadata.name: task.metadata.type for task in mteb.get_tasks(tasks=["SciFact", "STS17"])}
    assert {"SciFact": "Retrieval", "STS17": "STS"} == before == after
    assert all(getattr(form.task_class, "metadata", None) is None for form in FORMS.values())


def test_task_can_be_unloaded_and_used_again() -> None:
    task = make_task("again", "clustering", CASES["clusters across labels"].data)
    task.load_data()
    task.unload_data()
    assert not task.data_loaded
    first = score_of(Angles(GROUPS), task)
    assert v_measure() == pytest.approx(first, abs=1e-9)
    assert first == score_of(Angles(GROUPS), task)


def test_clustering_draws_the_same_each_time() -> None:
    rng = np.random.default_rng(7)
    texts = tuple(f"t{number}" for number in range(60))
    angles = {text: float(angle) for text, angle in zip(texts, rng.uniform(0, 180, 60), strict=True)}
    labels = tuple(str(number % 5) for number in range(60))
    data = ClusteringData(rows=LabelledTexts(texts=texts, labels=labels), digest="d")
    scores = set()
    for disturbance in range(3):
        np.random.seed(disturbance)
        scores.add(score_of(Angles(angles), make_task("noise", "clustering", data)))
    assert 1 == len(scores)


def test_data_stay_in_memory() -> None:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    before = sorted(cache.rglob("*"))
    task = make_task("quiet", "retrieval", RETRIEVAL.data)
    score_of(Angles(RETRIEVAL.angles), task)
    task.load_data()
    assert [] == task.dataset["default"]["test"]["corpus"].cache_files
    assert before == sorted(cache.rglob("*"))
