"""Pieces of report pages: escaped text, tables, figures and legends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from .console import harmless
from .page_style import POLICY, SCRIPT, STYLE
from .report_tables import TextTable
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
