"""The encoder that the distill stage learns from: found and checked before the first step, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from ...encoder.config import EncoderConfig, Precision
from ...encoder.errors import EncoderError
from ...encoder.export.model_card import stated_licence
from ...encoder.models.cache import cache_root
from ...encoder.models.identity import digest_of, full_width, identify, identify_resolved
from ...encoder.models.registry import find
from ...encoder.models.resolve import resolve
from ...encoder.models.sidecar import FILE_NAME
from ...encoder.open import open_encoder
from ...encoder.protocol import Encoder, EncoderInfo, ProgressCallback, Role, Vectors
from ..errors import EvaluationError, TrainingError
from ..recipe import DistillStage, Stage
from ..sentence_transformer import StEncoder, load_model, st_fingerprint, st_folder, st_info
from .teacher_cache import CachedTeacher

if TYPE_CHECKING:
    from ...encoder.models.cache import PullCallback
    from ...encoder.models.resolve import ResolvedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Who teaches, and how to load it."""

    info: EncoderInfo
    licence: str | None
    """Of the weights; None: not said."""
    precision: str
    """fp32, bf16, or that of the stored weights."""
    open: Callable[[], Encoder]
    """Load it; raises TrainingError."""

    def mark(self) -> dict[str, Any]:
        """Return all that decides its vectors, the place of its files not among it."""
        return {
            "fingerprint": self.info.fingerprint,
            "precision": self.precision,
            "max_tokens": self.info.max_tokens,
        }

    def account(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "name": self.info.name,
            "revision": self.info.revision,
            "licence": self.licence,
            "dim": self.info.dim,
            **self.mark(),
        }


_OWN = "as stored"
"""Number format of a sentence-transformers model: that of its weights."""


