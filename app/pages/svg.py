"""matplotlib figures as SVG inside a page: text as text, colours as CSS variables, nothing from elsewhere."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...training.errors import EvaluationError
from .style import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


INK, MUTED, GRID, GROUND = "#010101", "#010102", "#010103", "#010104"
"""Stand-ins for colours that the page decides: text, lesser text, lines, background."""
SERIES = tuple(f"#01020{number}" for number in range(8))
"""Stand-ins for the colours of models; the palette of Okabe and Ito (jfly.uni-koeln.de/color) tells them apart for
all kinds of colour vision."""
HATCHES = ("", "////", "....", "xxxx")
"""A ninth model has the first colour again, with a pattern."""
MARKERS = "osD^vPX*p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of a figure."""

    ink: str
    muted: str
    grid: str
    ground: str
    series: tuple[str, ...]


PAGE = Palette(ink=INK, muted=MUTED, grid=GRID, ground=GROUND, series=SERIES)
"""Stand-ins, for `to_svg`."""
PRINT = Palette(
    ink=LIGHT["ink"],
    muted=LIGHT["muted"],
    grid=LIGHT["line"],
    ground=LIGHT["ground"],
    series=tuple(LIGHT[f"s{number}"] for number in range(len(SERIES))),
)
"""Real colours, for `to_png`."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", GROUND: "--ground"} | {
    color: f"--s{number}" for number, color in enumerate(SERIES)
}


def _settings(palette: Palette) -> dict[Any, Any]:
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": palette.ink,
        "axes.facecolor": palette.ground,
        "axes.edgecolor": palette.grid,
        "axes.labelcolor": palette.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.6,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "hatch.color": palette.ground,
        "hatch.linewidth": 1.2,
    }


@contextmanager
def drawing(width: float, height: float, palette: Palette = PAGE) -> Iterator[Figure]:
    """Yield an empty figure of so many inches. Raises EvaluationError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EvaluationError("plots need the extra eval: `pip install 'searchctl[eval]'`") from error
    with matplotlib.rc_context(_settings(palette)), warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks: the page has the browser's fonts for it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, *, key: str, title: str, description: str, tips: Mapping[str, str]) -> str:
    """Return the figure as an <svg> element, to be called inside `drawing`.

    `key` makes its ids unique in the page, `title` and `description` are for those who do not see it, `tips` are
    texts shown over the artists of these gids.
    """
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)  # it would hold for the whole page
    body = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], key), body)
    for gid, tip in tips.items():
        body = body.replace(f'<g id="{key}-{gid}">', f'<g id="{key}-{gid}"><title>{html.escape(tip)}</title>', 1)
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key}-title {key}-about">'
        f'<title id="{key}-title">{html.escape(title)}</title>'
        f'<desc id="{key}-about">{html.escape(description)}</desc>{body}</svg>'
    )


def to_png(figure: Figure, palette: Palette) -> bytes:
    """Return the figure as a PNG picture of 150 dots an inch, to be called inside `drawing` with the same palette."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=150, facecolor=palette.ground)
    return written.getvalue()


def _tag(tag: str, key: str) -> str:
    """Return a tag with variables for colours and ids of its own; text between tags is left as it is."""
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r' fill="(#\w+)"', r' style="fill: \1"', tag)  # attributes take no variables
    tag = re.sub(r"#\w{6}\b", lambda color: f"var({_VARIABLES[color[0]]})" if color[0] in _VARIABLES else color[0], tag)
    tag = tag.replace("xlink:href=", "href=")
    return re.sub(r'( id="|url\(#| href="#)', rf"\g<1>{key}-", tag)


_SHAPES = {
    "o": '<circle cx="7" cy="7" r="5.5"/>',
    "s": '<path d="M2 2h10v10h-10z"/>',
    "D": '<path d="M7 1l6 6-6 6-6-6z"/>',
    "^": '<path d="M7 1l6 11h-12z"/>',
    "v": '<path d="M7 13l6-11h-12z"/>',
    "P": '<path d="M5 1h4v4h4v4h-4v4h-4v-4h-4v-4h4z"/>',
    "*": '<path d="M7 0l2 5h5l-4 3.4 1.6 5.1-4.6-3-4.6 3 1.6-5.1-4-3.4h5z"/>',
    "X": '<path d="M1 4l3-3 3 3 3-3 3 3-3 3 3 3-3 3-3-3-3 3-3-3 3-3z"/>',
    "p": '<path d="M7 1l6 4.4-2.3 7.1h-7.4l-2.3-7.1z"/>',
}


def swatch(number: int, *, marker: bool) -> str:
    """Return the colour of a model for a legend, as its marker or as a square with its pattern."""
    shape = _SHAPES[MARKERS[number % len(MARKERS)]] if marker else '<path d="M0 0h14v14h-14z"/>'
    pattern = ""
    if not marker and HATCHES[number // len(SERIES) % len(HATCHES)]:
        pattern = '<path d="M0 14l14-14M0 7l7-7M7 14l7-7" style="stroke:var(--ground);stroke-width:1.6"/>'
    color = f"fill:var(--s{number % len(SERIES)})"
    return f'<svg viewBox="0 0 14 14" aria-hidden="true" style="{color}">{shape}{pattern}</svg>'
