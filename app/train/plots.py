"""The curves of training runs by stage, and score against steps as in Figure 6 of LLM2Vec (arXiv 2404.05961)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log10
from typing import TYPE_CHECKING

from ...training.chain.run_log import (
    LOWER_IS_BETTER,
    Curve,
    StageLog,
    held_out_curve,
    loss_curve,
    norm_curve,
    rate_curve,
    score_names,
    smoothed,
    speed_curve,
)
from ...training.recipe import Stage
from ..pages.line_plots import COLUMNS, WIDTH, Plot, Tips, dots, line, logarithmic, look, over_steps, panels
from ..pages.svg import Palette
from ..terminal.wording import many, metric_name
from .view import STAGE_NAMES, CurveView, ReportedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_WIDE_RANGE = 20
"""Highest by lowest value from which a loss is drawn on a logarithmic axis."""


def stage_plots(runs: Sequence[ReportedRun], stage: Stage) -> list[Plot]:
    """Return the plots of a stage, the runs over each other: loss, how it ran, and held-out scores but the loss."""
    logs = {run.label: log for run in runs if (log := run.stage(stage)) is not None}
    labels = [run.label for run in runs]
    name = STAGE_NAMES[stage]
    apart = tuple((number, label) for number, label, _ in _numbered(logs, labels)) if len(runs) > 1 else ()
    plots = [
        Plot(
            name=f"{stage}-loss",
            title=f"{name}: loss",
            about=_about(logs, "loss"),
            width=WIDTH,
            height=3.6,
            draw=lambda figure, palette: _draw_loss(figure, palette, logs, labels),
        ),
        Plot(
            name=f"{stage}-training",
            title=f"{name}: learning rate, gradient norm, speed",
            about=f"{name}: learning rate, gradient norm and tokens per second of each step",
            width=WIDTH,
            height=2.5,
            draw=lambda figure, palette: _draw_training(figure, palette, logs, labels),
            runs=apart,
        ),
    ]
    scores = [name for name in dict.fromkeys(n for log in logs.values() for n in score_names(log)) if name != "loss"]
    if scores:
        plots.append(
            Plot(
                name=f"{stage}-held-out",
                title=f"{name}: held-out scores",
                about="; ".join(_about(logs, score) for score in scores),
                width=WIDTH,
                height=2.5 * -(-len(scores) // COLUMNS),
                draw=lambda figure, palette: _draw_scores(figure, palette, logs, labels, scores),
                runs=apart,
            )
        )
    return plots


def _about(logs: Mapping[str, StageLog], score: str) -> str:
    parts = []
    for label, log in logs.items():
        curve = held_out_curve(log, score)
        if curve:
            parts.append(f"{label}, held-out {score}: {curve[0][1]:.4f} at step {curve[0][0]}, {curve[-1][1]:.4f} at "
                         f"step {curve[-1][0]}")  # fmt: skip
    return "; ".join(parts) or f"no held-out {score}"


def _draw_loss(figure: Figure, palette: Palette, logs: Mapping[str, StageLog], labels: Sequence[str]) -> Tips:
    axes = figure.subplots()
    tips: Tips = {}
    values: list[float] = []
    alone = len(labels) == 1
    for number, label, log in _numbered(logs, labels):
        color, marker = look(palette, number)
        loss, looks = loss_curve(log), held_out_curve(log, "loss")
        values += [value for _, value in (*loss, *looks)]
        line(axes, loss, color=color, lw=0.8, alpha=0.35, label="each batch" if alone else None)
        line(axes, smoothed(loss), color=color, lw=1.8, label="smoothed" if alone else label)
        # Alone the held-out loss has a colour of its own; beside others the colour says which run it is of.
        other = palette.series[5] if alone else color
        line(axes, looks, color=other, lw=1.2, ls="--", label="held out" if alone else f"{label}, held out")
        tips |= dots(axes, looks, f"loss{number}", f"{label}, held-out loss", color=other, marker=marker)
    wide = bool(values) and min(values) > 0 and max(values) > _WIDE_RANGE * min(values)
    if wide:
        logarithmic(axes, decades=log10(max(values) / min(values)))
    axes.set_ylabel("loss (logarithmic)" if wide else "loss")
    over_steps(axes, margin=0.01)
    if values:
        axes.legend(frameon=False, fontsize=9)
    return tips


def _draw_training(figure: Figure, palette: Palette, logs: Mapping[str, StageLog], labels: Sequence[str]) -> Tips:
    row = figure.subplots(1, 3)
    kinds: tuple[tuple[str, Callable[[StageLog], Curve], bool], ...] = (
        ("learning rate", rate_curve, False),
        ("gradient norm", norm_curve, True),
        ("tokens / s", speed_curve, True),
    )
    for axes, (title, curve_of, noisy) in zip(row, kinds, strict=True):
        highest = 0.0
        for number, _, log in _numbered(logs, labels):
            (color, _), curve = look(palette, number), curve_of(log)
            highest = max([highest, *(value for _, value in curve)])
            line(axes, curve, color=color, lw=0.8 if noisy else 1.6, alpha=0.35 if noisy else 1.0)
            if noisy:
                line(axes, smoothed(curve), color=color, lw=1.6)
        axes.set_title(title, fontsize=9.5, loc="left", color=palette.muted)
        over_steps(axes)
        axes.set_ylim(0, 1.08 * highest or 1.0)
        if title == "learning rate":
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1e}" if value else "0")
        if title == "tokens / s":
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return {}


def _draw_scores(
    figure: Figure,
    palette: Palette,
    logs: Mapping[str, StageLog],
    labels: Sequence[str],
    scores: Sequence[str],
) -> Tips:
    tips: Tips = {}
    for place, (axes, score) in enumerate(panels(figure, scores)):
        lower = score in LOWER_IS_BETTER
        for number, label, log in _numbered(logs, labels):
            (color, marker), curve = look(palette, number), held_out_curve(log, score)
            line(axes, curve, color=color, lw=1.4)
            gid = f"held{place}x{number}"
            tips |= dots(axes, curve, gid, f"{label}, {score}", color=color, marker=marker)
        axes.set_title(
            f"{score} ({'lower' if lower else 'higher'} is better)", fontsize=9.5, loc="left", color=palette.muted
        )
        axes.margins(y=0.12)
        over_steps(axes)
    return tips


def _numbered(logs: Mapping[str, StageLog], labels: Sequence[str]) -> Iterator[tuple[int, str, StageLog]]:
    """Yield the runs that have the stage with their number among all, which is their colour everywhere."""
    return ((number, label, logs[label]) for number, label in enumerate(labels) if label in logs)


def curve_plots(runs: Sequence[ReportedRun], view: CurveView) -> list[Plot]:
    """Return the mean score against steps, and each task by itself where there are several."""
    labels = [run.label for run in runs]
    name = STAGE_NAMES[view.stage]
    apart = tuple((labels.index(label), label) for label in view.curves) if len(runs) > 1 else ()
    what = view.names[0] if len(view.tasks) == 1 else f"mean of {many(len(view.tasks), 'task')}"

    def mean_of(label: str) -> Curve:
        points = ((point.step, point.mean(view.names)) for point in view.curves[label].points)
        return [(step, 100 * mean) for step, mean in points if mean is not None]

    def score_of(task: str) -> Callable[[str], Curve]:
        return lambda label: [
            (point.step, 100 * point.scores[task]) for point in view.curves[label].points if task in point.scores
        ]

    told = "; ".join(
        f"{label}: " + ", ".join(f"step {step} {score:.1f}" for step, score in mean_of(label)) for label in view.curves
    )
    plots = [
        Plot(
            name=f"{view.stage}-curve",
            title=f"{name}: score against steps, {what}",
            about=told,
            width=WIDTH,
            height=3.8,
            draw=lambda figure, palette: _draw_curves(figure, palette, view, labels, [(f"{what}, x 100", mean_of)]),
            runs=apart,
        )
    ]
    if len(view.tasks) > 1:
        parts = [(f"{task.name}, {metric_name(task.metric)} x 100", score_of(task.name)) for task in view.tasks]
        plots.append(
            Plot(
                name=f"{view.stage}-curve-tasks",
                title=f"{name}: score against steps, task by task",
                about=f"The same for each of {', '.join(view.names)}",
                width=WIDTH,
                height=2.4 * -(-len(view.tasks) // COLUMNS),
                draw=lambda figure, palette: _draw_curves(figure, palette, view, labels, parts),
                runs=apart,
            )
        )
    return plots


def _draw_curves(
    figure: Figure,
    palette: Palette,
    view: CurveView,
    labels: Sequence[str],
    parts: Sequence[tuple[str, Callable[[str], Curve]]],
) -> Tips:
    tips: Tips = {}
    alone = len(parts) == 1
    for place, (axes, (title, curve_of)) in enumerate(panels(figure, parts)):
        for label in view.curves:
            number = labels.index(label)
            color, marker = look(palette, number)
            curve = curve_of(label)
            line(axes, curve, color=color, lw=1.8 if alone else 1.4, marker=marker, ms=0, label=label)
            gid = f"curve{place}x{number}"
            tips |= dots(axes, curve, gid, label, color=color, marker=marker, size=6 if alone else 4, digits=1)
        axes.margins(y=0.12)
        over_steps(axes, label=f"{view.stage.value} steps")
        if alone:
            axes.set_ylabel(title)
        else:
            axes.set_title(title, fontsize=9.5, loc="left", color=palette.muted)
    return tips
