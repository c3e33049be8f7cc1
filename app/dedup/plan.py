"""The plan of `searchctl dedup`: which files to take away and which to keep, as JSON that a person may shorten."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from ..errors import AppError
from ..pages.files import write_whole
from ..terminal.text_input import parsed_json

SCHEMA = 1

Tier = Literal["exact", "near", "semantic"]
TIERS = ("exact", "near", "semantic")

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The file that stays, for the sake of which another one goes."""

    path: str
    """As its collection stores it; absolute where that is another collection (`Plan.against`)."""
    content_hash: str
    """blake3 hex of the file's bytes as indexed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One file that goes."""

    path: str
    """As the collection stores it."""
    content_hash: str
    """blake3 hex of the file's bytes as indexed."""
    bytes: int
    kept: Kept
    tier: Tier
    score: float
    """The Jaccard similarity or cosine to the kept one that decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `dedup plan` writes and `dedup apply` reads."""

    collection: str
    """The collection's own folder, absolute."""
    against: str | None
    """The own folder of the other collection that the kept files are in, absolute; None: they are in the same."""
    threshold: float
    near_threshold: float
    keep: str
    """How the kept one of a group was chosen."""
    actions: tuple[Action, ...]

    @property
    def bytes(self) -> int:
        """What all actions together free."""
        return sum(action.bytes for action in self.actions)


