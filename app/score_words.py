"""How scores, differences, steps and metrics read: times 100, one decimal."""

from __future__ import annotations

from ..training.evaluation.comparison import Difference
from ..training.evaluation.intervals import Interval

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

_STEPS = {"uni": "Uni", "bi": "Bi", "echo": "Echo", "bi-echo": "Bi Echo", "mntp": "MNTP", "simcse": "SimCSE"}
_POOLINGS = {"weighted_mean": "weighted mean", "last": "last (EOS)", "first": "first (BOS)"}


def points(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """Return a difference with its sign; what rounds to nothing is +0.0."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def range_words(interval: Interval) -> str:
    """Return the interval of a score, e.g. "[61.2, 69.0]"."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def difference_words(difference: Difference) -> str:
    """Return e.g. "+2.3 [+0.9, +3.8] *": the difference, its interval where there is one, and the mark."""
    words = signed(difference.value)
    if difference.interval is not None:
        words += f" [{signed(difference.interval.low)}, {signed(difference.interval.high)}]"
    return f"{words} {MARK}" if difference.significant else words


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
