"""What a training run is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...encoder.depth import Layers
from ...encoder.load import choose_attention
from ...encoder.models.resolve import ResolvedModel
from ..errors import TrainingError
from ..objectives.dev_pairs import DevPairs, require_own_names
from ..objectives.teacher import Teacher, require_teacher
from ..recipe import Recipe, Stage, uses_teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train, on what, and where to."""

    base: ResolvedModel
    """With the adapters to train on top of, which are copied; where `output` holds a finished stage, the adapters that
    it was trained on stand in their place."""
    cut: Layers | None = None
    """Of the layers that the base had when its adapters were trained, those that it keeps; `base.sidecar.layers` says
    them as layers of the plain weights."""
    stages: tuple[Stage, ...]
    data: tuple[Path, ...]
    recipe: Recipe
    output: Path
    device: torch.device
    dtype: torch.dtype
    dev: tuple[DevPairs, ...] = ()
    teacher: Teacher | None = None
    """Of the distill stage, and of supervised training with a teacher_weight."""
    save_every: int = 100
    evaluate_every: int = 100
    keep_all: bool = False
    checkpointing: bool = False
    max_seconds: float | None = None
    """For the whole call, loading and evaluation included."""
    command: str = ""
    versions: Mapping[str, str] | None = None
    choose_attention: Callable[[torch.dtype, torch.device], str | None] = choose_attention
    """Attention of the stages but MNTP, as transformers calls it, for a number format and a device."""
    cache: Path | None = None
    """Where hashes of large files are kept; None: the usual place."""

    def __post_init__(self) -> None:
        ranked = [stage for stage in Stage if stage in self.stages]
        if not self.stages or list(self.stages) != ranked:
            raise TrainingError(
                f"stages are {', '.join(self.stages) or 'none'}: expected some of {', '.join(Stage)}, each once, in "
                "this order"
            )
        require_own_names(self.dev)
        for stage in self.stages:
            if uses_teacher(self.recipe, stage):
                require_teacher(self.teacher, self.recipe.distill, stage, self.base, self.output)
