"""Cards of a report page, and what else it says once: each number with an id, and exact beside how it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .page_parts import safe
from .status_report import size


def datum(key: str, value: float | None, shown: str | None = None) -> str:
    """Return a number of the report: as it reads, with its exact value for who compares."""
    if value is None:
        return f'<data id="{key}" value="">none</data>'
    words = f"{value:,}" if shown is None else shown
    return f'<data id="{key}" value="{value}">{safe(words)}</data>'


def byte_datum(key: str, value: int) -> str:
    return datum(key, value, size(value))


def card(name: str, big: str, *notes: str, swatch: str = "--accent") -> str:
    """Return a card; `big` and `notes` are HTML."""
    under = "".join(f"<span>{note}</span>" for note in notes if note)
    return f'<li style="--swatch:var({swatch})"><b>{safe(name)}</b><span class="big">{big}</span>{under}</li>'


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    """Return settings and the like as a list of names and values; what is None is left out."""
    lines = "".join(f"<dt>{safe(name)}</dt><dd>{safe(str(value))}</dd>" for name, value in pairs if value is not None)
    return f"<dl>{lines}</dl>"


def share(part: int, whole: int) -> str:
    """Return e.g. "12.5%"; of nothing it is none."""
    return f"{part / whole:.1%}" if whole else "none"


def cut_note(limit: int, cut: int, what: str) -> str:
    """Return the line that tells where texts were cut; nothing where none was."""
    if not cut:
        return ""
    how = f"after {limit:,} characters, with a mark" if limit else "wholly, to keep the page small"
    return (
        f'<p class="note" id="cut" data-limit="{limit}" data-cut="{cut}">The texts of {cut:,} {what} are cut on this '
        f"page {how}; searching it finds nothing in what was cut. The whole texts are in the output of "
        "<code>--format json</code>.</p>"
    )


SCRIPTLESS = (
    "<noscript><p>The tables and pictures of this page need JavaScript; it loads nothing from elsewhere.</p></noscript>"
)
