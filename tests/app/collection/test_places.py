"""Places of earlier runs that are gone, odd paths and links: nothing is lost, indexed twice or called a bug."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.collection.changes import Survey
from searchctl.app.collection.sources import read_sources
from searchctl.index.collection import FolderCollection
from searchctl.index.walk import WalkOptions

HASHING = ("--model", "hashing")


def index(shell: Any, *args: str | Path) -> Any:
    ended = shell("index", *args, "--format", "json")
    assert ended.out, ended.err
    return ended.json


def paths(shell: Any, at: str | Path = ".searchctl") -> list[str]:
    return sorted(FolderCollection.open(shell.folder / at).files())


def remembered(shell: Any) -> list[str]:
    return [source.path for source in read_sources(shell.folder / ".searchctl")]


def test_a_pruned_place_is_forgotten(shell: Any) -> None:
    shell.write("a/1.md", "one\n")
    shell.write("b/2.md", "two\n")
    index(shell, "a", "b", *HASHING)
    shutil.rmtree(shell.folder / "b")
    assert shell("index").code == 3, "kept: a drive that is not mounted looks like that"
    assert remembered(shell) == ["a", "b"]
    assert index(shell, "--prune")["removed"] == 1
    assert remembered(shell) == ["a"]
    shell.write("a/3.md", "three\n")
    assert index(shell)["added"] == 1
    assert paths(shell) == ["a/1.md", "a/3.md"]


def test_a_prune_of_one_place_forgets_no_other(shell: Any) -> None:
    shell.write("a/1.md", "one\n")
    shell.write("usb/2.md", "two\n")
    index(shell, "a", "usb", *HASHING)
    (shell.folder / "usb").rename(shell.folder / "away")
    index(shell, "--prune", "a")
    assert remembered(shell) == ["a", "usb"]
    (shell.folder / "away").rename(shell.folder / "usb")
    shell.write("usb/3.md", "three\n")
    assert index(shell)["added"] == 1


def test_a_link_that_is_named_has_its_paths_from_where_it_leads(shell: Any) -> None:
    """Whoever names the folder itself has the same paths."""
    far = shell.folder.parent / "data"
    (far / "coll").mkdir(parents=True)
    (far / "x.txt").write_text("a cat\n")
    (shell.folder / "link").symlink_to(far / "coll")
    shell.write("docs/y.txt", "a cat too\n")
    for where in ("link", far / "coll"):
        index(shell, "docs", far, "--no-ignore", "--collection", where, *HASHING)
        assert paths(shell, far / "coll") == [str(shell.folder / "docs/y.txt"), "x.txt"]
        assert {"fresh"} == {hit["freshness"] for hit in shell.hits("cat", "--collection", where)}


def test_the_files_of_a_linked_collection_are_not_indexed(shell: Any) -> None:
    far = shell.folder / "data" / "coll"
    far.mkdir(parents=True)
    (shell.folder / ".searchctl").symlink_to(far)
    shell.write("data/x.txt", "a cat\n")
    for _ in range(2):
        index(shell, "data", "--no-ignore", "--hidden", *HASHING)
        assert paths(shell) == ["data/x.txt"]


def test_a_vanished_place_without_files_is_told_and_the_others_are_indexed(shell: Any) -> None:
    shell.write("a/1.md", "one\n")
    (shell.folder / "b").mkdir()
    index(shell, "a", "b", *HASHING)
    (shell.folder / "b").rmdir()
    shell.write("a/3.md", "three\n")
    ended = shell("index", "--format", "json")
    assert (ended.code, ended.json["added"]) == (0, 1)
    assert f"{shell.folder / 'b'}: not there any more" in ended.err
    shell.write("b/2.md", "two\n")
    assert index(shell)["added"] == 1, "a drive that is mounted again"


def test_when_every_place_has_vanished_that_is_said(shell: Any) -> None:
    (shell.folder / "b").mkdir()
    index(shell, "b", *HASHING)
    (shell.folder / "b").rmdir()
    ended = shell("index")
    assert ended.code == 2
    assert "not there any more, and nothing of it is indexed" in ended.err


@pytest.mark.skipif(os.name != "posix", reason="links as on POSIX")
def test_a_linked_collection_has_its_paths_from_where_the_link_is(shell: Any) -> None:
    far = shell.folder.parent / "data" / "idx"
    far.mkdir(parents=True)
    (shell.folder / ".searchctl").symlink_to(far)
    shell.write("docs/1.md", "a heron\n")
    record = shell.write("docs/r.jsonl", '{"text": "precious words"}\n')
    for run in (("docs", *HASHING), ("--rebuild",), ("docs",), ("docs", "--collection", ".searchctl")):
        index(shell, *run)
        assert paths(shell) == ["docs/1.md", "docs/r.jsonl"], run
        assert remembered(shell) == ["docs"]
    # What cannot be read any more is refused, and not lost.
    record.write_text("{ nonsense\n")
    assert shell("index", "--rebuild").code == 3
    assert shell.hits("precious", "-k", "1")[0]["path"] == "docs/r.jsonl"
    for where in ((), ("--collection", ".searchctl"), ("--collection", ".")):
        hit = shell.hits("heron", "-k", "1", *where)[0]
        assert (hit["path"], hit["freshness"]) == ("docs/1.md", "fresh")


def test_deleted_files_leave_when_the_root_is_above_the_collection(shell: Any) -> None:
    shell.folder = shell.folder / "docs"
    shell.write("keep.md", "keep\n")
    shell.write("gone.md", "gone\n")
    index(shell, "..", *HASHING)
    (shell.folder / "gone.md").unlink()
    assert index(shell)["removed"] == 1
    assert paths(shell) == ["keep.md"]


def test_a_root_of_the_whole_disk_is_not_gone(shell: Any, tmp_path: Path) -> None:
    shell.write("keep.md", "keep\n")
    shell.write("gone.md", "gone\n")
    index(shell, ".", *HASHING)
    known = FolderCollection.open(shell.folder / ".searchctl").files()
    (shell.folder / "gone.md").unlink()
    exclude = tuple(str(path) for path in Path("/").iterdir() if path not in shell.folder.parents)
    found = Survey(collection=shell.folder / ".searchctl", known=known)
    found.walk([Path("/")], WalkOptions(exclude=exclude, hidden=True, no_ignore=True))
    assert ({}, ["gone.md"]) == (found.protected, found.gone)


def test_odd_paths_are_told_and_no_bugs(new_shell: Any, subtests: pytest.Subtests) -> None:
    for name, said in [("~nobody-of-this-name", "no such file"), (b"caf\xe9.md", "is not UTF-8")]:
        with subtests.test(name=name, said=said):
            shell = new_shell()
            shell.write("a.md", "one\n")
            ended = shell("index", "a.md", os.fsdecode(name), *HASHING)
            assert ended.code == 2
            assert said in ended.err
            assert "bug" not in ended.err
            assert not (shell.folder / ".searchctl").exists()


def test_files_with_tildes_are_files(shell: Any) -> None:
    shell.write("~$report.md", "one\n")
    shell.write("~", "two\n")
    shell.write("~/x.md" if (shell.folder / "~").is_dir() else "x.md", "three\n")
    assert index(shell, "~$report.md", "~", "x.md", *HASHING)["added"] == 3


def test_links_that_go_round_are_told(shell: Any) -> None:
    (shell.folder / "loop").symlink_to(shell.folder / "loop")
    ended = shell("index", "loop", *HASHING)
    assert ended.code == 2
    assert "bug" not in ended.err
    assert not (shell.folder / ".searchctl").exists()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX")
def test_a_collection_below_a_name_that_is_not_utf_8_is_refused(shell: Any) -> None:
    folder = shell.folder / os.fsdecode(b"d\xe9")
    folder.mkdir()
    (folder / "a.md").write_text("one\n")
    shell.folder = folder
    ended = shell("index", "a.md", *HASHING)
    assert ended.code == 2
    assert "is not UTF-8" in ended.err
    assert not (folder / ".searchctl").exists()


def test_sizes_that_make_no_chunks_are_told_first(new_shell: Any, subtests: pytest.Subtests) -> None:
    for options, said in [
        (("--chunk-tokens", "8"), "16"),
        (("--chunk-overlap", "100"), "expected at most 64"),
        (("--chunk-tokens", "64", "--chunk-overlap", "40"), "expected at most 16"),
        (("--max-tokens", "10"), "reads 10 tokens"),
        (("--max-size", "inf"), "--max-size is inf"),
    ]:
        with subtests.test(options=options, said=said):
            shell = new_shell()
            shell.write("a.md", "one\n")
            ended = shell("index", "a.md", *HASHING, *options)
            assert ended.code == 2
            assert said in ended.err
            assert "bug" not in ended.err
            assert not (shell.folder / ".searchctl").exists()
            assert shell("index", "a.md", *HASHING).code == 0
            if (
                "chunk" in options[0]
            ):  # A rebuild has the chunks of the old collection, and any path its own largest size.
                again = shell("index", "--rebuild", *options)
                assert again.code == 2
                assert said in again.err
                assert not (shell.folder / ".searchctl.rebuild").exists()


def test_options_for_files_need_a_path(new_shell: Any, subtests: pytest.Subtests) -> None:
    for options in [("--exclude", "d*"), ("--hidden",), ("--no-ignore",), ("--type", "md"), ("--max-size", "1")]:
        with subtests.test(options=options), pytest.MonkeyPatch.context() as monkeypatch:
            shell = new_shell()
            shell.write("d.md", "one\n")
            index(shell, ".", *HASHING)
            for more in ((), ("--rebuild",)):
                ended = shell("index", *options, *more)
                assert ended.code == 2
                assert f"{options[0]} without a path" in ended.err
            # What the environment says is for the paths that are named.
            monkeypatch.setenv("SEARCHCTL_HIDDEN", "1")
            assert json.loads(shell("index", "--format", "json").out)["unchanged"] == 1


def test_a_file_from_the_far_future_is_indexed_once(shell: Any) -> None:
    path = shell.write("a.md", "one\n")
    os.utime(path, ns=(2**63 + 10**18, 2**63 + 10**18))
    assert index(shell, "a.md", *HASHING)["added"] == 1
    assert index(shell)["unchanged"] == 1
    assert "1 document" in shell("status").out
    assert shell.hits("one", "--after", "2200")[0]["path"] == "a.md"


def test_a_file_that_is_as_it_was_is_not_opened(shell: Any) -> None:
    path = shell.write("a.txt", "a heron\n")
    index(shell, ".", *HASHING)
    info = path.stat()
    path.write_bytes(b"\0" * info.st_size)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert index(shell)["unchanged"] == 1


def test_a_text_that_has_become_binary_is_kept_and_told(shell: Any) -> None:
    path = shell.write("a.txt", "a heron\n")
    shell.write("other", b"\0" * 100)
    index(shell, ".", *HASHING)
    path.write_bytes(b"\0" * 100)
    ended = shell("index")
    assert ended.code == 3
    assert "a.txt: binary data where text was indexed before" in ended.err
    assert shell.hits("heron")[0]["path"] == "a.txt"
    assert index(shell, "--prune")["removed"] == 1
    named = shell("index", "other")
    assert named.code == 3, "what is named is not passed over in silence"
    assert "other: binary" in named.err


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="a process cannot change its time zone here")
def test_a_day_of_front_matter_is_the_day_that_after_and_before_mean(new_shell: Any, subtests: pytest.Subtests) -> None:
    for zone in ["America/New_York", "UTC", "Asia/Tokyo"]:
        with subtests.test(zone=zone), pytest.MonkeyPatch.context() as monkeypatch:
            shell = new_shell()
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            try:
                shell.write("diary.md", "---\ndate: 2024-06-30\n---\na heron\n")
                shell.write("page.html", '<meta name="date" content="2024-06-30"><p>a heron stood in the water</p>')
                index(shell, ".", *HASHING)
                assert 2 == len(shell.hits("heron", "--after", "2024-06-30"))
                assert [] == shell.hits("heron", "--before", "2024-06-30")
                assert 2 == len(shell.hits("heron", "--before", "2024-07-01"))
            finally:
                monkeypatch.undo()
                time.tzset()
