"""The pictures of a probe, by matplotlib (extra `eval`): the heat map of section 4.2 and the histograms of section 4.1.

An SVG for the page takes its text colour from the page (`currentColor`), so it reads on a light and on a dark ground.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..training.probing.prefix_test import Histogram
from ..training.probing.tolerance import Tolerance
from .console import printable

POSITIVE, NEGATIVE = "#2f7fc1", "#e07b1f"
"""Blue and orange: told apart with every kind of colour vision, and on both grounds."""
_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_MOST_NAMED = 130
"""Tokens that can be named along the axis."""
_DPI = 160


def heat_map_png(tolerance: Tolerance, *, title: str) -> bytes:
    """Return the heat map as a PNG on white, with the model in its title."""
    with _style("black"):
        figure = _heat_map(tolerance, title=title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def heat_map_svg(tolerance: Tolerance) -> str:
    """Return the heat map as an SVG element for a page."""
    with _style(_INK):
        return _svg(_heat_map(tolerance, title=None))


def histogram_svg(counts: Histogram) -> str:
    """Return both histograms, one over the other, as an SVG element for a page."""
    with _style(_INK):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        width = counts.edges[1] - counts.edges[0]
        for values, name, color in (
            (counts.positive, "cos(q, s+): same meaning", POSITIVE),
            (counts.negative, "cos(q, s-): another meaning", NEGATIVE),
        ):
            axes.bar(
                counts.edges[:-1],
                values,
                width=width,
                align="edge",
                label=name,
                facecolor=(color, 0.45),
                edgecolor=color,
                linewidth=1.2,
            )
        axes.set_xlabel("cosine of the pooled prefix states")
        axes.set_ylabel("triples")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", frameon=False)
        return _svg(figure)


def _heat_map(tolerance: Tolerance, *, title: str | None) -> Figure:
    rows, tokens = tolerance.cosines.shape
    figure = Figure(
        figsize=(max(7.5, min(14.0, 0.1 * tokens + 2.4)), 2.0 + 0.115 * min(rows, 60)), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(tolerance.cosines, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_ylabel("layer, first on top")
    # Row 0 is the embedding, and row i + 1 what layer i passes on.
    step = max(1, math.ceil((rows - 1) / 8))
    # With many layers the first would be written over the embedding.
    numbers = range(0 if step == 1 else step, rows - 1, step)
    axes.set_yticks([0, *(number + 1 for number in numbers)], ["embedding", *map(str, numbers)])
    if tokens <= _MOST_NAMED:
        axes.set_xlabel("token")
        axes.set_xticks(range(tokens), [_label(token) for token in tolerance.tokens], rotation=90, fontsize=7)
        axes.tick_params(axis="x", length=1.5, pad=1)
    else:
        axes.set_xlabel("token position")
    for side in axes.spines.values():
        side.set_visible(False)
    extend = "min" if float(tolerance.cosines.min()) < 0 else "neither"
    bar = figure.colorbar(image, ax=axes, pad=0.012, aspect=18, extend=extend)
    bar.set_label("cosine, causal and bidirectional")
    bar.outline.set_visible(False)
    if title is not None:
        axes.set_title(f"{printable(title)}: states with and without looking ahead", loc="left", fontsize=10)
    return figure


def _label(token: str) -> str:
    """Return a token for the axis, a blank one shown as underscores and a long one cut."""
    shown = printable(token.strip() or token.replace(" ", "_")).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= 14 else shown[:13] + "~"


@contextmanager
def _style(ink: str) -> Iterator[None]:
    with mpl.rc_context(), warnings.catch_warnings():
        # A token in a script that matplotlib's own font lacks: the page has the browser's fonts for it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        mpl.rcParams.update(
            {
                "text.color": ink,
                "axes.labelcolor": ink,
                "axes.edgecolor": ink,
                "xtick.color": ink,
                "ytick.color": ink,
                "font.size": 10,
                # A token may be a dollar sign.
                "text.parse_math": False,
                # Letters stay letters, in the fonts of the page.
                "svg.fonttype": "none",
                # Equal probes give equal files.
                "svg.hashsalt": "searchctl",
            }
        )
        yield


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
