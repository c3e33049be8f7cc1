"""`searchctl query` as something to measure: mteb's search protocol over the product's own index and ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from ...encoder.config import EncoderConfig
from ...encoder.models.identity import digest_of
from ...encoder.models.registry import find
from ...encoder.protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from ...index.lexical import CONTEXT_WEIGHT, PATH_WEIGHT, TEXT_WEIGHT
from ...index.schema import TOKENIZER
from ...training.errors import EvaluationError
from ...training.evaluation.encoder_model import EncoderModel, check_precision
from ...training.evaluation.measurement import EvalTask, EvaluatedModel, Identity, Json, Meter, Pulse, TaskInstructions
from ...training.evaluation.mteb_encoder import MeteredEncoder, OpenedModel, falling, model_meta
from ..collection.encoder_choice import LazyEncoder
from ..collection.indexer import chunk_sizes
from ..collection.talk import Talk
from ..options import DENSE_WEIGHT, SearchMode
from ..search.searcher import FUSION_DEPTH
from .corpus_index import CorpusIndex, FillProgress, Passage, SearchEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from tokenizers import Tokenizer

    from ...encoder.prompts import PromptFormat
    from ...encoder.protocol import Encoder


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


VERSION = 1
"""Raised when the search path ranks otherwise for another reason than the numbers in `_path_digest`."""


def search_model(
    mode: SearchMode, *, config: EncoderConfig, label: str, talk: Talk, chunk_tokens: int | None = None
) -> EvaluatedModel:
    """Return the product's search in `mode` with the encoder of `config`; `chunk_tokens` None is what `index` takes.

    It does retrieval: documents are indexed as the rows of a JSONL file by `searchctl index` are, and a document ranks
    by its best chunk. Mode lexical loads no weights, only the tokenizer, by whose tokens chunks are cut.
    """
    return ProductSearch(mode, config=config, label=label, talk=talk, chunk_tokens=chunk_tokens)


class ProductSearch:
    """One mode of search; the encoder is loaded once, when first needed."""

    def __init__(
        self, mode: SearchMode, *, config: EncoderConfig, label: str, talk: Talk, chunk_tokens: int | None
    ) -> None:
        self.label = label
        self._mode = mode
        self._config = config
        self._chunk_tokens = chunk_tokens
        self._talk = talk
        self._identity: Identity | None = None
        self._lazy = LazyEncoder(config, talk)

    def identify(self) -> Identity:
        """Return who it is; pulls a missing model. Raises what `encoder.resolve.resolve` raises."""
        if self._identity is None:
            parts: dict[str, Json] = {"mode": self._mode.value, "chunks": list(self._chunks()), **_path_parts()}
            details: dict[str, Json] = {"model": self._config.model, "mode": self._mode.value}
            details |= dict(zip(("chunk_tokens", "chunk_overlap"), self._chunks(), strict=True))
            if self._mode is SearchMode.LEXICAL:
                # Of the encoder only the borders of chunks are left, so that two models may be equal here.
                parts["tokenizer"] = blake3(self._tokenizer().to_str().encode()).hexdigest()
            else:
                encoder = self._encoder_identity()
                parts["encoder"] = encoder.fingerprint
                details |= encoder.details
                details["collection"] = digest_of({"encoder": encoder.fingerprint, "chunks": parts["chunks"]})[:16]
            if self._mode is SearchMode.HYBRID:
                recommended = self._lazy.dense_weight()
                parts["dense_weight"] = DENSE_WEIGHT if recommended is None else recommended
                details["dense_weight"] = parts["dense_weight"]
            self._identity = Identity(
                label=self.label,
                kind="search",
                name=f"searchctl query --mode {self._mode.value}",
                fingerprint=digest_of(parts),
                details=details,
            )
        return self._identity

    def _encoder_identity(self) -> Identity:
        talk = self._talk
        return EncoderModel(self.label, self._config, cache=talk.cache, progress=talk.pulling).identify()

    def _chunks(self) -> tuple[int, int]:
        return chunk_sizes(self._chunk_tokens, None, self._lazy.info().max_tokens)

    def _tokenizer(self) -> Tokenizer:
        """Return the encoder's tokenizer without loading its weights."""
        entry = find(self._config.model)
        if entry is not None and entry.source == "builtin":
            return self._lazy.open().tokenizer
        from ...encoder.models.resolve import resolve
        from ...encoder.tokenize import load_tokenizer

        return load_tokenizer(resolve(self._config, cache=self._talk.cache, progress=self._talk.pulling).folder)

    def supports(self, task_type: str) -> bool:
        """Return whether it is retrieval: reranking gives the candidates, and a collection ranks all it holds."""
        return task_type == "Retrieval"

    @contextmanager
    def open(self, task: EvalTask, workspace: Path) -> Iterator[OpenedModel]:
        """Yield it for `task`; its collections in `workspace` survive a kill, and nothing is embedded twice.

        Raises EvaluationError where the task tells documents something else than `searchctl index` does.
        """
        if self._mode is not SearchMode.LEXICAL:
            self._check_document_side(task)
        meter = Meter()
        encoder: SearchEncoder
        if self._mode is SearchMode.LEXICAL:
            encoder = _WordsOnly(self._lazy, self._tokenizer)
        else:
            encoder = _Metered(self._lazy, meter, checked=self._check_precision)

        def opened(folder: Path) -> CorpusIndex:
            return CorpusIndex(folder, encoder, self._config, chunks=self._chunks())

        model = SearchModel(
            opened,
            workspace,
            mode=self._mode,
            meta=model_meta(self.identify(), kind="sparse" if self._mode is SearchMode.LEXICAL else "hybrid"),
            instructions=task.instructions,
            meter=meter,
        )
        try:
            yield OpenedModel(model=model, meter=meter)
        finally:
            model.close()

    def _check_precision(self, encoder: Encoder) -> None:
        check_precision(self.label, encoder, expected=self.identify().details["precision"])

    def _check_document_side(self, task: EvalTask) -> None:
        """Raise EvaluationError unless documents are to be embedded as `searchctl index` does: as the model says."""
        asked = task.instructions.document
        if asked:
            raise EvaluationError(
                f"task {task.name} gives documents the instruction {asked!r}: expected none, for index "
                "takes no instruction for documents"
            )
        own = self._prompt().document_instruction
        if asked is not None and own:
            raise EvaluationError(
                f"task {task.name} gives documents no instruction: expected the model's own, {own!r}, with which "
                'index embeds them. Leave --no-instructions or the table\'s document = "" out, or this '
                "model"
            )

    def _prompt(self) -> PromptFormat:
        entry = find(self._config.model)
        if entry is not None and entry.source == "builtin":
            return entry.sidecar.prompt
        from ...encoder.models.resolve import resolve

        return resolve(self._config, cache=self._talk.cache, progress=self._talk.pulling).sidecar.prompt

    def close(self) -> None:
        """Let the model go; the next use loads it again."""
        self._lazy = LazyEncoder(self._config, self._talk)


