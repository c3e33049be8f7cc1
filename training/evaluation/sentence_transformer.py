"""A sentence-transformers model as a model of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.models.folder import stored_weights
from ...encoder.protocol import Role
from ..sentence_transformer import BATCH_SIZE, StEncoder, load_model, model_files, st_fingerprint, token_limit
from .encoder_model import VECTORS
from .measurement import EvalTask, Identity, Json, Meter, TaskInstructions
from .mteb_encoder import MtebEncoder, OpenedModel
from .vector_cache import CachedEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import Array, PromptType
    from sentence_transformers import SentenceTransformer


class SentenceTransformerModel:
    """Measures a sentence-transformers model by its own conventions: its prompts, its similarity, its length limit."""

    def __init__(
        self, label: str, folder: Path, *, name: str | None = None, device: str = "auto", cache: Path | None = None
    ) -> None:
        """`name` is what the user called it, the folder's by default; `device` as in EncoderConfig."""
        self.label = label
        self.folder = folder
        self._name = name or folder.name
        self._device = device
        self._cache = cache
        self._identity: Identity | None = None
        self._model: SentenceTransformer | None = None

    def identify(self) -> Identity:
        """Return who it is, from the content of its files. Raises EvaluationError for a folder without a model."""
        if self._identity is None:
            self._identity = Identity(
                label=self.label,
                kind="sentence-transformers",
                name=self._name,
                fingerprint=st_fingerprint(self.folder, cache=self._cache),
                details=self._details(),
            )
        return self._identity

    def _details(self) -> dict[str, Json]:
        weights = [self.folder / path for path in model_files(self.folder) if path.endswith(".safetensors")]
        return {
            "max_tokens": token_limit(self.folder),
            "parameters": stored_weights(weights) if weights else None,
            "batch_size": BATCH_SIZE,
        }

    def supports(self, task_type: str) -> bool:
        """Return True: any task on text."""
        return True

    @contextmanager
    def open(self, task: EvalTask, workspace: Path) -> Iterator[OpenedModel]:
        """Yield it for `task`, whose instructions it does not use. Vectors are kept in `workspace` until the score is.

        Raises EvaluationError for files that do not load.
        """
        identity = self.identify()
        model = self._loaded()
        meter = Meter()
        encoder = StEncoder(model, name=identity.name, fingerprint=identity.fingerprint, meter=meter.add)
        cached = CachedEncoder(encoder, workspace / VECTORS, kind="sentence-transformers")
        try:
            yield OpenedModel(model=_StMtebEncoder(cached, model, identity, meter), meter=meter)
        finally:
            cached.close()

    def _loaded(self) -> SentenceTransformer:
        if self._model is None:
            self._model = load_model(self.folder, self._device)
        return self._model

    def close(self) -> None:
        """Let the model go; the next `open` loads it again."""
        self._model = None


class _StMtebEncoder(MtebEncoder):
    """mteb's EncoderProtocol with the prompts and the similarity of the model."""

    def __init__(self, encoder: CachedEncoder, model: SentenceTransformer, identity: Identity, meter: Meter) -> None:
        super().__init__(encoder, identity=identity, instructions=TaskInstructions(), meter=meter)
        self._model = model

    def side(self, task: TaskMetadata, prompt_type: PromptType | None) -> tuple[Role, str | None]:
        """Return the prompt that the model names for the task, its type or its side, as mteb looks it up."""
        from mteb.models.abs_encoder import get_prompt_name

        prompts = {name: text for name, text in self._model.prompts.items() if text is not None}
        name = get_prompt_name(prompts, task, prompt_type)
        prompt = prompts[name] if name else None
        if prompt_type == "document":
            return Role.DOCUMENT, prompt
        if prompt is None and prompt_type is None:
            # The role has a default of its own, which texts of symmetric tasks do not take.
            prompt = prompts.get(self._model.default_prompt_name or "", "")
        return Role.QUERY, prompt

    def similarity(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Return (n, m) by the model's own function."""
        return self._model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Return (n,) by the model's own function."""
        return self._model.similarity_pairwise(embeddings1, embeddings2)
