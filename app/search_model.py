"""mteb's search protocol over a corpus in a collection: what its evaluators are given to rank documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ..training.errors import EvaluationError
from ..training.evaluation.measurement import Meter, Pulse, TaskInstructions
from ..training.evaluation.mteb_encoder import falling
from .corpus_index import CorpusIndex, Passage
from .fill_progress import FillProgress
from .settings import SearchMode

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta


class SearchModel:
    """mteb's SearchProtocol: one collection per corpus, made by `index`, asked by `search`."""

    def __init__(
        self,
        opened: Callable[[Path], CorpusIndex],
        workspace: Path,
        *,
        mode: SearchMode,
        meta: ModelMeta,
        instructions: TaskInstructions,
        meter: Meter,
    ) -> None:
        self._opened = opened
        self._workspace = workspace
        self._mode = mode
        self._meta = meta
        self._instructions = instructions
        self._meter = meter
        self._index: CorpusIndex | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        return self._meta

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Any = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Bring the collection of this task, split and subset to hold the corpus."""
        self.close()
        total = len(corpus)

        def pulse(progress: FillProgress) -> None:
            if self._meter.pulse is not None:
                self._meter.pulse(
                    Pulse(
                        share=progress.share(total),
                        share_known=progress.known / max(total, 1),
                        texts_total=total,
                        tokens_done=progress.tokens_done,
                        tokens_total=progress.tokens_expected(total),
                        elapsed_s=progress.encode_s,
                    )
                )

        # With the task's name: those of an aggregated task share a workspace, and often the names of split and subset.
        name = blake3(f"{task_metadata.name}\0{hf_subset}\0{hf_split}".encode()).hexdigest()[:12]
        self._index = self._opened(self._workspace / f"search-{name}")
        filled = self._index.fill(_passages(corpus, task_metadata.name), progress=pulse)
        self._meter.texts += filled.passages
        self._meter.empty += filled.empty

    def search(
        self,
        queries: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Any = None,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Return per query its `top_k` documents with scores that fall, also where the search's own are equal.

        mteb orders equal scores by id, the product by the place in the corpus: the ranking is the product's. A query
        without a letter finds nothing. Raises EvaluationError for `top_ranked`.
        """
        if top_ranked is not None:
            raise EvaluationError(f"task {task_metadata.name} gives candidates to rank: the search ranks all documents")
        assert self._index is not None
        ids, texts = list(queries["id"]), _query_texts(queries, task_metadata.name)
        asked = [row for row, text in enumerate(texts) if text.strip()]
        self._meter.texts += len(texts)
        self._meter.empty += len(texts) - len(asked)
        rankings = self._index.rank_all(
            [texts[row] for row in asked], self._mode, top_k, instruction=self._instructions.query
        )
        found: dict[str, dict[str, float]] = {id_: {} for id_ in ids}
        for row, ranking in zip(asked, rankings, strict=True):
            found[ids[row]] = falling(ranking)
        return found

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None


def _passages(corpus: Any, task: str) -> Iterator[Passage]:
    for row in corpus:
        title, text = row.get("title") or "", row.get("text")
        if not isinstance(text, str) or not isinstance(title, str):
            raise EvaluationError(
                f"task {task}: document {row.get('id')!r} has no text, and the search knows nothing else"
            )
        yield Passage(id=str(row["id"]), title=title, text=text)


def _query_texts(queries: Any, task: str) -> list[str]:
    """Return the queries as mteb gives them to an encoder: an instruction of the data's own follows the text."""
    texts = list(queries["text"])
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise EvaluationError(f"task {task}: query {row} is a {type(text).__name__}, expected a string")
    if "instruction" not in queries.column_names:
        return texts
    given = queries["instruction"]
    return [text if more is None else f"{text} {more}" for text, more in zip(texts, given, strict=True)]
