"""EPUB by chapters in reading order."""

from __future__ import annotations

import zipfile
from typing import Any
from urllib.parse import unquote

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .archives import open_archive, parse_xml, read_member, resolve_member
from .html import decode_html
from .markup import Kind, blocks_of, compose, parse_html
from .outline import Composer

_OPF = "{http://www.idpf.org/2007/opf}"
_NCX = "{http://www.daisy.org/z3986/2005/ncx/}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XHTML = "{http://www.w3.org/1999/xhtml}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_ENC = "{http://www.w3.org/2001/04/xmlenc#}"


def read_epub(data: bytes, name: str) -> Document:
    """Return the chapters of the spine; anchor "chapter" is the book's name for it, else its first heading or number.

    Raises ReadError for a book under DRM, or one whose container, package or a chapter is missing or malformed."""
    archive = open_archive(data, name)
    container = parse_xml(read_member(archive, "META-INF/container.xml", name), name)
    rootfile = next(container.iter(f"{_CONTAINER}rootfile"), None)
    if rootfile is None or not rootfile.get("full-path"):
        raise ReadError(f"{name}: its container names no package file. The book is damaged.")
    package_path = rootfile.get("full-path")
    package = parse_xml(read_member(archive, package_path, name), name)
    items = {item.get("id"): item for item in package.iter(f"{_OPF}item")}
    chapters = _spine(package, package_path, items)
    if not chapters:
        raise ReadError(f"{name}: its spine names no chapter. The book is damaged.")
    encrypted = _encrypted(archive, name)
    if not encrypted.isdisjoint(chapters):
        raise ReadError(f"{name}: encrypted (DRM). Only books without copy protection can be read.")
    names = _chapter_names(archive, package_path, items, name)
    sections: list[Section] = []
    for number, path in enumerate(chapters, start=1):
        sections.extend(_chapter(read_member(archive, path, name), f"{name}: {path}", names.get(path), number))
    facts = {field: _fact(package, field) for field in ("creator", "language", "publisher")}
    return Document(
        format="epub",
        sections=tuple(sections),
        title=_fact(package, "title"),
        metadata={key.replace("creator", "author"): value for key, value in facts.items() if value},
    )


def _spine(package: Any, package_path: str, items: dict[str, Any]) -> list[str]:
    """Return the members of the reading order; the navigation page is a list of links and no chapter."""
    chapters: list[str] = []
    for reference in package.iter(f"{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if item is not None and item.get("href") and "nav" not in (item.get("properties") or "").split():
            chapters.append(resolve_member(package_path, unquote(item.get("href"))))
    return chapters


def _chapter(data: bytes, name: str, known: str | None, number: int) -> list[Section]:
    root = parse_html(decode_html(data, name).text)
    if root is None:
        return []
    blocks = blocks_of(root)
    heading = next((block.text for block in blocks if block.kind is Kind.HEADING), None)
    composer = Composer()
    composer.anchor(Anchor(kind="chapter", value=known or heading or str(number)))
    compose(blocks, composer)
    sections = composer.sections()
    if known is None or heading is not None:
        return list(sections)
    return [Section(text=one.text, anchor=one.anchor, headings=(known, *one.headings)) for one in sections]


def _chapter_names(archive: zipfile.ZipFile, package_path: str, items: dict[str, Any], name: str) -> dict[str, str]:
    """Return the first name that the table of contents (EPUB 3 page or EPUB 2 NCX) gives each member."""
    names: dict[str, str] = {}
    for item in items.values():
        if not item.get("href"):
            continue
        path = resolve_member(package_path, unquote(item.get("href")))
        if path not in archive.namelist():
            continue
        if item.get("media-type") == "application/x-dtbncx+xml":
            for point in parse_xml(read_member(archive, path, name), name).iter(f"{_NCX}navPoint"):
                label, content = point.find(f"{_NCX}navLabel/{_NCX}text"), point.find(f"{_NCX}content")
                if label is not None and content is not None:
                    _name(names, path, content.get("src"), label.text)
        elif "nav" in (item.get("properties") or "").split():
            for link in parse_xml(read_member(archive, path, name), name).iter(f"{_XHTML}a"):
                _name(names, path, link.get("href"), "".join(link.itertext()))
    return names


def _name(names: dict[str, str], base: str, reference: str | None, label: str | None) -> None:
    if reference and label and label.strip():
        path = resolve_member(base, unquote(reference.partition("#")[0]))
        names.setdefault(path, " ".join(label.split()))


def _encrypted(archive: zipfile.ZipFile, name: str) -> set[str]:
    """Return the members that are encrypted; fonts often are in books without DRM."""
    path = "META-INF/encryption.xml"
    if path not in archive.namelist():
        return set()
    root = parse_xml(read_member(archive, path, name), name)
    return {unquote(found.get("URI") or "") for found in root.iter(f"{_ENC}CipherReference")}


def _fact(package: Any, field: str) -> str | None:
    found = next(package.iter(f"{_DC}{field}"), None)
    return " ".join("".join(found.itertext()).split()) or None if found is not None else None
