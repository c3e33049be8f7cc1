"""`searchctl train mine` from the outside: negatives by a model and by words, resumed, and the mistakes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.errors import AppError
from searchctl.app.train.hard_negatives import PART, workspace
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import Role
from searchctl.training.data.corpus import read_pairs

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


def test_cut_texts_are_said_and_stand_in_the_manifest(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt too, which leaves the vectors of the queries."""
    given = ("train", "mine", "pairs.jsonl", "-o", "mined.jsonl", "--model", "hashing", "--max-tokens", "7")
    encode = HashingEncoder.encode

    def interrupted(self: HashingEncoder, texts: list[str], *, role: Role, **rest: Any) -> Any:
        if role is Role.DOCUMENT:
            raise KeyboardInterrupt
        return encode(self, texts, role=role, **rest)

    monkeypatch.setattr(HashingEncoder, "encode", interrupted)
    assert "vectors computed so far are kept" in work(*given).err
    monkeypatch.setattr(HashingEncoder, "encode", encode)
    # All 40 queries have eight words, all texts seven.
    assert "note: 40 texts were longer than 7 tokens and were cut there" in work(*given).err
    assert json.loads((work.folder / "mined.manifest.json").read_text())["scores"]["texts_cut"] == 40


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


NO_TABLE = "training on mined.jsonl with recipe recipe finds no [supervised.sources.mined] and uses the defaults"
OTHER = "uses [supervised.sources.mined], which says something else"
SAME_WORDS = '[supervised.sources.mined]\ninstruction = "find birds"\nsymmetric = true\nweight = 3.0\n'


@pytest.mark.parametrize(
    ("source", "output", "tables", "said"),
    [
        ("pairs", "mined.jsonl", "", f"pairs was mined as [supervised.sources.pairs] says; {NO_TABLE}"),
        ("pairs", "mined.jsonl", '[supervised.sources.mined]\ninstruction = "find beasts"\n', OTHER),
        ("other", "pairs.jsonl.gz", "", "other was mined without a table; training on pairs.jsonl.gz"),
        ("pairs", "mined.jsonl", SAME_WORDS, None),
        ("pairs", "out/pairs.jsonl.gz", "", None),
        ("other", "mined.jsonl", "", None),
    ],
)
def test_a_name_that_training_finds_another_table_for_is_said(
    work: Any, source: str, output: str, tables: str, said: str | None
) -> None:
    pairs = (work.folder / "pairs.jsonl").read_text()
    (work.folder / "pairs.jsonl").unlink()
    work.write(f"in/{source}.jsonl", pairs)
    work.write("recipe.toml", RECIPE + tables)
    (work.folder / "out").mkdir()
    args = ["--model", "hashing", "--recipe", "recipe.toml"]
    ended = work("train", "mine", f"in/{source}.jsonl", "-o", output, *args)
    assert ended.code == 0, ended.err
    assert "was mined" not in ended.err if said is None else said in ended.err
    assert f"`searchctl train run --stages supervised --recipe recipe.toml --data {output}`" in ended.err


def test_several_files_go_into_a_folder_each_with_its_own_corpus(work: Any) -> None:
    work.write("b.jsonl", "".join(json.dumps(pair(number)) + "\n" for number in range(5)))
    (work.folder / "out").mkdir()
    ended = work("train", "mine", "pairs.jsonl", "b.jsonl", "-o", "out", "--model", "hashing")
    assert ended.code == 0, ended.err
    assert [len(rows(work.folder / "out" / name)) for name in ("pairs.jsonl", "b.jsonl")] == [40, 5]
    own = {pair(number)["positive"] for number in range(5)}
    assert {text for row in rows(work.folder / "out" / "b.jsonl") for text in row.get("negatives", [])} <= own


