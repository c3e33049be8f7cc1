"""`searchctl train mine` from the outside: negatives by a model and by words, resumed, and the mistakes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import Role
from searchctl.training.corpus import read_pairs

BIRDS = ("heron", "stork", "crane", "goose", "swan", "crow", "finch", "owl")
PLACES = ("river", "meadow", "forest", "shore", "roof")
RECIPE = """
source = "this test"
[supervised.sources.pairs]
instruction = "find birds"
symmetric = true
"""


def pair(number: int) -> dict[str, str]:
    bird, place = BIRDS[number % 8], PLACES[number % 5]
    return {
        "query": f"where does the {bird} of the {place} live",
        "positive": f"the {bird} lives at the {place} {number}",
    }


@pytest.fixture
def work(shell: Any) -> Any:
    shell.write("pairs.jsonl", "".join(json.dumps(pair(number)) + "\n" for number in range(40)))
    shell.write("more.jsonl", '{"text": "the heron was seen at the river"}\n{"text": "nothing of the kind"}\n')
    shell.write("recipe.toml", RECIPE)
    return shell


def rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def mined(shell: Any, *args: str, output: str = "mined.jsonl") -> list[dict[str, Any]]:
    ended = shell("train", "mine", "pairs.jsonl", "-o", output, *args)
    assert ended.code == 0, ended.err
    assert ended.out == f"{shell.folder / output}\n"
    return rows(shell.folder / output)


def test_negatives_are_near_the_query_and_below_the_margin(work: Any) -> None:
    found = mined(work, "--model", "hashing", "--count", "3", "--corpus", "more.jsonl", output="mined.jsonl.gz")
    assert [(row["query"], row["positive"]) for row in found] == [tuple(pair(n).values()) for n in range(40)]
    encoder = HashingEncoder()
    corpus = [pair(number)["positive"] for number in range(40)] + [
        row["text"] for row in rows(work.folder / "more.jsonl")
    ]
    documents = encoder.encode(corpus, role=Role.DOCUMENT)
    for number, row in enumerate(found):
        scores = (encoder.encode([row["query"]], role=Role.QUERY) @ documents.T)[0]
        right = {at for at, text in enumerate(corpus[:40]) if pair(at)["query"] == row["query"]}
        limit = scores[number] - 0.05 * abs(scores[number])
        below = [at for at in range(42) if at not in right and scores[at] <= limit]
        expected = sorted(below, key=lambda at, scores=scores: -scores[at])[:3]
        assert sorted(scores[corpus.index(text)] for text in row["negatives"]) == pytest.approx(
            sorted(scores[at] for at in expected)
        )
    assert {text for row in found for text in row["negatives"]} & {"the heron was seen at the river"}
    assert [path.name for path in work.folder.iterdir() if path.name.startswith(".")] == []


def test_the_manifest_says_how_the_negatives_came_about(work: Any) -> None:
    mined(work, "--model", "hashing", "--count", "3", "--corpus", "more.jsonl", "--margin", "0.9", "--skip-top", "1")
    manifest = json.loads((work.folder / "mined.manifest.json").read_text())
    source = read_pairs(work.folder / "pairs.jsonl")
    assert manifest["input"] == {"name": "pairs", "digest": source.digest, "pairs": 40}
    assert manifest["corpus"]["texts"] == 42
    assert [(Path(each["file"]).name, each["texts"]) for each in manifest["corpus"]["beside_positives"]] == [
        ("more.jsonl", 2)
    ]
    assert (manifest["count"], manifest["margin"], manifest["skip_top"]) == (3, 0.9, 1)
    scores = manifest["scores"]
    assert (scores["kind"], scores["fingerprint"]) == ("encoder", HashingEncoder().info.fingerprint)
    assert (scores["instruction"], scores["symmetric"]) == (None, False)
    output = read_pairs(work.folder / "mined.jsonl")
    assert manifest["output"]["digest"] == output.digest
    assert manifest["negatives"]["mined"] == sum(len(each.negatives) for each in output.pairs)
    assert sum(manifest["pairs_by_negatives"].values()) == 40


def test_lexical_needs_no_model_and_takes_nothing_without_a_common_word(work: Any) -> None:
    pytest.importorskip("bm25s")
    found = mined(work, "--lexical", "--count", "50", "--corpus", "more.jsonl")
    scores = json.loads((work.folder / "mined.manifest.json").read_text())["scores"]
    assert (scores["kind"], scores["k1"], scores["b"]) == ("bm25", 1.2, 0.75)
    for row in found:
        words = set(row["query"].split()) - {"where", "does", "the", "of"} | {"lives"}
        assert row["negatives"]
        for text in row["negatives"]:
            assert words & set(text.split()), (row["query"], text)


def test_a_pair_keeps_its_own_negatives_and_one_without_any_is_kept(work: Any) -> None:
    own = [
        {"query": "heron", "positive": "the heron lives", "negative": "no", "negatives": ["never"]},
        {"query": "qqq", "positive": "zzz"},
    ]
    work.write("pairs.jsonl", "".join(json.dumps(row) + "\n" for row in own))
    ended = work("train", "mine", "pairs.jsonl", "-o", "mined.jsonl", "--model", "hashing", "--margin", "0.01")
    assert ended.code == 0, ended.err
    first, second = rows(work.folder / "mined.jsonl")
    assert first["negatives"][:2] == ["no", "never"]
    assert second == {"query": "qqq", "positive": "zzz"}
    assert "pairs by negatives   0: 1, " in ended.err
    assert "note: 1 of 2 pairs have no negative" in ended.err


def test_what_is_said(work: Any) -> None:
    ended = work("train", "mine", "pairs.jsonl", "-o", "mined.jsonl", "--model", "hashing", "--count", "3")
    assert "pairs: 40 pairs, negatives from 40 texts\n" in ended.err
    assert "negatives\npairs by negatives   " in ended.err
    assert "left out by margin   " in ended.err
    assert ended.err.count("\n  query     ") == 3
    assert ended.err.count("\n  + 0.") == ended.err.count("\n  - 0.") == 3
    assert "`searchctl train run --stages supervised --data mined.jsonl`" in ended.err


def test_a_recipe_says_what_queries_are_told(work: Any, tiny_folder: Path) -> None:
    model = ["--model", str(tiny_folder), "--precision", "fp32"]
    plain = mined(work, *model, "--margin", "1")
    ended = work("train", "mine", "pairs.jsonl", "-o", "told.jsonl", *model, "--margin", "1", "--recipe", "recipe.toml")
    assert ended.code == 0, ended.err
    assert "pairs: queries are told 'find birds', documents too" in ended.err
    scores = json.loads((work.folder / "told.manifest.json").read_text())["scores"]
    assert (scores["instruction"], scores["symmetric"]) == ("find birds", True)
    assert rows(work.folder / "told.jsonl") != plain
    work.write("other.jsonl", (work.folder / "pairs.jsonl").read_text())
    ended = work("train", "mine", "other.jsonl", "-o", "o.jsonl", "--model", "hashing", "--recipe", "recipe.toml")
    assert "note: recipe recipe has no [supervised.sources.other] (it has pairs)" in ended.err


def test_several_files_go_into_a_folder_each_with_its_own_corpus(work: Any) -> None:
    work.write("b.jsonl", "".join(json.dumps(pair(number)) + "\n" for number in range(5)))
    (work.folder / "out").mkdir()
    ended = work("train", "mine", "pairs.jsonl", "b.jsonl", "-o", "out", "--model", "hashing")
    assert ended.code == 0, ended.err
    assert [len(rows(work.folder / "out" / name)) for name in ("pairs.jsonl", "b.jsonl")] == [40, 5]
    own = {pair(number)["positive"] for number in range(5)}
    assert {text for row in rows(work.folder / "out" / "b.jsonl") for text in row.get("negatives", [])} <= own


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["pairs.jsonl", "-o", "m.txt"],
            "--output is m.txt: expected a name ending in .jsonl",
        ),
        (["pairs.jsonl", "bad.jsonl", "-o", "m.jsonl"], "there are 2 files of pairs: expected a folder"),
        (["pairs.jsonl", "pairs.jsonl", "-o", "."], "two files are called pairs.jsonl"),
        (["pairs.jsonl", "-o", "pairs.jsonl", "--force"], "--output is pairs.jsonl, which is read from"),
        (["pairs.jsonl", "-o", "m.jsonl", "--margin", "0"], "--margin is 0: expected a share"),
        (["pairs.jsonl", "-o", "m.jsonl", "--lexical", "--max-tokens", "9"], "--max-tokens is of an encoder, and"),
        (["pairs.jsonl", "-o", "m.jsonl", "--recipe", "recipe.toml", "-i", "x"], "--instruction and --recipe both"),
        (["pairs.jsonl", "-o", "m.jsonl", "--recipe", "nowhere"], "--recipe is 'nowhere': expected a TOML file"),
        (["bad.jsonl", "-o", "m.jsonl"], "bad.jsonl, line 2: positive is missing"),
        (["pairs.jsonl", "-o", "m.jsonl", "--corpus", "nowhere"], "nowhere: is no .jsonl or .jsonl.gz file"),
        (["pairs.jsonl", "-o", "m.jsonl", "--model", "no-such-model"], "no-such-model"),
    ],
)
def test_mistakes_show_before_anything_is_written(work: Any, args: list[str], message: str) -> None:
    work.write("bad.jsonl", '{"query": "a", "positive": "b"}\n{"query": "a"}\n')
    before = {path.name: path.read_bytes() for path in work.folder.iterdir()}
    ended = work("train", "mine", *args)
    assert ended.code == 2
    assert message in ended.err
    assert {path.name: path.read_bytes() for path in work.folder.iterdir() if path.is_file()} == before


def test_a_model_of_the_environment_is_no_mistake_with_lexical(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.setenv("SEARCHCTL_MODEL", "no-such-model")
    assert len(mined(work, "--lexical")) == 40
