"""HTML pages: trafilatura says what the main content is, the page's own tree gives headings and lines."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from typing import Any

from ..documents import Document
from .decoding import Decoded, decode
from .local_dates import said_date
from .markup import Block, Kind, blocks_of, compose, parse_html
from .outline import Composer

# Without a handler logging prints its warnings to stderr by itself; this room never prints.
for _name in ("trafilatura", "htmldate", "courlan", "justext"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_CHARSET = re.compile(rb"""<(?:meta[^>]*?charset|\?xml[^>]*?encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_LEAST_SHARE = 0.25
_SHORT_PAGE_CHARS = 2000
_LEAST_SHARE_SHORT = 0.5
_MAX_EXTRACT_CHARS = 5_000_000
"""Longer pages are kept whole: extraction takes minutes and gigabytes on them."""
_KEY_CHARS = 60
_SHORT_KEY_CHARS = 16
_DATES = frozenset({"article:published_time", "date", "dcterms.date", "dc.date", "datepublished"})


def read_html(data: bytes, name: str) -> Document:
    """Return the main content of a page by its headings, without menus and other page furniture.

    Where extraction finds nothing, or too little to be trusted, the whole page is kept and the "note" of the metadata
    says so."""
    decoded = decode_html(data, name)
    root = parse_html(decoded.text)
    if root is None:
        return Document(format="html", sections=(), metadata=decoded.metadata)
    kept, note = _main_blocks(blocks_of(root), decoded.text)
    composer = Composer()
    compose(kept, composer)
    titles = [" ".join(title.text_content().split()) for title in root.iter("title")]
    return Document(
        format="html",
        sections=composer.sections(),
        title=next((title for title in titles if title), None),
        date=_date(root),
        metadata={**decoded.metadata, **({"note": note} if note else {})},
    )


def decode_html(data: bytes, name: str) -> Decoded:
    """Return the text of markup by the charset it declares, else as any other text."""
    found = _CHARSET.search(data[:4096])
    declared = found[1].decode("ascii", "replace") if found is not None else None
    # A declaration that can be read byte by byte cannot be true of UTF-16.
    return decode(data, name, declared=None if declared is None or declared.lower().startswith("utf-16") else declared)


def _main_blocks(blocks: list[Block], text: str) -> tuple[list[Block], str | None]:
    """Return the blocks of the main content, and why they are all blocks where they are."""
    total = sum(len(block.text) for block in blocks)
    if total == 0:
        return [], None
    if len(text) > _MAX_EXTRACT_CHARS:
        return blocks, f"whole page kept: more than {_MAX_EXTRACT_CHARS:,} characters"
    import trafilatura

    extracted = trafilatura.extract(text, fast=True, favor_recall=True, include_comments=True) or ""
    if not extracted.strip():
        return blocks, "whole page kept: no main content was recognised"
    whole, lines = _key(extracted), frozenset(_key(line) for line in extracted.split("\n"))
    chosen = [block.kind is not Kind.HEADING and _is_in(block.text, whole, lines) for block in blocks]
    share = sum(len(block.text) for block, kept in zip(blocks, chosen, strict=True) if kept) / total
    if share < (_LEAST_SHARE_SHORT if total < _SHORT_PAGE_CHARS else _LEAST_SHARE):
        return blocks, f"whole page kept: only {share:.0%} of it was recognised as main content"
    return _with_headings(blocks, chosen), None


def _with_headings(blocks: list[Block], chosen: list[bool]) -> list[Block]:
    """Return the chosen blocks and every heading that has one below it."""
    kept: list[Block] = []
    deepest = 0
    """Headings of a smaller level than this stand above something kept."""
    for block, is_chosen in zip(reversed(blocks), reversed(chosen), strict=True):
        if is_chosen:
            kept.append(block)
            deepest = 7
        elif block.kind is Kind.HEADING and block.level < deepest:
            kept.append(block)
            deepest = block.level
    return kept[::-1]


def _is_in(text: str, whole: str, lines: frozenset[str]) -> bool:
    """Return whether a block is part of the extraction, its beginning or end at least."""
    key = _key(text)
    if len(key) < _SHORT_KEY_CHARS:
        # "Next" or "Rust" occurs in any text: only a line of its own proves it was extracted.
        return key in lines if key else False
    return key in whole or (len(key) > _KEY_CHARS and (key[:_KEY_CHARS] in whole or key[-_KEY_CHARS:] in whole))


def _key(text: str) -> str:
    return "".join(char for char in text if char.isalnum()).lower()


def _date(root: Any) -> datetime | None:
    for meta in root.iter("meta"):
        field = (meta.get("property") or meta.get("name") or meta.get("itemprop") or "").lower()
        if field in _DATES:
            date = said_date((meta.get("content") or "").strip())
            if date is not None:
                return date
    return None
