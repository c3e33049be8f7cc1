"""The folder that training fills: what it was made from, and what makes it a model that `--model FOLDER` opens.

Everything below an adapter is in the folder too: adapters that the base came with are copied to base-1, base-2 ..., and
the manifest of their training to base-manifest.json.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save

from ...encoder.config import EncoderConfig, Pooling
from ...encoder.depth import Layers, keep_adapter_layers
from ...encoder.models.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from ...encoder.models.identity import identify_resolved
from ...encoder.models.projection import FILE_NAME as PROJECTION
from ...encoder.models.resolve import ResolvedModel
from ...encoder.models.sidecar import Sidecar, write_sidecar
from ...index.durable import write_whole
from ..data.training_data import Data
from ..errors import TrainingError
from ..recipe import MntpStage, Stage, stage_settings, uses_teacher

if TYPE_CHECKING:
    from ..checkpoints import Progress
    from .request import TrainRequest


MANIFEST, LOG, STAGE, CHECKPOINTS = "manifest.json", "train.jsonl", "stage.json", "checkpoints"
BASE_MANIFEST = "base-manifest.json"


def is_begun(output: Path) -> bool:
    """Return whether a training run has begun in this folder, however short it was."""
    return (output / LOG).exists() or (output / CHECKPOINTS).exists()


def finished_stages(output: Path) -> dict[Stage, dict[str, Any]]:
    """Return what each finished stage in the folder wrote about itself, in the order of the stages."""
    places = {stage: output / stage.value / STAGE for stage in Stage}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in places.items() if path.is_file()}


def applied_adapters(output: Path, stage: Stage) -> tuple[Path, ...]:
    """Return the adapters that the model of a finished stage is made of, in order, its own last."""
    return tuple(output / name for name in finished_stages(output)[stage]["adapters"])


def plain_base(base: ResolvedModel) -> str:
    """Return a name or folder that means the weights of `base` without any adapter."""
    if base.entry is not None:
        return base.entry.name
    there = Path(base.plain).expanduser()
    return str(there.resolve()) if there.exists() else base.plain


def lora_sizes(adapter: Path) -> dict[str, int]:
    """Return rank and alpha of an adapter, by their names in a recipe."""
    config = read_json(adapter / ADAPTER_CONFIG)
    return {"rank": config["r"], "alpha": config["lora_alpha"]}


def base_copies(output: Path) -> tuple[Path, ...]:
    """Return the adapters in the folder that came with the base, in order."""
    found: list[Path] = []
    while (folder := output / f"base-{len(found) + 1}").is_dir():
        found.append(folder)
    return tuple(found)


def copy_adapters(base: ResolvedModel, output: Path, *, cut: Layers | None = None) -> None:
    """Copy the adapters of `base` into the folder, each naming the one below it.

    `cut`: of the layers that the adapters were trained on, those that `base` keeps. Raises TrainingError where others
    are there already.
    """
    sources = {output / f"base-{number}": source for number, source in enumerate(base.adapters, start=1)}
    others = [
        folder
        for folder in base_copies(output)
        if folder not in sources or _weights(folder) != _cut_weights(sources[folder], cut)
    ]
    if others:
        raise TrainingError(
            f"{others[0]} is another adapter than {base.name} comes with: go on with the model that this folder was "
            "begun with, or choose another --output"
        )
    below: Path | None = None
    for target, source in sources.items():
        if not target.is_dir():
            staging = output / f".{target.name}.new"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            (staging / ADAPTER_WEIGHTS).write_bytes(_cut_weights(source, cut))
            name = plain_base(base) if below is None else os.path.relpath(below, target)
            write_json(
                staging / ADAPTER_CONFIG, {**read_json(source / ADAPTER_CONFIG), "base_model_name_or_path": name}
            )
            # The projection is of the whole chain's states, not of one adapter's.
            alone = replace(
                base.sidecar, adapters=(), dense_weight=None, projection=None, base=name if below is None else None
            )
            write_sidecar(staging, alone)
            staging.rename(target)
        below = target
    if base.adapters:
        _copy_manifest(base.adapters[-1].parent / MANIFEST, output / BASE_MANIFEST)


def _copy_manifest(source: Path, target: Path) -> None:
    """Keep what the training of the base's adapters says of itself, where it says anything: it is theirs to tell."""
    if source.is_file() and not target.exists():
        write_whole(target, source.read_bytes())


def fingerprint(request: TrainRequest) -> str:
    """Return the digest of the base with the adapters that it comes with."""
    return identify_resolved(request.base, EncoderConfig(model=request.base.name), cache=request.cache).fingerprint


def borrowed(request: TrainRequest, data: Data, stage: Stage) -> dict[str, Any]:
    """Return the settings that a stage has from another one's table: distillation's sources are the supervised."""
    if stage is not Stage.DISTILL:
        return {}
    sources, read = request.recipe.supervised.sources, data.read_by(stage, request.recipe)
    return {"sources": {name: asdict(sources[name]) for name in read if name in sources}}


