"""Pieces of report pages: escaped text, tables, figures, legends, and cards of numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from ..terminal.console import harmless
from ..terminal.tables import TextTable
from ..terminal.wording import size
from .style import POLICY, SCRIPT, STYLE
from .svg import swatch

_LONG = 30
"""Characters of a heading that would make a narrow column very tall."""


def safe(text: str) -> str:
    """Return text that a page shows as it is, whatever a label or a file name holds."""
    return escape(harmless(text))


def document(
    title: str,
    head: str,
    sections: Sequence[tuple[str, str, str]],
    *,
    style: str = "",
    data: str = "",
    script: str = "",
) -> str:
    """Return the page: its head, links, and of the sections (id, title, content) those with a content.

    `style` and `script` are this page's own beside what all have, `data` an element that the script reads.
    """
    shown = [section for section in sections if section[2]]
    links = " ".join(f'<a href="#{key}">{safe(name)}</a>' for key, name, _ in shown)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{safe(name)}</h2>{content}</section>'
        for key, name, content in shown
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{safe(title)}</title>'
        f"<style>{STYLE}{style}</style></head><body><main>{head}<nav>{links}</nav>{body}</main>"
        f"{data}<script>{SCRIPT}{script}</script></body></html>\n"
    )


def heading(title: str, lead: str) -> str:
    """Return the top of a page: its title, a line below it, and the button for the other colours."""
    return (
        f'<header><div><h1>{safe(title)}</h1><p class="lead">{safe(lead)}</p></div>'
        '<button class="theme" type="button" hidden></button></header>'
    )


def legend_list(labels: Sequence[str], *, markers: bool = False, without: Collection[str] = ()) -> str:
    """Return the colours of `labels` in their order, without those of some."""
    items = "".join(
        f"<li>{swatch(number, marker=markers)}{safe(label)}</li>"
        for number, label in enumerate(labels)
        if label not in without
    )
    return f'<ul class="legend">{items}</ul>'


def figure(svg: str, caption: str) -> str:
    """Return a plot with the words under it."""
    return f'<figure><div class="scroll">{svg}</div><figcaption>{safe(caption)}</figcaption></figure>'


def text_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of words."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in header)
    lines = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0"><table class="text"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def number_table(table: TextTable, *, titled: bool = True, noted: bool = True) -> str:
    """Return a table whose first column names the line and whose others are numbers."""
    heads = "".join(f'<th scope="col">{safe(name)}</th>' for name in table.header)
    long = ' class="long"' if any(len(name) > _LONG for name in table.header[1:]) else ""
    lines = []
    for line in table.lines:
        first, *rest = line.cells
        cells = "".join(
            f"<td>{f'<span class=best>{safe(cell)}</span>' if at in line.best else safe(cell)}</td>"
            for at, cell in enumerate(rest, start=1)
        )
        lines.append(f'<tr class="{line.kind}"><th scope="row">{safe(first)}</th>{cells}</tr>')
    return (
        (f"<h3>{safe(table.title)}</h3>" if titled else "")
        + (f'<p class="note">{safe(table.note)}</p>' if noted else "")
        + f'<div class="scroll" tabindex="0"><table{long}><thead><tr>{heads}</tr></thead>'
        + f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


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
