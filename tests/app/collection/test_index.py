"""`searchctl index`: what a run takes, keeps, moves and drops."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from searchctl.app.collection.paths import collection_to_write, existing_collection
from searchctl.app.collection.swap import companions, is_collection, rebuild_folder, swap_in, swap_lock_file
from searchctl.app.errors import AppError
from searchctl.index.collection import FolderCollection

COUNTS = ("added", "updated", "moved", "unchanged", "removed", "chunks_embedded")


def counts(summary: Any) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: summary[name] for name in COUNTS if summary[name]}


def test_first_run_adds_and_second_embeds_nothing(shell: Any) -> None:
    shell.write("docs/a.md", "# A\n\nalpha beta\n")
    shell.write("docs/b.txt", "gamma delta\n")

    assert counts(shell.index("docs")) == {"added": 2, "chunks_embedded": 2}
    assert counts(shell.index("docs")) == {"unchanged": 2}
    assert (shell.folder / ".searchctl" / "catalogue.db").is_file()


def test_unchanged_run_does_not_load_the_encoder(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection's own encoder cannot be loaded here; a run with nothing to embed does not try."""
    config = library.folder / ".searchctl" / "catalogue.db"
    import sqlite3

    with sqlite3.connect(config) as connection:
        connection.execute("UPDATE meta SET value = replace(value, 'hashing', 'no-such-model') WHERE key = 'settings'")
    connection.close()

    ended = library("index", "docs", "--format", "json")
    assert (ended.code, ended.json["unchanged"]) == (0, 4), ended.err
    library.write("docs/new.md", "something new\n")
    assert library("index", "docs").code == 2


def test_touched_file_is_unchanged_by_content(library: Any) -> None:
    os.utime(library.folder / "docs/crash.md", ns=(1, 1))
    assert counts(library.index("docs")) == {"unchanged": 4}
    # The new time is remembered: the next run need not read it.
    files = FolderCollection.open(library.folder / ".searchctl").files()
    assert files["docs/crash.md"].mtime_ns == 1


def test_edited_paragraph_embeds_at_most_three_chunks(shell: Any, words: Any) -> None:
    paragraphs = [words(seed, 60) for seed in range(40)]
    shell.write("long.txt", "\n\n".join(paragraphs))
    first = shell.index("long.txt")
    assert first["chunks_embedded"] >= 10
    paragraphs[20] = words(99, 60)
    shell.write("long.txt", "\n\n".join(paragraphs))

    second = shell.index("long.txt")
    assert second["updated"] == 1
    assert 1 <= second["chunks_embedded"] <= 3
    assert second["chunks_reused"] >= first["chunks_embedded"] - 3


def test_identical_chunks_are_embedded_once(shell: Any) -> None:
    for name in ("a", "b", "c"):
        shell.write(f"{name}.txt", "the same licence text in every file\n")
    summary = shell.index(".")
    assert (summary["added"], summary["chunks_embedded"], summary["chunks_reused"]) == (3, 1, 2)


def test_moved_file_is_not_embedded_again(library: Any) -> None:
    (library.folder / "docs/crash.md").rename(library.folder / "docs/survival.md")
    assert counts(library.index("docs")) == {"moved": 1, "unchanged": 3}
    assert {hit["path"] for hit in library.hits("catalogue power", "-k", "1")} == {"docs/survival.md"}


def test_file_moved_over_another_takes_its_place(library: Any) -> None:
    (library.folder / "docs/crash.md").rename(library.folder / "docs/query.md")
    assert counts(library.index("docs")) == {"moved": 1, "unchanged": 2}
    paths = [hit["path"] for hit in library.hits("catalogue power", "-k", "9")]
    assert paths[0] == "docs/query.md"
    assert "docs/crash.md" not in paths
    assert library("verify").code == 0


def test_file_renamed_to_another_format_is_read_anew(library: Any) -> None:
    (library.folder / "docs/crash.md").rename(library.folder / "docs/crash.txt")
    summary = library.index("docs")
    assert (summary["moved"], summary["added"], summary["removed"]) == (0, 1, 1)


