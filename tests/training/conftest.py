"""What tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.training.recipe import Recipe, Stage

if TYPE_CHECKING:
    from searchctl.training.chain.request import TrainRequest


@pytest.fixture
def train_request(tmp_path: Path) -> Callable[..., TrainRequest]:
    """Make what a training run is asked for: the model of a folder, on the CPU in fp32, into the test's own folder."""

    import torch

    from searchctl.training.chain.request import TrainRequest

    def make(folder: Path, recipe: Recipe, *stages: Stage, **more: object) -> TrainRequest:
        return TrainRequest(
            base=resolve(EncoderConfig(model=str(folder))),
            stages=stages,
            data=(),
            recipe=recipe,
            output=tmp_path / "out",
            device=torch.device("cpu"),
            dtype=torch.float32,
            **more,  # type: ignore[arg-type]
        )

    return make
