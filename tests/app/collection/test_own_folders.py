"""Beside a collection a person's folders may have the names that searchctl uses there: none of them is ever touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.collection.paths import collection_to_write, existing_collection
from searchctl.app.collection.swap import (
    SUFFIXES,
    companions,
    foreign_entry,
    is_own_file,
    promotion_folders,
    require_own,
)
from searchctl.app.errors import AppError
from searchctl.index.errors import CollectionNotFoundError, StorageError
from searchctl.index.file_names import CATALOGUE_FILE


def test_suffixes_are_those_of_the_folders(tmp_path: Path) -> None:
    store = tmp_path / "store"
    names = {folder.name for folder in (*companions(store), *promotion_folders(store))}
    assert {f"store{suffix}" for suffix in SUFFIXES} == names


def test_looking_for_a_collection_touches_no_folder_of_a_person(new_shell: Any, subtests: pytest.Subtests) -> None:
    for suffix in SUFFIXES:
        with subtests.test(suffix=suffix):
            shell = new_shell()
            shell.write("notes/mine.txt", "one\n")
            shell.write(f"notes{suffix}/mine.txt", "two\n")
            with pytest.raises(CollectionNotFoundError):
                existing_collection(shell.folder / "notes")
            assert shell("query", "one", "--collection", "notes").code != 0
            assert (shell.folder / "notes/mine.txt").read_text() == "one\n"
            assert (shell.folder / f"notes{suffix}/mine.txt").read_text() == "two\n"


PROMOTE, REBUILD = ("models", "promote", "hashing", "--dim", "64"), ("index", "--rebuild")


def test_a_name_that_is_taken_is_told_before_anything_is_made(new_shell: Any, subtests: pytest.Subtests) -> None:
    for command, suffix in [
        *((PROMOTE, suffix) for suffix in (".promote", ".promoted", ".previous", ".replaced")),
        *((REBUILD, suffix) for suffix in (".rebuild", ".rebuilt", ".replaced")),
    ]:
        with subtests.test(command=command, suffix=suffix):
            shell = new_shell()
            shell.write("a.txt", "alpha\n")
            where = ("--collection", "store")
            assert shell("index", "a.txt", "--model", "hashing", *where).code == 0
            shell.write(f"store{suffix}/mine.txt", "mine\n")
            ended = shell(*command, *where)
            assert ended.code != 0
            assert f"store{suffix} holds mine.txt" in ended.err
            assert (shell.folder / f"store{suffix}/mine.txt").read_text() == "mine\n"
            assert {path.name for path in shell.folder.iterdir()} == {"a.txt", "store", f"store{suffix}"}
            assert shell("query", "alpha", *where).code == 0
            assert shell("index", "a.txt", *where).code == 0
            shutil.rmtree(shell.folder / f"store{suffix}")
            assert shell(*command, *where).code == 0


def test_a_name_that_is_not_needed_is_left_alone(new_shell: Any, subtests: pytest.Subtests) -> None:
    for command, suffix in [
        *((PROMOTE, suffix) for suffix in (".rebuild", ".rebuilt")),
        *((REBUILD, f".{name}") for name in ("previous", "promote")),
    ]:
        with subtests.test(command=command, suffix=suffix):
            shell = new_shell()
            shell.write("a.txt", "alpha\n")
            where = ("--collection", "store")
            assert shell("index", "a.txt", "--model", "hashing", *where).code == 0
            shell.write(f"store{suffix}/mine.txt", "mine\n")
            assert shell(*command, *where).code == 0
            assert (shell.folder / f"store{suffix}/mine.txt").read_text() == "mine\n"


def test_a_folder_in_the_way_of_a_swap_that_is_decided_is_told(shell: Any) -> None:
    shell.write("a.txt", "alpha\n")
    assert shell("index", "a.txt", "--model", "hashing", "--collection", "store").code == 0
    (shell.folder / "store").rename(shell.folder / "store.rebuilt")
    shell.write("store/mine.txt", "mine\n")
    ended = shell("query", "alpha", "--collection", "store")
    assert ended.code != 0
    assert "store holds mine.txt" in ended.err
    assert (shell.folder / "store/mine.txt").read_text() == "mine\n"
    (shell.folder / "store").rename(shell.folder / "elsewhere")
    assert shell("query", "alpha", "--collection", "store").code == 0


def test_a_linked_collection_is_swapped_where_it_is(shell: Any) -> None:
    shell.write("a.txt", "alpha\n")
    far = shell.folder.parent / "far" / "collection"
    far.mkdir(parents=True)
    link = shell.folder / ".searchctl"
    link.symlink_to(far)
    assert shell("index", "a.txt", "--model", "hashing").code == 0
    for dim in ("64", "32", "48"):
        ended = shell("models", "promote", "hashing", "--dim", dim)
        assert ended.code == 0, ended.err
        assert shell("index", "--rebuild").code == 0
        assert link.readlink() == far
        assert shell("query", "alpha").code == 0
    assert shell("models", "promote", "--rollback", "--yes").code == 0
    assert shell("verify").code == 0
    assert {path.name for path in far.parent.iterdir()} == {"collection", "collection.previous"}
    assert {path.name for path in shell.folder.iterdir()} == {"a.txt", ".searchctl"}


def test_no_collection_is_made_where_another_would_delete_it(new_shell: Any, subtests: pytest.Subtests) -> None:
    for suffix in SUFFIXES:
        with subtests.test(suffix=suffix):
            shell = new_shell()
            ended = shell("index", ".", "--model", "hashing", "--collection", f"store{suffix}")
            assert ended.code == 2
            assert "Choose another name" in ended.err
            assert not (shell.folder / f"store{suffix}").exists()
            with pytest.raises(AppError, match="Choose another name"):
                collection_to_write(shell.folder / f"store{suffix}")
            # As a folder of documents that holds its collection it is one like any other.
            shell.write(f"store{suffix}/a.txt", "alpha\n")
            assert collection_to_write(shell.folder / f"store{suffix}").name == ".searchctl"


def test_what_is_searchctls_own(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    assert foreign_entry(tmp_path / "nothing") is None
    for name in ("lock", "vectors-3.faiss", ".promotion.json.4711", ".gitignore", "catalogue.db-wal", "pairs"):
        assert is_own_file(name), name
        (left / name).touch()
    assert foreign_entry(left) is None
    (left / ".notes.4711").touch()
    assert foreign_entry(left) == left / ".notes.4711"
    (left / CATALOGUE_FILE).touch()
    assert foreign_entry(left) is None
    for path in (tmp_path / "link", tmp_path / "file"):
        path.symlink_to(left) if path.name == "link" else path.touch()
        assert foreign_entry(path) == path
        with pytest.raises(StorageError, match="is no folder of searchctl"):
            require_own(left, path)
