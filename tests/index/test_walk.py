"""The walk: ignore rules as git has them, no way out of the root, every skipped file named."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchctl.index.errors import IndexRoomError, PathNotFoundError, QuerySyntaxError, ReadError
from searchctl.index.readers import read_document
from searchctl.index.walk import FoundFile, SkippedFile, WalkOptions, walk


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def found(*roots: Path, options: WalkOptions | None = None, base: Path | None = None) -> list[str]:
    base = base or roots[0]
    results = walk(roots, options or WalkOptions())
    return [entry.path.relative_to(base).as_posix() for entry in results if isinstance(entry, FoundFile)]


def skipped(*roots: Path, options: WalkOptions | None = None) -> dict[str, str]:
    results = walk(roots, options or WalkOptions())
    return {
        entry.path.relative_to(roots[0]).as_posix(): entry.reason for entry in results if isinstance(entry, SkippedFile)
    }


def test_order_is_sorted_files_before_folders_and_facts_are_those_of_the_file(tmp_path: Path) -> None:
    make(tmp_path, {"b/z.md": "1", "b/a.md": "22", "a.md": "333", "c.md": "4", "a/x.md": "5"})
    assert found(tmp_path) == ["a.md", "c.md", "a/x.md", "b/a.md", "b/z.md"]
    first = next(iter(walk([tmp_path], WalkOptions())))
    info = (tmp_path / "a.md").stat()
    assert first == FoundFile(path=tmp_path / "a.md", size=3, mtime_ns=info.st_mtime_ns, inode=info.st_ino)


def test_nested_ignore_files_negation_and_precedence(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            ".gitignore": "*.log\n!keep.log\n/top.md\nbuild/\r\n",
            "sub/.gitignore": "!back.log\n*.tmp.md\n",
            "sub/.searchctlignore": "secret.md\n!kept.tmp.md\n",
            "sub/.ignore": "noise.md\n",
            "a.log": "x", "keep.log": "x", "top.md": "x", "sub/top.md": "x", "sub/back.log": "x", "sub/a.tmp.md": "x",
            "sub/kept.tmp.md": "x", "sub/secret.md": "x", "sub/noise.md": "x", "build/b.md": "x", "sub/build/b.md": "x",
        },
    )  # fmt: skip
    assert found(tmp_path) == ["keep.log", "sub/back.log", "sub/kept.tmp.md", "sub/top.md"]
    reasons = skipped(tmp_path)
    assert reasons["a.log"] == f"ignored by {tmp_path / '.gitignore'}"
    assert reasons["build"] == f"ignored by {tmp_path / '.gitignore'}"
    assert reasons["sub/secret.md"] == f"ignored by {tmp_path / 'sub/.searchctlignore'}"
    everything = found(tmp_path, options=WalkOptions(no_ignore=True))
    assert len(everything) == 11


def test_ignore_rules_equal_those_of_git(tmp_path: Path) -> None:
    patterns = "*.o.md\n/anchored.md\ndeep/**/x.md\n!deep/keep/x.md\nfolder/\n\\#odd.md\na?c.md\n[bc]1.md\n**/any.md\n"
    patterns += "[24-06]-r.md\n[!9-0]-n.md\n[]z-a-c]-m.md\n\\[9-0]-e.md\n"  # ranges that run backwards, and none
    names = "a.o.md anchored.md s/anchored.md deep/x.md deep/a/b/x.md deep/keep/x.md folder/f.md s/folder/f.md #odd.md "
    names += "abc.md ac.md b1.md d1.md any.md s/t/any.md plain.md s/plain.md file.folder.md "
    names += " ".join(f"{first}-r.md" for first in "0123456") + " 9-n.md 0-n.md 5-n.md "
    names += "z-m.md a-m.md c-m.md --m.md ]-m.md b-m.md [9-0]-e.md 9-e.md"
    make(tmp_path, {".gitignore": patterns, **dict.fromkeys(names.split(), "x")})
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(tmp_path), "ls-files", "-o", "--exclude-standard", "-z"], check=True, capture_output=True
    ).stdout.decode()
    expected = sorted(name for name in listed.split("\0") if name and not name.startswith("."))
    assert sorted(found(tmp_path)) == expected


def test_ignore_files_of_parents_count_up_to_the_git_root_and_not_beyond(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.md\n", "repo/.gitignore": "no.txt\n", "repo/a/no.txt": "x", "repo/a/yes.md": "x"})
    assert found(tmp_path / "repo" / "a") == ["no.txt", "yes.md"]
    (tmp_path / "repo" / ".git").mkdir()
    assert found(tmp_path / "repo" / "a") == ["yes.md"]


def test_an_ignored_folder_or_file_named_as_root_is_walked(tmp_path: Path) -> None:
    make(tmp_path, {".git/HEAD": "x", ".gitignore": "build/\n*.log\n", "build/a.md": "x", "b.log": "x", ".h/c.md": "x"})
    assert found(tmp_path / "build") == ["a.md"]
    assert found(tmp_path / ".h") == ["c.md"]
    assert found(tmp_path / "b.log", base=tmp_path) == ["b.log"]


def test_an_unreadable_ignore_file_stops_the_walk_rather_than_index_what_it_hides(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"\x00\x01\x02secret.md\n" * 40)
    (tmp_path / "secret.md").write_text("x")
    with pytest.raises(IndexRoomError, match="cannot read this ignore file"):
        list(walk([tmp_path], WalkOptions()))


def test_hidden_files_and_own_folders(tmp_path: Path) -> None:
    make(tmp_path, {".hidden.md": "x", ".dir/a.md": "x", ".git/b.md": "x", ".searchctl/c.md": "x", "d.md": "x"})
    assert found(tmp_path) == ["d.md"]
    assert skipped(tmp_path) == {".hidden.md": "hidden", ".dir": "hidden"}
    assert found(tmp_path, options=WalkOptions(hidden=True)) == [".hidden.md", "d.md", ".dir/a.md"]


def test_overlapping_and_repeated_roots_yield_each_file_once(tmp_path: Path) -> None:
    make(tmp_path, {"a/b/x.md": "x", "a/y.md": "x"})
    (tmp_path / "alias").symlink_to(tmp_path / "a")
    roots = [
        tmp_path / "a" / "b",
        tmp_path / "a",
        tmp_path / "a" / "y.md",
        tmp_path / "alias",
        tmp_path / "a" / "." / "b",
    ]
    assert found(*roots, base=tmp_path) == ["a/b/x.md", "a/y.md"]


def test_a_missing_root_is_named_before_anything_is_walked(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="nowhere"):
        walk([tmp_path, tmp_path / "nowhere"], WalkOptions())


def test_symlinks_never_leave_the_root_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path, {"out/secret.md": "x", "root/a.md": "x", "root/.h/real.md": "x", "root/d/b.md": "x"})
    root = tmp_path / "root"
    (root / "away.md").symlink_to(tmp_path / "out" / "secret.md")
    (root / "awaydir").symlink_to(tmp_path / "out")
    (root / "d" / "loop").symlink_to(root)
    (root / "same.md").symlink_to("a.md")
    (root / "shown.md").symlink_to(".h/real.md")
    (root / "dangling.md").symlink_to("nothing.md")
    (root / "self.md").symlink_to("self.md")
    assert found(root) == ["a.md", "d/b.md", "shown.md"]
    reasons = skipped(root)
    assert "outside" in reasons["away.md"]
    assert "outside" in reasons["awaydir"]
    assert "already seen" in reasons["d/loop"]
    assert "already seen" in reasons["same.md"]
    assert "no such file" in reasons["dangling.md"]
    assert "symbolic links" in reasons["self.md"]


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    make(tmp_path, {"root/a.md": "x", "root-2/b.md": "x"})
    (tmp_path / "root" / "link.md").symlink_to(tmp_path / "root-2" / "b.md")
    assert found(tmp_path / "root") == ["a.md"]


def test_a_symlink_into_git_or_the_collection_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {".git/config.md": "x", ".searchctl/x.md": "x"})
    (tmp_path / "a.md").symlink_to(".git/config.md")
    (tmp_path / "b").symlink_to(".searchctl")
    assert found(tmp_path, options=WalkOptions(hidden=True)) == []


def test_special_files_are_skipped_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    with socket.socket(socket.AF_UNIX) as server:
        # A relative address: the path of a temporary folder may be too long for one.
        before = Path.cwd()
        os.chdir(tmp_path)
        try:
            server.bind("s.md")
        finally:
            os.chdir(before)
        assert skipped(tmp_path) == {
            "pipe.md": "not a regular file (pipe)", "s.md": "not a regular file (socket)"
        }  # fmt: skip


def test_size_cap_names_both_sizes_and_is_inclusive(tmp_path: Path) -> None:
    make(tmp_path, {"big.md": "x" * 11, "fits.md": "x" * 10})
    options = WalkOptions(max_bytes=10)
    assert found(tmp_path, options=options) == ["fits.md"]
    assert skipped(tmp_path, options=options) == {"big.md": "11 bytes, more than the cap of 10"}
    assert found(tmp_path / "big.md", options=options, base=tmp_path) == []


def test_only_files_that_may_be_anything_by_their_name_are_sniffed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name, data, taken in [
        ("a.bin", b"text\x00more", False),
        ("a.unknown", b"\x89PNG\r\n\x1a\n\x01\x02\x03" * 20, False),
        ("a.unknown", "plain text, caf\u00e9\n".encode(), True),
        ("a.unknown", "caf\u00e9 au lait\n".encode("latin-1"), True),
        ("noext", "wide text\n".encode("utf-16"), True),
        ("noext", "wide text without mark\n".encode("utf-16-le"), True),
        ("empty.unknown", b"", True),
        ("claimed.pdf", b"%PDF\x00\x00", True),
        ("a.out", b"\x7fELF\x02\x01\x01\x00", False),
        ("libfoo.so.1", b"\x7fELF\x02\x01\x01\x00", False),
        ("clip.ts", b"G@\x00\x10\x00\x00\xb0\x0d", False),
        ("LICENSE", b"\x00\x01\x02", False),
        ("build.out", b"warning: unused\n", True),
        ("wide.txt", "wide text\n".encode("utf-16"), True),
        ("wide.ts", "let wide = true\n".encode("utf-16-be"), True),
        ("late.log", b"x" * 9000 + b"\x00", True),
        ("coloured.log", b"\x1b[31mred\x1b[0m\n", True),
        ("claimed.json", b"\x00\x01\x02", True),
    ]:
        with subtests.test(name=name, data=data, taken=taken):
            tmp_path = tmp_path_factory.mktemp("row")
            (tmp_path / name).write_bytes(data)
            assert found(tmp_path) == ([name] if taken else [])
            assert skipped(tmp_path) == ({} if taken else {name: "binary"})


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-16-le")))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("name", ["a.out", "a.ts"])
def test_what_is_skipped_as_binary_is_what_its_reader_refuses(
    name: str, data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        read_document(data, name)
    except ReadError:
        assert isinstance(next(walk([path], WalkOptions())), SkippedFile)
    else:
        assert isinstance(next(walk([path], WalkOptions())), FoundFile)


def test_types_by_extension_or_format_and_exclude_patterns(tmp_path: Path) -> None:
    make(tmp_path, {"a.md": "x", "b.MARKDOWN": "x", "c.py": "x", "d/e.md": "x", "f": "x"})
    assert found(tmp_path, options=WalkOptions(types=("markdown",))) == ["a.md", "b.MARKDOWN", "d/e.md"]
    assert found(tmp_path, options=WalkOptions(types=("MD", ".py"))) == ["a.md", "c.py", "d/e.md"]
    assert found(tmp_path, options=WalkOptions(types=("text",))) == ["f"]
    assert found(tmp_path, options=WalkOptions(exclude=("d/", "*.py"))) == ["a.md", "b.MARKDOWN", "f"]
    assert skipped(tmp_path, options=WalkOptions(types=("py",)))["a.md"] == "not of type py"


def test_a_malformed_exclude_pattern_is_an_error_of_this_room(tmp_path: Path) -> None:
    for pattern in ("!", "[2024-06]*"):
        with pytest.raises(
            QuerySyntaxError, match=rf"exclude: the pattern '{re.escape(pattern)}' cannot be understood"
        ):
            list(walk([tmp_path], WalkOptions(exclude=("*.md", pattern))))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_carry_the_reason_of_the_system(tmp_path: Path) -> None:
    make(tmp_path, {"a.md": "x", "d/b.md": "x"})
    (tmp_path / "a.md").chmod(0)
    (tmp_path / "d").chmod(0)
    try:
        assert skipped(tmp_path) == {"a.md": "permission denied", "d": "permission denied"}
    finally:
        (tmp_path / "d").chmod(0o700)


def test_a_name_that_is_no_utf8_is_skipped_and_not_a_crash_in_sqlite(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert found(tmp_path) == []
    assert list(skipped(tmp_path).values()) == ["its name is not valid UTF-8 and cannot be stored; rename it"]


def test_folders_nested_beyond_the_recursion_limit(tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1100):
            os.mkdir("d")  # noqa: PTH102 (relative to where chdir went, as the long path would be slow)
            os.chdir("d")
        Path("a.md").touch()
        assert found(tmp_path) == ["d/" * 1100 + "a.md"]
    finally:
        # pytest's own clean-up recurses.
        Path("a.md").unlink(missing_ok=True)
        while Path.cwd() != tmp_path:
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106
        os.chdir(before)


def test_many_files_are_listed_once_a_folder_and_none_is_read(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\nbuild/\n*.log\n!important.log\n")
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for number in range(100):
            (tmp_path / str(folder) / f"{number}.md").touch()
    script = (
        "import json, sys; from pathlib import Path; from searchctl.index.walk import FoundFile, WalkOptions, walk\n"
        "root, events = sys.argv[1], []\n"
        "sys.addaudithook(lambda name, args: events.append((name, str(args[0]))) if name in ('open', 'os.scandir',\n"
        "    'os.listdir') and str(args[0]).startswith(root) else None)\n"
        "count = sum(isinstance(item, FoundFile) for item in walk([Path(root)], WalkOptions()))\n"
        "print(json.dumps([count, events]))"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    count, events = json.loads(ended.stdout)
    assert count == 2000
    assert sorted(path for name, path in events if name != "open") == sorted(
        str(path) for path in (tmp_path, *(tmp_path / str(folder) for folder in range(20)))
    )
    assert not [path for name, path in events if name == "open" and path.endswith(".md")]


def test_trash_is_never_entered_and_the_collections_own_ignore_file_counts_below(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            ".searchctlignore": "/docs/a.md\n*.tmp.md\n/forced/\n",
            ".gitignore": "b.md\n",
            "docs/a.md": "x", "docs/b.md": "x", "docs/c.tmp.md": "x", "docs/sub/a.md": "x", "forced/a.md": "x",
            ".searchctl-trash/1/files/docs/z.md": "x", "docs/sub/.searchctl-trash/y.md": "x",
        },
    )  # fmt: skip
    docs = tmp_path / "docs"

    def names(root: Path, base: Path | None, **options: bool) -> list[str]:
        found = walk([root], WalkOptions(**options), base=base)
        return [item.path.relative_to(tmp_path).as_posix() for item in found if isinstance(item, FoundFile)]

    # Outside of git the ignore files above a root say nothing, but for the collection's own.
    assert ["docs/b.md", "docs/sub/a.md"] == names(docs, tmp_path)
    assert ["docs/a.md", "docs/b.md", "docs/c.tmp.md", "docs/sub/a.md"] == names(docs, None)
    assert names(docs, None) == names(docs, tmp_path, no_ignore=True)
    assert ["forced/a.md"] == names(tmp_path / "forced", tmp_path), "whoever names an ignored folder wants it"
    assert not any("trash" in name for name in names(tmp_path, tmp_path, hidden=True, no_ignore=True))
    (tmp_path / ".git").mkdir()
    assert ["docs/sub/a.md"] == names(docs, tmp_path)


def test_a_root_in_a_trash_folder_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {".searchctl-trash/x/files/a.md": "a", "b.md": "b"})
    (tmp_path / "link").symlink_to(".searchctl-trash/x")
    for path in (".searchctl-trash", ".searchctl-trash/x/files", ".searchctl-trash/x/files/a.md", "link"):
        with pytest.raises(IndexRoomError, match="trash folder") as caught:
            walk([tmp_path / "b.md", tmp_path / path], WalkOptions(hidden=True))
        assert caught.value.next_command == ("dedup", "undo")
