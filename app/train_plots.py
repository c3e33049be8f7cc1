"""The curves of training runs by stage: loss, learning rate, gradient norm, speed, held-out scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log10
from typing import TYPE_CHECKING

from ..training.chain.run_log import (
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
from ..training.recipe import Stage
from .line_plots import COLUMNS, WIDTH, Plot, Tips, dots, line, logarithmic, look, over_steps, panels
from .svg import Palette
from .train_view import STAGE_NAMES, ReportedRun

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
