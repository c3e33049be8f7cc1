"""The sample-efficiency curve: score against training steps, as in Figure 6 of LLM2Vec (arXiv 2404.05961)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..training.chain.run_log import Curve
from .line_plots import COLUMNS, WIDTH, Plot, Tips, dots, line, look, over_steps, panels
from .score_words import many, metric_name
from .svg import Palette
from .train_view import STAGE_NAMES, CurveView, ReportedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