def test_deleted_file_leaves_the_index(library: Any) -> None:
    (library.folder / "docs/crash.md").unlink()
    assert counts(library.index("docs")) == {"removed": 1, "unchanged": 3}
    assert "docs/crash.md" not in {hit["path"] for hit in library.hits("committed stays")}


def test_files_outside_of_the_given_paths_stay(library: Any) -> None:
    (library.folder / "code/tide.py").unlink()
    assert counts(library.index("docs")) == {"unchanged": 4}
    assert "code/tide.py" in FolderCollection.open(library.folder / ".searchctl").files()


def test_a_transiently_empty_folder_does_not_wipe_the_index(library: Any) -> None:
    shutil.move(library.folder / "docs", library.folder.parent / "away")
    (library.folder / "docs").mkdir()

    ended = library("index", "docs", "--model", "hashing", "--format", "json")
    assert ended.code == 3
    assert ended.json["protected"] == {"docs": 4}
    assert ended.json["complete"] is False
    assert "--prune" in ended.err
    assert len(library.hits("heron fish")) >= 1

    (library.folder / "docs").rmdir()
    assert library("index", "docs").code == 3  # missing altogether
    shutil.move(library.folder.parent / "away", library.folder / "docs")
    assert counts(library.index("docs")) == {"unchanged": 4}


def test_prune_forgets_an_empty_folder(library: Any) -> None:
    shutil.rmtree(library.folder / "docs")
    ended = library("index", "docs", "--prune", "--format", "json")
    assert (ended.code, ended.json["removed"]) == (0, 4), ended.err


def test_empty_mount_below_the_root_is_kept(shell: Any) -> None:
    for number in range(12):
        shell.write(f"docs/mount/{number}.txt", f"text number {number} on a drive\n")
    shell.write("docs/here.txt", "text on this disk\n")
    shell.index("docs")
    shutil.rmtree(shell.folder / "docs/mount")
    (shell.folder / "docs/mount").mkdir()

    assert shell.index("docs")["protected"] == {"docs/mount": 12}
    # A folder that is gone, not empty, was deleted by a person.
    (shell.folder / "docs/mount").rmdir()
    assert shell.index("docs")["removed"] == 12


def test_root_that_never_was_there_is_a_usage_error(shell: Any) -> None:
    ended = shell("index", "nowhere", "--model", "hashing")
    assert ended.code == 2
    assert "nowhere" in ended.err
    assert "Traceback" not in ended.err


def test_malformed_file_is_named_and_ends_with_3(shell: Any) -> None:
    shell.write("docs/good.md", "good text\n")
    shell.write("docs/bad.pdf", b"%PDF-1.4 nothing of the kind")
    ended = shell("index", "docs", "--model", "hashing")
    assert ended.code == 3
    assert "docs/bad.pdf" in ended.err
    assert "1 added" in ended.err
    assert "docs/bad.pdf" in shell("status", "--format", "json").json["unread"]
    # Once it is gone the index is complete again.
    (shell.folder / "docs/bad.pdf").unlink()
    assert shell("index", "docs").code == 0


def test_file_that_becomes_unreadable_keeps_its_old_version_and_says_so(shell: Any) -> None:
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["the heron waits"]}], "metadata": {}}
    shell.write("docs/b.ipynb", json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 5}))
    shell.write("docs/c.txt", "plain\n")
    assert shell.index("docs")["added"] == 2
    shell.write("docs/b.ipynb", "{ half written")

    ended = shell("index", "docs", "--format", "json")
    assert (ended.code, list(ended.json["failed"])) == (3, ["docs/b.ipynb"])
    hit = shell.hits("heron")[0]
    assert (hit["path"], hit["freshness"]) == ("docs/b.ipynb", "changed")


def test_unread_files_of_other_paths_stay_known(shell: Any) -> None:
    shell.write("a/bad.pdf", b"%PDF-1.4 broken")
    shell.write("b/good.txt", "good\n")
    assert shell("index", "a", "--model", "hashing").code == 3
    assert shell("index", "b", "--model", "hashing").code == 0
    assert list(shell("status", "--format", "json").json["unread"]) == ["a/bad.pdf"]


