"""PPTX by slides, speaker notes and tables included."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .archives import open_archive
from .outline import table_text


def read_pptx(data: bytes, name: str) -> Document:
    """Return one section per slide that has text, anchor "slide" with its number from 1, its title as heading."""
    import pptx

    open_archive(data, name)
    try:
        deck = pptx.Presentation(io.BytesIO(data))
    except Exception as error:  # python-pptx raises KeyError, ValueError, XMLSyntaxError and its own
        raise ReadError(
            f"{name}: cannot be read as pptx: {error}. The file is damaged or of another format."
        ) from error
    sections: list[Section] = []
    for number, slide in enumerate(deck.slides, start=1):
        heading = slide.shapes.title
        title = " ".join(heading.text_frame.text.split()) if heading is not None and heading.has_text_frame else ""
        blocks = [block for block in _blocks(slide.shapes) if block.strip()]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = _frame(slide.notes_slide.notes_text_frame)
            blocks += [f"Notes: {notes}"] if notes.strip() else []
        if blocks:
            headings = (title,) if title else ()
            anchor = Anchor(kind="slide", value=str(number))
            sections.append(Section(text="\n\n".join(blocks), anchor=anchor, headings=headings))
    properties = deck.core_properties
    title = " ".join((properties.title or "").split())
    return Document(
        format="pptx",
        sections=tuple(sections),
        # The title that python-pptx and PowerPoint put into every new file says nothing.
        title=None if title in {"", "PowerPoint Presentation"} else title,
        metadata={"author": properties.author} if properties.author else {},
    )


def _blocks(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _blocks(shape.shapes)
        elif getattr(shape, "has_table", False):
            yield table_text([[cell.text for cell in row.cells] for row in shape.table.rows])
        elif getattr(shape, "has_text_frame", False):
            yield _frame(shape.text_frame)
        elif getattr(shape, "has_chart", False) and shape.chart.has_title and shape.chart.chart_title.has_text_frame:
            yield _frame(shape.chart.chart_title.text_frame)


def _frame(frame: Any) -> str:
    # A vertical tab is a line break within a paragraph.
    return "\n".join(paragraph.text.replace("\v", "\n") for paragraph in frame.paragraphs).strip()