def test_mistakes_show_before_anything_is_written(work: Any, subtests: pytest.Subtests) -> None:
    for args, message in [
        (
            ["pairs.jsonl", "-o", "m.txt"],
            "--output is m.txt: expected a name ending in .jsonl",
        ),
        (["pairs.jsonl", "bad.jsonl", "-o", "m.jsonl"], "there are 2 files of pairs: expected a folder"),
        (["pairs.jsonl", "pairs.jsonl", "-o", "."], "pairs.jsonl and pairs.jsonl: their results would have one name"),
        (
            ["pairs.jsonl", "pairs.jsonl.gz", "-o", "."],
            "pairs.jsonl and pairs.jsonl.gz: their results would have one manifest, pairs.manifest.json",
        ),
        (
            ["pairs.jsonl", "-o", "pairs.jsonl.gz", "--force"],
            "whose manifest pairs.manifest.json would be that of pairs.jsonl too",
        ),
        (
            ["pairs.jsonl", "-o", "m/a.jsonl", "--corpus", "m", "--force"],
            "whose manifest a.manifest.json would be that of m/a.jsonl.gz too",
        ),
        (["pairs.jsonl", "-o", "pairs.jsonl", "--force"], "--output is pairs.jsonl, which is read from"),
        (["pairs.jsonl", "-o", "m.jsonl", "--margin", "0"], "--margin is 0: expected a share"),
        (["pairs.jsonl", "-o", "m.jsonl", "--lexical", "--max-tokens", "9"], "--max-tokens is of an encoder, and"),
        (["pairs.jsonl", "-o", "m.jsonl", "--recipe", "recipe.toml", "-i", "x"], "--instruction and --recipe both"),
        (["pairs.jsonl", "-o", "m.jsonl", "--recipe", "nowhere"], "--recipe is 'nowhere': expected a TOML file"),
        (["bad.jsonl", "-o", "m.jsonl"], "bad.jsonl, line 2: positive is missing"),
        (["pairs.jsonl", "-o", "m.jsonl", "--corpus", "nowhere"], "nowhere: is no .jsonl or .jsonl.gz file"),
        (["pairs.jsonl", "-o", "m.jsonl", "--model", "no-such-model"], "no-such-model"),
    ]:
        with subtests.test(args=args, message=message):
            work.write("bad.jsonl", '{"query": "a", "positive": "b"}\n{"query": "a"}\n')
            work.write("m/a.jsonl.gz", gzip.compress(b'{"text": "mine"}\n'))
            work.write("pairs.manifest.json", "{}")

            def all_files() -> dict[Path, bytes]:
                return {path: path.read_bytes() if path.is_file() else b"" for path in work.folder.rglob("*")}

            before = all_files()
            ended = work("train", "mine", *args)
            assert ended.code == 2
            assert message in ended.err
            assert all_files() == before


def test_a_model_of_the_environment_is_no_mistake_with_lexical(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm25s")
    monkeypatch.setenv("SEARCHCTL_MODEL", "no-such-model")
    assert len(mined(work, "--lexical")) == 40


def test_an_output_in_the_corpus_is_no_part_of_it(work: Any) -> None:
    work.write("more/more.jsonl", (work.folder / "more.jsonl").read_text())
    args = ["--model", "hashing", "--corpus", "more", "--force"]
    first = mined(work, *args, output="more/mined.jsonl")
    ended = work("train", "mine", "pairs.jsonl", "-o", "more/mined.jsonl", *args)
    assert "more/mined.jsonl is written by this run, and no part of the corpus" in ended.err
    assert rows(work.folder / "more/mined.jsonl") == first
    manifest = json.loads((work.folder / "more/mined.manifest.json").read_text())
    assert [Path(each["file"]).name for each in manifest["corpus"]["beside_positives"]] == ["more.jsonl"]


KILLED = """
import resource, signal, sys
from searchctl.app.cli import run
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
run(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="the size of files is limited to kill the run while it writes")
def test_a_run_killed_while_it_writes_leaves_nothing_that_the_next_does_not_clear(work: Any) -> None:
    pytest.importorskip("bm25s")
    words = ["train", "mine", "pairs.jsonl", "-o", "mined.jsonl", "--lexical", "--count", "30"]
    before = sorted(path.name for path in work.folder.iterdir())
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words],
        cwd=work.folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGXFSZ, ended.stderr
    assert sorted(path.name for path in work.folder.iterdir()) == sorted([*before, ".mined.mining"])
    assert (work.folder / ".mined.mining" / PART).stat().st_size > 0
    assert work(*words).code == 0
    assert sorted(path.name for path in work.folder.iterdir()) == sorted(
        [*before, "mined.jsonl", "mined.manifest.json"]
    )


def test_a_workspace_stays_after_a_failure_only_with_something_in_it(tmp_path: Path) -> None:
    folder = tmp_path / ".mined.mining"
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "mined.jsonl"):
        raise KeyboardInterrupt
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "mined.jsonl"):
        (folder / "vectors").write_bytes(b"kept")
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["vectors"]
    (folder / PART).write_bytes(b"of a killed run")
    with workspace(tmp_path / "mined.jsonl"):
        assert (folder / "vectors").read_bytes() == b"kept"
        assert not (folder / PART).exists()
        with pytest.raises(AppError, match="another process is making"), workspace(tmp_path / "mined.jsonl.gz"):
            pass
        assert (folder / "vectors").exists()
    assert not folder.exists()