def test_without_path_the_same_places_are_looked_at_again(library: Any) -> None:
    library.write("code/more.py", "def more(): return 1\n")
    library.write("elsewhere.txt", "not in any place\n")
    assert counts(library("index", "--format", "json").json)["added"] == 1


def test_without_path_and_without_earlier_run_is_a_usage_error(shell: Any) -> None:
    ended = shell("index")
    assert ended.code == 2
    assert "searchctl index PATH" in ended.err


def test_home_and_root_need_yes(new_shell: Any, subtests: pytest.Subtests) -> None:
    for place in ["home", "root"]:
        with subtests.test(place=place):
            shell = new_shell()
            path = os.environ["HOME"] if place == "home" else "/"
            ended = shell("index", path, "--model", "hashing")
            assert ended.code == 2
            assert "--yes" in ended.err
            assert not (shell.folder / ".searchctl").exists()


def test_home_with_yes(shell: Any) -> None:
    (Path(os.environ["HOME"]) / "note.txt").write_text("a note\n")
    assert shell("index", os.environ["HOME"], "--yes", "--model", "hashing").code == 0


def test_second_writer_is_refused_with_4(library: Any) -> None:
    collection = FolderCollection.open(library.folder / ".searchctl")
    with collection.writer():
        ended = library("index", "docs")
        assert ended.code == 4
        assert str(os.getpid()) in ended.err
        assert len(library.hits("heron")) >= 1  # readers are not blocked
    assert library("index", "docs").code == 0


def test_other_encoder_is_refused_and_names_both_and_rebuild(library: Any) -> None:
    ended = library("index", "docs", "--model", "hashing", "--dim", "64")
    assert ended.code == 2
    assert "256 dimensions" in ended.err
    assert "64 dimensions" in ended.err
    assert ended.err.endswith("hint: searchctl models promote hashing --dim 64\n")


def test_other_chunk_size_is_refused(library: Any) -> None:
    ended = library("index", "docs", "--chunk-tokens", "64")
    assert ended.code == 2
    assert "--rebuild --chunk-tokens 64" in ended.err


@pytest.mark.parametrize(("tokens", "overlap"), [("128", 16), ("24", 3), ("256", 32)])
def test_rebuild_with_smaller_chunks_takes_a_smaller_overlap(library: Any, tokens: str, overlap: int) -> None:
    ended = library("index", "--rebuild", "--chunk-tokens", tokens)
    assert ended.code == 0, ended.err
    settings = FolderCollection.open(library.folder / ".searchctl").settings
    assert settings is not None
    assert (settings.chunk_tokens, settings.chunk_overlap) == (int(tokens), overlap)


def test_a_test_set_beside_the_collection_is_not_indexed(library: Any) -> None:
    made = library.folder / ".searchctl.eval"
    made.mkdir()
    (made / "corpus.jsonl").write_text('{"_id": "1", "text": "a platypus"}\n')
    assert library("index", ".", "--hidden", "--no-ignore").code == 0
    assert not [path for path in FolderCollection.open(library.folder / ".searchctl").files() if "corpus" in path]


def test_rebuild_changes_the_encoder_and_keeps_everything_indexed(library: Any) -> None:
    before = FolderCollection.open(library.folder / ".searchctl").files()
    ended = library("index", "--rebuild", "--dim", "64", "--format", "json")
    assert ended.code == 0, ended.err
    collection = FolderCollection.open(library.folder / ".searchctl")
    assert collection.files() == before
    assert collection.settings is not None
    assert (collection.settings.encoder_name, collection.settings.dim) == ("hashing", 64)
    assert [path.name for path in library.folder.iterdir() if "searchctl" in path.name] == [".searchctl"]
    assert library("verify").code == 0
    assert counts(library("index", "--format", "json").json) == {"unchanged": 5}


def test_rebuild_with_a_vanished_folder_leaves_the_old_collection(library: Any) -> None:
    shutil.move(library.folder / "docs", library.folder.parent / "away")
    ended = library("index", "--rebuild", "--dim", "64")
    assert ended.code == 3
    assert "--rebuild --prune" in ended.err
    assert len(FolderCollection.open(library.folder / ".searchctl").files()) == 5


