"""An encoder as mteb's evaluators take it: texts out of their loaders, vectors back, and a meter on the way."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import SequentialSampler

from ...encoder.protocol import EncodeProgress, Encoder, EncoderInfo, ProgressCallback, Role, Vectors
from ..errors import MISSING_EXTRA, EvaluationError
from .measurement import Identity, Meter, Pulse, TaskInstructions

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import EncoderProtocol, ModelMeta, SearchProtocol
    from mteb.types import Array, BatchedInput, PromptType
    from tokenizers import Tokenizer
    from torch.utils.data import DataLoader


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A model ready to be measured (measurement.Opened)."""

    model: EncoderProtocol | SearchProtocol
    meter: Meter


class MeteredEncoder:
    """An encoder whose tokens, cut texts and seconds go to a meter; inside of a cache, so that they are its own."""

    def __init__(self, encoder: Encoder, meter: Meter) -> None:
        self._encoder = encoder
        self._meter = meter

    @property
    def info(self) -> EncoderInfo:
        return self._encoder.info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._encoder.tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim) as the protocol says. A call that ends in an error counts for what it did."""
        last: EncodeProgress | None = None

        def note(event: EncodeProgress) -> None:
            nonlocal last
            last = event
            if progress is not None:
                progress(event)

        began = time.perf_counter()
        try:
            return self._encoder.encode(texts, role=role, instruction=instruction, progress=note)
        finally:
            self._meter.encode_s += time.perf_counter() - began
            if last is not None:
                self._meter.tokens += last.tokens_done
                self._meter.truncated += last.texts_truncated


class MtebEncoder:
    """mteb's EncoderProtocol over an encoder of this project; similarity is the dot product of its unit vectors."""

    def __init__(self, encoder: Encoder, *, identity: Identity, instructions: TaskInstructions, meter: Meter) -> None:
        """`meter` gets the texts and the pulse; for tokens and seconds `encoder` holds a MeteredEncoder on it."""
        self._encoder = encoder
        self._instructions = instructions
        self._meter = meter
        self._meta = model_meta(identity, dim=encoder.info.dim, max_tokens=encoder.info.max_tokens)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        return self._meta

    def side(self, task: TaskMetadata, prompt_type: PromptType | None) -> tuple[Role, str | None]:
        """Return the role and the instruction of texts; `prompt_type` is None in symmetric tasks."""
        if prompt_type == "document":
            return Role.DOCUMENT, self._instructions.document
        return Role.QUERY, self._instructions.query

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> Vectors:
        """Return float32 (n, dim) in the loader's order; a text without a letter gets zeros and is counted.

        `kwargs` are mteb's batch size and progress bar: the encoder has its own. Raises EvaluationError for inputs
        that are no texts.
        """
        texts = texts_of(inputs, task_metadata.name)
        rows = [row for row, text in enumerate(texts) if text and not text.isspace()]
        self._meter.texts += len(texts)
        self._meter.empty += len(texts) - len(rows)
        role, instruction = self.side(task_metadata, prompt_type)
        full = texts if len(rows) == len(texts) else [texts[row] for row in rows]
        last: list[EncodeProgress] = []
        cut_before = self._meter.truncated
        vectors = self._encoder.encode(full, role=role, instruction=instruction, progress=self._beat(last))
        # A meter inside of a cache sees equal texts once and none that are read back; `texts` counts all of them.
        self._meter.truncated = cut_before + sum(event.texts_truncated for event in last)
        if len(rows) == len(texts):
            return vectors
        out = np.zeros((len(texts), self._encoder.info.dim), dtype=np.float32)
        out[rows] = vectors
        return out

    def _beat(self, last: list[EncodeProgress]) -> ProgressCallback:
        """Return what moves the pulse and keeps the last event in `last`."""
        pulse = self._meter.pulse
        began = time.perf_counter()

        def beat(event: EncodeProgress) -> None:
            last[:] = [event]
            if pulse is None:
                return
            pulse(
                Pulse(
                    share=event.share,
                    share_known=event.texts_known / max(event.texts_total, 1),
                    texts_total=event.texts_total,
                    tokens_done=event.tokens_done,
                    tokens_total=event.tokens_total,
                    elapsed_s=time.perf_counter() - began,
                )
            )

        return beat

    def similarity(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Return the dot products (n, m)."""
        from mteb.similarity_functions import dot_score

        return dot_score(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Return the dot products (n,) of rows."""
        from mteb.similarity_functions import pairwise_dot_score

        return pairwise_dot_score(embeddings1, embeddings2)


def falling(ranking: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the scores, each lowered below the one before by the least step of a float32 where it is not below.

    mteb orders equal scores by id; among falling ones the ranking stays as it is.
    """
    found: dict[str, float] = {}
    last = np.float32(np.inf)
    for id_, score in ranking:
        last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
        found[id_] = float(last)
    return found


def texts_of(inputs: DataLoader[BatchedInput], task: str) -> list[str]:
    """Return the texts of a loader in its order. Raises EvaluationError naming the task for anything else.

    From the column at once where the loader only goes through a table from end to end: batch by batch it takes longer
    than a small encoder.
    """
    from datasets import Dataset

    table = inputs.dataset
    texts: list[Any]
    if isinstance(table, Dataset):
        if "text" not in table.column_names:
            raise EvaluationError(f"task {task}: its data have the columns {table.column_names}, expected text")
        if isinstance(inputs.sampler, SequentialSampler):
            texts = list(table.with_format(None)["text"][:])
        else:
            texts = [text for batch in inputs for text in batch["text"]]
    else:
        texts = [text for batch in inputs for text in batch["text"]]
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise EvaluationError(
                f"task {task}: text {row} is a {type(text).__name__} ({text!r:.60}), expected a string"
            )
    return texts


def model_meta(
    identity: Identity,
    *,
    dim: int | None = None,
    max_tokens: int | None = None,
    kind: Literal["dense", "sparse", "hybrid"] = "dense",
) -> ModelMeta:
    """Return what mteb wants to know of a model; asks no network. Raises EvaluationError without the extra eval."""
    try:
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction
    except ImportError as error:
        raise EvaluationError(f"evaluation {MISSING_EXTRA} ({error})") from error
    parameters = identity.details.get("parameters")
    return ModelMeta(
        loader=None,
        # mteb makes file names of it.
        name=f"searchctl/{re.sub(r'[^A-Za-z0-9._-]+', '-', identity.label) or 'unnamed'}",
        revision=identity.fingerprint[:40],
        release_date=None,
        languages=None,
        n_parameters=parameters if isinstance(parameters, int) else None,
        memory_usage_mb=None,
        max_tokens=max_tokens,
        embed_dim=dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name=ScoringFunction.DOT_PRODUCT if identity.kind == "encoder" else None,
        use_instructions=None,
        training_datasets=None,
        modalities=["text"],
        model_type=[kind],
    )
