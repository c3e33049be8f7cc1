"""Data of one's own as real task objects of mteb, so that mteb's own evaluators score them, with no hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask, AbsTaskClassification, AbsTaskPairClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.task_metadata import TaskMetadata, TaskType

from ..data.local_data import (
    ClassificationData,
    ClusteringData,
    Kind,
    LabelledTexts,
    LocalData,
    PairData,
    RetrievalData,
    StsData,
)

SPLIT = "test"


class _InMemory(AbsTask):
    """A task that has its data; mteb's own loading asks the hub.

    The metadata are the instance's and no class's, so that nothing is added to the tasks that mteb knows by name.
    """

    def __init__(self, metadata: TaskMetadata, data: Any) -> None:
        self.metadata = metadata
        self._data = data
        super().__init__()

    def load_data(self, num_proc: int | None = None, **rest: Any) -> None:
        self.dataset = self._data
        self.data_loaded = True

    def unload_data(self) -> None:
        self.dataset = None
        self.data_loaded = False


class LocalRetrieval(_InMemory, AbsTaskRetrieval):
    """nDCG@10; title and text of a document are joined as mteb does it, and equal ids of both sides mean nothing."""


class LocalSTS(_InMemory, AbsTaskSTS):
    """Spearman correlation of cosines with scores of any range: mteb shifts and scales them, which changes no rank."""


class LocalPairClassification(_InMemory, AbsTaskPairClassification):
    """Average precision, the best over mteb's similarities (cosine, dot product, Euclidean, Manhattan)."""


class LocalClustering(_InMemory, AbsTaskClusteringLegacy):
    """V-measure of one k-means over every text, with as many clusters as labels and mteb's fixed seed.

    mteb's newer class scores ten samples sampled with replacement from a part of the texts, made for large sets; the
    one here scores exactly the texts given, as in the tasks of MTEB(eng, v1) that the paper reports.
    """


class LocalClassification(_InMemory, AbsTaskClassification):
    """Accuracy of logistic regression on 8 texts for each label, the mean of ten samples with mteb's fixed seed."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a kind of data is to mteb."""

    task_class: type[_InMemory]
    task_type: TaskType
    main_score: str

    @property
    def prompt(self) -> str:
        """mteb's instruction for tasks of this class."""
        return self.task_class.abstask_prompt


FORMS: dict[Kind, Form] = {
    "retrieval": Form(LocalRetrieval, "Retrieval", "ndcg_at_10"),
    "sts": Form(LocalSTS, "STS", "cosine_spearman"),
    "pairs": Form(LocalPairClassification, "PairClassification", "max_ap"),
    "clustering": Form(LocalClustering, "Clustering", "v_measure"),
    "classification": Form(LocalClassification, "Classification", "accuracy"),
}


def make_task(name: str, kind: Kind, data: LocalData) -> AbsTask:
    """Return the mteb task of `data`, with one split "test" and no subsets."""
    metadata = TaskMetadata(
        name=name,
        description=f"Local data of the kind {kind}.",
        dataset={"path": name, "revision": data.digest},
        type=FORMS[kind].task_type,
        category="t2c" if kind in ("clustering", "classification") else "t2t",
        eval_splits=[SPLIT],
        eval_langs=["eng-Latn"],
        main_score=FORMS[kind].main_score,
    )
    return FORMS[kind].task_class(metadata, _dataset(data))


def _dataset(data: LocalData) -> Any:
    """Return the columns that mteb's task of this kind asks for."""
    match data:
        case RetrievalData():
            return {"default": {SPLIT: _retrieval(data)}}
        case StsData():
            columns: dict[str, Any] = {"sentence1": data.first, "sentence2": data.second, "score": data.scores}
        case PairData():
            columns = {"sentence1": data.first, "sentence2": data.second, "labels": data.labels}
        case ClusteringData():
            # One row is one set to cluster.
            columns = {"sentences": [data.rows.texts], "labels": [data.rows.labels]}
        case ClassificationData():
            return _classification(data)
    return DatasetDict({SPLIT: Dataset.from_dict(columns)})


def _retrieval(data: RetrievalData) -> dict[str, Any]:
    return {
        "corpus": Dataset.from_dict({"id": data.document_ids, "title": data.titles, "text": data.texts}),
        "queries": Dataset.from_dict({"id": data.query_ids, "text": data.queries}),
        "relevant_docs": {query: dict(grades) for query, grades in data.judgements.items()},
        "top_ranked": None,
    }


def _classification(data: ClassificationData) -> DatasetDict:
    numbers = {label: number for number, label in enumerate(sorted(set(data.train.labels)))}

    def columns(rows: LabelledTexts) -> Dataset:
        return Dataset.from_dict({"text": rows.texts, "label": [numbers[label] for label in rows.labels]})

    return DatasetDict({"train": columns(data.train), SPLIT: columns(data.test)})
