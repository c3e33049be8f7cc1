"""What decides a stage's weights, part by part: a digest says that something differs, this says what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ..encoder.model_folder import ADAPTER_WEIGHTS
from .recipe import Stage, stage_settings, uses_teacher
from .trained_folder import borrowed, fingerprint
from .training_data import Data

if TYPE_CHECKING:
    from .chain import TrainRequest

ANOTHER = "another recipe, other data, another base or teacher, another precision, seed or number of processes"
"""What may differ where it was not written down part by part."""
_SHOWN = 40
"""Characters of a value, more than which are not told."""


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


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            # As JSON reads it back.
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
