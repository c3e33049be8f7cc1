"""`searchctl status`, `verify`, `repair` and `models`."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from searchctl.encoder.models.registry import ENTRIES


def test_status_of_a_fresh_collection(library: Any) -> None:
    status = library("status", "--format", "json").json
    assert (status["schema"], status["ready"], status["complete"]) == (1, True, True)
    assert (status["documents"], status["settings"]["encoder_name"]) == (5, "hashing")
    assert status["formats"] == {"markdown": 2, "python": 1, "text": 2}
    assert status["sources"] == [str(library.folder / "docs"), str(library.folder / "code")]
    assert (status["changed"], status["missing"], status["new"]) == ([], [], [])
    assert library("status", "--check-ready", "-q").code == 0


def test_status_names_what_changed_vanished_and_came(library: Any) -> None:
    library.write("docs/crash.md", "# Other\n\nSomething else.\n")
    (library.folder / "docs/query.md").unlink()
    library.write("docs/new.md", "new\n")
    (library.folder / "docs/animals/bees.txt").touch()  # the same bytes: not changed
    ended = library("status", "--format", "json", "--check-ready")
    assert ended.code == 3
    status = ended.json
    assert (status["changed"], status["missing"], status["new"]) == (
        ["docs/crash.md"],
        ["docs/query.md"],
        ["docs/new.md"],
    )
    assert "stale: 1 changed, 1 missing, 1 new" in library("status").out
    library.index("docs")
    assert library("status", "--check-ready").code == 0


def test_status_of_a_vanished_folder(library: Any) -> None:
    (library.folder / "code/tide.py").unlink()
    (library.folder / "code").rmdir()
    assert library("status", "--format", "json").json["missing"] == ["code/tide.py"]


def test_status_without_known_sources(library: Any) -> None:
    (library.folder / ".searchctl/sources.json").unlink()
    library.write("docs/crash.md", "changed\n")
    status = library("status", "--format", "json").json
    assert (status["changed"], status["sources"]) == (["docs/crash.md"], [])


def test_damaged_sources_are_named(library: Any) -> None:
    (library.folder / ".searchctl/sources.json").write_text("{")
    ended = library("status")
    assert ended.code == 2
    assert "sources.json" in ended.err


def test_verify_and_repair_of_a_lost_faiss_file(library: Any) -> None:
    assert library("verify").code == 0
    for file in (library.folder / ".searchctl").glob("*.faiss"):
        file.write_bytes(b"garbage")
    assert len(library.hits("heron")) > 0  # the catalogue is the truth
    ended = library("verify", "--format", "json")
    assert ended.code == 3
    assert [problem["repairable"] for problem in ended.json["problems"]] == [True]
    assert library("repair").code == 0
    assert library("verify").code == 0


def test_verify_of_a_lost_vector_ends_with_5_and_repair_says_what_is_left(library: Any) -> None:
    connection = sqlite3.connect(library.folder / ".searchctl/catalogue.db")
    connection.execute("UPDATE vectors SET vector = zeroblob(1024) WHERE id = 1")
    connection.commit()
    connection.close()
    assert library("verify").code == 5
    assert library("repair").code == 5
    assert library.index("docs", "code")["chunks_embedded"] == 1
    assert library("verify").code == 0


def test_damaged_catalogue_ends_with_5(library: Any) -> None:
    file = library.folder / ".searchctl/catalogue.db"
    file.write_bytes(b"not a database" * 100)
    ended = library("query", "heron")
    assert ended.code == 5
    assert "Traceback" not in ended.err


def test_every_report_parses(library: Any, subtests: pytest.Subtests) -> None:
    for command in ["status", "verify", "repair"]:
        for form in ["table", "json"]:
            with subtests.test(command=command, form=form):
                ended = library(command, "--format", form)
                assert ended.code == 0
                if form == "json":
                    assert ended.json["schema"] == 1
                assert all(line == line.rstrip() for line in ended.out.splitlines())


def test_models_list_has_every_entry(shell: Any) -> None:
    listed = shell("models", "list", "--format", "json").json["models"]
    assert [model["name"] for model in listed] == [entry.name for entry in ENTRIES]
    assert [model["name"] for model in listed if model["here"]] == ["hashing"]  # an empty cache
    table = shell("models", "list").out
    assert all(entry.name in table and entry.licence in table for entry in ENTRIES)


def test_models_info(shell: Any) -> None:
    described = shell("models", "info", "hashing", "--format", "json", "--dim", "64").json
    assert described["encoder"]["dim"] == 64
    assert len(described["encoder"]["fingerprint"]) == 64
    elsewhere = shell("models", "info", "smollm2-135m")
    assert elsewhere.code == 0
    assert "searchctl models pull smollm2-135m" in elsewhere.err


def test_unknown_model_is_named_with_what_was_meant(new_shell: Any, subtests: pytest.Subtests) -> None:
    for command in ["info", "path", "pull"]:
        with subtests.test(command=command):
            shell = new_shell()
            ended = shell("models", command, "smolm2-135m")
            assert ended.code == 2
            assert "smollm2-135m" in ended.err


def test_a_folder_that_is_not_there_is_no_model_to_pull(new_shell: Any, subtests: pytest.Subtests) -> None:
    for command in ["info", "path", "pull"]:
        with subtests.test(command=command):
            shell = new_shell()
            ended = shell("models", command, "./typo")
            assert (ended.code, ended.out) == (2, ""), ended.err
            assert "./typo: no model of that name and no such folder" in ended.err
            assert "models pull ./typo" not in ended.err


def test_path_of_a_model_that_is_not_here(shell: Any) -> None:
    ended = shell("models", "path", "smollm2-135m")
    assert (ended.code, ended.out) == (2, "")
    assert "searchctl models pull smollm2-135m" in ended.err
