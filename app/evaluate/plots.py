"""The plots of an evaluation report."""

from __future__ import annotations

from collections.abc import Sequence

from ...training.evaluation.ablation import Ablation
from ...training.evaluation.comparison import Cell, Comparison, Row, mean_over, shared_tasks
from ..pages.svg import GRID, GROUND, HATCHES, INK, MARKERS, MUTED, SERIES, drawing, to_svg
from ..terminal.wording import many, points, pooling_name, rate, step_name
from .report_tables import difference_words, range_words

_WIDTH = 10.0
_VALUES_UP_TO = 30
"""Bars that have room for their numbers."""


def category_bars(comparison: Comparison) -> str:
    """Return bars of the category means, one bar a model, with intervals where there are some."""
    labels = list(comparison.models)
    rows = [group.mean for group in comparison.groups]
    if len(rows) > 1:
        rows.append(comparison.overall)
    width = 0.84 / len(labels)
    tips = {}
    with drawing(_WIDTH, 3.6) as figure:
        axes = figure.subplots()
        for number, label in enumerate(labels):
            for place, row in enumerate(rows):
                cell, x = row.cells.get(label), place + (number - (len(labels) - 1) / 2) * width
                if cell is None:
                    axes.text(x, 0.6, "-", ha="center", va="bottom", color=MUTED)
                    continue
                tips[f"bar{number}x{place}"] = f"{label}, {row.name}: {_told(cell)}"
                color, hatch = SERIES[number % len(SERIES)], HATCHES[number // len(SERIES) % len(HATCHES)]
                (bar,) = axes.bar(x, 100 * cell.value, width * 0.92, color=color, hatch=hatch, edgecolor=GROUND, lw=0)
                bar.set_gid(f"bar{number}x{place}")
                top = 100 * (cell.interval.high if cell.interval else cell.value)
                if cell.interval is not None:
                    axes.plot([x, x], [100 * cell.interval.low, top], color=INK, lw=0.9)
                if len(labels) * len(rows) <= _VALUES_UP_TO:
                    axes.text(x, top + 0.8, points(cell.value), ha="center", va="bottom", fontsize=7.5)
        axes.set_xticks(range(len(rows)), [_tasks_of(row) for row in rows])
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("mean score, x 100")
        axes.set_xlim(-0.5, len(rows) - 0.5)
        told = "; ".join(
            f"{row.name}: " + ", ".join(f"{label} {points(cell.value)}" for label, cell in row.cells.items())
            for row in rows
        )
        return to_svg(figure, key="bars", title="Mean score by category", description=told, tips=tips)


def _told(cell: Cell) -> str:
    words = points(cell.value) + (f" {range_words(cell.interval)}" if cell.interval else "")
    return f"{words}, {difference_words(cell.difference)} to the baseline" if cell.difference else words


def _tasks_of(row: Row) -> str:
    return f"{row.name}\n({many(len(row.tasks), 'task')})".replace("all tasks", "All")


def forest_rows(comparison: Comparison) -> list[Row]:
    """Return the tasks and category means of which some difference has an interval."""
    rows = []
    for group in comparison.groups:
        rows += [row for row in group.rows if _with_interval(row)]
        if len(group.rows) > 1 and _with_interval(group.mean):
            rows.append(group.mean)
    return rows


def _with_interval(row: Row) -> bool:
    return any(cell.difference is not None and cell.difference.interval is not None for cell in row.cells.values())


def forest(comparison: Comparison) -> str:
    """Return differences to the baseline with their intervals, the tasks from top to bottom; full where significant."""
    rows = forest_rows(comparison)
    others = [label for label in comparison.models if label != comparison.baseline]
    step = 0.8 / len(others)
    tips = {}
    with drawing(_WIDTH, 0.9 + len(rows) * max(0.34, 0.145 * len(others))) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, lw=1)
        for place, row in enumerate(rows):
            if place % 2:
                axes.axhspan(place - 0.5, place + 0.5, color=GRID, alpha=0.25, lw=0)
            for number, label in enumerate(others):
                difference = row.cells[label].difference if label in row.cells else None
                if difference is None or difference.interval is None:
                    continue
                y, mark = place + (number - (len(others) - 1) / 2) * step, list(comparison.models).index(label)
                color = SERIES[mark % len(SERIES)]
                low, high = 100 * difference.interval.low, 100 * difference.interval.high
                axes.plot([low, high], [y, y], color=color, lw=1.6)
                (dot,) = axes.plot(
                    100 * difference.value,
                    y,
                    color=color,
                    marker=MARKERS[mark % len(MARKERS)],
                    ms=5.5,
                    mec=color,
                    mew=1.3,
                    mfc=color if difference.significant else GROUND,
                )
                dot.set_gid(f"dot{place}x{mark}")
                tips[f"dot{place}x{mark}"] = f"{label}, {_row_name(row)}: {difference_words(difference)}"
        axes.set_yticks(range(len(rows)), [_row_name(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"difference to {comparison.baseline}, points (score x 100), with 95 % interval")
        told = "; ".join(tips.values())
        return to_svg(figure, key="forest", title="Differences to the baseline", description=told, tips=tips)


def _row_name(row: Row) -> str:
    return row.name if row.metric else f"mean of {row.name}"


def ablation_bars(ablation: Ablation, *, key: str) -> str:
    """Return bars of the steps of one base in their order, one bar a pooling."""
    width = 0.8 / len(ablation.poolings)
    tips = {}
    with drawing(_WIDTH, 3.2) as figure:
        axes = figure.subplots()
        for place, row in enumerate(ablation.rows):
            own = [pooling for pooling in ablation.poolings if pooling in row.values]
            for number, pooling in enumerate(own):
                value, x = row.values[pooling], place + (number - (len(own) - 1) / 2) * width
                color = SERIES[ablation.poolings.index(pooling) % len(SERIES)]
                (bar,) = axes.bar(x, 100 * value, min(width, 0.5) * 0.94, color=color, edgecolor=GROUND, lw=0)
                gid = f"step{place}x{number}"
                bar.set_gid(gid)
                tips[gid] = f"{step_name(row.step.key)}, {pooling_name(pooling)}: {points(value)}"
                axes.text(x, 100 * value + 0.6, points(value), ha="center", va="bottom", fontsize=8)
        names = [step_name(row.step.key).replace(" + ", "\n+ ") for row in ablation.rows]
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(f"mean of {many(len(ablation.tasks), 'task')}, x 100")
        axes.set_xlim(-0.6, len(names) - 0.4)
        title = f"What each step brings: {ablation.base}"
        return to_svg(figure, key=key, title=title, description="; ".join(tips.values()), tips=tips)


def speed_labels(comparison: Comparison) -> list[str]:
    """Return the models that have a speed and a mean over all tasks; without two of them, those with a speed."""
    labels = [label for label, cost in comparison.costs.items() if cost.tokens_per_s is not None]
    full = [label for label in labels if label in comparison.overall.cells]
    chosen = full if len(full) > 1 else labels
    return chosen if shared_tasks(comparison.scores, chosen) else []


def speed_scatter(comparison: Comparison) -> str:
    """Return speed against the mean score over the tasks that all shown models have."""
    labels = speed_labels(comparison)
    tasks = shared_tasks(comparison.scores, labels)
    spots = [
        (comparison.costs[label].tokens_per_s or 0.0, 100 * mean_over(tasks, comparison.scores, label))
        for label in labels
    ]
    tips = {}
    with drawing(_WIDTH, 3.8) as figure:
        from matplotlib.ticker import LogLocator

        axes = figure.subplots()
        axes.set_xscale("log")
        for label, (speed, score), side in zip(labels, spots, _sides(spots), strict=True):
            number = list(comparison.models).index(label)
            (dot,) = axes.plot(
                speed, score, marker=MARKERS[number % len(MARKERS)], ms=9, color=SERIES[number % len(SERIES)]
            )
            dot.set_gid(f"spot{number}")
            tips[f"spot{number}"] = f"{label}: {rate(speed)} tokens/s, mean {score:.1f}"
            axes.annotate(label, (speed, score), (9 * side, 0), textcoords="offset points", va="center",
                          ha="left" if side > 0 else "right")  # fmt: skip
        low, high = min(speed for speed, _ in spots), max(speed for speed, _ in spots)
        axes.set_xlim(low / 1.6, high * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(y=0.12)
        axes.set_xlabel("tokens per second while encoding (logarithmic)")
        axes.set_ylabel(f"mean of {many(len(tasks), 'task')}, x 100")
        told = "; ".join(tips.values())
        return to_svg(figure, key="speed", title="Speed against score", description=told, tips=tips)


def _sides(spots: Sequence[tuple[float, float]]) -> list[int]:
    """Return for each spot on which side of it its name goes, 1 right and -1 left: away from the border."""
    speeds = sorted(speed for speed, _ in spots)
    middle = (speeds[0] * speeds[-1]) ** 0.5
    return [-1 if speed > middle and len(spots) > 1 else 1 for speed, _ in spots]
