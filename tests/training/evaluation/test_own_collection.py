"""A test set from one's own passages: what becomes a query, what is cut where, and that nothing leaks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchctl.training.data.sentences import (
    cropped,
    holds,
    occurrences,
    sentences_of,
    shared,
    without,
    without_heading,
    words_of,
)
from searchctl.training.errors import DataError, EvaluationError
from searchctl.training.evaluation.own_collection import Drop, make_test_set
from searchctl.training.evaluation.own_collection_folder import (
    Passage,
    TestSet,
    exact_thresholds,
    ndcg,
    read_test_set,
    recall,
    reciprocal_rank,
    share_found,
    write_test_set,
)


def filler(seed: int, count: int = 20) -> str:
    """Words of a passage that are no sentence; different for each seed."""
    return " ".join(f"filler{seed}w{number}" for number in range(count))


def passage(
    document: str, text: str, *, position: int = 0, title: str | None = None, headings: Sequence[str] = ()
) -> Passage:
    parts = [*([title] if title else []), *headings]
    return Passage(
        id=f"{document}#{position}",
        document=document,
        title=title,
        headings=tuple(headings),
        context=" > ".join(parts),
        text=text,
        position=position,
    )


ANIMALS = ["heron", "otter", "badger", "marten", "curlew", "plover", "dunlin", "godwit", "avocet", "bittern"]


FERRY = "Every winter the ferry to Aland carries more snow than people."


def sentence(number: int) -> str:
    animal = ANIMALS[number % 10]
    return f"The {animal} of valley {number} sleeps under {animal} trees until rain {number} ends."


def enough(count: int = 10) -> list[Passage]:
    """Passages that give one query each, whatever else there is."""
    return [passage(f"enough{n}", f"{filler(1000 + n)}\n\n{sentence(n)}\n\n{filler(2000 + n)}") for n in range(count)]


def queries_of(test_set: TestSet) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(query.kind, query.text, query.answers) for query in test_set.queries}


def corpus_of(test_set: TestSet) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.title, entry.text) for entry in test_set.corpus}


def extra(test_set: TestSet) -> set[tuple[str, str, tuple[str, ...]]]:
    """The queries besides those of `enough`."""
    return {query for query in queries_of(test_set) if not query[2][0].startswith("enough")}


def test_a_collection_by_hand() -> None:
    """Each document leaves one choice: four titles, four headings over two passages each, four sentences."""
    given: list[Passage] = []
    for n in range(4):
        given.append(passage(f"t{n}", f"# Title number{n}\n\n{filler(n)}", title=f"Title number{n}"))
        heading = f"On *matter* {n}"
        plain = f"On matter {n}"
        given += [
            passage(f"h{n}", f"## {heading}\n\n{filler(10 + n)}", headings=["Notes", plain]),
            passage(f"h{n}", filler(20 + n), headings=["Notes", plain, "Deeper"], position=1),
        ]
        given.append(passage(f"s{n}", f"{filler(30 + n)}\n\n- {sentence(n)}\n- {filler(40 + n)}"))
    made = make_test_set(given, count=100, seed=3)
    assert queries_of(made) == {
        query
        for n in range(4)
        for query in (
            ("title", f"Title number{n}", (f"t{n}#0",)),
            ("heading", f"On matter {n}", (f"h{n}#0", f"h{n}#1")),
            ("sentence", sentence(n), (f"s{n}#0",)),
        )
    }
    assert corpus_of(made) == {
        id_: entry
        for n in range(4)
        for id_, entry in (
            (f"t{n}#0", ("", filler(n))),
            (f"h{n}#0", ("Notes", filler(10 + n))),
            (f"h{n}#1", ("Notes > Deeper", filler(20 + n))),
            (f"s{n}#0", ("", f"{filler(30 + n)}\n\n- {filler(40 + n)}")),
        )
    }
    assert made.cut == set(corpus_of(made))
    assert made.kinds == {"title": 4, "heading": 4, "sentence": 4}
    assert made.dropped == {Drop.SHORT: 8}  # "Notes" and "Deeper" of each document


def test_kinds_and_documents_take_turns() -> None:
    big = [
        passage("big", f"{filler(n)}\n\n{sentence(n)}", headings=[f"Part {n} here"], position=n, title="The big one")
        for n in range(60)
    ]
    small = [
        passage(f"small{n}", f"{filler(100 + n)}\n\n{sentence(60 + n)}", headings=[f"Chapter {n} there"])
        for n in range(4)
    ]
    made = make_test_set([*big, *small], count=12, seed=0)
    assert made.kinds == {"heading": 6, "sentence": 6}
    # Five documents, twelve turns; a small one has one passage, and each passage one query.
    assert {answer for query in made.queries for answer in query.answers if answer.startswith("small")} == {
        f"small{n}#0" for n in range(4)
    }
    assert [query.kind for query in made.queries] == ["heading", "sentence"] * 6


def dropped(*passages: Passage) -> tuple[set[tuple[str, str, tuple[str, ...]]], dict[str, int]]:
    """Return the queries that these passages give among enough others, and what was dropped."""
    made = make_test_set([*enough(), *passages], count=100, seed=1)
    return extra(made), dict(made.dropped)


def test_what_is_no_query(subtests: pytest.Subtests) -> None:
    for reason, passages in [
        (Drop.SHORT, [passage("a", filler(1), title="Introduction")]),
        (Drop.BOILERPLATE, [passage(f"a{n}", filler(n), headings=["See also"]) for n in range(3)]),
        (Drop.WIDE, [passage("a", filler(n), title="Long work", position=n) for n in range(11)]),
        (Drop.ELSEWHERE, [passage("a", filler(1), title="Crash safety"), passage("b", f"a crash, safety {filler(2)}")]),
        (Drop.ELSEWHERE, [passage("a", f"{filler(1)}\n\n{FERRY}"), passage("b", f"{filler(2)} {FERRY[:-1]} now")]),
        (Drop.REMAINS, [passage("a", f"of crash safety {filler(1)}", title="Crash safety")]),
        (Drop.LITTLE_LEFT, [passage("a", f"{filler(1, 14)}\n\n{FERRY}")]),
    ]:  # fmt: skip
        with subtests.test(reason=reason, passages=passages):
            found, counts = dropped(*passages)
            times = 3 if reason is Drop.BOILERPLATE else 1
            assert (found, counts) == (set(), {reason: times})


def test_the_borders_of_what_is_no_query() -> None:
    """One document, passage, word less, and it is one."""
    assert dropped(*(passage(f"a{n}", filler(n), headings=[f"See {n}"]) for n in range(3)))[0] == {
        ("heading", f"See {n}", (f"a{n}#0",)) for n in range(3)
    }
    ten = [passage("a", filler(n), title="Long work", position=n) for n in range(10)]
    assert dropped(*ten)[0] == {("title", "Long work", tuple(f"a#{n}" for n in range(10)))}
    assert dropped(passage("a", f"{filler(1, 15)}\n\n{FERRY}"))[0] == {("sentence", FERRY, ("a#0",))}
    apart = [passage("a", filler(1), title="Crash safety"), passage("b", f"crash and safety {filler(2)}")]
    assert dropped(*apart)[0] == {("title", "Crash safety", ("a#0",))}


def test_a_passage_serves_one_query() -> None:
    both = passage("a", f"{filler(1)}\n\n{FERRY}", title="Crash safety")
    found, counts = dropped(both)
    assert (len(found), counts) == (1, {Drop.TAKEN: 1})


def test_nearly_the_same_query_is_asked_once() -> None:
    long, turned = "Rules of the road for small boats", "For small boats, of the road: rules"
    found, counts = dropped(
        passage("a", filler(1), title=long), passage("b", filler(2), title=turned)
    )  # fmt: skip
    assert (len(found), counts) == (1, {Drop.SIMILAR: 1})


def test_an_overlap_is_cut_too_and_answers_when_it_held_the_sentence() -> None:
    whole = FERRY
    end = "more snow than people."
    found, _ = dropped(
        passage("a", f"{filler(1)}\n\n{whole}", position=0), passage("a", f"{whole}\n\n{filler(2)}", position=1)
    )
    assert [(kind, text, set(answers)) for kind, text, answers in found] == [("sentence", whole, {"a#0", "a#1"})]
    made = make_test_set(
        [
            *enough(),
            passage("a", f"{filler(1)}\n\n{whole}", position=0),
            passage("a", f"{end} {filler(2)}", position=1),
        ],
        count=100,
        seed=1,
    )
    assert extra(made) == {("sentence", whole, ("a#0",))}
    assert (corpus_of(made)["a#0"], corpus_of(made)["a#1"]) == (("", filler(1)), ("", filler(2)))


def test_the_same_passage_is_there_once() -> None:
    copies = [passage(f"copy{n}", f"{filler(1)}\n\n{FERRY}") for n in range(3)]
    made = make_test_set([*enough(), *copies, passage("blank", "--- ***")], count=100, seed=1)
    assert made.duplicates == 3
    assert extra(made) == {("sentence", FERRY, ("copy0#0",))}
    assert {"copy1#0", "copy2#0", "blank#0"}.isdisjoint(corpus_of(made))


def test_words_that_a_cut_brings_together_are_found() -> None:
    """Between "white" and "heron" stood a sentence; without it they are the title of another document."""
    joined = passage("a", f"{filler(1)} white. {FERRY} heron {filler(2)}")
    other = passage("b", filler(3), title="White heron")
    made = make_test_set([*enough(), joined, other], count=100, seed=1)
    text = corpus_of(made)["a#0"][1]
    assert holds(words_of(text), ("white", "heron"))
    assert extra(made) == {("sentence", FERRY, ("a#0",))}
    assert made.dropped == {Drop.ELSEWHERE: 1}


def prose(seed: int, documents: int) -> list[Passage]:
    """Documents of random sentences from few words, with overlapping passages, so that much of it stands twice."""
    rng = random.Random(seed)
    words = [
        f"{syllable}{ending}" for syllable in ("ra", "mo", "ti", "lu", "ke") for ending in ("n", "ster", "lo", "dim")
    ]

    def one() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(5, 30))).capitalize() + "."

    found = []
    for document in range(documents):
        lines = [one() for _ in range(30)]
        lines[5] = "As everybody in this place has known for years, it rains."
        headings = [f"{rng.choice(words)} {rng.choice(words)} {rng.choice(words)}" for _ in range(3)]
        for part in range(6):
            text = " ".join(lines[part * 5 : part * 5 + 7])
            text = text[: -rng.randint(1, 30)] if part % 2 else text
            trail = [headings[part // 2]]
            lead = f"## {trail[0]}\n\n" if part % 2 == 0 else ""
            title = f"{rng.choice(words)} of {document}" if part == 0 else found[-1].title
            found.append(passage(f"d{document:02}", lead + text, position=part, title=title, headings=trail))
    return found


def test_no_query_stands_in_the_corpus(subtests: pytest.Subtests) -> None:
    for seed in range(4):
        with subtests.test(seed=seed):
            made = make_test_set(prose(seed, 25), count=60, seed=seed)
            assert set(made.kinds) == {"title", "heading", "sentence"}
            assert made.dropped[Drop.ELSEWHERE] > 0
            known = corpus_of(made)
            for query in made.queries:
                wanted = words_of(query.text)
                assert set(query.answers) <= made.cut
                for title, text in known.values():
                    assert query.text not in title
                    assert query.text not in text
                    assert not holds(words_of(title), wanted)
                    assert not holds(words_of(text), wanted)
            assert all(len(words_of(known[answer][1])) >= 15 for query in made.queries for answer in query.answers)
            answers = [answer for query in made.queries for answer in query.answers]
            assert len(answers) == len(set(answers))


def test_a_query_that_leaks_leaves_its_place_to_another() -> None:
    titles = [passage(f"a{n}", filler(n), title=f"Crash safety {n}") for n in range(5)]
    leaks = [passage(f"b{n}", f"on crash safety {n} {filler(10 + n)}") for n in range(5)]
    assert len(make_test_set([*enough(), *titles, *leaks], count=10, seed=0).queries) == 10


def test_the_order_of_passages_does_not_count_and_the_seed_does() -> None:
    given = prose(0, 12)
    shuffled = random.Random(1).sample(given, len(given))
    assert make_test_set(shuffled, count=30, seed=5) == make_test_set(given, count=30, seed=5)
    assert queries_of(make_test_set(given, count=30, seed=6)) != queries_of(make_test_set(given, count=30, seed=5))


def test_too_little_is_said() -> None:
    with pytest.raises(
        EvaluationError, match=r"10 passages give 9 queries, expected at least 10; not used were 1 of one word"
    ):
        make_test_set([*enough(9), passage("a", filler(1), title="Introduction")], count=100, seed=0)
    with pytest.raises(EvaluationError, match="0 passages give 0 queries"):
        make_test_set([], count=100, seed=0)


def test_sentences(subtests: pytest.Subtests) -> None:
    for text, expected in [
        ("A heron waits for fish at dawn. Bees dance to tell the others where flowers are! no.",
         ["A heron waits for fish at dawn.", "Bees dance to tell the others where flowers are!"]),
        ("- A heron waits for fish at\n  dawn.\n- short one.\n> 2. Bees dance to tell others of flowers.",
         ["A heron waits for fish at\n  dawn.", "Bees dance to tell others of flowers."]),
        ("```\nA heron waits for fish at dawn.\n```", []),
        ("| A heron waits | for fish at dawn and at dusk. |", []),
        ("heron waits for fish at dawn and dusk.", []),
        ("It waits for fish at dawn and dusk.", []),
        ("A heron waits for fish at dawn and dusk", []),
        ("Red, green, blue, white, black, brown, pink.", []),
        ("See [the page of herons](herons.md) for more of them.", []),
        ("x = 1 + 2 * (3 - 4) / 5 % 6.", []),
        ("A heron waits for fish in brooks, ponds, etc. Bees dance.", []),
        ("\u9ddf\u306f\u6d45\u702c\u3067\u9b5a\u3092\u5f85\u3064\u3002\u77ed\u3044\u3002",
         ["\u9ddf\u306f\u6d45\u702c\u3067\u9b5a\u3092\u5f85\u3064\u3002"]),
    ]:  # fmt: skip
        with subtests.test(text=text, expected=expected):
            assert sentences_of(text) == expected
            assert all(found in text for found in expected)


def test_crops() -> None:
    words = [f"w{n}" for n in range(30)]
    crops = {cropped(f"**{' '.join(words)}**.", random.Random(seed)) for seed in range(200)}
    assert {len(crop.split()) for crop in crops} == set(range(10, 17))
    assert all(f" {crop.rstrip('.')} " in f" {' '.join(words)} " for crop in crops)
    assert cropped("A  short\n**one** of these.", random.Random(0)) == "A short one of these."


def test_cutting_a_sentence(subtests: pytest.Subtests) -> None:
    for text, piece, expected in [
        ("One. Two. Three.", "Two.", "One. Three."),
        ("One. Two.", "Two.", "One."),
        ("One.\n\nTwo.\n\nThree.", "Two.", "One.\n\nThree."),
        ("One.\nTwo.\nThree.", "Two.", "One.\n\nThree."),
        ("- One.\n- Two.\n- Three.", "Two.", "- One.\n\n- Three."),
        ("Two. One. Two.", "Two.", "One."),
        ("a  =  1  # Two.\n    b", "Two.", "a  =  1  #\n    b"),
    ]:
        with subtests.test(text=text, piece=piece, expected=expected):
            assert without(text, piece) == expected


def test_cutting_a_heading() -> None:
    heading = words_of("Crash safety first")
    text = "# Guide\n\n## Crash *safety* first {#x}\n\nText of crash.\nCrash safety, first!\nmore"
    assert without_heading("Guide > Crash safety first > Power", text, heading) == (
        "Guide > Power", "# Guide\n\n\nText of crash.\nmore"
    )  # fmt: skip
    # A context has room for so many tokens, and a heading may have lost its end.
    assert without_heading("Guide > Crash saf", "", heading) == ("Guide > Crash saf", "")
    assert without_heading("Guide > Crash safety", "", heading) == ("Guide", "")
    assert without_heading("Crash > Crash safety first", "", heading) == ("Crash", "")


def test_what_a_neighbour_shares() -> None:
    whole = "One two three four five."
    assert shared(f"x {whole} y", whole, after=True) == whole
    assert shared("three four five. And on", whole, after=True) == "three four five."
    assert shared("four five. And on", whole, after=True) is None
    assert shared("And then one. One two three", whole, after=False) == "One two three"
    assert shared("three four five. And on", whole, after=False) is None


def test_words() -> None:
    assert words_of("Re-index: *M\u00fcnchen*, na\u00efve_x \ufb01sh\u2019s 3.14") == (
        "re", "index", "m\u00fcnchen", "na\u00efve", "x", "fish", "s", "3", "14"
    )  # fmt: skip
    assert words_of("\u6771\u4eac is Tokyo") == ("\u6771", "\u4eac", "is", "tokyo")
    texts = ["a b c a b", "b c", "c a b c", ""]
    runs = [(words_of(text), ()) for text in texts]
    asked = [("a", "b"), ("a", "b", "c"), ("b", "a"), ("b", "c")]
    assert occurrences(asked, runs) == {
        query: {row for row, text in enumerate(texts) if " ".join(query) in text} for query in asked
    }
    assert occurrences([("a", "b")], [[("x", "a"), ("b", "y")]]) == {("a", "b"): set()}


def test_scores_by_hand() -> None:
    grades = {"a": 2, "b": 1, "c": 0, "d": 1}
    ranking = ["c", "b", "x", "a"]
    gain = 1 / math.log2(3) + 2 / math.log2(5)
    assert ndcg(ranking, grades, 10) == pytest.approx(gain / (2 + 1 / math.log2(3) + 1 / 2))
    assert ndcg(ranking, grades, 2) == pytest.approx((1 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert (recall(ranking, grades, 10), recall(ranking, grades, 2)) == (2 / 3, 1 / 3)
    assert (reciprocal_rank(ranking, grades, 10), reciprocal_rank(ranking, grades, 1)) == (1 / 2, 0.0)
    assert (ndcg([], grades, 10), recall([], grades, 10), reciprocal_rank([], grades, 10)) == (0.0, 0.0, 0.0)
    assert (ndcg(["a"], {"a": 0}, 10), recall(["a"], {"a": 0}, 10)) == (0.0, 0.0)


def test_scores_as_trec_eval_has_them() -> None:
    import pytrec_eval

    rng = random.Random(0)
    names = [f"p{n:02}" for n in range(30)]
    judged = {f"q{n}": {name: rng.choice([0, 0, 1, 2]) for name in rng.sample(names, 12)} for n in range(20)}
    rankings = {query: rng.sample(names, 15) for query in judged}
    runs = {query: {name: -float(rank) for rank, name in enumerate(found)} for query, found in rankings.items()}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.10"}).evaluate(runs)
    for query, grades in judged.items():
        assert ndcg(rankings[query], grades, 10) == pytest.approx(theirs[query]["ndcg_cut_10"])
        assert recall(rankings[query], grades, 10) == pytest.approx(theirs[query]["recall_10"])


def test_exact_search_over_blocks_is_that_over_all() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:5][:, ::-1].copy()
    ids = np.arange(100, 150)
    chunks_of = {int(id_): 1 + int(id_) % 3 for id_ in ids if id_ != 120}  # a vector that no chunk has counts not
    cosines = queries.astype(np.float64) @ vectors.astype(np.float64).T
    everyone = [
        sorted((c for c, id_ in zip(row, ids, strict=True) for _ in range(chunks_of.get(int(id_), 0))), reverse=True)
        for row in cosines
    ]
    for k in (1, 7, 1000):
        blocks = [(ids[at : at + 13], vectors[at : at + 13]) for at in range(0, 50, 13)]
        expected = [row[min(k, len(row)) - 1] for row in everyone]
        assert exact_thresholds(queries, blocks, chunks_of, k) == pytest.approx(expected, abs=1e-12)
    assert share_found(np.array([0.9, 0.8, 0.3], np.float32), 0.8, 3) == 2 / 3
    assert share_found(np.array([0.9, 0.8, 0.79999995], np.float32), 0.8, 3) == 1.0
    assert share_found(np.array([0.9, 0.9, 0.9], np.float32), 0.9, 2) == 1.0


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def one(name: str = "set", *, force: bool = False, seed: int = 0) -> Path:
        folder = tmp_path / name
        source = {"seed": seed, "generation": 4, "encoder": {"name": "hashing", "fingerprint": "abc"}}
        write_test_set(make_test_set(prose(seed, 12), count=30, seed=0), folder, source, force=force, hidden=True)
        return folder

    return one


def test_a_folder_gives_back_what_was_written(write: Callable[..., Path]) -> None:
    folder = write()
    made = make_test_set(prose(0, 12), count=30, seed=0)
    stored = read_test_set(folder)
    data = stored.data
    assert list(zip(data.document_ids, data.titles, data.texts, strict=True)) == [
        (e.id, e.title, e.text) for e in made.corpus
    ]
    assert list(zip(data.query_ids, data.queries, strict=True)) == [(query.id, query.text) for query in made.queries]
    assert data.judgements == {query.id: dict.fromkeys(query.answers, 1) for query in made.queries}
    assert dict(stored.kinds) == {query.id: query.kind for query in made.queries}
    assert (stored.cut, stored.generation, stored.encoder) == (made.cut, 4, "abc")
    assert (folder / "qrels" / "test.tsv").read_text().startswith("query-id\tcorpus-id\tscore\n")
    assert (folder / ".searchctlignore").read_text() == "*\n"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["queries"], manifest["passages"]) == (made.kinds, len(made.corpus))
    assert manifest["dropped"] == dict(made.dropped)


def test_queries_may_be_added_by_hand(write: Callable[..., Path]) -> None:
    folder = write()
    with (folder / "queries.jsonl").open("a") as stream:
        stream.write('{"_id": "mine", "text": "where does it rain"}\n')
    with (folder / "qrels" / "test.tsv").open("a") as stream:
        stream.write("mine\td03#1\t2\n")
    stored = read_test_set(folder)
    assert stored.kinds["mine"] == "own"
    assert stored.data.judgements["mine"] == {"d03#1": 2}


def test_a_test_set_is_replaced_only_on_demand_and_as_a_whole(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = write()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(EvaluationError, match="holds a test set already"):
        write(seed=1)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (folder / "search").mkdir()
    write(seed=1, force=True)
    assert not (folder / "search").exists()
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(EvaluationError, match="is no test set"):
        write("other", force=True)
    assert (tmp_path / "other" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "is missing: expected a test set"),
        ("{", "is damaged"),
        ('{"schema": 1}', "is damaged"),
        ('{"schema": 2, "cut": [], "generation": 1, "encoder": {"fingerprint": "x"}}', "has schema 2, expected 1"),
    ],
)
def test_a_bad_manifest_is_named(write: Callable[..., Path], manifest: str | None, message: str) -> None:
    path = write() / "manifest.json"
    path.unlink()
    if manifest is not None:
        path.write_text(manifest)
    with pytest.raises(DataError, match=message) as caught:
        read_test_set(path.parent)
    assert caught.value.path == path


def test_a_bad_line_is_named(write: Callable[..., Path]) -> None:
    folder = write()
    lines = (folder / "queries.jsonl").read_text().splitlines()
    query: dict[str, Any] = json.loads(lines[2])
    lines[2] = json.dumps(query | {"kind": 3})
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"queries.jsonl, line 3: kind is 3"):
        read_test_set(folder)
