"""What decides a stage's weights, part by part: a digest says that something differs, this says what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ..encoder.model_folder import ADAPTER_WEIGHTS
from .recipe import Stage, stage_settings
from .trained_folder import fingerprint
from .training_data import Data

if TYPE_CHECKING:
    from .chain import TrainRequest

ANOTHER = "another recipe, other data, another base or teacher, another precision, seed or number of processes"
"""What may differ where it was not written down part by part."""
_UNDECISIVE = ("evaluation_pairs", "licence", "sources")
_SHOWN = 40
"""Characters of a value, more than which are not told."""


def settings_parts(
    request: TrainRequest, data: Data, stage: Stage, done: Mapping[Stage, Path], processes: int
) -> dict[str, Any]:
    """Return the parts of `settings_digest` by the names that a person knows; hashes under names in brackets."""
    parts: dict[str, Any] = {
        "precision": str(request.dtype).removeprefix("torch."),
        "seed": request.recipe.seed,
        "number of processes": processes,
        "[the base]": fingerprint(request),
    }
    for earlier, folder in done.items():
        parts[f"[the adapter of {earlier}]"] = blake3((folder / ADAPTER_WEIGHTS).read_bytes()).hexdigest()
    parts |= dict(_flat(f"{stage}.", asdict(stage_settings(request.recipe, stage))))
    for name in data.read_by(stage, request.recipe):
        parts[f"[data file {name}]"] = data.digests[name]
        if stage in (Stage.SUPERVISED, Stage.DISTILL) and name in request.recipe.supervised.sources:
            said = asdict(request.recipe.supervised.sources[name])
            parts |= dict(_flat(f"supervised.sources.{name}.", said))
    if stage is Stage.DISTILL and request.teacher is not None:
        parts["[the teacher]"] = request.teacher.mark()
    return parts


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
        if key in _UNDECISIVE:
            continue
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            # As JSON reads it back.
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
