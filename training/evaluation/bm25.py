"""BM25, the lexical baseline of every encoder, as a model of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...encoder.models.identity import digest_of
from ..data.bm25_index import SETTINGS, Bm25Index
from ..errors import EvaluationError
from .instructions import ASYMMETRIC
from .measurement import EvalTask, Identity, Meter, Pulse
from .mteb_encoder import OpenedModel, falling, model_meta

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import (
        CorpusDatasetType,
        EncodeKwargs,
        QueryDatasetType,
        RetrievalOutputType,
        TopRankedDocumentsType,
    )


LABEL = "bm25"
EQUAL_SCORES = "order of the corpus"
"""Part of the fingerprint too: scores of the time when mteb ordered equal ones by id are not reused."""


class Bm25Model:
    """Measures BM25 on tasks that rank documents."""

    def __init__(self, label: str = LABEL) -> None:
        self.label = label

    def identify(self) -> Identity:
        ranking = {**SETTINGS, "equal_scores": EQUAL_SCORES}
        return Identity(label=self.label, kind="bm25", name=LABEL, fingerprint=digest_of(ranking), details=ranking)

    def supports(self, task_type: str) -> bool:
        """Return whether tasks of this type rank documents."""
        return task_type in ASYMMETRIC

    @contextmanager
    def open(self, task: EvalTask, workspace: Path) -> Iterator[OpenedModel]:
        """Yield an empty index; `workspace` stays empty, since seconds bring it back. Raises EvaluationError."""
        if not self.supports(task.task_type):
            raise EvaluationError(f"{self.label} ranks documents and cannot do {task.name}, a task of {task.task_type}")
        meter = Meter()
        yield OpenedModel(model=Bm25Search(self.identify(), meter), meter=meter)

    def close(self) -> None:
        """Hold nothing between tasks."""


class Bm25Search:
    """mteb's SearchProtocol. Equal scores rank in the order of the corpus; a text with no common word is not found.

    Candidates to rerank are all scored, and equal ones left to mteb, which orders them by id: data that list what is
    relevant first would decide them otherwise.
    """

    def __init__(self, identity: Identity, meter: Meter) -> None:
        """Raises EvaluationError without the extra eval."""
        self._index = Bm25Index()
        self._meter = meter
        self._meta = model_meta(identity, kind="sparse")
        self._ids: list[str] = []

    @property
    def mteb_model_meta(self) -> ModelMeta:
        return self._meta

    def index(
        self,
        corpus: CorpusDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: EncodeKwargs,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Index title and text of each document; a new call replaces the old index."""
        self._ids = list(corpus["id"])
        texts = document_texts(corpus)
        began = time.perf_counter()
        words = self._index.words(texts)
        self._index.fill(words)
        self._count(texts, words, began)

    def search(
        self,
        queries: QueryDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: EncodeKwargs,
        top_ranked: TopRankedDocumentsType | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> RetrievalOutputType:
        """Return each query's `top_k` best documents with falling scores, or those of `top_ranked` with their own."""
        texts = query_texts(queries)
        positions = {name: row for row, name in enumerate(self._ids)} if top_ranked is not None else {}
        began = time.perf_counter()
        words = self._index.words(texts)
        found: RetrievalOutputType = {}
        for query, own in zip(queries["id"], words, strict=True):
            scores = self._index.scores(own)
            if top_ranked is None:
                found[query] = falling([(self._ids[row], float(scores[row])) for row in best(scores, top_k)])
            else:
                found[query] = {name: float(scores[positions[name]]) for name in top_ranked.get(query, [])}
        self._count(texts, words, began)
        return found

    def _count(self, texts: list[str], words: list[list[str]], began: float) -> None:
        took = time.perf_counter() - began
        tokens = sum(len(own) for own in words)
        self._meter.texts += len(texts)
        self._meter.empty += sum(not text.strip() for text in texts)
        self._meter.tokens += tokens
        self._meter.encode_s += took
        if self._meter.pulse is not None:
            self._meter.pulse(
                Pulse(
                    share=1.0,
                    share_known=0.0,
                    texts_total=len(texts),
                    tokens_done=tokens,
                    tokens_total=tokens,
                    elapsed_s=took,
                )
            )


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the positions of the `k` highest scores above 0, highest first, equal ones in order of position."""
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        # The k-th score; of those that tie with it the first ones are taken.
        border = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        above = rows[scores[rows] > border]
        rows = np.sort(np.concatenate([above, rows[scores[rows] == border][: k - len(above)]]))
    return rows[np.argsort(-scores[rows], kind="stable")]


def document_texts(corpus: CorpusDatasetType) -> list[str]:
    """Return title and text of each document with a blank between, as mteb joins them for encoders."""
    texts = list(corpus["text"])
    if "title" not in corpus.column_names:
        return [text.strip() for text in texts]
    return [f"{title or ''} {text}".strip() for title, text in zip(corpus["title"], texts, strict=True)]


def query_texts(queries: QueryDatasetType) -> list[str]:
    """Return the text of each query as mteb makes it for encoders: with its instruction; a conversation as one text."""
    instructions = queries["instruction"] if "instruction" in queries.column_names else [None] * len(queries)
    texts = []
    for text, instruction in zip(queries["text"], instructions, strict=True):
        if isinstance(text, list):
            turns = [turn if isinstance(turn, str) else f"{turn['role']}: {turn['content']}" for turn in text]
            texts.append(" ".join(filter(None, [instruction, "; ".join(turns)])))
        else:
            texts.append(" ".join(filter(None, [text, instruction])))
    return texts
