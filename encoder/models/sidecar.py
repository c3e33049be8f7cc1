"""`searchctl.json`: what a model folder says about its use as an encoder, so that the template travels with the files.

Templates looked up by model name are lost for local, merged or renamed models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import Pooling
from ..depth import Layers, parse_layers, stated_layers
from ..errors import ModelFilesError
from ..prompts import PromptFormat

FILE_NAME = "searchctl.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """How to use the model of a folder."""

    pooling: Pooling = Pooling.MEAN
    max_tokens: int = 512
    prompt: PromptFormat = PromptFormat()  # noqa: RUF009  (frozen)
    adapters: tuple[str, ...] = ()
    """Adapter folders relative to the model folder, "/" between parts, applied in this order. In an adapter's own
    folder: those it was trained on top of, applied before it."""
    dense_weight: float | None = None
    """Recommended weight of the dense side in hybrid search, 0 to 1; None: no recommendation."""
    layers: Layers | None = None
    """The base's layers that are kept, before any adapter is applied; None: all. In the file a number means the first
    so many."""
    projection: str | None = None
    """File inside the folder that maps pooled states to vectors (projection.py); None: they are the vectors."""
    base: str | None = None
    """In a folder without weights of its own: the model that `adapters` were trained on (a registry name, meaning the
    plain weights; a hub name; a folder, absolute or relative to this one). `searchctl train` writes such folders."""


def read_sidecar(folder: Path) -> Sidecar | None:
    """Return the sidecar in `folder`, None without one. Raises ModelFilesError naming the file and the key."""
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFilesError(f"{path}: cannot be read ({error}). Expected a JSON file in UTF-8.") from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelFilesError(f"{path}: no valid JSON ({error}). Fix it, or remove it to use the defaults.") from error
    if not isinstance(data, dict):
        raise ModelFilesError(f"{path}: holds a {type(data).__name__}, expected an object with keys {_known()}")
    return _parse(data, path)


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write `sidecar` into `folder`, replacing the one there in one step. Keys at their defaults are written too."""
    data = {
        "pooling": sidecar.pooling.value,
        "max_tokens": sidecar.max_tokens,
        "prompt": sidecar.prompt.to_dict(),
        "adapters": list(sidecar.adapters),
        "dense_weight": sidecar.dense_weight,
        "layers": None if sidecar.layers is None else stated_layers(sidecar.layers),
        "projection": sidecar.projection,
        "base": sidecar.base,
    }
    path = folder / FILE_NAME
    _parse(data, path)
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _known() -> str:
    return ", ".join(field.name for field in fields(Sidecar))


def _parse(data: Mapping[str, Any], path: Path) -> Sidecar:
    readers = {
        "pooling": _pooling,
        "max_tokens": _max_tokens,
        "prompt": _prompt,
        "adapters": _adapters,
        "dense_weight": _dense_weight,
        "layers": _layers,
        "projection": _projection,
        "base": _base,
    }
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in readers:
            raise ModelFilesError(f"{path}: unknown key {key!r}, expected one of {_known()}")
        values[key] = readers[key](value, path)
    return Sidecar(**values)


def _pooling(value: object, path: Path) -> Pooling:
    try:
        return Pooling(value)  # type: ignore[arg-type]
    except ValueError:
        expected = ", ".join(Pooling)
        raise ModelFilesError(f"{path}: pooling is {value!r}, expected one of {expected}") from None


def _max_tokens(value: object, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelFilesError(f"{path}: max_tokens is {value!r}, expected a whole number of at least 1")
    return value


def _prompt(value: object, path: Path) -> PromptFormat:
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path}: prompt is {value!r}, expected an object")
    optional = {"query_instruction", "document_instruction"}
    for key, text in value.items():
        if text is None and key in PromptFormat.__slots__ and key not in optional:
            raise ModelFilesError(f"{path}: prompt.{key} is null, expected a string")
    try:
        return PromptFormat.from_dict(value)
    except ModelFilesError as error:
        raise ModelFilesError(f"{path}: {error}") from error


def _adapters(value: object, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ModelFilesError(f"{path}: adapters is {value!r}, expected a list of folders beside this file")
    for item in value:
        if not _is_inside(item):
            raise ModelFilesError(
                f"{path}: adapters holds {item!r}, expected the name of a folder inside {path.parent}, e.g. 'mntp'"
            )
    return tuple(value)


def _is_inside(value: object) -> bool:
    """Return whether this names something in the folder: a path that leaves it breaks when the folder moves."""
    good = isinstance(value, str) and value and "\\" not in value
    parts = PurePosixPath(str(value)) if good else PurePosixPath("/")
    return not (parts.is_absolute() or ".." in parts.parts or ":" in str(parts))


def _layers(value: object, path: Path) -> Layers | None:
    try:
        return None if value is None else parse_layers(value)
    except ValueError as error:
        raise ModelFilesError(f"{path}: {error}") from None


def _projection(value: object, path: Path) -> str | None:
    if value is not None and not _is_inside(value):
        raise ModelFilesError(f"{path}: projection is {value!r}, expected a file inside {path.parent}, or null")
    return None if value is None else str(value)


def _dense_weight(value: object, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ModelFilesError(f"{path}: dense_weight is {value!r}, expected a number from 0 to 1, or null")
    return float(value)


def _base(value: object, path: Path) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ModelFilesError(f"{path}: base is {value!r}, expected a model's name or folder, or null")
    return value