def test_swap_begun_and_not_finished_is_completed(library: Any) -> None:
    """Killed between the two renames, the collection is found by the next command."""
    library.folder.joinpath(".searchctl").rename(library.folder / ".searchctl.rebuilt")
    assert len(library.hits("heron")) >= 1
    assert not (library.folder / ".searchctl.rebuilt").exists()


def test_collection_is_found_upwards(library: Any) -> None:
    library.folder = library.folder / "docs" / "animals"
    assert library.hits("heron", "-k", "1")[0]["path"] == "docs/animals/birds.txt"
    assert library.index(".")["collection"] == str(library.folder.parent.parent / ".searchctl")


def test_collection_at_another_place_is_not_indexed_itself(shell: Any) -> None:
    shell.write("a.txt", "alpha\n")
    for options in ([], ["--no-ignore", "--hidden"]):
        ended = shell("index", ".", "--collection", "store", "--model", "hashing", "--format", "json", *options)
        assert ended.code == 0, ended.err
    assert list(FolderCollection.open(shell.folder / "store").files()) == ["a.txt"]
    assert shell("query", "alpha", "--collection", "store").code == 0


def test_collection_option_on_a_folder_of_documents_does_not_litter_it(library: Any) -> None:
    shell = library
    assert shell("index", "docs", "--collection", "docs", "--model", "hashing").code == 0
    assert (shell.folder / "docs/.searchctl/catalogue.db").is_file()
    assert not (shell.folder / "docs/catalogue.db").exists()


def test_weird_file_names(new_shell: Any, subtests: pytest.Subtests) -> None:
    for name in [
        "naïve café.txt", "100%_done.txt", "a [b] {c}.txt", "-dash.txt", "emoji 🐝.txt", "two\nlines.txt",
    ]:  # fmt: skip
        with subtests.test(name=name):
            shell = new_shell()
            shell.write(f"docs/{name}", "the heron waits for fish\n")
            shell.write("docs/100Xdone.txt", "something else entirely\n")
            shell.index("docs")
            assert shell.hits("heron", "-k", "1")[0]["path"] == f"docs/{name}"
            assert shell("query", "heron", "-l", "-0", "-k", "1").raw == f"docs/{name}".encode() + b"\0"
            (shell.folder / "docs" / name).unlink()
            assert shell.index("docs")["removed"] == 1


def test_file_now_ignored_leaves_the_index(library: Any) -> None:
    library.write("docs/.searchctlignore", "query.md\n")
    assert counts(library.index("docs")) == {"removed": 1, "unchanged": 3}


def test_run_for_one_type_leaves_the_others_alone(library: Any) -> None:
    (library.folder / "docs/animals/bees.txt").unlink()
    (library.folder / "docs/query.md").unlink()
    assert counts(library.index("docs", "--type", "md")) == {"unchanged": 1, "removed": 1}


def test_symlink_out_of_the_root_is_skipped(shell: Any) -> None:
    secret = shell.folder.parent / "secret.txt"
    secret.write_text("a secret\n")
    shell.write("docs/a.txt", "alpha\n")
    (shell.folder / "docs/link.txt").symlink_to(secret)
    summary = shell.index("docs")
    assert (summary["added"], summary["skipped"]) == (1, 1)
    assert shell.hits("secret", "--mode", "lexical") == []


def test_verbose_names_each_file_and_why(shell: Any) -> None:
    shell.write("docs/a.txt", "alpha\n")
    shell.write("docs/.hidden.txt", "hidden\n")
    shell.write("docs/image.bin", bytes(range(256)))
    ended = shell("index", "docs", "--model", "hashing", "--verbose")
    assert "added (1 chunks): docs/a.txt" in ended.err
    assert "skipped (hidden): docs/.hidden.txt" in ended.err
    assert "skipped (binary): docs/image.bin" in ended.err


def test_empty_file_is_indexed_and_unchanged_next_time(shell: Any) -> None:
    shell.write("docs/empty.txt", "")
    shell.write("docs/full.txt", "words\n")
    shell.index("docs")
    assert counts(shell.index("docs"))["unchanged"] >= 1
    assert shell("status", "--check-ready").code == 0


