"""What an output folder holds already, whether a request can go on from there, and what differs, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ...encoder.models.folder import ADAPTER_WEIGHTS
from ...encoder.models.identity import digest_of
from ..checkpoints import ANOTHER, differences
from ..data.training_data import Data
from ..distributed import Ranks, barrier
from ..errors import TrainingError
from ..recipe import Stage, stage_settings, uses_teacher
from .output_folder import CHECKPOINTS, base_copies, borrowed, copy_adapters, fingerprint, finished_stages, lora_sizes

if TYPE_CHECKING:
    from .request import TrainRequest


def decisive_settings(
    request: TrainRequest, data: Data, stage: Stage, done: Mapping[Stage, Path], processes: int
) -> dict[str, Any]:
    """Return all that decides a stage's weights: base, earlier adapters, settings, data, precision."""
    return {
        "base": fingerprint(request),
        "earlier": {
            name.value: blake3((folder / ADAPTER_WEIGHTS).read_bytes()).hexdigest() for name, folder in done.items()
        },
        "stage": _decisive(request, data, stage),
        "seed": request.recipe.seed,
        "data": {name: data.digests[name] for name in data.read_by(stage, request.recipe)},
        "dtype": str(request.dtype),
        "processes": processes,
    }


def _decisive(request: TrainRequest, data: Data, stage: Stage) -> dict[str, Any]:
    """Return the stage's settings as far as they decide its weights."""
    settings = asdict(stage_settings(request.recipe, stage))
    if uses_teacher(request.recipe, stage):
        assert request.teacher is not None
        settings["teacher"] = request.teacher.mark()
    settings |= borrowed(request, data, stage)
    # What is looked at and what is written down changes no weight: a licence may be added to a finished run.
    settings.pop("evaluation_pairs", None)
    for source in settings.get("sources", {}).values():
        del source["licence"]
    return settings


