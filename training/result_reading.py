"""A file of the result store read back, every entry checked: whole as it was written, or named with what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from .errors import EvaluationError
from .measurement import Cost, Identity, Samples, TaskScore

SCHEMA = 1
_KINDS = ("encoder", "sentence-transformers", "bm25", "search")


def damaged(path: Path, why: str) -> NoReturn:
    raise EvaluationError(f"{path} is no sound result: {why}. Remove the file; its score is then computed again")


def read_result(path: Path) -> TaskScore:
    """Return the score in a file. Raises EvaluationError, with what to do, for one that is not as `save` writes it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(
            f"{path}: {error.strerror or error}. Expected a result that can be read, or use another --results"
        ) from error
    except (ValueError, RecursionError) as error:
        damaged(path, str(error))
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise EvaluationError(
            f"{path} is of schema {schema}, this version of searchctl reads {SCHEMA}: it was made by a newer "
            "searchctl. Update this one, or use another --results"
        )
    if schema != SCHEMA:
        damaged(path, f"its schema is {schema!r}, this version of searchctl reads {SCHEMA}")
    try:
        return _score(document)
    except (KeyError, TypeError, ValueError) as error:
        damaged(path, f"no entry {error}" if isinstance(error, KeyError) else str(error))


def _score(document: dict[str, Any]) -> TaskScore:
    score = TaskScore(
        task=_text(document, "task"),
        task_type=_text(document, "task_type"),
        data=_text(document, "data"),
        who=_identity(_mapping(document, "who")),
        settings=_mapping(document, "settings"),
        metric=_text(document, "metric"),
        score=_number(document, "score"),
        metrics={name: _number(_mapping(document, "metrics"), name) for name in _mapping(document, "metrics")},
        samples=None if document["samples"] is None else _samples(_mapping(document, "samples")),
        cost=_cost(_mapping(document, "cost")),
        versions={name: _text(_mapping(document, "versions"), name) for name in _mapping(document, "versions")},
        machine=_text(document, "machine"),
        finished=_moment(document, "finished"),
    )
    unknown = sorted(document.keys() - asdict(score).keys() - {"schema"})
    if unknown:
        raise ValueError(f"unknown entry {unknown[0]!r}")
    return score


def _identity(entry: dict[str, Any]) -> Identity:
    kind = _text(entry, "kind")
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(_KINDS)}")
    return Identity(
        label=_text(entry, "label"),
        kind=cast("Any", kind),
        name=_text(entry, "name"),
        fingerprint=_text(entry, "fingerprint"),
        details=_mapping(entry, "details"),
    )


def _samples(entry: dict[str, Any]) -> Samples:
    kind, ids, values, gold = entry["kind"], entry["ids"], entry["values"], entry["gold"]
    if kind not in ("mean", "spearman"):
        raise ValueError(f"kind of samples is {kind!r}, expected mean or spearman")
    if not all(isinstance(id_, str) for id_ in ids):
        raise ValueError("ids of samples: expected strings")
    if len(values) != len(ids) or len(gold) != (len(ids) if kind == "spearman" else 0):
        raise ValueError(f"samples: {len(ids)} ids, {len(values)} values and {len(gold)} gold scores do not fit")
    return Samples(kind=kind, ids=tuple(ids), values=tuple(map(_finite, values)), gold=tuple(map(_finite, gold)))


def _cost(entry: dict[str, Any]) -> Cost:
    counts = {name: _number(entry, name) for name in ("texts", "tokens", "truncated", "empty")}
    for name, count in counts.items():
        if count < 0 or not float(count).is_integer():
            raise ValueError(f"{name} is {count}, expected a count")
    return Cost(
        texts=int(counts["texts"]),
        tokens=int(counts["tokens"]),
        truncated=int(counts["truncated"]),
        empty=int(counts["empty"]),
        encode_s=_number(entry, "encode_s"),
        total_s=_number(entry, "total_s"),
    )


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected text")
    return value


def _moment(entry: Mapping[str, Any], name: str) -> str:
    value = _text(entry, name)
    with suppress(ValueError):
        if datetime.fromisoformat(value).tzinfo is not None:
            return value
    raise ValueError(f"{name} is {value!r}, expected a time of ISO 8601 with its offset")


def _number(entry: Mapping[str, Any], name: str) -> float:
    try:
        return _finite(entry[name])
    except TypeError:
        raise TypeError(f"{name} is {entry[name]!r}, expected a number") from None


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no finite number")
    return float(value)


def _mapping(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = entry[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r}, expected an object")
    return value