def test_long_document_streams_its_vectors_ahead(shell: Any, words: Any) -> None:
    shell.write("long.txt", "\n\n".join(words(seed, 200) for seed in range(100)))
    summary = shell.index("long.txt")
    assert summary["chunks_embedded"] >= 100
    assert summary["tokens_embedded"] >= 20_000
    assert shell("verify").code == 0


def paths(shell: Any) -> list[str]:
    """Return the stored paths of a shell's collection."""
    collection = FolderCollection.open(shell.folder / ".searchctl")
    try:
        return list(collection.files())
    finally:
        collection.close()


def complete(shell: Any) -> bool:
    return bool(shell("status", "--format", "json").json["complete"])


def test_runs_for_two_types_of_one_folder_are_both_remembered(shell: Any) -> None:
    shell.write("notes/a.md", "alpha\n")
    shell.write("notes/b.txt", "beta\n")
    shell.index("notes", "--type", "md")
    shell.index("notes", "--type", "txt")
    assert shell("status", "--check-ready").code == 0
    shell.write("notes/a.md", "alpha changed\n")
    shell.write("notes/new.md", "gamma\n")
    shell.write("notes/c.py", "delta = 1\n")

    assert shell("status", "--check-ready").code == 3
    assert counts(shell("index", "--format", "json").json) == {
        "added": 1,
        "updated": 1,
        "unchanged": 1,
        "chunks_embedded": 2,
    }
    assert shell("index", "--rebuild").code == 0
    assert paths(shell) == ["notes/a.md", "notes/b.txt", "notes/new.md"]
    assert shell("status", "--check-ready").code == 0


def test_run_without_types_supersedes_types(shell: Any) -> None:
    shell.write("notes/a.md", "alpha\n")
    shell.index("notes", "--type", "md")
    shell.index("notes")
    shell.index("notes", "--type", "md")
    shell.write("notes/b.txt", "beta\n")
    assert shell("index", "--format", "json").json["added"] == 1


def test_documents_that_no_remembered_run_would_take_are_seen_and_rebuilt(shell: Any) -> None:
    """The sources of an older searchctl, or edited ones: what is indexed counts, not what they say."""
    shell.write("notes/a.md", "alpha\n")
    shell.write("notes/b.txt", "beta\n")
    shell.index("notes")
    sources = shell.folder / ".searchctl/sources.json"
    data = json.loads(sources.read_text())
    data["sources"][0]["types"] = ["txt"]
    sources.write_text(json.dumps(data))
    shell.write("notes/a.md", "alpha changed\n")

    assert shell("status", "--format", "json").json["changed"] == ["notes/a.md"]
    assert shell("index", "--rebuild").code == 0
    assert paths(shell) == ["notes/a.md", "notes/b.txt"]


def test_rebuild_for_one_type_keeps_the_others(library: Any) -> None:
    before = paths(library)
    assert library("index", "docs", "--rebuild", "--type", "md").code == 0
    assert paths(library) == before


def test_rebuild_does_not_swap_when_an_indexed_file_cannot_be_read(shell: Any) -> None:
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["the heron waits"]}], "metadata": {}}
    whole = json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 5})
    shell.write("docs/b.ipynb", whole)
    shell.write("docs/c.txt", "plain\n")
    shell.index("docs")
    shell.write("docs/b.ipynb", "{ half written")

    ended = shell("index", "--rebuild")
    assert ended.code == 3
    assert "docs/b.ipynb" in ended.err
    assert "--rebuild --prune" in ended.err
    assert [hit["path"] for hit in shell.hits("heron", "--mode", "lexical")] == ["docs/b.ipynb"]
    assert (shell.folder / ".searchctl.rebuild").is_dir()

    shell.write("docs/b.ipynb", whole)
    again = shell("index", "--rebuild", "--format", "json")
    assert (again.code, again.json["unchanged"], again.json["added"]) == (0, 1, 1)  # it went on
    assert paths(shell) == ["docs/b.ipynb", "docs/c.txt"]


