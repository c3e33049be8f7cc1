"""reStructuredText with its heading path; text is verbatim."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..documents import Document
from .decoding import decode
from .outline import Heading, verbatim_sections

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*[ \t]*\r?$")
_ROLE = re.compile(r":[\w.+:-]+:`([^`<]*?)(?:\s*<[^`>]*>)?`")


def read_rst(data: bytes, name: str) -> Document:
    """Return the document cut at its section titles; levels are those of their adornments in order of appearance."""
    decoded = decode(data, name)
    headings = list(_headings(decoded.text))
    title = headings[0].text if headings and headings[0].level == 1 else None
    return Document(
        format="rst",
        sections=tuple(verbatim_sections(decoded.text, headings)),
        title=title or None,
        metadata=decoded.metadata,
    )


def _headings(text: str) -> Iterator[Heading]:
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    styles: list[tuple[str, bool]] = []
    row = 1
    while row < len(lines):
        first = _title_at(lines, row)
        if first is None:
            row += 1
            continue
        overlined = first < row - 1
        style = (lines[row][0], overlined)
        if style not in styles:
            styles.append(style)
        yield Heading(
            start=starts[first],
            end=min(starts[row + 1], len(text)),
            level=styles.index(style) + 1,
            text=_plain(lines[row - 1]),
        )
        row += 2


def _title_at(lines: list[str], row: int) -> int | None:
    """Return the first line of a section title whose underline is line `row`, None when that is no underline."""
    underline, title = lines[row].rstrip(), lines[row - 1].rstrip()
    if not underline or not title or _ADORNMENT.match(underline) is None or _ADORNMENT.match(title) is not None:
        return None
    above = lines[row - 2].rstrip() if row >= 2 else ""
    if above == underline and _ADORNMENT.match(above) is not None:
        return row - 2
    # docutils wants the underline as long as the title, and accepts a shorter one from four characters on.
    if title[0].isspace() or (len(underline) < len(title.strip()) and len(underline) < 4):
        return None
    return row - 1 if not above or above.startswith("..") else None


def _plain(text: str) -> str:
    """Return a title without roles and inline marks."""
    text = _ROLE.sub(r"\1", text.strip())
    text = re.sub(r"(``|\*\*|`|\*)(?=\S)(.+?)(?<=\S)\1_*", r"\2", text)
    return " ".join(text.replace("\\", "").split())
