"""`searchctl eval init` and `searchctl eval own` from the outside: the test set, the numbers, the errors."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from searchctl.app.evaluate.corpus_index import FillProgress
from searchctl.app.evaluate.own_collection_report import InitWords, OwnWords
from searchctl.app.terminal.console import Terminal
from searchctl.encoder.protocol import EncodeProgress
from searchctl.index.faiss_store import FaissStore
from searchctl.training.evaluation.own_collection import LEAST_QUERIES, MakingStep

TAILS = ("dan", "fer", "gol", "ri", "vex", "zum")
WORDS = [first + second for first in ("ba", "kel", "lom", "min", "nu", "ras", "si", "tor") for second in TAILS]


def parts(number: int) -> tuple[str, str, str, str]:
    """Title, text, heading and text of a page about a few words of all, some of them in every page."""
    rng = random.Random(number)
    topic = rng.sample(WORDS, 9)

    def sentence() -> str:
        return " ".join(rng.choice(topic if rng.random() < 0.7 else WORDS) for _ in range(12)).capitalize() + "."

    title, heading = (" ".join(rng.sample(topic, 3)) for _ in range(2))
    return title, " ".join(sentence() for _ in range(4)), heading, " ".join(sentence() for _ in range(4))


def page(number: int) -> str:
    return "# {}\n\n{}\n\n## {}\n\n{}\n".format(*parts(number))


@pytest.fixture
def pages(shell: Any) -> Any:
    """A shell with twenty indexed pages of two passages each."""
    for number in range(20):
        shell.write(f"pages/page{number:02}.md", page(number))
    summary = shell.index("pages")
    assert (summary["added"], summary["chunks_embedded"]) == (20, 40)
    return shell


def init(shell: Any, *args: str) -> Path:
    ended = shell("eval", "init", *args)
    assert ended.code == 0, ended.err
    assert ended.out == ""
    return shell.folder / ".searchctl.eval"


def mine(shell: Any, *args: str) -> Any:
    ended = shell("eval", "own", "--format", "json", *args)
    assert ended.code == 0, ended.err
    return ended.json


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def qrels(folder: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        found.setdefault(query, {})[document] = int(grade)
    return found


def test_init_makes_a_test_set_without_leaks(pages: Any) -> None:
    folder = init(pages, "-n", "21")
    corpus, queries, answers = rows(folder / "corpus.jsonl"), rows(folder / "queries.jsonl"), qrels(folder)
    assert len(corpus) == 40
    kinds = [query["kind"] for query in queries]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"title": 7, "heading": 7, "sentence": 7}
    for query in queries:
        assert answers[query["_id"]]
        for row in corpus:
            assert query["text"].lower() not in f"{row['title']}\n{row['text']}".lower()
    changed = {row["_id"] for row in corpus if not _is_whole(row)}
    assert changed == set(json.loads((folder / "manifest.json").read_text())["cut"])
    assert {id_ for found in answers.values() for id_ in found} <= changed


def _is_whole(row: dict[str, str]) -> bool:
    path, _, position = row["_id"].partition("#")
    number = int(re.findall(r"\d+", path)[0])
    title, first, heading, second = parts(number)
    if position == "0":
        return (row["title"], row["text"]) == (title, f"# {title}\n\n{first}")
    return (row["title"], row["text"]) == (f"{title} > {heading}", f"## {heading}\n\n{second}")


def test_init_tells_counts_and_three_examples(pages: Any) -> None:
    ended = pages("eval", "init", "-n", "12")
    assert re.search(r"test set: 12 queries \(4 titles, 4 headings, 4 sentences\) on 40 passages\n", ended.err)
    examples = re.findall(r"^  (title|heading|sentence) .*pages/page\d\d.md#[01]", ended.err, re.MULTILINE)
    assert examples == ["title", "heading", "sentence"]
    assert "kept in .searchctl.eval; measure with `searchctl eval own`" in ended.err
    fewer = pages("eval", "init", "-n", "5000", "--force")
    assert re.search(r"note: \d+ queries are all that the collection gives, 5,000 were asked for", fewer.err)


def test_init_is_the_same_for_the_same_seed(pages: Any) -> None:
    folder = init(pages, "-n", "20")
    first = {name: (folder / name).read_bytes() for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")}
    again = pages.folder / "other"
    init(pages, "-n", "20", "--output", "other")
    assert {name: (again / name).read_bytes() for name in first} == first
    init(pages, "-n", "20", "--seed", "1", "--force")
    assert (folder / "queries.jsonl").read_bytes() != first["queries.jsonl"]


def test_mine_measures_what_the_commands_find(pages: Any, tmp_path: Path) -> None:
    """The same numbers by hand: the test corpus indexed and asked by the commands, scored here."""
    folder = init(pages, "-n", "21")
    report = mine(pages, "--dense-weight", "0.5")
    corpus, answers = rows(folder / "corpus.jsonl"), qrels(folder)
    queries = rows(folder / "queries.jsonl")
    pages.write("apart/corpus.jsonl", (folder / "corpus.jsonl").read_bytes())
    asked = "".join(json.dumps({"id": query["_id"], "query": query["text"]}) + "\n" for query in queries)
    pages.write("asked.jsonl", asked)
    pages.folder = pages.folder / "apart"
    where = ("--collection", pages.folder / "own")
    assert pages("index", "corpus.jsonl", *where, "--model", "hashing", "-q").code == 0
    for mode in ("lexical", "dense", "hybrid"):
        how = ("--mode", mode, "--dense-weight", "0.5", "-k", "10", "--format", "jsonl", "--no-snippet")
        ended = pages("query", "--queries", "../asked.jsonl", *how, *where)
        rankings: dict[str, list[str]] = {query["_id"]: [] for query in queries}
        for line in ended.out.splitlines():
            hit = json.loads(line)
            rankings[hit["id"]].append(corpus[hit["lines"][0] - 1]["_id"])
        found = report["modes"][mode]
        scores = {id_: _scores(ranking, answers[id_]) for id_, ranking in rankings.items()}
        for column, metric in enumerate(("ndcg", "recall", "mrr")):
            expected = fmean(row[column] for row in scores.values())
            assert found[metric]["value"] == pytest.approx(expected, abs=2e-6)
            assert found[metric]["low"] <= expected <= found[metric]["high"]
            assert metric == "recall" or found[metric]["low"] + 0.05 < found[metric]["high"]
        for kind in ("title", "heading", "sentence"):
            part = [scores[query["_id"]][0] for query in queries if query["kind"] == kind]
            assert found["ndcg_by_kind"][kind]["value"] == pytest.approx(fmean(part), abs=2e-6)
    modes = {mode: report["modes"][mode]["ndcg"]["value"] for mode in ("lexical", "dense", "hybrid")}
    assert len(set(modes.values())) == 3
    for side in ("lexical", "dense"):
        gain = report["hybrid_minus"][side]
        assert gain["value"] == pytest.approx(modes["hybrid"] - modes[side], abs=2e-6)
        assert gain["low"] <= gain["value"] <= gain["high"]


def _scores(ranking: list[str], grades: dict[str, int]) -> tuple[float, float, float]:
    gains = [1 / math.log2(rank + 2) for rank, id_ in enumerate(ranking) if id_ in grades]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(len(grades)))
    first = next((1 / (rank + 1) for rank, id_ in enumerate(ranking) if id_ in grades), 0.0)
    return sum(gains) / ideal, len(gains) / len(grades), first


def test_mine_encodes_only_what_was_cut_and_once(pages: Any) -> None:
    folder = init(pages, "-n", "12")
    cut = json.loads((folder / "manifest.json").read_text())["cut"]
    assert 12 <= len(cut) < 30
    first = mine(pages)
    assert first["vectors"] == {"reused": 40 - len(cut), "encoded": len(cut)}
    second = mine(pages)
    assert second["vectors"] == {"reused": 0, "encoded": 0}
    for report in (first, second):
        report.pop("seconds_per_query_encoded")
        report.pop("vectors")
        for mode in report["modes"].values():
            assert mode.pop("seconds_per_query") > 0
    assert second == first


def test_the_flat_index_finds_all_and_a_worse_one_less(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    init(pages, "-n", "12")
    assert mine(pages)["faiss_recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    whole = FaissStore.search

    def forgetful(self: FaissStore, queries: Any, k: int, *, allowed: Any = None) -> Any:
        """Find nothing in every second vector, as a poor approximation may."""
        return whole(self, queries, k, allowed=self.ids[self.ids % 2 == 0])

    with monkeypatch.context() as patch:
        patch.setattr(FaissStore, "search", forgetful)
        found = mine(pages)["faiss_recall"]
        shown = pages("eval", "own").out
    assert 0.2 < found["low"] < found["value"] < found["high"] < 0.8
    points = [f"{100 * found[key]:.1f}" for key in ("value", "low", "high")]
    assert "FAISS finds {} % [{}, {}] of the 10 nearest that exact search finds".format(*points) in shown


def test_mine_shows_a_table(pages: Any) -> None:
    init(pages, "-n", "21")
    report = mine(pages)
    ended = pages("eval", "own")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "21 queries on 40 passages, encoder hashing, dense share of hybrid 0.05"
    for mode in ("lexical", "dense", "hybrid"):
        found = report["modes"][mode]
        numbers = [100 * found["ndcg"][key] for key in ("value", "low", "high")]
        numbers += [100 * found[name]["value"] for name in ("recall", "mrr")]
        row = next(line for line in lines if line.startswith(f"{mode} "))
        assert re.findall(r"[\d.]+", row)[:5] == [f"{number:.1f}" for number in numbers]
    assert "FAISS finds 100.0 % [100.0, 100.0] of the 10 nearest that exact search finds" in lines
    assert "title (7)" in ended.out
    assert all("sentence" not in line or "(7)" in line for line in lines)


def test_options_reach_the_search(pages: Any) -> None:
    init(pages, "-n", "21")
    plain = mine(pages)["modes"]
    all_dense = mine(pages, "--dense-weight", "1")
    assert all_dense["modes"]["hybrid"]["ndcg"] == plain["dense"]["ndcg"]
    assert all_dense["dense_weight"] == 1.0
    assert mine(pages, "--dense-weight", "0")["modes"]["hybrid"]["ndcg"] == plain["lexical"]["ndcg"]
    two = mine(pages, "-k", "2")
    assert two["modes"]["dense"]["recall"]["value"] < plain["dense"]["recall"]["value"]


def test_another_model_is_measured_on_the_same_test_set(pages: Any, tiny_folder: Path) -> None:
    init(pages, "-n", "12")
    ended = pages("eval", "own", "--format", "json", "--model", tiny_folder, "--precision", "fp32")
    assert "is not the collection's encoder" in ended.err
    assert ended.json["vectors"]["reused"] == 0
    assert ended.json["vectors"]["encoded"] >= 40
    assert ended.json["encoder"]["name"] == str(tiny_folder)
    assert ended.json["modes"]["dense"]["ndcg"] != mine(pages)["modes"]["dense"]["ndcg"]


def test_a_changed_collection_is_said_and_measured_as_it_was(pages: Any) -> None:
    folder = init(pages, "-n", "12")
    before = mine(pages)
    cut = json.loads((folder / "manifest.json").read_text())["cut"]
    whole = next(row["_id"] for row in rows(folder / "corpus.jsonl") if row["_id"] not in cut)
    (pages.folder / whole.partition("#")[0]).write_text("# Something else\n\nNothing that was there before.\n")
    pages.index("pages")
    ended = pages("eval", "own", "--format", "json")
    assert re.search(rf"\(generation 1, now 2\): [12] of {40 - len(cut)} passages", ended.err)
    assert ended.json["modes"]["hybrid"]["ndcg"] == before["modes"]["hybrid"]["ndcg"]
    assert ended.json["changed"]["passages_gone"] in (1, 2)
    assert before["changed"] == {"passages_gone": 0, "generation_then": 1, "generation_now": 1}


def test_a_rebuilt_collection_keeps_its_test_set_and_is_not_disturbed_by_it(pages: Any) -> None:
    folder = init(pages, "-n", "12")
    mine(pages)
    assert pages("index", "--rebuild", "-q", "--chunk-tokens", "128").code == 0
    assert (folder / "manifest.json").is_file()
    assert pages("verify").code == 0
    assert pages("status").code == 0
    assert pages("index", ".", "--hidden", "--format", "json").json["added"] == 0
    assert mine(pages)["queries"]["total"] == 12


def test_mistakes_are_explained(pages: Any, subtests: pytest.Subtests) -> None:
    for args, message, hint in [
        (("eval", "own"), "has no test set yet", "searchctl eval init"),
        (("eval", "own", "--data", "nowhere"), "manifest.json: is missing", "searchctl eval init"),
        (("eval", "init", "--output", "pages"), "is there and is no test set", None),
    ]:
        with subtests.test(args=args, message=message, hint=hint):
            ended = pages(*args)
            assert ended.code == 2
            assert message in ended.err
            assert hint is None or hint in ended.err
            assert ended.out == ""


def test_a_test_set_is_not_replaced_unasked(pages: Any) -> None:
    init(pages, "-n", "12")
    ended = pages("eval", "init")
    assert (ended.code, "--force" in ended.err) == (2, True)


def test_a_small_collection_is_refused_and_leaves_nothing(library: Any) -> None:
    ended = library("eval", "init")
    assert ended.code == 2
    assert re.search(r"\d passages give \d queries, expected at least 10", ended.err)
    assert not (library.folder / ".searchctl.eval").exists()


def test_without_a_collection(shell: Any) -> None:
    for command in ("init", "own"):
        ended = shell("eval", command)
        assert ended.code == 2
        assert "searchctl index PATH" in ended.err


def test_the_least_number_of_queries_is_that_of_the_option(pages: Any) -> None:
    assert pages("eval", "init", "-n", LEAST_QUERIES).code == 0
    assert pages("eval", "init", "--force", "-n", LEAST_QUERIES - 1).code == 2


def test_the_bar_says_speed_and_time_left() -> None:
    """Half of 200 passages are read and hold 5,000 tokens; of the 10,000 expected 2,000 are done in 4 s."""
    said: list[tuple[float, str]] = []
    words = OwnWords()
    words.update = lambda share, text: said.append((share, text))
    words.filling(FillProgress(passages=100, known=0, tokens_done=0, tokens_seen=5000, encode_s=0.0), 200)
    words.filling(FillProgress(passages=100, known=0, tokens_done=2000, tokens_seen=5000, encode_s=4.0), 200)
    assert [
        (0.0, "100 of 200 passages"),
        (pytest.approx(0.8 * 0.2), "100 of 200 passages, 500 tokens/s, 16 s left"),
    ] == said
    # 80 of the 100 were there: the 20 read again hold 1,000 tokens, and 100 more are to come.
    words.filling(FillProgress(passages=100, known=80, tokens_done=500, tokens_seen=1000, encode_s=1.0), 200)
    assert (pytest.approx(0.8 * 0.45), "100 of 200 passages, 500 tokens/s, 11 s left") == said[-1]
    words.asking(
        EncodeProgress(texts_done=1, texts_total=4, tokens_done=300, tokens_total=1200, texts_truncated=0),
        time.perf_counter() - 2,
    )
    share, text = said[-1]
    assert share == pytest.approx(0.8 + 0.2 / 4)
    assert re.fullmatch(r"1 of 4 queries, 1[45]\d tokens/s, [56]\.\d s left", text)


def test_the_bar_of_init_counts_each_step_and_says_the_time_left_in_it() -> None:
    clock = [0.0]
    said: list[tuple[float, str]] = []
    words = InitWords(lambda share, text: said.append((share, text)), now=lambda: clock[0])
    told = ((5, MakingStep.READ, 0, 400), (9, MakingStep.READ, 100, 400), (90, MakingStep.FIND, 0, 50))
    for at, step, done, of in (*told, (91, MakingStep.FIND, 10, 50), (91, MakingStep.CHECK, 400, 400)):
        clock[0] = at
        words.told(step, done, of)
    assert [
        (0.0, "1 of 6, reading: 0 of 400 passages"),
        (0.25 / 6, "1 of 6, reading: 100 of 400 passages, 12 s left in it"),
        (2 / 6, "3 of 6, finding queries: 0 of 50 sentences"),
        (2.2 / 6, "3 of 6, finding queries: 10 of 50 sentences, 4.0 s left in it"),
        (1.0, "6 of 6, checking the cuts: 400 of 400 passages"),
    ] == [(pytest.approx(share), text) for share, text in said]


def test_init_says_how_many_passages_are_done(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[float, str]] = []

    @contextmanager
    def recorded(self: Terminal, what: str) -> Iterator[Callable[[float, str], None]]:
        yield lambda share, words: said.append((share, words))

    monkeypatch.setattr(Terminal, "progress", recorded)
    init(pages, "-n", "12")
    for step in ("1 of 6, reading", "2 of 6, leaving out duplicates", "4 of 6, looking", "6 of 6, checking the cuts"):
        assert any(words.startswith(step) and words.endswith("40 of 40 passages") for _, words in said), step
    assert any(words.startswith("5 of 6, choosing: 11 of 12 queries") for _, words in said)
    shares = [share for share, _ in said]
    assert shares == sorted(shares)


def test_mine_says_its_speed_while_it_encodes(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    init(pages, "-n", "12")
    said: list[str] = []

    @contextmanager
    def recorded(self: Terminal, what: str) -> Iterator[Callable[[float, str], None]]:
        yield lambda share, words: said.append(words)

    monkeypatch.setattr(Terminal, "progress", recorded)
    mine(pages)
    for what in ("40 of 40 passages", r"\d+ of 12 queries"):
        assert any(re.fullmatch(rf"{what}, [\d,]+ tokens/s, [\d.]+ s left", words) for words in said), said


def test_help_is_light(subtests: pytest.Subtests) -> None:
    for command in ["init", "own"]:
        with subtests.test(command=command):
            code = (
                "import sys; from searchctl.app.cli import run; run(sys.argv[1:]);"
                "heavy = {'torch', 'transformers', 'faiss', 'mteb', 'numpy', 'tokenizers', 'sqlite_utils', 'peft',"
                " 'blake3'};"
                "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, "eval", command, "--help"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "--collection" in done.stdout