def test_rebuild_with_prune_does_without_a_file_that_cannot_be_read(shell: Any) -> None:
    shell.write("docs/b.ipynb", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    shell.write("docs/c.txt", "plain\n")
    shell.index("docs")
    shell.write("docs/b.ipynb", "{ half written")
    shell("index", "--rebuild", "--prune")
    assert paths(shell) == ["docs/c.txt"]
    assert not (shell.folder / ".searchctl.rebuild").exists()


def test_mistyped_path_leaves_the_collection_complete(library: Any) -> None:
    assert library("index", "dosc").code == 2
    assert complete(library)
    assert library("index", "docs", "dosc").code == 2
    assert complete(library)
    assert library("status", "--check-ready").code == 0


def test_mistyped_path_makes_no_collection(shell: Any) -> None:
    assert shell("index", "nowhere", "--model", "hashing").code == 2
    assert not (shell.folder / ".searchctl").exists()


def test_file_named_itself_survives_a_run_of_its_folder(shell: Any) -> None:
    shell.write("d/a.txt", "alpha\n")
    shell.write("d/drafts/x.txt", "beta\n")
    shell.write("d/drafts/y.txt", "gamma\n")
    shell.index("d", "--exclude", "drafts/")
    shell.index("d/drafts/x.txt")
    for _ in range(2):
        assert counts(shell.index("d", "--exclude", "drafts/")) == {"unchanged": 1}
        assert counts(shell("index", "--format", "json").json) == {"unchanged": 2}
    assert paths(shell) == ["d/a.txt", "d/drafts/x.txt"]
    (shell.folder / "d/drafts/x.txt").unlink()
    assert counts(shell.index("d", "--exclude", "drafts/")) == {"unchanged": 1, "removed": 1}


def test_swap_waits_for_the_process_that_is_in_the_middle_of_it(library: Any) -> None:
    """Between the two renames of a writer, a reader neither renames itself nor finds no collection."""
    folder = library.folder / ".searchctl"
    rebuilt, replaced = companions(folder)[1:]
    shutil.copytree(folder, rebuilt)
    lock = FileLock(swap_lock_file(folder), thread_local=False)
    lock.acquire()
    folder.rename(replaced)

    def finish() -> None:
        time.sleep(0.3)
        assert rebuilt.is_dir()
        assert replaced.is_dir()
        rebuilt.rename(folder)
        shutil.rmtree(replaced)
        lock.release()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(finish)
        assert len(library.hits("heron")) >= 1
        writer.result()
    assert [path.name for path in library.folder.iterdir() if "searchctl" in path.name] == [".searchctl"]


def test_replaced_folder_is_not_deleted_under_the_writer_that_swaps(library: Any) -> None:
    folder = library.folder / ".searchctl"
    replaced = companions(folder)[2]
    shutil.copytree(folder, replaced)
    with FileLock(swap_lock_file(folder)):
        assert len(library.hits("heron")) >= 1  # and nobody waits for the deletion
        assert replaced.is_dir()
    assert len(library.hits("heron")) >= 1
    assert not replaced.exists()


def test_readers_during_many_swaps_always_find_the_collection(library: Any) -> None:
    folder = library.folder / ".searchctl"
    seen: list[bool] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(is_collection(folder))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for _ in range(20):
                shutil.copytree(folder, rebuild_folder(folder))
                swap_in(folder)
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(seen) > 20
    assert all(seen)


def test_deleted_working_directory_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for find in (existing_collection, collection_to_write):
        for given in (None, Path("x")):
            with pytest.raises(AppError, match="working directory was deleted"):
                find(given)


def test_a_type_that_takes_no_file_is_said(shell: Any) -> None:
    shell.write("docs/a.md", "heron\n")
    ended = shell("index", "docs", "--type", "xyz", "--model", "hashing")
    assert (ended.code, "note: no file of type xyz" in ended.err) == (0, True)
    assert "note: " not in shell("index", "docs", "--type", "md").err


def test_a_model_that_is_not_to_be_had_leaves_no_collection_behind(shell: Any) -> None:
    shell.write("docs/a.md", "heron\n")
    assert shell("index", "docs", "--model", "./nowhere").code == 2
    assert [path.name for path in shell.folder.iterdir()] == ["docs"]
