"""ODT (OpenDocument text) by headings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..documents import Document
from ..errors import ReadError
from .archives import open_archive, parse_xml, read_member
from .outline import Composer, table_text

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_INNER = {f"{_TEXT}s": " ", f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}
_SKIPPED = frozenset({f"{_TEXT}tracked-changes", f"{_OFFICE}annotation", f"{_TEXT}sequence-decls"})


def read_odt(data: bytes, name: str) -> Document:
    """Return the text by heading trail; table rows are lines."""
    archive = open_archive(data, name)
    root = parse_xml(read_member(archive, "content.xml", name), name)
    body = root.find(f"{_OFFICE}body/{_OFFICE}text")
    if body is None:
        manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive.namelist() else b""
        what = "encrypted" if b"encryption-data" in manifest else "not a text document"
        raise ReadError(f"{name}: {what}. Expected an OpenDocument text without a password.")
    composer = Composer()
    _body(body, composer)
    title = None
    if "meta.xml" in archive.namelist():
        found = parse_xml(read_member(archive, "meta.xml", name), name).find(f".//{_DC}title")
        title = " ".join((found.text or "").split()) if found is not None else None
    return Document(format="odt", sections=composer.sections(), title=title or None)


def _body(parent: Any, composer: Composer) -> None:
    for element in parent:
        if element.tag in _SKIPPED or not isinstance(element.tag, str):
            continue
        if element.tag == f"{_TEXT}h":
            _heading(element, composer)
        elif element.tag == f"{_TEXT}p":
            composer.block(_text(element))
        elif element.tag == f"{_TEXT}list":
            _list(element, composer)
        elif element.tag == f"{_TABLE}table":
            rows = element.iter(f"{_TABLE}table-row")
            composer.block(table_text([[_text(cell) for cell in row.iter(f"{_TABLE}table-cell")] for row in rows]))
        else:
            _body(element, composer)


def _heading(element: Any, composer: Composer) -> None:
    level = element.get(f"{_TEXT}outline-level", "1")
    composer.heading(int(level) if level.isdigit() else 1, _text(element))


def _list(element: Any, composer: Composer) -> None:
    """Add the items of a list; a numbered heading is a list with the heading in it."""
    items: list[str] = []
    for item in _items(element):
        if item.tag == f"{_TEXT}h":
            composer.block("\n".join(items))
            items.clear()
            _heading(item, composer)
        else:
            items.append(f"- {_text(item)}")
    composer.block("\n".join(items))


def _items(parent: Any) -> Iterator[Any]:
    """Yield the paragraphs and headings below `parent` at any depth, none that is inside of another."""
    for child in parent:
        if child.tag in {f"{_TEXT}p", f"{_TEXT}h"}:
            yield child
        elif child.tag not in _SKIPPED:
            yield from _items(child)


def _text(element: Any) -> str:
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and child.tag not in _SKIPPED:
            parts.append(_INNER.get(child.tag, ""))
            if child.tag == f"{_TEXT}p" and "".join(parts).strip():
                parts.append("\n")
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)
