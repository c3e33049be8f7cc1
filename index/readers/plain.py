"""Plain text, and every text format that needs no reader of its own."""

from __future__ import annotations

from ..documents import Document, Section
from .decoding import decode


def read_text(data: bytes, name: str) -> Document:
    """Return the whole text as one verbatim section; no section for an empty file."""
    decoded = decode(data, name)
    sections = (Section(text=decoded.text, line=1, char=0),) if decoded.text.strip() else ()
    return Document(format="text", sections=sections, metadata=decoded.metadata)


def read_json(data: bytes, name: str) -> Document:
    """Return JSON as its text: what a person sees when they turn to the line. It is not parsed."""
    document = read_text(data, name)
    return Document(format="json", sections=document.sections, metadata=document.metadata)
