"""`searchctl train pairs` from the outside: the file, what is said, the mistakes."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.train.commands import PairMethod
from searchctl.training.data.corpus import read_pairs
from searchctl.training.data.crops import Method

PAGES = {
    "herons.md": (
        "# Herons\n\nThe grey heron stands in shallow water and waits for fish. It folds its neck in flight, and when "
        "the water of the river is high, it hunts in the meadows for mice.\n"
    ),
    "bees.md": (
        "# Bees\n\nBees dance in the dark hive to tell their sisters where the flowers bloom. It is the angle to the "
        "vertical that says where the sun is, and flowers far away make for a longer dance.\n"
    ),
}
QUERIES = [
    "Bees dance in the dark hive to tell their sisters where the flowers bloom.",
    "The grey heron stands in shallow water and waits for fish.",
]


@pytest.fixture
def pages(shell: Any) -> Any:
    for name, text in PAGES.items():
        shell.write(f"pages/{name}", text)
    return shell


def made(shell: Any, *args: str, output: str = "pairs.jsonl") -> list[dict[str, str]]:
    ended = shell("train", "pairs", *args, "-o", output)
    assert ended.code == 0, ended.err
    assert ended.out == f"{shell.folder / output}\n"
    data = (shell.folder / output).read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if output.endswith(".gz") else data).splitlines()]


def test_every_method_can_be_asked_for() -> None:
    assert set(Method) == {method.value for method in PairMethod}


def test_documents_become_pairs_that_training_reads(pages: Any) -> None:
    rows = made(pages, "pages", output="pairs.jsonl.gz")
    assert [row["query"] for row in rows] == QUERIES
    for row in rows:
        assert row["positive"].startswith(("Bees\n", "Herons\n"))
    source = read_pairs(pages.folder / "pairs.jsonl.gz")
    manifest = json.loads((pages.folder / "pairs.manifest.json").read_text())
    assert manifest["output"] == {"file": "pairs.jsonl.gz", "digest": source.digest, "pairs": 2}
    assert (manifest["method"], manifest["seed"], manifest["pairs_per_passage"]) == ("cloze", 0, 1)
    assert [Path(file["file"]).name for file in manifest["input"]] == ["bees.md", "herons.md"]


def test_what_is_said(pages: Any) -> None:
    pages.write("pages/broken.pdf", b"%PDF-1.4 but not really")
    ended = pages("train", "pairs", "pages", "-o", "pairs.jsonl")
    assert "read: 2 texts in 2 documents\n" in ended.err
    assert "note: 1 document could not be read" in ended.err
    assert "broken.pdf" in ended.err
    assert "made: 2 pairs from 2 passages" in ended.err
    assert "2 about what the sentence before named" in ended.err
    assert f"  query     {QUERIES[0]}\n" in ended.err
    assert "`searchctl train run --stages supervised --data pairs.jsonl`" in ended.err
    assert pages("train", "pairs", "pages", "-o", "other.jsonl", "-q").err == ""


def test_named_files_that_are_not_read_are_told_with_their_reason(pages: Any) -> None:
    pages.write("odd.xyz", b"\0\1\2")
    with (pages.folder / "dump.txt").open("wb") as file:
        file.truncate(32 * 2**20 + 1)
    too_large = "33,554,433 bytes, more than the cap of 33,554,432"
    ended = pages("train", "pairs", "pages", "dump.txt", "odd.xyz", "-o", "pairs.jsonl")
    assert ended.code == 0, ended.err
    assert "read: 2 texts in 2 documents\n" in ended.err
    paths = [str(pages.folder / name) for name in ("dump.txt", "odd.xyz")]
    assert f"note: 2 documents could not be read: {paths[0]} ({too_large}), {paths[1]} (binary)\n" in ended.err
    manifest = json.loads((pages.folder / "pairs.manifest.json").read_text())
    assert manifest["unread"] == {paths[0]: too_large, paths[1]: "binary"}
    ended = pages("train", "pairs", "dump.txt", "-o", "other.jsonl")
    assert ended.code == 2
    assert (
        f"dump.txt: no text found: {paths[0]} ({too_large}). Expected JSON lines or documents that can be" in ended.err
    )


def test_a_name_that_is_no_utf8_is_told_and_goes_into_the_manifest(pages: Any) -> None:
    try:
        (pages.folder / "pages" / os.fsdecode(b"caf\xe9.md")).write_text("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    made(pages, "pages")
    unread = json.loads((pages.folder / "pairs.manifest.json").read_text())["unread"]
    assert unread == {
        f"{pages.folder}/pages/caf\\xe9.md": "its name is not valid UTF-8 and cannot be stored; rename it"
    }


def test_a_collection_gives_its_passages_with_their_context(pages: Any) -> None:
    pages.index("pages")
    assert made(pages, "--collection", ".", "--method", "title", output="titles.jsonl") == [
        {"query": "Bees", "positive": PAGES["bees.md"].split("\n\n")[1].strip()},
        {"query": "Herons", "positive": PAGES["herons.md"].split("\n\n")[1].strip()},
    ]
    source = json.loads((pages.folder / "titles.manifest.json").read_text())["input"][0]
    assert (source["collection"], source["texts"]) == (str(pages.folder / ".searchctl"), 2)
    assert [row["query"] for row in made(pages, "--collection", ".")] == QUERIES


def test_the_seed_and_the_number_of_crops_decide(pages: Any) -> None:
    rows = made(pages, "pages", "--method", "crop", "--crops", "3")
    assert len(rows) == 6
    assert made(pages, "pages", "--method", "crop", "--crops", "3", output="again.jsonl") == rows
    assert made(pages, "pages", "--method", "crop", "--crops", "3", "--seed", "1", output="other.jsonl") != rows


def test_a_folder_stands_for_its_json_lines_and_its_documents(pages: Any) -> None:
    pages.write("pages/stray.jsonl", json.dumps({"text": PAGES["herons.md"].replace("heron", "egret")}) + "\n")
    ended = pages("train", "pairs", "pages", "-o", "pairs.jsonl")
    assert "read: 3 texts in 1 file of JSON lines, 2 documents\n" in ended.err
    manifest = json.loads((pages.folder / "pairs.manifest.json").read_text())
    assert [Path(file["file"]).name for file in manifest["input"]] == ["stray.jsonl", "bees.md", "herons.md"]


@pytest.mark.parametrize("output", ["pages/pairs.jsonl", "pages/deeper/pairs.jsonl"])
def test_an_output_among_the_texts_is_not_read(pages: Any, output: str) -> None:
    (pages.folder / "pages/deeper").mkdir()
    first = made(pages, "pages", output=output)
    ended = pages("train", "pairs", "pages", "-o", output, "--force")
    assert ended.code == 0, ended.err
    assert "read: 2 texts in 2 documents\n" in ended.err
    assert f"{output} is written by this run, and not read\n" in ended.err
    assert [json.loads(line) for line in (pages.folder / output).read_text().splitlines()] == first


def test_mistakes_leave_everything_as_it_was(pages: Any, subtests: pytest.Subtests) -> None:
    pages.write("there.jsonl", '{"query": "mine"}\n')
    pages.write("texts/a.jsonl", '{"text": "mine"}\n')
    pages.write("short.jsonl", '{"text": "Too short."}\n')
    (pages.folder / "empty").mkdir()
    for args, message in [
        (["-o", "p.jsonl"], "there is nothing to make pairs of"),
        (["pages", "-o", "p.json"], "--output is p.json: expected a file name ending in .jsonl or .jsonl.gz"),
        (["pages", "-o", "nowhere/p.jsonl"], "there is no folder"),
        (["pages", "-o", "there.jsonl"], "there.jsonl is there already: expected a new name for --output, or --force"),
        (["there.jsonl", "-o", "there.jsonl", "--force"], "--output is there.jsonl, which is read from"),
        (
            ["texts", "-o", "texts/a.jsonl.gz", "--force"],
            "whose manifest a.manifest.json would be that of texts/a.jsonl",
        ),
        (["there.jsonl", "-o", "p.jsonl"], "there.jsonl, line 1: text is missing"),
        (["nowhere", "-o", "p.jsonl"], "nowhere: no such file or folder"),
        (["pages", "-o", "p.jsonl", "--method", "title", "--crops", "2"], "a text has one title, leave --crops out"),
        (["short.jsonl", "-o", "p.jsonl"], "1 texts make no pair by --method cloze: passages: 1 without a sentence"),
        (["empty", "-o", "p.jsonl"], "empty: no text found"),
    ]:
        with subtests.test(args=args, message=message):
            ended = pages("train", "pairs", *args)
            assert ended.code == 2
            assert message in ended.err
            assert (pages.folder / "there.jsonl").read_text() == '{"query": "mine"}\n'
            assert not list(pages.folder.glob("p.*"))
            assert [path.name for path in (pages.folder / "texts").iterdir()] == ["a.jsonl"]


def test_force_replaces_a_file_and_its_manifest(pages: Any) -> None:
    made(pages, "pages", "--method", "crop")
    made(pages, "pages", "--force")
    manifest = json.loads((pages.folder / "pairs.manifest.json").read_text())
    assert manifest["method"] == "cloze"
    assert manifest["output"]["digest"] == read_pairs(pages.folder / "pairs.jsonl").digest
