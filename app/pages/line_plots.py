"""Pieces of line plots: a plot that can be a page's SVG or a PNG file, its lines, marks and panels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...training.chain.run_log import Curve, thinned
from .svg import MARKERS, PAGE, PRINT, Palette, drawing, to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 10.0
COLUMNS = 3
MOST_POINTS = 1200
"""A longer curve is drawn by the lowest and highest of equal parts."""
_MOST_TIPS = 200
"""Points up to which each has its number to be pointed at."""

Tips = dict[str, str]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture that can be drawn for the page and as a file."""

    name: str
    """Of its file, and what makes its ids unique in a page."""
    title: str
    about: str
    """For those who do not see it."""
    width: float
    height: float
    draw: Callable[[Figure, Palette], Tips]
    """Fills the figure and returns the texts over its marks, by their gid."""
    runs: tuple[tuple[int, str], ...] = ()
    """Number (`look`) and name of each run that a legend must tell apart; a page has its own legend for them."""


def as_svg(plot: Plot) -> str:
    """Return the plot as an <svg> element. Raises EvaluationError without matplotlib."""
    with drawing(plot.width, plot.height) as figure:
        tips = plot.draw(figure, PAGE)
        return to_svg(figure, key=plot.name, title=plot.title, description=plot.about, tips=tips)


def as_png(plot: Plot) -> bytes:
    """Return the plot as a PNG with its title. Raises EvaluationError without matplotlib."""
    with drawing(plot.width, plot.height + (0.65 if plot.runs else 0.35), PRINT) as figure:
        plot.draw(figure, PRINT)
        figure.suptitle(plot.title, fontsize=11)
        if plot.runs:
            from matplotlib.lines import Line2D

            looks = [(look(PRINT, number), name) for number, name in plot.runs]
            handles = [Line2D([], [], color=color, marker=marker, label=name) for (color, marker), name in looks]
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        return to_png(figure, PRINT)


def look(palette: Palette, number: int) -> tuple[str, str]:
    """Return colour and marker of the `number`-th run of a report, from 0."""
    return palette.series[number % len(palette.series)], MARKERS[number % len(MARKERS)]


def panels(figure: Figure, of: Sequence[Item]) -> Iterator[tuple[Axes, Item]]:
    """Yield axes for each item, in rows of COLUMNS."""
    columns = min(COLUMNS, len(of))
    grid = list(figure.subplots(-(-len(of) // columns), columns, squeeze=False).flat)
    for axes in grid[len(of) :]:
        axes.set_visible(False)
    yield from zip(grid, of, strict=False)


def line(axes: Axes, curve: Curve, **style: Any) -> None:
    """Draw a curve as a line; an empty one is nothing."""
    if curve:
        axes.plot(*zip(*thinned(curve, MOST_POINTS), strict=True), **style)


def dots(
    axes: Axes,
    curve: Curve,
    gid: str,
    what: str,
    *,
    color: str,
    marker: str,
    size: float = 4.5,
    digits: int = 4,
) -> Tips:
    """Mark each point and return their texts; a long curve has marks no one could point at, and none is drawn."""
    tips: Tips = {}
    if len(curve) > _MOST_TIPS:
        return tips
    for step, value in curve:
        (dot,) = axes.plot(step, value, marker=marker, ms=size, color=color, ls="")
        dot.set_gid(f"{gid}x{step}")
        tips[f"{gid}x{step}"] = f"{what} at step {step:,}: {value:.{digits}f}"
    return tips


def over_steps(axes: Axes, *, label: str = "step", margin: float = 0.03) -> None:
    """Make the flat axis one of optimiser steps, which are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.margins(x=margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 0 and value == round(value) else "")
    low, high = axes.get_xlim()
    if high - low < 2:  # a single step
        axes.set_xlim((low + high) / 2 - 1, (low + high) / 2 + 1)


def logarithmic(axes: Axes, *, decades: float) -> None:
    """Make the upright axis logarithmic, with numbers as people write them; many decades have one number each."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
