"""What `searchctl train run` was asked for, as it was typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...encoder.config import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainWish:
    """What a person typed."""

    model: str | None
    stages: str
    data: tuple[Path, ...]
    recipe: str | None
    layers: str | None
    teacher: tuple[str, ...]
    output: Path | None
    dev: tuple[Path, ...]
    max_minutes: float | None
    resume: bool
    save_every: int
    evaluate_every: int
    keep_checkpoints: bool
    gradient_checkpointing: bool
    precision: Precision
    device: str