def plan_to_json(plan: Plan) -> str:
    """Return the plan as the text of its file; the same plan gives the same bytes."""
    document = {
        "schema": SCHEMA,
        "collection": plan.collection,
        "against": plan.against,
        "threshold": plan.threshold,
        "near_threshold": plan.near_threshold,
        "keep": plan.keep,
        "bytes": plan.bytes,
        "actions": [
            {
                "path": action.path,
                "content_hash": action.content_hash,
                "bytes": action.bytes,
                "kept": {"path": action.kept.path, "content_hash": action.kept.content_hash},
                "tier": action.tier,
                "score": action.score,
            }
            for action in plan.actions
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan to `path`, whole or not at all."""
    write_whole(path, plan_to_json(plan).encode())


def read_plan(path: Path) -> Plan:
    """Return the plan in the file `path`. Raises AppError that names the place of the first thing that is wrong.

    Actions may have been taken out by hand: `bytes` of the whole is not compared with them.
    """
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise AppError(
            f"the plan {path} cannot be read ({error.strerror or error}): expected a file that `dedup plan` wrote",
            next_command=("dedup", "plan"),
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AppError(
            f"{path}: not UTF-8 at byte {error.start}: expected a plan", next_command=("dedup", "plan")
        ) from error
    document = parsed_json(text, str(path), "a plan of `dedup plan`")
    json.loads(text, object_pairs_hook=lambda pairs: _check_keys(str(path), pairs))
    plan = _plan(_Reading(str(path)), document)
    _check_paths(str(path), plan)
    return plan


def _check_keys(where: str, pairs: list[tuple[str, object]]) -> None:
    """Raise AppError for a key given twice in one object, of which Python would silently take the last."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise AppError(f"{where}: an object has the key {key!r} twice: expected each once. Take one of the two out")
        seen.add(key)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A place in a plan's file, which errors name."""

    where: str

    def fail(self, what: str, value: object, expected: str) -> AppError:
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return AppError(
            f"{self.where}: {what} is {shown}: expected {expected}. A plan may be made shorter by hand, action by "
            "action; anything else is for `dedup plan` to write"
        )

    def fields(
        self, value: object, keys: Mapping[str, Callable[[_Reading, str, object], Any]], what: str
    ) -> dict[str, Any]:
        """Return the checked value of each key of an object that has these keys and no other."""
        if not isinstance(value, dict):
            raise self.fail(what, value, "an object")
        if lacking := [key for key in keys if key not in value]:
            raise AppError(f"{self.where}: {what} has no {lacking[0]!r}: expected the keys {', '.join(keys)}")
        if unknown := [key for key in value if key not in keys]:
            raise AppError(f"{self.where}: {what} has the unknown key {unknown[0]!r}: expected only {', '.join(keys)}")
        return {
            key: check(self, f"{what}.{key}" if what != "the plan" else key, value[key]) for key, check in keys.items()
        }


def _schema(at: _Reading, what: str, value: object) -> int:
    if value != SCHEMA or isinstance(value, bool):
        raise at.fail(what, value, f"{SCHEMA}, the only one this version of searchctl reads")
    return SCHEMA


def _text(at: _Reading, what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise at.fail(what, value, "a text that is not empty")
    return value


def _tier(at: _Reading, what: str, value: object) -> Tier:
    if value not in TIERS:
        raise at.fail(what, value, f"one of {', '.join(TIERS)}")
    return cast("Tier", value)


def _hash(at: _Reading, what: str, value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise at.fail(what, value, "the blake3 hash of the file's bytes, 64 digits of 0-9 and a-f")
    return value


def _count(at: _Reading, what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise at.fail(what, value, "a number of bytes")
    return value


def _number(at: _Reading, what: str, value: object) -> float:
    # JSON has no NaN and no infinity, but Python reads them.
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise at.fail(what, value, "a number")
    if not -1.001 <= value <= 1.001:
        raise at.fail(what, value, "a similarity from -1 to 1")
    return float(value)


def _path(at: _Reading, what: str, value: object) -> str:
    text = _text(at, what, value)
    parts = PurePosixPath(text).parts
    if "\0" in text or ".." in parts or PurePosixPath(text).as_posix() != text or text == ".":
        raise at.fail(what, value, "a path as the collection stores it, without . and .. in it")
    return text


def _folder(at: _Reading, what: str, value: object) -> str:
    text = _path(at, what, value)
    if not text.startswith("/"):
        raise at.fail(what, value, "the absolute path of a collection's folder")
    return text


def _folder_or_none(at: _Reading, what: str, value: object) -> str | None:
    return None if value is None else _folder(at, what, value)


def _kept(at: _Reading, what: str, value: object) -> Kept:
    return Kept(**at.fields(value, {"path": _path, "content_hash": _hash}, what))


def _actions(at: _Reading, what: str, value: object) -> tuple[Action, ...]:
    if not isinstance(value, list):
        raise at.fail(what, value, "a list")
    keys = {
        "path": _path,
        "content_hash": _hash,
        "bytes": _count,
        "kept": _kept,
        "tier": _tier,
        "score": _number,
    }
    return tuple(Action(**at.fields(item, keys, f"actions[{number}]")) for number, item in enumerate(value))


def _plan(at: _Reading, value: object) -> Plan:
    if isinstance(value, dict) and "schema" in value:  # first of all: another schema may have other keys
        _schema(at, "schema", value["schema"])
    keys = {
        "schema": _schema,
        "collection": _folder,
        "against": _folder_or_none,
        "threshold": _number,
        "near_threshold": _number,
        "keep": _text,
        "bytes": _count,
        "actions": _actions,
    }
    fields = at.fields(value, keys, "the plan")
    del fields["schema"], fields["bytes"]
    return Plan(**fields)


def _check_paths(where: str, plan: Plan) -> None:
    """Raise AppError for a path that goes twice, or that goes and is kept."""
    base = PurePosixPath(plan.collection).parent
    numbers: dict[str, int] = {}
    for number, action in enumerate(plan.actions):
        path = str(base / action.path)
        if path in numbers:
            raise AppError(
                f"{where}: actions[{number}].path is {action.path!r}, as in actions[{numbers[path]}]: expected each "
                "file once. Take one of the two out"
            )
        numbers[path] = number
    for number, action in enumerate(plan.actions):
        if plan.against is not None and not action.kept.path.startswith("/"):
            raise AppError(
                f"{where}: actions[{number}].kept.path is {action.kept.path!r}: expected an absolute path, as what is "
                f"kept is in another collection, {plan.against}"
            )
        other = numbers.get(str(base / action.kept.path))
        if other is not None:
            raise AppError(
                f"{where}: actions[{number}].kept.path is {action.kept.path!r}, which goes itself in actions[{other}]: "
                "expected a file that stays. Take one of the two out"
            )
