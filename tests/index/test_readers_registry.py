"""Which reader a name gets, and that asking loads no parser."""

from __future__ import annotations

import subprocess
import sys

import pytest

from searchctl.index.errors import ReadError
from searchctl.index.readers import known_extensions, read_document, reader_for


def test_names_and_their_formats(subtests: pytest.Subtests) -> None:
    for name, expected in [
        ("a.md", "markdown"), ("A.MD", "markdown"), ("a.txt", "text"), ("x.tar.txt", "text"), ("README", "text"),
        ("readme", "text"), ("LICENSE", "text"), ("Makefile", "make"), ("Dockerfile", "dockerfile"), ("a.py", "python"),
        ("a.H", "c"), ("a.tsx", "tsx"), ("a.ts", "typescript"), ("a.htm", "html"), ("a.PDF", "pdf"), ("a.docx", "docx"),
        ("a.ndjson", "jsonl"), ("a.eml", "eml"), ("a.ipynb", "ipynb"), ("a.rst", "rst"), (".bashrc", "bash"),
        ("CMakeLists.txt", "cmake"), (".gitignore", "text"), ("a.toml", "text"), ("a.bin", None), ("a", None),
        (".md", None), ("", None), ("a.", None),
    ]:  # fmt: skip
        with subtests.test(name=name, expected=expected):
            found = reader_for(name)
            assert (found[0] if found is not None else None) == expected


def test_every_known_extension_has_a_reader_and_none_is_claimed_in_vain() -> None:
    extensions = known_extensions()
    assert {
        "md",
        "pdf",
        "docx",
        "pptx",
        "xlsx",
        "epub",
        "odt",
        "csv",
        "jsonl",
        "mbox",
        "eml",
        "ipynb",
        "py",
        "rs",
    } <= extensions
    assert [extension for extension in extensions if reader_for(f"a.{extension}") is None] == []
    assert all(extension == extension.lower() and "." not in extension for extension in extensions)


def test_the_registry_loads_no_parser() -> None:
    heavy = "trafilatura pypdfium2 docx pptx openpyxl tree_sitter tree_sitter_python lxml semantic_text_splitter"
    code = (
        "import sys, searchctl.index.readers as r, searchctl.index.walk\n"
        "assert r.reader_for('a.pdf')[0] == 'pdf' and r.known_extensions()\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_extension_with_text_is_plain_text() -> None:
    document = read_document("schlüssel = wert\n".encode(), "a.unknown")
    assert (document.format, document.sections[0].text) == ("text", "schlüssel = wert\n")


def test_an_unknown_extension_with_binary_is_a_read_error() -> None:
    with pytest.raises(ReadError, match=r"a\.unknown: binary data"):
        read_document(b"\x7fELF\x00\x00\x01", "a.unknown")