def write_stage(
    request: TrainRequest, data: Data, stage: Stage, below: tuple[Path, ...], *, mark: str, progress: Progress
) -> None:
    """Say that the stage is finished, and how its adapter is used: `below` are the adapters under it, in order."""
    settings = stage_settings(request.recipe, stage)
    pooling = request.base.sidecar.pooling if isinstance(settings, MntpStage) else settings.pooling
    write_json(
        request.output / stage.value / STAGE,
        {
            "settings": mark,
            "base": fingerprint(request),
            "adapters": [*(folder.name for folder in below), stage.value],
            "pooling": pooling.value,
            "seed": request.recipe.seed,
            "recipe": {
                "name": request.recipe.name,
                "source": request.recipe.source,
                stage.value: asdict(settings) | borrowed(request, data, stage),
            },
            "teacher": request.teacher.account() if request.teacher and uses_teacher(request.recipe, stage) else None,
            "data": {name: _account(request, data, name) for name in data.read_by(stage, request.recipe)},
            "dev": {pairs.name: pairs.account() for pairs in request.dev},
            "precision": str(request.dtype).removeprefix("torch."),
            "device": request.device.type,
            "versions": dict(request.versions or {}),
            "command": request.command,
            "progress": asdict(progress),
        },
    )


def describe(request: TrainRequest) -> None:
    """Make the output folder a model of all its finished stages, and write what they were made from."""
    stages = finished_stages(request.output)
    last, base = stages[list(stages)[-1]], request.base
    projection = f"{list(stages)[-1].value}/{PROJECTION}"
    before = read_json(request.output / BASE_MANIFEST) if (request.output / BASE_MANIFEST).is_file() else None
    write_sidecar(
        request.output,
        Sidecar(
            pooling=Pooling(last["pooling"]),
            max_tokens=base.sidecar.max_tokens,
            prompt=base.sidecar.prompt,
            adapters=tuple(last["adapters"]),
            # An encoder trained further is used as it was; what is made again has to be measured first.
            dense_weight=base.sidecar.dense_weight if base.adapters else None,
            layers=base.sidecar.layers,
            projection=projection if (request.output / projection).is_file() else None,
            base=plain_base(base),
        ),
    )
    write_json(
        request.output / MANIFEST,
        {
            "base": plain_base(base),
            "base_revision": base.revision,
            "base_licence": base.licence,
            "base_adapters": [folder.name for folder in base.adapters],
            "base_manifest": before,
            "recipe": asdict(request.recipe),
            "stages": {stage.value: said for stage, said in stages.items()},
            "data": _all_data(before, stages.values()),
            "precision": last["precision"],
            "device": last["device"],
            "versions": last["versions"],
            "command": last["command"],
        },
    )


def _all_data(before: Mapping[str, Any] | None, stages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all data that the model has learnt from, those of the base's adapters first: each has its licence.

    A file that has changed since, under its old name, is there twice.
    """
    own = {name: entry for said in stages for name, entry in said["data"].items()}
    found: dict[str, Any] = {}
    for name, entry in ((before or {}).get("data") or {}).items():
        other = name in own and own[name]["blake3"] != entry["blake3"]
        found[f"{name} (base)" if other else name] = entry
    return found | own


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a document; a number that is none becomes null, since JSON has no other word for it."""
    write_whole(path, (json.dumps(_finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the log; a number that is none becomes null, since JSON has no other word for it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(line), allow_nan=False) + "\n")


def trim_log(path: Path, stage: Stage, step: int | None) -> None:
    """Keep the whole lines of other stages, and of `stage` those up to `step` (None: none).

    A run that was killed has told more than its last checkpoint holds; those steps come again.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith("\n") else None
        except ValueError:
            entry = None
        if isinstance(entry, dict) and (entry.get("stage") != stage.value or _is_by(entry.get("step"), step)):
            kept.append(line)
    write_whole(path, "".join(kept).encode())


def _is_by(number: object, step: int | None) -> bool:
    return step is not None and isinstance(number, int) and number <= step


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _account(request: TrainRequest, data: Data, name: str) -> dict[str, Any]:
    source = request.recipe.supervised.sources.get(name)
    licence = None if source is None else source.licence
    kind = "pairs" if any(pairs.name == name for pairs in data.pairs) else "texts"
    return {"blake3": data.digests[name], "rows": data.counts[name], "kind": kind, "licence": licence}


def _cut_weights(folder: Path, cut: Layers | None) -> bytes:
    """Return an adapter's file as it is, or with the tensors of these layers alone."""
    if cut is None:
        return _weights(folder)
    return save(keep_adapter_layers(load_file(folder / ADAPTER_WEIGHTS), cut), metadata={"format": "pt"})


def _weights(folder: Path) -> bytes:
    return (folder / ADAPTER_WEIGHTS).read_bytes()
