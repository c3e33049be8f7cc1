"""How numbers, times, sizes and texts read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from rich.text import Text

from .console import Terminal, harmless

METRICS = {
    "ndcg_at_10": "nDCG@10",
    "map": "MAP",
    "map_at_1000": "MAP",
    "max_ap": "AP",
    "cosine_spearman": "Spearman",
    "v_measure": "V-measure",
    "accuracy": "accuracy",
}
MARK = "*"
"""Follows a difference whose interval excludes 0."""
MISSING = "-"
WIDEST = 100
"""Longer lines are hard to read, whatever the terminal's width."""
_NARROWEST = 20
"""Columns of a preview, however little room there is."""

_STEPS = {"uni": "Uni", "bi": "Bi", "echo": "Echo", "bi-echo": "Bi Echo", "mntp": "MNTP", "simcse": "SimCSE"}
_POOLINGS = {"weighted_mean": "weighted mean", "last": "last (EOS)", "first": "first (BOS)"}


def points(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """Return a difference with its sign; what rounds to nothing is +0.0."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def metric_name(metric: str) -> str:
    return METRICS.get(metric, metric)


def step_name(key: str) -> str:
    """Return a step as the paper prints it: "Bi + MNTP" for "bi+mntp"."""
    return " + ".join(_STEPS.get(part, part) for part in key.split("+"))


def pooling_name(pooling: str) -> str:
    return _POOLINGS.get(pooling, pooling)


def count(value: int) -> str:
    return f"{value:,}"


def rate(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def many(number: int, what: str) -> str:
    """Return e.g. "1 task" and "2 tasks"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def as_text(document: dict[str, Any]) -> str:
    """Return a JSON document as text."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def preview(text: str, terminal: Terminal, *, beside: int) -> str:
    """Return the beginning of a text that fits on one line beside so many columns, with a mark where it is cut."""
    room = max(min(terminal.width, WIDEST) - beside, _NARROWEST)
    line = Text(harmless(" ".join(text[: 4 * room].split())))
    line.truncate(room, overflow="ellipsis")
    return line.plain


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def reason_of(path: str, reason: str) -> str:
    """Return why a file could not be read without its name, which stands before it already."""
    return reason.removeprefix(f"{path}: ").removeprefix(f"{PurePosixPath(path).name}: ")


def size(count: int) -> str:
    """Return a number of bytes as a person says it."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def ago(date: datetime) -> str:
    """Return how long ago a moment was."""
    seconds = (datetime.now(UTC) - date).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = int(seconds // length)
        if number >= 1:
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return "just now"
