"""Checkpoints of one stage: whole or not there, and enough to go on exactly as if nothing had happened."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from .errors import TrainingError
from .trainable import Trainable, load_lora, save_lora
from .whole_files import sync, sync_tree

KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest cannot be read."""

_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError),
    *(SafetensorError, pickle.UnpicklingError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a stage stands."""

    step: int
    """Optimiser steps done."""
    tokens: int
    seconds: float
    """Training time, evaluation included, over all runs."""
    settings: str
    """Digest of recipe, data and base: a checkpoint of other settings is refused."""


def save_checkpoint(
    folder: Path, trainable: Trainable, optimizer: torch.optim.Optimizer, progress: Progress, *, keep_all: bool
) -> Path:
    """Write `folder`/step-NNNNNN in one step (temporary folder, fsync, rename) and return it.

    Older ones but the last are removed, unless `keep_all` (for curves over checkpoints).
    """
    target = folder / f"step-{progress.step:06d}"
    staging = folder / f".{target.name}.new"
    shutil.rmtree(staging, ignore_errors=True)
    save_lora(trainable, staging)
    torch.save(optimizer.state_dict(), staging / "optimizer.pt")
    (staging / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    sync_tree(staging)
    if target.exists():
        shutil.rmtree(target)
    staging.rename(target)
    sync(folder)
    if not keep_all:
        for old in checkpoints(folder)[:-KEEP]:
            shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "progress.json").is_file())


def newest_step(folder: Path) -> int | None:
    """Return the step of the checkpoint that `restore` takes, None when there is none."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else None


def restore(folder: Path, trainable: Trainable, optimizer: torch.optim.Optimizer, settings: str) -> Progress | None:
    """Put the newest checkpoint of `folder` back and return where it stands, None when there is none.

    Raises TrainingError for one of other settings, or that cannot be read.
    """
    found = checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        progress = Progress(**json.loads((newest / "progress.json").read_text(encoding="utf-8")))
        if progress.settings != settings:
            raise TrainingError(
                f"{newest} was made with another recipe, other data, another base or another teacher: resume with "
                "those, or start over in an empty --output folder"
            )
        load_lora(trainable, newest)
        # The optimizer puts each tensor where its parameter is, and its step counters nowhere else than they were.
        optimizer.load_state_dict(torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True))
    except _UNREADABLE as error:
        raise TrainingError(f"{newest} cannot be read ({error}): remove it to go on from the one before") from error
    return progress
