"""Plain text to make pairs of: JSON lines with titles, documents with headings, what cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from searchctl.training.data.crops import Passage
from searchctl.training.data.plain_texts import TextFile, Unread, read_documents, read_lines, text_files
from searchctl.training.errors import DataError


def test_lines_have_a_text_and_may_have_a_title(tmp_path: Path) -> None:
    rows = [
        {"title": " Bees ", "text": "one"},
        {"text": "two"},
        {"title": "", "text": "three"},
        {"title": None, "text": "4"},
    ]
    path = tmp_path / "texts.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert read_lines(path).passages == (Passage("one", "Bees"), Passage("two"), Passage("three"), Passage("4"))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "one"}\n{"title": "x", "text": " "}\n')
    with pytest.raises(DataError, match=r"bad.jsonl, line 2: text is ' '"):
        read_lines(bad)


def test_a_folder_is_the_lines_in_it_and_the_documents_below_it(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "a.md"
    document.write_text("# A\n\nText.\n")
    (tmp_path / "lines" / "readme.md").write_text("Text.\n")
    lines = tmp_path / "lines" / "a.jsonl"
    places = [tmp_path / "lines", tmp_path / "docs", document, lines]
    assert text_files(places) == ([lines], [tmp_path / "lines", tmp_path / "docs", document])
    found = [file.path.name for file in read_documents(places[:2], apart=[lines])]
    assert found == ["readme.md", "a.md"]
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        text_files([tmp_path / "nowhere"])


def test_sections_of_documents_have_the_headings_as_their_title(tmp_path: Path) -> None:
    (tmp_path / "birds.md").write_text("# Birds\n\nThey fly.\n\n## Herons\n\nThey wait.\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 but not really")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    files = list(read_documents([tmp_path]))
    assert [type(file) for file in files] == [TextFile, Unread]
    found, unread = files
    assert isinstance(found, TextFile)
    assert isinstance(unread, Unread)
    assert [(passage.title, passage.text.split("\n")[-1]) for passage in found.passages] == [
        ("Birds", "They fly."),
        ("Birds > Herons", "They wait."),
    ]
    assert unread.path.name == "broken.pdf"
    assert "broken.pdf: not a readable PDF" in unread.reason


def fill(folder: Path) -> None:
    """Make one of each file that a walk leaves out."""
    (folder / "odd.xyz").write_bytes(b"\0\1\2")
    (folder / ".hidden.txt").write_text("Text.\n")
    (folder / "ignored.txt").write_text("Text.\n")
    (folder / ".ignore").write_text("ignored.txt\n")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "away.txt").symlink_to("/etc/hostname")
    with (folder / "dump.txt").open("wb") as file:
        file.truncate(32 * 2**20 + 1)


TOO_LARGE = "33,554,433 bytes, more than the cap of 33,554,432"


def unread(places: list[Path], apart: list[Path] | None = None) -> dict[str, str]:
    files = read_documents(places, apart=apart or [])
    return {file.path.name: file.reason for file in files if isinstance(file, Unread)}


def test_below_a_folder_what_no_index_would_take_is_left_out_and_what_fails_is_told(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "big.jsonl").write_bytes((tmp_path / "dump.txt").read_bytes())
    assert unread([tmp_path], apart=[tmp_path / "big.jsonl"]) == {
        "dump.txt": TOO_LARGE,
        "gone.txt": "symlink: no such file or directory",
        "self.txt": "too many levels of symbolic links",
    }


def test_of_a_file_that_is_named_every_reason_is_told(tmp_path: Path) -> None:
    fill(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    named = [tmp_path / name for name in ("odd.xyz", "dump.txt", "pipe.txt", ".hidden.txt", "ignored.txt")]
    expected = {"odd.xyz": "binary", "dump.txt": TOO_LARGE, "pipe.txt": "not a regular file (pipe)"}
    assert unread(named) == expected
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "self.txt").unlink()
    for places in ([tmp_path, *named], [*named, tmp_path]):
        assert unread(places) == expected
        read = sorted(file.path.name for file in read_documents(places) if isinstance(file, TextFile))
        assert read == [".hidden.txt", "ignored.txt"]


def test_a_named_link_to_a_binary_file_below_a_named_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "odd.xyz").write_bytes(b"\0\1\2")
    (tmp_path / "link.xyz").symlink_to("odd.xyz")
    assert unread([tmp_path, tmp_path / "link.xyz"]) == {"odd.xyz": "binary"}
