"""DOCX by headings, tables, notes and text boxes included."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from ..documents import Document
from ..errors import ReadError
from .archives import open_archive, parse_xml, read_member
from .outline import Composer, table_text

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING_STYLE = re.compile(r"heading (\d)$", re.IGNORECASE)
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")


def read_docx(data: bytes, name: str) -> Document:
    """Return the text by heading trail; table rows are lines, notes come last. Deleted tracked text is left out."""
    import docx

    archive = open_archive(data, name)
    read_member(archive, "[Content_Types].xml", name)
    try:
        document = docx.Document(io.BytesIO(data))
    except Exception as error:  # python-docx raises KeyError, ValueError, XMLSyntaxError and its own
        raise ReadError(
            f"{name}: cannot be read as docx: {error}. The file is damaged or of another format."
        ) from error
    levels = _heading_levels(document)
    composer = Composer()
    _body(document.element.body, levels, composer)
    composer.restart()
    for path in _NOTES:
        if path in archive.namelist():
            for note in parse_xml(read_member(archive, path, name), name).iter(f"{_W}footnote", f"{_W}endnote"):
                text = "\n".join(_text(paragraph) for paragraph in note.iter(f"{_W}p")).strip()
                composer.block(text)
    properties = document.core_properties
    sections = composer.sections()
    author = properties.author
    return Document(
        format="docx",
        sections=sections,
        title=" ".join((properties.title or "").split()) or (_titled(document, levels)),
        metadata={"author": author} if author and author != "python-docx" else {},
    )


def _heading_levels(document: Any) -> dict[str, int]:
    """Return the heading level of each paragraph style that has one, by its name or that of a style it builds on."""
    levels: dict[str, int] = {}
    for style in document.styles:
        base, depth = style, 0
        while base is not None and depth < 16:
            found = _HEADING_STYLE.match(base.name or "")
            if found is not None or (base.name or "").lower() == "title":
                levels[style.style_id] = int(found[1]) if found is not None else 0
                break
            base, depth = getattr(base, "base_style", None), depth + 1
    return levels


def _titled(document: Any, levels: dict[str, int]) -> str | None:
    """Return the text of the first paragraph in the style "Title", None without one."""
    for paragraph in document.element.body.iter(f"{_W}p"):
        if _level(paragraph, levels) == 0 and (text := _text(paragraph).strip()):
            return " ".join(text.split())
    return None


def _body(parent: Any, levels: dict[str, int], composer: Composer) -> None:
    """Add block-level content; content controls and tracked insertions are looked into."""
    items: list[str] = []

    def flush() -> None:
        composer.block("\n".join(items))
        items.clear()

    for element in _blocks(parent):
        if element.tag == f"{_W}tbl":
            flush()
            composer.block(table_text(_rows(element)))
            continue
        text, level = _text(element), _level(element, levels)
        if level is not None:
            flush()
            composer.heading(max(level, 1) if level else 1, text)
        elif element.find(f"{_W}pPr/{_W}numPr") is not None:
            if text.strip():
                items.append(f"- {text.strip()}")
        else:
            flush()
            composer.block(text)
        for box in _boxes(element):
            flush()
            _body(box, levels, composer)
    flush()


def _blocks(parent: Any) -> Iterator[Any]:
    for child in parent:
        if child.tag in {f"{_W}p", f"{_W}tbl"}:
            yield child
        elif child.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}moveTo"}:
            yield from _blocks(child)


def _level(paragraph: Any, levels: dict[str, int]) -> int | None:
    outline = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
    if outline is not None and (outline.get(f"{_W}val") or "9").isdigit() and int(outline.get(f"{_W}val")) < 9:
        return int(outline.get(f"{_W}val")) + 1
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return levels.get(style.get(f"{_W}val")) if style is not None else None


def _boxes(paragraph: Any) -> Iterator[Any]:
    for box in paragraph.iter(f"{_W}txbxContent"):
        # Word writes each text box twice, the second time for programs that know only VML.
        if next(box.iterancestors(_FALLBACK), None) is None:
            yield box


def _text(paragraph: Any) -> str:
    """Return a paragraph's own text: without text boxes (they are blocks), deleted text and field codes."""
    parts: list[str] = []
    for element in paragraph.iter(f"{_W}t", f"{_W}tab", f"{_W}br", f"{_W}cr", f"{_W}noBreakHyphen"):
        box = next(element.iterancestors(f"{_W}txbxContent"), None)
        if box is not None and paragraph in box.iterancestors():
            continue
        if element.tag == f"{_W}t":
            parts.append(element.text or "")
        elif element.tag == f"{_W}noBreakHyphen":
            parts.append("-")
        elif element.getparent().tag == f"{_W}r":
            parts.append("\t" if element.tag == f"{_W}tab" else "\n")
    return "".join(parts)


def _rows(table: Any) -> list[list[str]]:
    rows: list[list[str]] = []
    for row in table.iter(f"{_W}tr"):
        cells = [cell for cell in row.iter(f"{_W}tc") if next(cell.iterancestors(f"{_W}tr")) is row]
        # The rows of a table within a cell are rows of their own.
        rows.append([" ".join(_text(block) for block in _blocks(cell) if block.tag == f"{_W}p") for cell in cells])
    return rows
