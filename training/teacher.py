"""The encoder that the distill stage learns from: found and checked before the first step, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..encoder.config import EncoderConfig, Precision
from ..encoder.errors import EncoderError
from ..encoder.identity import identify, identify_resolved
from ..encoder.model_folder import width
from ..encoder.open import open_encoder
from ..encoder.protocol import Encoder, EncoderInfo
from ..encoder.registry import find
from ..encoder.resolve import resolve
from .errors import TrainingError
from .recipe import DistillStage

if TYPE_CHECKING:
    from ..encoder.model_cache import PullCallback
    from ..encoder.resolve import ResolvedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Who teaches, and how to load it."""

    info: EncoderInfo
    licence: str | None
    """Of the weights; None: not said."""
    precision: str
    """fp32 or bf16."""
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


def find_teacher(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    notice: Callable[[str], None],
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> Teacher:
    """Return the encoder called `name`, a name, folder or hub name as of `--model`; a missing model is pulled.

    It computes on `device` in `dtype`. `notice` gets a line for what goes another way than asked when it is loaded and
    used. Raises TrainingError when it cannot be found.
    """
    config = EncoderConfig(model=name)
    entry = find(name)
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
        raise TrainingError(f"the teacher of the distill stage is {name!r}: {error}") from error

    def told(message: str) -> None:
        if not message.startswith(f"{info.name}: "):  # precision and device, said at every load
            notice(f"teacher: {message}")

    def opened() -> Encoder:
        try:
            encoder = open_encoder(config, notice=told, cache=cache)
        except EncoderError as error:
            raise TrainingError(f"the teacher {name}: {error}") from error
        if encoder.info != info:
            raise TrainingError(f"the teacher's files changed since the command began: run it again with {name}")
        return encoder

    return Teacher(info=info, licence=licence, precision=precision.value, open=opened)


def require_teacher(teacher: Teacher | None, stage: DistillStage, base: ResolvedModel, output: Path) -> None:
    """Return when the student can learn from this teacher as the recipe says. Raises TrainingError."""
    if teacher is None:
        raise TrainingError(
            'the distill stage has no teacher: expected --teacher NAME|FOLDER, or teacher = "NAME|FOLDER" in [distill] '
            "of the recipe; names: `searchctl models list`"
        )
    name = teacher.info.name
    if find(name) is None and Path(name).expanduser().resolve() == output.resolve():
        raise TrainingError(
            f"the teacher is {name}, the --output folder, which becomes another model with each stage: expected one of "
            f"the adapters in it, as in {output / 'supervised'}, or another folder"
        )
    own = width(base.folder)
    if stage.loss == "embedding" and teacher.info.dim != own:
        raise TrainingError(
            f'distill.loss is "embedding", and the vectors of the teacher {name} have {teacher.info.dim} components, '
            f'those of {base.name} {own}: expected a teacher of the same width, or loss = "similarity"'
        )