class _Metered:
    """The model's encoder, its work counted by the meter of one task; `checked` raises where it may not be used."""

    def __init__(self, lazy: LazyEncoder, meter: Meter, *, checked: Callable[[Encoder], None]) -> None:
        self._lazy = lazy
        self._meter = meter
        self._checked = checked

    def info(self) -> EncoderInfo:
        return self._lazy.info()

    def open(self) -> Encoder:
        encoder = self._lazy.open()
        self._checked(encoder)
        return MeteredEncoder(encoder, self._meter)

    def dense_weight(self) -> float | None:
        return self._lazy.dense_weight()


class _WordsOnly:
    """Stands in for the encoder where only words are searched: its tokenizer, and no vector worth the name."""

    def __init__(self, lazy: LazyEncoder, tokenizer: Callable[[], Tokenizer]) -> None:
        self._lazy = lazy
        self._tokenizer = tokenizer

    def info(self) -> EncoderInfo:
        known = self._lazy.info()
        return EncoderInfo(
            name=known.name,
            revision=known.revision,
            dim=1,
            max_tokens=known.max_tokens,
            pooling="none",
            normalized=True,
            fingerprint=f"words only, {known.fingerprint}",
        )

    def open(self) -> Encoder:
        return _OneVector(self.info(), self._tokenizer())

    def dense_weight(self) -> float | None:
        return None


class _OneVector:
    """The same vector for every text: a collection stores one for each chunk, and lexical search looks at none."""

    def __init__(self, info: EncoderInfo, tokenizer: Tokenizer) -> None:
        self.info = info
        self.tokenizer = tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        if progress is not None:
            count = len(texts)
            progress(
                EncodeProgress(texts_done=count, texts_total=count, tokens_done=1, tokens_total=1, texts_truncated=0)
            )
        return np.ones((len(texts), 1), dtype=np.float32)


def _path_parts() -> dict[str, Json]:
    """Return what decides a ranking besides encoder and chunks, as far as it is a number or a name."""
    return {
        "version": VERSION,
        "bm25": [TEXT_WEIGHT, CONTEXT_WEIGHT, PATH_WEIGHT],
        "words": TOKENIZER,
        "fusion_depth": FUSION_DEPTH,
    }
