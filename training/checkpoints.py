"""Checkpoints of one stage: whole or not there, and enough to go on exactly as if nothing had happened."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..encoder.batching import is_out_of_memory
from ..index.durable import sync, sync_tree
from .errors import TrainingError
from .trainable import Trainable, load_lora, save_lora

NOTHING: Mapping[str, Any] = {}
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest cannot be read."""
_KEPT = "kept"
"""Empty file in a checkpoint that was to be kept."""

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
    """Digest of recipe, data, base, precision, seed and number of processes: others are refused."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """What the digest is made of, by name; empty: not written down."""


def save_checkpoint(
    folder: Path, trainable: Trainable, optimizer: torch.optim.Optimizer, progress: Progress, *, keep_all: bool
) -> Path:
    """Write `folder`/step-NNNNNN in one step (temporary folder, fsync, rename) and return it.

    Older ones but the last are removed, unless they were written with `keep_all` (for curves over checkpoints), by this
    call or an earlier one. Raises TrainingError when it cannot be written, and leaves nothing of it.
    """
    target = folder / f"step-{progress.step:06d}"
    staging = folder / f".{target.name}.new"
    shutil.rmtree(staging, ignore_errors=True)
    with writing(staging, checkpoints_in=folder):
        save_lora(trainable, staging)
        torch.save(optimizer.state_dict(), staging / "optimizer.pt")
        (staging / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
        if keep_all:
            (staging / _KEPT).touch()
        sync_tree(staging)
    if target.exists():
        shutil.rmtree(target)
    staging.rename(target)
    sync(folder)
    for old in checkpoints(folder)[:-KEEP]:
        if not (old / _KEPT).exists():
            shutil.rmtree(old)
    return target


@contextmanager
def writing(folder: Path, *, checkpoints_in: Path) -> Iterator[None]:
    """Raise TrainingError for a `folder` of weights that cannot be written, a full disk above all, and remove it.

    safetensors and torch have errors of their own for that, which are no OSError.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        step = newest_step(checkpoints_in)
        last = "there is no checkpoint yet" if step is None else f"the last checkpoint, step {step}, is whole"
        raise TrainingError(
            f"{folder} cannot be written ({error}); {last}. Free space on the disk of {checkpoints_in}, and run the "
            "command again with --resume"
        ) from error


def checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints in `folder`, oldest first."""
    found = (path for path in folder.glob("step-*") if (path / "progress.json").is_file())
    # By number: as texts, step-1000000 comes before step-999999.
    return sorted(found, key=step_of)


def newest_step(folder: Path) -> int | None:
    """Return the step of the checkpoint that `restore` takes, None when there is none."""
    found = checkpoints(folder)
    return step_of(found[-1]) if found else None


def step_of(checkpoint: Path) -> int:
    """Return how many optimiser steps a folder of `checkpoints` holds, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def restore(
    folder: Path,
    trainable: Trainable,
    optimizer: torch.optim.Optimizer,
    settings: str,
    parts: Mapping[str, Any] = NOTHING,
) -> Progress | None:
    """Put the newest checkpoint of `folder` back and return where it stands, None when there is none.

    `parts` is what `settings` is made of, to say what differs. Raises TrainingError for one of other settings, or that
    cannot be read.
    """
    found = checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        progress = Progress(**json.loads((newest / "progress.json").read_text(encoding="utf-8")))
        if progress.settings != settings:
            what = differences(progress.parts, parts) or f"it was made with {ANOTHER}"
            raise TrainingError(
                f"{newest} cannot be gone on from: {what}. Resume with what it was made with, or start over in an "
                "empty --output folder"
            )
        load_lora(trainable, newest)
        # The optimizer puts each tensor where its parameter is, and its step counters nowhere else than they were.
        optimizer.load_state_dict(torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True))
    except _UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        raise TrainingError(f"{newest} cannot be read ({error}): remove it to go on from the one before") from error
    return progress


ANOTHER = "another recipe, other data, another base or teacher, another precision, seed or number of processes"
"""What may differ where it was not written down part by part."""
_SHOWN = 40
"""Characters of a value, more than which are not told."""


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs, for a person; "" where nothing does, or where nothing was written down."""
    if not earlier:
        return ""
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return "; ".join(_difference(name, earlier, now) for name in names)


def _difference(name: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if name.startswith("["):
        how = "is another" if name in earlier and name in now else "is new" if name in now else "is no longer there"
        return f"{name.strip('[]')} {how}"
    before, after = (_value(values[name]) if name in values else "absent" for values in (earlier, now))
    return f"{name} was {before} and is {after}"


def _value(value: Any) -> str:
    written = repr(str(value) if isinstance(value, str) else value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."
