"""Markdown with its heading path; text is verbatim."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..documents import Document
from .decoding import decode
from .local_dates import said_date
from .outline import Heading, verbatim_sections

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\r?$")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\r?$")
# Lines that cannot be the text of a setext heading: indented code, quote, list, table, thematic break, HTML.
_NO_PARAGRAPH = re.compile(r"(?: {4}|\t| {0,3}(?:>|[-+*][ \t]|\d{1,9}[.)][ \t]|\||<|(?:[-*_][ \t]*){3,}\r?$))")
_HTML_OPEN = re.compile(r" {0,3}<(?:(pre|script|style|textarea)[\s>]|(!--))", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_FIELD = re.compile(r"""^(title|date)[ \t]*[:=][ \t]*(?:"(.*)"|'(.*)'|(.*?))[ \t]*\r?$""", re.IGNORECASE)


def read_markdown(data: bytes, name: str) -> Document:
    """Return the document cut at its headings; YAML or TOML front matter gives title and date."""
    decoded = decode(data, name)
    text = decoded.text
    front, body = _front_matter(text)
    headings = headings_of(text, body)
    title = front.get("title") or next((heading.text for heading in headings if heading.level == 1), None)
    return Document(
        format="markdown",
        sections=tuple(verbatim_sections(text, headings)),
        title=title or None,
        date=said_date(front.get("date", "")),
        metadata=decoded.metadata,
    )


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """Return the fields known here and the character at which the document proper begins."""
    opening = re.match(r"(---|\+\+\+)[ \t]*\r?\n", text)
    if opening is None:
        return {}, 0
    ends = r"(?:---|\.\.\.)" if opening[1] == "---" else r"\+\+\+"
    closing = re.compile(rf"^{ends}[ \t]*\r?$\n?", re.MULTILINE).search(text, opening.end())
    if closing is None:
        return {}, 0
    block = text[opening.end() : closing.start()]
    if opening[1] == "---" and not block.split("\n")[0].strip():
        # A thematic break, with another one further down.
        return {}, 0
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        if (found := _FIELD.match(line)) is not None:
            fields.setdefault(found[1].lower(), (found[2] or found[3] or found[4] or "").strip())
    return fields, closing.end()


def headings_of(text: str, at: int = 0) -> list[Heading]:
    """Return the headings from character `at` on."""
    return list(_headings(text, at))


def _headings(text: str, at: int) -> Iterator[Heading]:
    """Yield the headings from character `at` on; code fences, comments and raw HTML hold none."""
    until: re.Pattern[str] | None = None
    paragraph: list[tuple[int, str]] = []
    for start, line in _lines(text, at):
        end = start + len(line)
        if until is not None:
            until = None if until.search(line) else until
            continue
        until = _raw_block(line)
        if until is not None:
            paragraph = []
        elif (atx := _ATX.match(line)) is not None:
            yield Heading(start=start, end=end, level=len(atx[1]), text=_plain(atx[2] or ""))
            paragraph = []
        elif paragraph and (setext := _SETEXT.match(line)) is not None:
            heading = _plain(" ".join(part.strip() for _, part in paragraph))
            yield Heading(start=paragraph[0][0], end=end, level=1 if setext[1][0] == "=" else 2, text=heading)
            paragraph = []
        elif not line.strip() or (_NO_PARAGRAPH.match(line) is not None):
            paragraph = []
        elif paragraph or _starts_paragraph(text, start):
            paragraph.append((start, line))


def _lines(text: str, at: int) -> Iterator[tuple[int, str]]:
    for line in text[at:].split("\n"):
        yield at, line
        at += len(line) + 1


def _starts_paragraph(text: str, start: int) -> bool:
    """Return whether a paragraph can begin here; below a list item or quote the line would continue that."""
    before = text[:start].rstrip(" \t") if start < 4096 else text[start - 4096 : start].rstrip(" \t")
    previous = before.rstrip("\r\n").rpartition("\n")[2]
    blank = before == "" or re.search(r"\n[ \t]*\r?\n$", before) is not None or not previous.strip()
    return (
        blank or _ATX.match(previous) is not None or _SETEXT.match(previous) is not None or bool(_FENCE.match(previous))
    )


def _raw_block(line: str) -> re.Pattern[str] | None:
    """Return what ends a code fence, comment or raw HTML block that begins in `line`, None when none does."""
    if (fence := _FENCE.match(line.rstrip("\r"))) is not None:
        return re.compile(rf"^ {{0,3}}{re.escape(fence[1][0])}{{{len(fence[1])},}}[ \t]*\r?$")
    if (html := _HTML_OPEN.match(line)) is not None:
        ends = re.compile("-->") if html[2] else re.compile(rf"</{html[1]}>", re.IGNORECASE)
        return None if ends.search(line, html.end()) else ends
    return None


def _plain(text: str) -> str:
    """Return a heading without links, emphasis, code marks and trailing attributes."""
    text = re.sub(r"[ \t]*\{[#.:][^}]*\}[ \t]*$", "", text.strip())
    text = _LINK.sub(r"\1", text)
    text = re.sub(r"(\*\*|__|`+)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<!\w)([*_])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    text = re.sub(r"<[^>]+>", "", text)
    return " ".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).split())