def settings_parts(decisive: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Return `decisive_settings` of `stage`, flat, by the names that a person knows; hashes under names in brackets."""
    settings = dict(decisive["stage"])
    sources = settings.pop("sources", {})
    teacher = {"[the teacher]": settings.pop("teacher")} if "teacher" in settings else {}
    return {
        "precision": decisive["dtype"].removeprefix("torch."),
        "seed": decisive["seed"],
        "number of processes": decisive["processes"],
        "[the base]": decisive["base"],
        **{f"[the adapter of {earlier}]": digest for earlier, digest in decisive["earlier"].items()},
        **dict(_flat(f"{stage}.", settings)),
        **dict(_flat("supervised.sources.", sources)),
        **{f"[data file {name}]": digest for name, digest in decisive["data"].items()},
        **teacher,
    }


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            # As JSON reads it back.
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def based(request: TrainRequest, ranks: Ranks) -> TrainRequest:
    """Return the request with the base's adapters as they lie in the output folder, copied there if need be."""
    held = finished_stages(request.output)
    copies = base_copies(request.output)
    late = [stage for stage in request.stages if stage not in held and any(_after(other, stage) for other in held)]
    if late:
        others = ", ".join(other for other in held if _after(other, late[0]))
        raise TrainingError(
            f"{request.output} holds a finished {others}, which was trained without {late[0]}: choose another --output"
        )
    if not held or len(copies) == len(request.base.adapters):
        _check_start(request, held)
        if ranks.is_main:
            # First of all, so that a run that is killed from here on is known as one.
            (request.output / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            copy_adapters(request.base, request.output, cut=request.cut)
        barrier()
        copies = base_copies(request.output)
    else:
        _check_start(replace(request, base=replace(request.base, adapters=())), held)
    return replace(request, base=replace(request.base, adapters=copies))


def _after(stage: Stage, other: Stage) -> bool:
    return list(Stage).index(stage) > list(Stage).index(other)


def _check_start(request: TrainRequest, held: Mapping[Stage, Mapping[str, Any]]) -> None:
    """Return when the adapters that a stage is told to start from, or to leave out, are there to be used as told."""
    _check_supervised(request, held)
    if Stage.DISTILL in request.stages and Stage.DISTILL not in held:
        _check_distill(request, held)


def _check_supervised(request: TrainRequest, held: Mapping[Stage, Mapping[str, Any]]) -> None:
    if Stage.SUPERVISED not in request.stages or Stage.SUPERVISED in held:
        return
    start = request.recipe.supervised.start
    if start == "previous":
        _check_previous(request, held, Stage.SUPERVISED)
    if start in ("fresh", "simcse") and any(folder.name == Stage.SIMCSE for folder in request.base.adapters):
        raise TrainingError(
            f"supervised.start is {start!r}, but {request.base.name} brings a SimCSE adapter that cannot be taken off "
            'it: expected "merged" in the recipe, or the stages mntp,simcse,supervised from its base'
        )
    if start == "simcse" and Stage.SIMCSE not in request.stages and Stage.SIMCSE not in held:
        further = Stage.MNTP not in (*request.stages, *held) and request.base.adapters
        possible = f'"previous", the last adapter of {request.base.name} taken further,' if further else '"fresh"'
        raise TrainingError(
            f"supervised.start is 'simcse', but there is no such stage in --stages or {request.output}: expected "
            f"simcse before supervised in --stages; or {possible} as start in a recipe of your own; or no --recipe, "
            "which takes the model's and starts as it can"
        )


def _check_distill(request: TrainRequest, held: Mapping[Stage, Mapping[str, Any]]) -> None:
    start = request.recipe.distill.start
    brought = [folder.name for folder in request.base.adapters if folder.name in set(Stage) - {Stage.MNTP}]
    if start == "fresh" and brought:
        raise TrainingError(
            f"distill.start is 'fresh', but {request.base.name} brings a {brought[0]} adapter that cannot be taken off "
            'it: expected "merged" in the recipe, or stages from mntp on from its base'
        )
    if start == "previous":
        _check_previous(request, held, Stage.DISTILL)


def _check_previous(request: TrainRequest, held: Mapping[Stage, Mapping[str, Any]], stage: Stage) -> None:
    """Return when there is an adapter that `stage` can train further, and its LoRA settings are that adapter's."""
    stages = list(Stage)[: list(Stage).index(stage)]
    before = [earlier for earlier in stages if earlier in request.stages or earlier in held]
    # Without a stage before it, it may go on with an adapter of the model itself.
    brought = request.base.adapters
    if before:
        name = f"the {before[-1]} adapter"
        planned = asdict(stage_settings(request.recipe, before[-1]))["lora"]
        earlier = held[before[-1]]["recipe"][before[-1].value]["lora"] if before[-1] in held else planned
    elif brought:
        name = f"the adapter {brought[-1].name} of {request.base.name}"
        earlier = lora_sizes(brought[-1])
    else:
        raise TrainingError(
            f"{stage}.start is 'previous', but there is no stage before it in --stages or {request.output}: expected "
            '"merged" in the recipe, a stage before it, or a model that has adapters'
        )
    own = asdict(stage_settings(request.recipe, stage))["lora"]
    for key in ("rank", "alpha"):
        if own[key] != earlier[key]:
            raise TrainingError(
                f"{stage}.start is 'previous', and {stage}.lora.{key} is {own[key]}: expected {earlier[key]}, that "
                f"of {name} which is to be trained further"
            )


def finished(request: TrainRequest, data: Data, ranks: Ranks) -> dict[Stage, Path]:
    """Return the folders of the stages that are finished. Raises TrainingError for one of another base or recipe."""
    done: dict[Stage, Path] = {}
    for stage, said in finished_stages(request.output).items():
        folder = request.output / stage.value
        asked = stage in request.stages
        decisive = decisive_settings(request, data, stage, done, ranks.count) if asked else {}
        if said["base"] != fingerprint(request) or (asked and said["settings"] != digest_of(decisive)):
            parts = said["progress"].get("parts", {})
            what = differences(parts, settings_parts(decisive, stage)) if asked else "the base is another"
            what = what or f"it was made with {ANOTHER}"
            raise TrainingError(
                f"{folder} cannot be gone on from: {what}. Go on with what it was made with, or choose another --output"
            )
        done[stage] = folder
    return done