def find_teacher(
    names: Sequence[str],
    weights: Sequence[float] = (),
    *,
    device: torch.device,
    dtype: torch.dtype,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> Teacher:
    """Return the teacher that `names` make together: their vectors are put side by side, each times its weight.

    A name is that of a sentence-transformers folder or package, or an encoder's as of `--model`, pulled where it is
    missing. `weights`: 1 each by default. It computes on `device`, our own encoders in `dtype`. Vectors are kept in
    `cache`. Raises TrainingError
    when one cannot be found.
    """
    shares = tuple(weights) or (1.0,) * len(names)
    if len(shares) != len(names):
        raise TrainingError(
            f"distill.teacher_weights has {len(shares)} numbers for {len(names)} teachers: expected one for each"
        )
    found = [_find_one(name, device=device, dtype=dtype, cache=cache, progress=progress) for name in names]
    return found[0] if len(found) == 1 else _together(found, shares)


def _find_one(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    cache: Path | None,
    progress: PullCallback | None,
) -> Teacher:
    entry = find(name)
    folder = None if entry is not None else st_folder(name)
    if folder is not None and not (folder / FILE_NAME).is_file():
        return _sentence_teacher(name, folder, device=device, cache=cache)
    config = EncoderConfig(model=name)
    built_in = entry is not None and entry.source == "builtin"
    precision = Precision.BF16 if dtype is torch.bfloat16 and not built_in else Precision.FP32
    if not built_in:
        config = EncoderConfig(model=name, precision=precision, device=str(device))
    try:
        if built_in:
            info, licence = identify(config), entry.licence if entry is not None else None
        else:
            resolved = resolve(config, cache=cache, progress=progress)
            info, licence = identify_resolved(resolved, config, cache=cache), resolved.licence
    except EncoderError as error:
        raise TrainingError(f"the teacher is {name!r}: {error}") from error

    def opened() -> Encoder:
        try:
            encoder = open_encoder(config, cache=cache)
        except EncoderError as error:
            raise TrainingError(f"the teacher {name}: {error}") from error
        if encoder.info != info:
            raise TrainingError(f"the teacher's files changed since the command began: run it again with {name}")
        return encoder if built_in else CachedTeacher(encoder, vectors_folder(cache), mark=teacher.mark())

    teacher = Teacher(info=info, licence=licence, precision=precision.value, open=opened)
    return teacher


def vectors_folder(cache: Path | None) -> Path:
    """Return where vectors of teachers are kept."""
    return cache_root(cache) / "teacher-vectors"


def _sentence_teacher(name: str, folder: Path, *, device: torch.device, cache: Path | None) -> Teacher:
    """Return a sentence-transformers model as a teacher: its own format and prompts, no instruction of ours."""
    try:
        info = st_info(folder, name=name, fingerprint=st_fingerprint(folder, cache=cache))
    except (EvaluationError, EncoderError) as error:
        raise TrainingError(f"the teacher is {name!r}: {error}") from error

    def opened() -> Encoder:
        try:
            model = load_model(folder, str(device))
            encoder = StEncoder(model, name=name, fingerprint=info.fingerprint)
        except EvaluationError as error:
            raise TrainingError(f"the teacher {name}: {error}") from error
        return CachedTeacher(encoder, vectors_folder(cache), mark=teacher.mark(), instructed=False)

    teacher = Teacher(info=info, licence=stated_licence(folder), precision=_OWN, open=opened)
    return teacher


def _together(teachers: Sequence[Teacher], weights: Sequence[float]) -> Teacher:
    infos = [teacher.info for teacher in teachers]
    marks = [[teacher.mark(), weight] for teacher, weight in zip(teachers, weights, strict=True)]
    info = EncoderInfo(
        name=" + ".join(info.name for info in infos),
        revision=" + ".join(info.revision for info in infos),
        dim=sum(info.dim for info in infos),
        max_tokens=min(info.max_tokens for info in infos),
        pooling=" + ".join(info.pooling for info in infos),
        normalized=True,
        fingerprint=digest_of({"teachers": marks}),
    )
    licences = [teacher.licence or "not said" for teacher in teachers]
    return Teacher(
        info=info,
        licence=" + ".join(dict.fromkeys(licences)),
        precision=" + ".join(teacher.precision for teacher in teachers),
        open=lambda: _SideBySide([teacher.open() for teacher in teachers], weights, info),
    )


class _SideBySide:
    """Several encoders as one: unit vectors, each times its weight, one after the other, and the whole made unit.

    A cosine is then the mean of theirs, weighed by the squares of the weights (Jasper and Stella, arXiv 2412.19048).
    """

    def __init__(self, encoders: Sequence[Encoder], weights: Sequence[float], info: EncoderInfo) -> None:
        self._encoders, self._weights, self._info = encoders, weights, info

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._encoders[0].tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim)."""
        parts = [
            np.float32(weight) * _unit(encoder.encode(texts, role=role, instruction=instruction, progress=progress))
            for encoder, weight in zip(self._encoders, self._weights, strict=True)
        ]
        return _unit(np.concatenate(parts, axis=1))


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def require_teacher(
    teacher: Teacher | None, settings: DistillStage, stage: Stage, base: ResolvedModel, output: Path
) -> None:
    """Raise TrainingError unless `stage` can learn from this teacher as the recipe says."""
    if teacher is None:
        raise TrainingError(
            f"the {stage} stage has no teacher: expected --teacher NAME|FOLDER, or teacher = "
            '"NAME|FOLDER" in [distill] of the recipe',
            next_command=("models", "list"),
        )
    name = teacher.info.name
    if find(name) is None and Path(name).expanduser().resolve() == output.resolve():
        raise TrainingError(
            f"the teacher is {name}, the --output folder, which becomes another model with each stage: expected one of "
            f"the adapters in it, as in {output / 'supervised'}, or another folder"
        )
    if stage is Stage.DISTILL and settings.loss != "vector":
        return
    wanted = full_width(base)
    if stage is Stage.DISTILL and settings.projection is not None and base.projection is None:
        wanted = settings.projection
    if wanted > teacher.info.dim:
        raise TrainingError(
            f"{stage} copies vectors, and those of the teacher {name} have {teacher.info.dim} components, those of the "
            f"student {wanted}: set distill.projection to at most {teacher.info.dim}"
        )
