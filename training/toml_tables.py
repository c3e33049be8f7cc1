"""Values of a TOML table put into a dataclass: what the table leaves out stays, and a wrong one is told by its name."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


def changed(default: Settings, data: Mapping[str, Any], where: str) -> Settings:
    """Return `default` with the values of a TOML table; what the table leaves out stays as it is in `default`.

    Every key must be a field and its value of the field's type. Raises ValueError naming the key, `where` before it.
    """
    hints = get_type_hints(type(default))
    for key in data:
        if key not in hints:
            raise ValueError(f"unknown key {where}{key}, expected one of {', '.join(hints)}")
    values = {key: _value(hints[key], value, f"{where}{key}", getattr(default, key)) for key, value in data.items()}
    try:
        return replace(default, **values)
    except ValueError as error:
        raise ValueError(_with_place(str(error), where.rstrip("."))) from error


def _with_place(said: str, where: str) -> str:
    """Return the words of a check, which knows its table's own name only, with the table's full name."""
    own = where.rpartition(".")[2]
    if not own or said.startswith(where):
        return said
    if said.startswith(f"{own}."):
        return re.sub(rf"(?<![\w.]){re.escape(own)}\.", f"{where}.", said)
    return f"{where}: {said}"


def _value(hint: Any, value: Any, where: str, default: Any) -> Any:
    if isinstance(hint, UnionType):
        if value is False and NoneType in get_args(hint):
            return None  # TOML has no null
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if hasattr(hint, "__dataclass_fields__"):
        return changed(default, _table(value, where), f"{where}.")
    if get_origin(hint) is dict:
        kind = get_args(hint)[1]
        given = {
            key: _value(kind, item, f"{where}.{key}", default.get(key, kind()))
            for key, item in _table(value, where).items()
        }
        return {**default, **given}
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} is {value!r}: expected one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if kind is str and isinstance(value, str):
            return (value,)
        names = {int: "whole numbers", float: "numbers", str: "texts"}
        if not isinstance(value, list) or not all(type(item) in _taken(kind) for item in value):
            raise ValueError(f"{where} is {value!r}: expected a list of {names[kind]}")
        return tuple(_plain(kind, item, where) for item in value)
    if issubclass(hint, StrEnum):
        if value not in list(hint):
            raise ValueError(f"{where} is {value!r}: expected one of {', '.join(hint)}")
        return hint(value)
    if type(value) not in _taken(hint):
        raise ValueError(f"{where} is {value!r}: expected {hint.__name__}")
    if hint is float and not abs(value) <= sys.float_info.max:
        # TOML has inf and nan; JSON, in which a run says its settings, has not.
        raise ValueError(f"{where} is {value!r}: expected a finite number")
    return hint(value)


def _taken(hint: Any) -> tuple[type, ...]:
    return (int, float) if hint is float else (hint,)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}: expected a table")
    return value
