"""HTML trees to blocks of text: what HTML pages, EPUB chapters and HTML mail share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import lxml.html
from lxml import etree

from ..errors import ReadError
from .outline import Composer

_SKIPPED_NAMES = "script style noscript template svg head iframe object audio video canvas math select"
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form header hgroup hr html legend li main menu nav ol p pre section summary table tbody td tfoot th thead "
    "title tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_XML_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_PERMALINK = re.compile(r"\s*[\u00b6\u00a7#\U0001f517]\s*$")
_NESTED = ("table", "ul", "ol", "dl", "p", "pre", "div", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote")


class Kind(Enum):
    PARAGRAPH = auto()
    LINE = auto()
    """A list item or table row: kept together with its neighbours."""
    HEADING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of text that a browser would set apart."""

    kind: Kind
    text: str
    line: int | None
    level: int = 0


def parse_html(text: str) -> Any | None:
    """Return the root element of a page or fragment, None when it holds nothing.

    Raises ReadError for markup nested deeper than the parser goes, behind which it would drop the rest of the page.
    """
    text = _XML_DECLARATION.sub("", text, count=1)
    if not text.strip():
        return None
    # huge_tree: pages with unclosed tags nest deeper than the 255 levels that libxml2 reads otherwise.
    parser = lxml.html.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        root = lxml.html.document_fromstring(text.encode("utf-8"), parser=parser)
    except etree.ParserError:
        root = None
    limits = [entry.message for entry in parser.error_log if entry.type_name == "ERR_RESOURCE_LIMIT"]
    if limits:
        raise ReadError(f"the markup is nested too deep ({limits[0].split(',')[0]}): expected at most 2048 levels")
    return root


def blocks_of(root: Any) -> list[Block]:
    """Return all visible text below `root` in order; scripts, styles and form choices are no text."""
    return _Collector().collect(root)


def compose(blocks: Iterable[Block], composer: Composer) -> None:
    """Put blocks into a composer; neighbouring lines become one block."""
    lines: list[Block] = []

    def flush() -> None:
        if lines:
            composer.block("\n".join(block.text for block in lines), line=lines[0].line)
            lines.clear()

    for block in blocks:
        if block.kind is Kind.LINE:
            lines.append(block)
            continue
        flush()
        if block.kind is Kind.HEADING:
            composer.heading(block.level, block.text, line=block.line)
        else:
            composer.block(block.text, line=block.line)
    flush()


def html_text(text: str) -> str:
    """Return the text of an HTML fragment, paragraphs set apart by blank lines."""
    root = parse_html(text)
    if root is None:
        return ""
    composer = Composer()
    for block in blocks_of(root):
        compose(
            [block if block.kind is not Kind.HEADING else Block(kind=Kind.PARAGRAPH, text=block.text, line=None)],
            composer,
        )
    return "\n\n".join(section.text for section in composer.sections())


class _Collector:
    """Gathers inline text until a block begins or ends."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._parts: list[str] = []
        self._line: int | None = None
        self._pre = 0

    def collect(self, root: Any) -> list[Block]:
        # iterwalk and not recursion: pages nest as deep as they like.
        walker = etree.iterwalk(root, events=("start", "end"))
        for event, element in walker:
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                whole = tag in _SKIPPED or not tag or element.get("hidden") is not None or self._whole(tag, element)
                if whole:
                    walker.skip_subtree()
                else:
                    self._start(tag, element)
            else:
                self._end(tag, element)
                if element is not root:
                    self._text(element.tail, element)
        self._flush(Kind.PARAGRAPH)
        return self._blocks

    def _start(self, tag: str, element: Any) -> None:
        if tag in _BLOCKS:
            self._flush(Kind.PARAGRAPH)
        if tag == "pre":
            self._pre += 1
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "li":
            self._parts.append("- ")
        if tag == "img" and (alt := element.get("alt")):
            self._text(alt, element)
        self._text(element.text, element)

    def _end(self, tag: str, element: Any) -> None:
        if tag in _SKIPPED or not tag or element.get("hidden") is not None:
            return
        if tag in _BLOCKS:
            self._flush(Kind.LINE if tag in {"li", "tr"} else Kind.PARAGRAPH)
        if tag == "pre":
            self._pre -= 1

    def _whole(self, tag: str, element: Any) -> bool:
        """Take headings and rows of plain cells in one go and return whether this was one."""
        if tag in _HEADINGS:
            self._flush(Kind.PARAGRAPH)
            text = _PERMALINK.sub("", " ".join(element.text_content().split()))
            if text:
                self._add(Kind.HEADING, text, element.sourceline, level=_HEADINGS[tag])
            return True
        if tag == "tr" and next(element.iter(*_NESTED), None) is None:
            self._flush(Kind.PARAGRAPH)
            cells = [" ".join(cell.text_content().split()) for cell in element.iter("td", "th")]
            if any(cells):
                self._add(Kind.LINE, " | ".join(cells), element.sourceline)
            return True
        return False

    def _text(self, text: str | None, element: Any) -> None:
        if not text:
            return
        if self._line is None and text.strip():
            # A tail has no line of its own; the element before it is the nearest that has.
            self._line = element.sourceline
        self._parts.append(text.replace("\u00ad", "") if self._pre else re.sub(r"\s+", " ", text.replace("\u00ad", "")))

    def _flush(self, kind: Kind) -> None:
        text = "".join(self._parts)
        if self._pre:
            text = text.strip("\n").rstrip()
        else:
            text = "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()
        if text.strip(" -\n"):
            self._add(Kind.LINE if text.startswith("- ") and not self._pre else kind, text, self._line)
        self._parts, self._line = [], None

    def _add(self, kind: Kind, text: str, line: int | None, *, level: int = 0) -> None:
        self._blocks.append(Block(kind=kind, text=text, line=line, level=level))
