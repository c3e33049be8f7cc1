"""What an export must prove before it takes its name: the same tokens, then the same vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Attention, EncoderConfig, Precision
from ..errors import ExportError, NotBidirectionalError
from ..load import choose_dtype, quiet_loading
from ..open import open_encoder
from ..proof import require
from ..protocol import Encoder, Role, Vectors
from .sentence_folder import INSTEAD, SentencePlan

LEAST_COSINE = 0.9999

PROBES = (
    "A short one.",
    "What makes bread rise?",
    "def add(a, b):\n    return a + b",
    "M\u00fcnchen liegt an der Isar; \u6771\u4eac is the capital of Japan \U0001f5fc.",
    "Yeast turns sugar into carbon dioxide, which the dough holds. " * 4 + "End.",
)

LoadSentenceTransformer = Callable[[Path, torch.dtype], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeVectors:
    """Vectors of the probe texts, (n, dim) for each role: of each text alone, and of one batch."""

    alone: dict[Role, Vectors]
    batch: dict[Role, Vectors]
    """{} when computed in bf16."""


def sentence_transformers_loader() -> LoadSentenceTransformer | None:
    """Return what loads a folder with stock sentence-transformers on the CPU, None where it is not installed."""
    if find_spec("sentence_transformers") is None:
        return None

    def load(folder: Path, dtype: torch.dtype) -> Any:
        from sentence_transformers import SentenceTransformer

        settings = {"dtype": dtype}
        logger = logging.getLogger("sentence_transformers")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns of bf16 on a CPU, which was asked for
        try:
            return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=settings)
        finally:
            logger.setLevel(level)

    return load


def sentence_transformers_version() -> str:
    """Return the version of the installed sentence-transformers."""
    return metadata.version("sentence-transformers")


def check_dtype(
    precision: Precision, parameters: int, *, fp32_limit: int, cpu_dtype: torch.dtype | None
) -> torch.dtype:
    """Return what to compute vectors in for the check, whatever the weights are stored in.

    fp32 unless that would take a large model twice the memory and the CPU computes in bf16 itself: in bf16 a batch and
    a text alone differ by more than the check allows, in any program. Large is from `fp32_limit` parameters on;
    `cpu_dtype` is what the CPU computes in best, None to find out.
    """
    if precision is Precision.FP32 or parameters < fp32_limit:
        return torch.float32
    return cpu_dtype or choose_dtype(Precision.AUTO, torch.device("cpu"))[0]


def check_folder(
    folder: Path,
    plan: SentencePlan | None,
    ours: ProbeVectors,
    dtype: torch.dtype,
    *,
    loader: LoadSentenceTransformer | None,
    told: Callable[[str], None],
) -> float | None:
    """Return the least cosine between the written folder's vectors and the encoder's, None when nobody could look.

    `plan` is None for a merged folder, which searchctl opens itself. Raises ExportError for a folder that does not
    load, is causal or gives other vectors.
    """
    require_bidirectional(folder, dtype)
    if plan is None:
        told("checking: the folder is opened and its vectors are compared")
        precision = Precision.FP32 if dtype is torch.float32 else Precision.BF16
        opened = EncoderConfig(model=str(folder), precision=precision, device="cpu")
        return least_cosine(ours, probe_vectors(open_encoder(opened), dtype))
    if loader is None:
        return None
    told("checking: sentence-transformers opens the folder and its vectors are compared")
    try:
        with quiet_loading():
            model = loader(folder, dtype)
    except (ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ExportError(
            f"sentence-transformers does not load the folder ({type(error).__name__}: {error}). Nothing was written."
        ) from error
    return least_cosine(ours, foreign_vectors(model, plan, dtype))


def require_bidirectional(folder: Path, dtype: torch.dtype) -> None:
    """Raise ExportError unless transformers alone, with nothing of ours set, loads a model that passes the proof.

    Some architectures read a flag that no config.json sets.
    """
    from transformers import AutoModel

    with quiet_loading():
        model = AutoModel.from_pretrained(str(folder), dtype=dtype, local_files_only=True, trust_remote_code=False)
    try:
        require(model.eval(), Attention.BIDIRECTIONAL, name="the written folder")
    except NotBidirectionalError as error:
        raise ExportError(
            f"transformers loads the exported model with causal attention ({error}). Nothing was written: use this "
            "model with searchctl, which sets what its architecture needs."
        ) from error


def probe_texts(max_tokens: int) -> list[str]:
    """Return short, long and foreign texts, the last one longer than `max_tokens`."""
    return [*PROBES, "word and " * max_tokens + "end"]


def probe_vectors(encoder: Encoder, dtype: torch.dtype) -> ProbeVectors:
    """Return what our encoder, which computes in `dtype`, says of the probe texts."""
    return _ask(probe_texts(encoder.info.max_tokens), dtype, lambda texts, role: encoder.encode(texts, role=role))


def _ask(texts: list[str], dtype: torch.dtype, encode: Callable[[list[str], Role], Vectors]) -> ProbeVectors:
    return ProbeVectors(
        alone={role: np.concatenate([encode([text], role) for text in texts]) for role in Role},
        batch={role: encode(texts, role) for role in Role if dtype is torch.float32},
    )


def foreign_vectors(model: Any, plan: SentencePlan, dtype: torch.dtype) -> ProbeVectors:
    """Return what a loaded SentenceTransformer says of them, asked as its users ask."""

    def encode(texts: list[str], role: Role) -> Vectors:
        # A document without a name: it is how most people call it.
        said = {} if role is Role.DOCUMENT else {"prompt_name": role.value}
        vectors = model.encode(texts, **said, batch_size=len(texts), show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(vectors, dtype=np.float32)

    return _ask(probe_texts(plan.max_tokens), dtype, encode)


def least_cosine(ours: ProbeVectors, theirs: ProbeVectors) -> float:
    """Return the least cosine between two encoders' vectors of the same text.

    Raises ExportError below LEAST_COSINE, naming the text.
    """
    least = 1.0
    texts = None
    for how, mine, other in (("alone", ours.alone, theirs.alone), ("in a batch", ours.batch, theirs.batch)):
        for role in mine:
            if mine[role].shape != other[role].shape:
                raise ExportError(
                    f"the export gives vectors of shape {other[role].shape}, expected {mine[role].shape}: nothing was "
                    f"written. {INSTEAD}"
                )
            # Theirs are of unit length only to the precision they were computed in.
            cosines = np.einsum("nd,nd->n", mine[role], other[role]) / np.linalg.norm(other[role], axis=1)
            row = int(np.argmin(cosines))  # NaN counts as the least
            if not cosines[row] >= LEAST_COSINE:
                texts = texts or [*PROBES, "the long text"]
                raise ExportError(
                    f"the export does not give the encoder's vectors: cosine {cosines[row]:.6f}, expected "
                    f"{LEAST_COSINE} or more, for {texts[row][:40]!r} {how} as a {role.value}. Nothing was written. "
                    "This is a bug in searchctl or a model it does not know: please report it."
                )
            least = min(least, float(cosines[row]))
    return least
