"""Readers: bytes of one file format to a Document with anchors. Importing this loads no parser."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from ..documents import Document, Reader, Section
from ..errors import ReadError
from .code import language_of, read_code
from .decoding import clean
from .languages import LANGUAGES
from .plain import read_text

_MODULES: dict[str, tuple[str, str]] = {
    "text": ("plain", "read_text"),
    "json": ("plain", "read_json"),
    "markdown": ("markdown", "read_markdown"),
    "rst": ("rst", "read_rst"),
    "html": ("html", "read_html"),
    "pdf": ("pdf", "read_pdf"),
    "docx": ("word", "read_docx"),
    "pptx": ("slides", "read_pptx"),
    "xlsx": ("sheets", "read_xlsx"),
    "odt": ("odt", "read_odt"),
    "epub": ("epub", "read_epub"),
    "csv": ("tables", "read_csv"),
    "tsv": ("tables", "read_csv"),
    "jsonl": ("records", "read_jsonl"),
    "mbox": ("mail", "read_mbox"),
    "eml": ("mail", "read_eml"),
    "ipynb": ("notebook", "read_ipynb"),
}
"""Format to its module here and the function in it."""

_EXTENSIONS: dict[str, str] = {
    "text": "txt text log asc adoc asciidoc org tex latex bib sty cls texi texinfo pod man 1 2 3 4 5 6 7 8 srt vtt ass "
    "po pot diff patch ini cfg conf cnf properties env toml yaml yml xml xsd xsl xslt dtd rss atom opml plist svg csl "
    "nfo lst list out err rtx wiki mediawiki creole textile rdoc in ac am m4 service desktop spec lock ris",
    "json": "json jsonc json5 geojson webmanifest",
    "markdown": "md markdown mdown mkd mkdn mdx qmd rmd",
    "rst": "rst rest",
    "html": "html htm xhtml shtml",
    "pdf": "pdf",
    "docx": "docx docm dotx",
    "pptx": "pptx pptm ppsx",
    "xlsx": "xlsx xlsm xltx",
    "odt": "odt ott",
    "epub": "epub",
    "csv": "csv",
    "tsv": "tsv tab",
    "jsonl": "jsonl ndjson jsonlines",
    "mbox": "mbox mbx",
    "eml": "eml",
    "ipynb": "ipynb",
}
_FORMATS = {extension: name for name, extensions in _EXTENSIONS.items() for extension in extensions.split()}
_BARE_TEXT = (
    "readme license licence copying copyright changelog changes news authors contributors maintainers install todo "
    "notice thanks credits history version manifest codeowners .gitignore .gitattributes .editorconfig "
    ".searchctlignore .ignore .dockerignore .npmrc .mailmap"
)
_BARE_NAMES = frozenset(_BARE_TEXT.split())


def reader_for(name: str) -> tuple[str, Reader] | None:
    """Return format name and reader for a file's name, None where it tells nothing; case does not matter.

    For code the reader's format is the language. The parser behind the reader is loaded when it is first called."""
    lower = name.lower()
    extension = lower.rpartition(".")[2] if "." in lower.lstrip(".") else ""
    language = language_of(lower)
    if language is not None and extension not in _FORMATS:
        return language, read_code
    if extension in _FORMATS:
        found = _FORMATS[extension] if lower != "cmakelists.txt" else "cmake"
        return found, read_code if found == "cmake" else _lazy(found)
    return ("text", read_text) if lower in _BARE_NAMES else None


def claims_text(name: str) -> bool:
    """Return whether a file's name says no more than plain text or code, or nothing: its content may be anything.

    So it is with `a.out`, a library `libfoo.so.1` and a video `clip.ts`."""
    found = reader_for(name)
    return found is None or found[0] == "text" or found[1] is read_code


def read_document(data: bytes, name: str) -> Document:
    """Return the document in `data`, read as the name says, or as plain text where the name tells nothing.

    Raises ReadError, and nothing else, for a file that is malformed, encrypted or binary; the message begins with
    the name. Text is free of NULs and lone surrogates."""
    found = reader_for(name)
    format_name, reader = found if found is not None else ("text", read_text)
    try:
        return _cleaned(reader(data, name))
    except (MemoryError, ReadError):
        raise
    except RecursionError as error:
        raise ReadError(f"{name}: nested too deep to be read as {format_name}. Exclude it.") from error
    except Exception as error:
        # Parsers of foreign formats raise anything, assertion and index errors too, when fed a damaged file.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ReadError(
            f"{name}: cannot be read as {format_name}: {reason[:300]}. Repair it, correct its extension or exclude it."
        ) from error


def known_extensions() -> frozenset[str]:
    """Return all extensions that have a reader, in lower case and without the dot."""
    return frozenset(_FORMATS) | {part for extensions in LANGUAGES.values() for part in extensions.split()}


def _lazy(format_name: str) -> Reader:
    module, function = _MODULES[format_name]

    def read(data: bytes, name: str) -> Document:
        loaded = importlib.import_module(f".{module}", __name__)
        return cast("Callable[[bytes, str], Document]", getattr(loaded, function))(data, name)

    return read


def _cleaned(document: Document) -> Document:
    def section(old: Section) -> Section:
        if old.char is not None:
            return old
        headings = tuple(clean(heading) for heading in old.headings)
        return Section(text=clean(old.text), anchor=old.anchor, headings=headings, line=old.line)

    return Document(
        format=document.format,
        sections=tuple(section(old) for old in document.sections),
        title=clean(document.title) if document.title else None,
        date=document.date,
        metadata={key: clean(value) for key, value in document.metadata.items()},
    )
