"""The lines put into .searchctlignore: each ignores its file and no other, and they go without a trace."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from searchctl.app.dedup.ignore import can_be_ignored, has_block, pattern_for, with_block, without_block
from searchctl.index.ignore import hidden_by_text
from searchctl.index.walk import FoundFile, WalkOptions, walk

NAMES = [
    "a b.md", "ends in space ", "two  ", "#hash.md", "!bang.md", "star*.md", "what?.md", "[1].md", "back\\slash.md",
    "ends in backslash\\", "tab\t", "nbsp\u00a0", "-dash.md", "é\u2028line.md", "{a,b}.md", "x]y.md", " leading.md",
    "**", "dir name/[x] #1.md", "dir name/deep/!a ",
]  # fmt: skip
NEAR = [
    "starry.md",
    "whats.md",
    "1.md",
    "[2].md",
    "backslash.md",
    "two",
    "two ",
    "tab",
    "a.md",
    "b.md",
    "ends in space",
]


def made(root: Path) -> set[str]:
    for name in (*NAMES, *NEAR, *(f"below/{name}" for name in NAMES)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text\n")
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def found(root: Path) -> set[str]:
    return {
        item.path.relative_to(root).as_posix() for item in walk([root], WalkOptions()) if isinstance(item, FoundFile)
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_walk_leaves_out_exactly_that_file(tmp_path: Path, name: str) -> None:
    files = made(tmp_path)
    assert files == found(tmp_path)
    text = with_block("", "now", [name])
    assert hidden_by_text(tmp_path / name, tmp_path, tmp_path, text)
    (tmp_path / ".searchctlignore").write_text(text, encoding="utf-8")
    assert files - {name} == found(tmp_path)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_reads_the_lines_in_the_same_way(tmp_path: Path) -> None:
    files = made(tmp_path)
    # To git a set is one of bytes; the end of a line that needs one of other than ASCII is pathspec's own reading.
    names = {name for name in NAMES if not name.endswith("\u00a0")}
    (tmp_path / ".gitignore").write_text("".join(f"{pattern_for(name)}\n" for name in names), encoding="utf-8")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    listed = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "--others", "--ignored", "--exclude-standard", "-z"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert names == set(listed.stdout.decode().split("\0")) - {""}
    assert names < files


@pytest.mark.parametrize("text", ["", "\n", "# mine\n", "# mine", "a\r\nb\r\n", "\ufeff*.x\n\n\n", "é\u2028x\n"])
def test_there_and_back(text: str) -> None:
    one = with_block(text, "1", NAMES)
    assert (True, False) == (has_block(one, "1"), has_block(one, "2"))
    both = with_block(one, "2", ["b.md"])
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    assert with_block(ended, "2", ["b.md"]) == without_block(both, "1")
    assert one == without_block(both, "2")
    assert ended == without_block(one, "1")
    assert text == without_block(text, "1")


def test_a_block_that_lost_its_end_takes_nothing_of_a_persons_with_it() -> None:
    lines = with_block("a\n", "1", ["b.md", "c.md"]).splitlines(keepends=True)
    assert "a\n*.tmp\n/mine\n" == without_block("".join([*lines[:-1], "*.tmp\n", "/mine\n"]), "1")


def test_names_with_line_breaks_cannot_be_said() -> None:
    assert not can_be_ignored("a\nb.md")
    assert not can_be_ignored("a\r")
    assert can_be_ignored("a\u2028b\tc ")
