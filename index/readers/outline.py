"""Headings to sections with heading trails, for formats that have headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..documents import Anchor, Section
from .decoding import line_at, line_starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading in a verbatim source."""

    start: int
    """Character at which its line (or overline) begins."""
    end: int
    """Character after it and its underline."""
    level: int
    """1 is the outermost."""
    text: str


class Trail:
    """The headings above the current place."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def push(self, level: int, text: str) -> tuple[str, ...]:
        """Return the trail after a heading of `level`, which closes those of its level and deeper."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, text))
        return self.headings

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._open if text)


def verbatim_sections(text: str, headings: Sequence[Heading]) -> list[Section]:
    """Return `text` cut before each heading, nothing left out but whitespace-only stretches.

    A heading with nothing below it but a deeper heading goes into that one's section: alone it says nothing."""
    starts = line_starts(text)
    trail = Trail()
    sections: list[Section] = []

    def add(begin: int, end: int, trail_now: tuple[str, ...]) -> None:
        if text[begin:end].strip():
            anchor = Anchor(kind="heading", value=trail_now[-1]) if trail_now else None
            line = line_at(starts, begin)
            sections.append(Section(text=text[begin:end], anchor=anchor, headings=trail_now, line=line, char=begin))

    begin = 0
    if headings:
        add(0, headings[0].start, ())
        begin = headings[0].start
    for heading, following in zip(headings, [*headings[1:], None], strict=False):
        trail_now = trail.push(heading.level, heading.text)
        end = following.start if following is not None else len(text)
        bare = not text[heading.end : end].strip()
        if following is not None and bare and following.level > heading.level:
            continue
        add(begin, end, trail_now)
        begin = end
    if not headings:
        add(0, len(text), ())
    return sections


class Composer:
    """Collects the headings and blocks of a format whose text is no slice of its source."""

    def __init__(self) -> None:
        self._sections: list[Section] = []
        self._trail = Trail()
        self._blocks: list[str] = []
        self._line: int | None = None
        self._anchor: Anchor | None = None
        self._bare_level: int | None = None
        """Level of the last heading while nothing has followed it."""

    def heading(self, level: int, text: str, *, line: int | None = None) -> None:
        """Open a section; its text begins with the heading."""
        text = " ".join(text.split())
        if not text:
            return
        if self._bare_level is None or level <= self._bare_level:
            self._close()
        self._trail.push(level, text)
        self._add(text, line)
        self._bare_level = level

    def block(self, text: str, *, line: int | None = None) -> None:
        """Add a paragraph, list item, table or code block to the open section."""
        text = text.strip("\n").rstrip()
        if text.strip():
            self._bare_level = None
            self._add(text, line)

    def anchor(self, anchor: Anchor | None) -> None:
        """Close the open section and give the following ones this anchor instead of their heading."""
        self._close()
        self._anchor = anchor

    def restart(self) -> None:
        """Close the open section and forget the trail."""
        self._close()
        self._trail = Trail()

    def sections(self) -> tuple[Section, ...]:
        self._close()
        return tuple(self._sections)

    def _add(self, text: str, line: int | None) -> None:
        if not self._blocks:
            self._line = line
        self._blocks.append(text)

    def _close(self) -> None:
        if self._blocks:
            headings = self._trail.headings
            anchor = self._anchor
            if anchor is None and headings:
                anchor = Anchor(kind="heading", value=headings[-1])
            text = "\n\n".join(self._blocks)
            self._sections.append(Section(text=text, anchor=anchor, headings=headings, line=self._line))
        self._blocks = []
        self._bare_level = None


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of cells joined by " | ", empty rows left out."""
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    return "\n".join(" | ".join(row) for row in flat if any(row))
