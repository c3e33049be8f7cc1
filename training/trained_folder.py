"""The folder that training fills: what it was made from, and what makes it a model that `--model FOLDER` opens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ..encoder.config import EncoderConfig
from ..encoder.identity import digest_of, identify_resolved
from ..encoder.sidecar import Sidecar, write_sidecar
from .recipe import MntpStage, Recipe, Stage, stage_settings
from .training_data import Data

if TYPE_CHECKING:
    from .chain import TrainRequest

MANIFEST, LOG = "manifest.json", "train.jsonl"


def applied(recipe: Recipe, done: Mapping[Stage, Path]) -> list[Path]:
    """Return the adapters that make the encoder, in order; a supervised one that started from SimCSE's holds it."""
    return [
        folder
        for stage, folder in done.items()
        if not (stage is Stage.SIMCSE and Stage.SUPERVISED in done and recipe.supervised.start != "merged")
    ]


def settings_digest(request: TrainRequest, data: Data, stage: Stage, done: Mapping[Stage, Path]) -> str:
    """Return a digest of all that decides a stage's weights: base, earlier adapters, settings, data, precision."""
    info = identify_resolved(request.base, EncoderConfig(model=request.base.name))
    return digest_of(
        {
            "base": info.fingerprint,
            "earlier": {
                name.value: blake3((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
                for name, folder in done.items()
            },
            "stage": asdict(stage_settings(request.recipe, stage)),
            "seed": request.recipe.seed,
            "data": dict(data.digests),
            "dtype": str(request.dtype),
        }
    )


def finished(folder: Path) -> str | None:
    path = folder / "stage.json"
    if not path.is_file():
        return None
    found: str = json.loads(path.read_text(encoding="utf-8"))["settings"]
    return found


def describe(request: TrainRequest, data: Data, done: Mapping[Stage, Path]) -> None:
    """Make the output folder a model, and write what it was made from."""
    last = stage_settings(request.recipe, list(done)[-1])
    base = request.base
    write_sidecar(
        request.output,
        Sidecar(
            pooling=base.sidecar.pooling if isinstance(last, MntpStage) else last.pooling,
            max_tokens=base.sidecar.max_tokens,
            prompt=base.sidecar.prompt,
            adapters=tuple(folder.name for folder in applied(request.recipe, done)),
            base=base.name,
        ),
    )
    write_json(
        request.output / MANIFEST,
        {
            "base": base.name,
            "base_revision": base.revision,
            "base_licence": base.licence,
            "recipe": asdict(request.recipe),
            "stages": {stage.value: json.loads((folder / "stage.json").read_text()) for stage, folder in done.items()},
            "data": {name: {"blake3": digest, "rows": data.counts[name]} for name, digest in data.digests.items()},
            "precision": str(request.dtype).removeprefix("torch."),
            "device": request.device.type,
            "versions": dict(request.versions or {}),
            "command": request.command,
        },
    )


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
