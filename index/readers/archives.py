"""Zip-based formats and their XML, opened so that a hostile file costs neither memory nor network."""

from __future__ import annotations

import io
import zipfile
from posixpath import join, normpath
from typing import Any

from lxml import etree

from ..errors import ReadError

MAX_TOTAL_BYTES = 512 * 2**20
"""Cap on everything in an archive, unpacked."""
MAX_MARKUP_BYTES = 128 * 2**20
"""Cap on its XML and HTML members together: parsed trees take several times their size."""
_MARKUP = (".xml", ".rels", ".html", ".xhtml", ".htm", ".opf", ".ncx", ".vml")


def open_archive(data: bytes, name: str, *, max_markup_bytes: int = MAX_MARKUP_BYTES) -> zipfile.ZipFile:
    """Return the archive, checked. Raises ReadError when it is no zip file, encrypted, or a bomb.

    Declared sizes can be trusted: zipfile reads no member further than it declares."""
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise ReadError(
            f"{name}: an OLE file, so either encrypted or of an old Office format. Remove the password or convert it."
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ReadError(f"{name}: not a zip archive, as its format is ({error}). The file may be cut short.") from error
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise ReadError(f"{name}: encrypted. Remove the password and index it again.")
    total = sum(member.file_size for member in members)
    markup = sum(member.file_size for member in members if member.filename.lower().endswith(_MARKUP))
    for size, cap, what in ((total, MAX_TOTAL_BYTES, "data"), (markup, max_markup_bytes, "markup")):
        if size > cap:
            raise ReadError(f"{name}: unpacks to {size:,} bytes of {what}, more than the cap of {cap:,}. Exclude it.")
    return archive


def read_member(archive: zipfile.ZipFile, path: str, name: str) -> bytes:
    """Return a member's bytes. Raises ReadError when it is missing or damaged."""
    try:
        return archive.read(path)
    except KeyError as error:
        raise ReadError(
            f"{name}: has no {path}, which its format needs. The file is damaged or of another format."
        ) from error
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ReadError(f"{name}: {path} inside it is damaged ({error}).") from error
    except Exception as error:  # zlib.error and lzma.LZMAError share no base
        raise ReadError(f"{name}: {path} inside it is damaged ({error}).") from error


def parse_xml(data: bytes, name: str) -> Any:
    """Return the root element; entities stay unexpanded and nothing is fetched. Raises ReadError when malformed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ReadError(f"{name}: malformed XML inside it ({error}).") from error


def resolve_member(base: str, reference: str) -> str:
    """Return the member that a relative reference in member `base` means."""
    return normpath(join(base.rpartition("/")[0], reference)).lstrip("/")
