"""What the index room stores: documents as readers give them, chunks as the chunker cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A place inside a file that a person can turn to."""

    kind: str
    """"page", "slide", "sheet", "row", "chapter", "message", "symbol" ..."""
    value: str
    """"3", "Q1!A5:D9", "Introduction" ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of text that no chunk crosses the border of."""

    text: str
    anchor: Anchor | None = None
    headings: tuple[str, ...] = ()
    """Heading trail from the outermost to the innermost."""
    line: int | None = None
    """1-based line of the source file where `text` begins; None where the format has no lines (PDF)."""
    char: int | None = None
    """0-based character of the decoded source where `text` begins, only if `text` is a verbatim slice of it.

    With `char` set, lines advance with the newlines of `text`; without it every chunk of the section is on `line`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file as its reader understood it."""

    format: str
    """"markdown", "pdf", "python" ...: the reader's name for what it read."""
    sections: tuple[Section, ...]
    title: str | None = None
    date: datetime | None = None
    """The document's own date where the format states one (mail); aware. None: the file's mtime counts."""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What is embedded, stored and found."""

    ordinal: int
    """0-based position in its document."""
    text: str
    """As it stands in the document; `line_start`.. and `char_start`.. describe exactly this."""
    context: str
    """Title and heading trail joined with " > ", put before the text when embedding; "" for none."""
    anchor: Anchor | None
    headings: tuple[str, ...]
    line_start: int | None
    line_end: int | None
    """1-based, inclusive."""
    char_start: int | None
    char_end: int | None
    """0-based, end exclusive, in the decoded source."""
    tokens: int
    """Tokens of `embed_text` by the encoder's tokenizer, special tokens not counted."""
    hash: str
    """blake3 hex of `embed_text`: identical chunks are embedded once."""

    @property
    def embed_text(self) -> str:
        """What the encoder sees."""
        return f"{self.context}\n{self.text}" if self.context else self.text


class Reader(Protocol):
    """Bytes of one file format to a Document with anchors."""

    def __call__(self, data: bytes, name: str) -> Document:
        """Return the document in `data`; `name` is the file's name. Raises ReadError when malformed."""
        ...
