"""PDF by pages."""

from __future__ import annotations

import re
from typing import Any

from ..documents import Anchor, Document, Section
from ..errors import ReadError

_JUNK_TITLE = re.compile(
    r"^(untitled.*|microsoft (word|powerpoint|excel) - .*|.*\.(docx?|pptx?|xlsx?|tex|dvi|indd|pdf))$", re.I
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")


def read_pdf(data: bytes, name: str) -> Document:
    """Return one section per page that has text, anchor "page" with its number in the file, from 1.

    Raises ReadError when it is damaged, encrypted, or has no text layer at all."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ReadError(f"{name}: encrypted with a password. Remove the password and index it again.") from error
        raise ReadError(f"{name}: not a readable PDF ({error}). The file may be damaged or cut short.") from error
    try:
        pages = [_page_text(pdf, number) for number in range(len(pdf))]
        facts = pdf.get_metadata_dict(skip_empty=True)
    except pypdfium2.PdfiumError as error:
        raise ReadError(f"{name}: damaged PDF ({error}).") from error
    finally:
        pdf.close()
    if not any(pages):
        raise ReadError(
            f"{name}: {len(pages)} page(s) and no text layer, so probably scanned. "
            "Run OCR on it (ocrmypdf) and index it again."
        )
    blank = sum(not page for page in pages)
    title = " ".join(facts.get("Title", "").split())
    metadata = {key.lower(): facts[key] for key in ("Author", "Subject", "Keywords") if key in facts}
    if blank:
        metadata["note"] = f"{blank} of {len(pages)} pages have no text"
    return Document(
        format="pdf",
        sections=tuple(
            Section(text=text, anchor=Anchor(kind="page", value=str(number)))
            for number, text in enumerate(pages, start=1)
            if text
        ),
        title=None if not title or _JUNK_TITLE.match(title) else title,
        metadata=metadata,
    )


def _page_text(pdf: Any, number: int) -> str:
    page = pdf[number]
    try:
        text_page = page.get_textpage()
        try:
            # PDFium may hand out a single surrogate where a font maps to nothing.
            text = str(text_page.get_text_range(errors="replace"))
        finally:
            text_page.close()
    finally:
        page.close()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # U+FFFE and U+0002 stand for a hyphen at a line's end that PDFium takes for a soft one.
    text = re.sub("[\ufffe\u0002]\n?", "", text)
    text = _CONTROLS.sub("", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip()
