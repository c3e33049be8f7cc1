"""`searchctl query` as something to measure: mteb's search protocol over the product's own index and ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from ..encoder.config import EncoderConfig
from ..encoder.identity import digest_of
from ..encoder.protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from ..encoder.registry import find
from ..index.lexical import CONTEXT_WEIGHT, PATH_WEIGHT, TEXT_WEIGHT
from ..index.schema import TOKENIZER
from ..training.errors import EvaluationError
from ..training.evaluation.encoder_contender import EncoderContender, check_precision
from ..training.evaluation.measurement import Contender, EvalTask, Identity, Json, Meter
from ..training.evaluation.mteb_encoder import MeteredEncoder, OpenedModel, model_meta
from .corpus_index import CorpusIndex, SearchEncoder, chunk_sizes
from .encoders import LazyEncoder
from .engine import Talk
from .search_model import SearchModel
from .searching import FUSION_DEPTH
from .settings import DENSE_WEIGHT, SearchMode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ..encoder.prompts import PromptFormat
    from ..encoder.protocol import Encoder

VERSION = 1
"""Raised when the search path ranks otherwise for another reason than the numbers in `_path_digest`."""


def search_contender(
    mode: SearchMode, *, config: EncoderConfig, label: str, talk: Talk, chunk_tokens: int | None = None
) -> Contender:
    """Return the product's search in `mode` with the encoder of `config`; `chunk_tokens` None is what `index` takes.

    It does retrieval: documents are indexed as the rows of a JSONL file by `searchctl index` are, and a document ranks
    by its best chunk. Mode lexical loads no weights, only the tokenizer, by whose tokens chunks are cut.
    """
    return SearchContender(mode, config=config, label=label, talk=talk, chunk_tokens=chunk_tokens)


class SearchContender:
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
        self._lazy = LazyEncoder(
            config,
            notice=talk.notice,
            detail=talk.detail,
            pulling=talk.pulling,
            loading=talk.loading,
            cache=talk.cache,
        )

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
        return EncoderContender(
            self.label, self._config, notice=talk.notice, cache=talk.cache, progress=talk.pulling
        ).identify()

    def _chunks(self) -> tuple[int, int]:
        return chunk_sizes(self._lazy.info(), self._chunk_tokens)

    def _tokenizer(self) -> Tokenizer:
        """Return the encoder's tokenizer without loading its weights."""
        entry = find(self._config.model)
        if entry is not None and entry.source == "builtin":
            return self._lazy.open().tokenizer
        from ..encoder.resolve import resolve
        from ..encoder.tokenize import load_tokenizer

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
            return CorpusIndex(folder, encoder, self._config, chunks=self._chunks(), notice=self._talk.notice)

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
                f"task {task.name} gives documents the instruction {asked!r}: expected none, for `searchctl index` "
                "takes no instruction for documents"
            )
        own = self._prompt().document_instruction
        if asked is not None and own:
            raise EvaluationError(
                f"task {task.name} gives documents no instruction: expected the model's own, {own!r}, with which "
                '`searchctl index` embeds them. Leave --no-instructions or the table\'s document = "" out, or this '
                "contender"
            )

    def _prompt(self) -> PromptFormat:
        entry = find(self._config.model)
        if entry is not None and entry.source == "builtin":
            return entry.sidecar.prompt
        from ..encoder.resolve import resolve

        return resolve(self._config, cache=self._talk.cache, progress=self._talk.pulling).sidecar.prompt

    def close(self) -> None:
        """Let the model go; the next use loads it again."""
        self._lazy = LazyEncoder(
            self._config,
            notice=self._talk.notice,
            detail=self._talk.detail,
            pulling=self._talk.pulling,
            loading=self._talk.loading,
            cache=self._talk.cache,
        )


class _Metered:
    """The contender's encoder, its work counted by the meter of one task; `checked` raises where it may not be used."""

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
