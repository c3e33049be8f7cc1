"""What a training run was made from, out of its manifest.json, in the words of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .score_words import MISSING, count

_WEIGHING = ("supervised", "distill")
"""Stages that draw pairs by weight and tell queries an instruction; others read the texts of pairs at most."""
_LEFT_OUT = "sources"
"""A table of settings with a row for each file would be its longest part; it stands beside the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a run comes from."""

    facts: Mapping[str, str]
    """Base, teacher, recipe, seed, precision, versions, command ..., by name."""
    data: tuple[tuple[str, ...], ...]
    """Name, rows, licence, stages that read it, weight and instruction, BLAKE3 of the content."""
    settings: tuple[tuple[str, ...], ...]
    """Name of a setting, then its value in each of `stages`."""
    stages: tuple[str, ...]
    whole: str
    """The manifest itself."""


DATA_HEADER = ("data", "rows", "licence", "read by", "weight", "query instruction", "BLAKE3")


def provenance(manifest: Mapping[str, Any]) -> Provenance:
    """Return it. Raises ValueError for a manifest that is not as training writes it."""
    try:
        stages = {name: _mapping(entry) for name, entry in _mapping(manifest["stages"]).items()}
        settings = {name: _flat(_mapping(entry["recipe"])[name]) for name, entry in stages.items()}
        return Provenance(
            facts=_facts(manifest, stages),
            data=tuple(_data(manifest, stages)),
            settings=tuple(
                (key, *(settings[name].get(key, MISSING) for name in stages))
                for key in dict.fromkeys(key for of_stage in settings.values() for key in of_stage)
            ),
            stages=tuple(stages),
            whole=json.dumps(manifest, indent=1, ensure_ascii=False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _facts(manifest: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    recipe = _mapping(manifest["recipe"])
    revision, licence = manifest.get("base_revision"), manifest.get("base_licence")
    told = ", ".join(str(word) for word in (revision, licence) if word)
    adapters = manifest.get("base_adapters") or []
    facts = {
        "base": f"{manifest['base']} ({told})" if told else str(manifest["base"]),
        "its adapters": " + ".join(map(str, adapters)),
        "trained by": _commands_before(manifest.get("base_manifest")),
        "teacher": "; ".join(
            dict.fromkeys(_teacher(said) for entry in stages.values() if (said := entry.get("teacher")))
        ),
        "recipe": f"{recipe['name']} ({recipe['source']})",
        "seed": str(recipe["seed"]),
        "precision": f"{manifest['precision']} on {manifest['device']}",
        "versions": ", ".join(f"{name} {number}" for name, number in _mapping(manifest["versions"]).items()),
    }
    commands = list(dict.fromkeys(str(entry["command"]) for entry in stages.values()))
    for number, command in enumerate(commands, start=1):
        facts["command" if len(commands) == 1 else f"command {number}"] = command
    return {name: value for name, value in facts.items() if value}


def _commands_before(manifest: Any) -> str:
    """Return the commands that made the base's adapters, oldest first."""
    if manifest is None:
        return ""
    said = _mapping(manifest)
    stages = [_mapping(stage) for stage in _mapping(said["stages"]).values()]
    earlier = _commands_before(said.get("base_manifest"))
    return "; ".join(dict.fromkeys([*([earlier] if earlier else []), *(str(stage["command"]) for stage in stages)]))


def _teacher(said: Any) -> str:
    """Return who taught, with all that decides its vectors."""
    teacher = _mapping(said)
    revision = [f"revision {teacher['revision']}"] if teacher["revision"] else []
    told = [
        *revision,
        f"licence {teacher['licence'] or 'not said'}",
        f"{count(int(teacher['dim']))} dimensions",
        str(teacher["precision"]),
        f"at most {count(int(teacher['max_tokens']))} tokens",
        f"fingerprint {teacher['fingerprint']}",
    ]
    return f"{teacher['name']} ({', '.join(told)})"


def _data(manifest: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, entry in _mapping(manifest["data"]).items():
        readers = [stage for stage, said in stages.items() if name in said["data"]]
        used = {stage: _use(stages[stage], stage, name, entry) for stage in readers if stage in _WEIGHING}
        asked = {stage: use for stage, use in used.items() if use is not None}
        rows.append(
            (
                str(name),
                count(int(entry["rows"])),
                str(entry["licence"] or "not said"),
                ", ".join(readers) or "base",
                _by_stage({stage: str(use.get("weight", 1.0)) for stage, use in asked.items()}),
                _by_stage({stage: str(use.get("instruction") or "none") for stage, use in asked.items()}),
                str(entry["blake3"]),
            )
        )
    return rows


def _use(said: Mapping[str, Any], stage: str, name: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how a stage used the pairs of a file, {} for the defaults, None for plain texts."""
    sources = _mapping(_mapping(_mapping(said["recipe"])[stage])["sources"])
    kind = entry.get("kind")
    if kind is None:  # an older manifest; supervised training reads pairs only
        kind = "pairs" if stage == "supervised" or name in sources else "texts"
    return _mapping(sources.get(name, {})) if kind == "pairs" else None


def _by_stage(words: Mapping[str, str]) -> str:
    """Return what all stages agree on, else what each has: recipes may change between them."""
    if len(set(words.values())) > 1:
        return "; ".join(f"{stage}: {word}" for stage, word in words.items())
    return next(iter(words.values()), MISSING)


def _flat(settings: Any, before: str = "") -> dict[str, str]:
    """Return the settings of a stage by dotted name."""
    found: dict[str, str] = {}
    for name, value in _mapping(settings).items():
        if name == _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = _word(value)
    return found


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} where an object was expected")
    return value
