"""Which adapters a stage is trained on top of, and which one it takes further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .recipe import Stage
from .trained_folder import applied_adapters

if TYPE_CHECKING:
    from .chain import TrainRequest


def adapters_below(
    request: TrainRequest, stage: Stage, done: Mapping[Stage, Path]
) -> tuple[tuple[Path, ...], Path | None]:
    """Return the adapters under this stage's, in order, and the one whose weights it starts from."""
    if stage is Stage.DISTILL:
        return _below_distill(request, done)
    folders = dict(done)
    start = None
    if stage is Stage.SUPERVISED and request.recipe.supervised.start == "previous":
        *before, last = (*request.base.adapters, *folders.values())
        return tuple(before), last
    if stage is Stage.SUPERVISED and request.recipe.supervised.start != "merged":
        simcse = folders.pop(Stage.SIMCSE, None)
        start = simcse if request.recipe.supervised.start == "simcse" else None
    return (*request.base.adapters, *folders.values()), start


def _below_distill(request: TrainRequest, done: Mapping[Stage, Path]) -> tuple[tuple[Path, ...], Path | None]:
    if request.recipe.distill.start == "fresh":
        return (*request.base.adapters, *(done[stage] for stage in done if stage is Stage.MNTP)), None
    # Those that the stage before was used with: where supervised training began anew, SimCSE's is not among them.
    before = applied_adapters(request.output, list(done)[-1]) if done else request.base.adapters
    if request.recipe.distill.start == "previous":
        return before[:-1], before[-1]
    return before, None
