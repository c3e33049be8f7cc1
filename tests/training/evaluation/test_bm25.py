"""BM25 by the formula of Lucene, through mteb's search protocol."""

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from mteb.mocks.mock_tasks import MockRetrievalTask

from searchctl.encoder.models.identity import digest_of
from searchctl.training.data.bm25_index import SETTINGS
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.bm25 import Bm25Model, best
from searchctl.training.evaluation.measurement import EvalTask, TaskInstructions

RETRIEVAL = EvalTask(
    name="docs",
    task_type="Retrieval",
    data="-",
    instructions=TaskInstructions(query="find"),
    make=lambda: pytest.fail("a model needs no data"),
)
STS = replace(RETRIEVAL, name="sts", task_type="STS")
CORPUS = [
    {"id": "d0", "title": "Apple", "text": "banana cherry banana"},
    {"id": "d1", "title": "", "text": "banana"},
    {"id": "d2", "title": "", "text": "cherry date elderberry fig"},
    {"id": "d3", "title": "", "text": "banana"},
    {"id": "d4", "title": "", "text": "the running dogs"},
]


def lucene(query: list[str], documents: list[list[str]]) -> list[float]:
    """BM25 as Lucene writes it, without the constant factor k1 + 1 (Kamphuis et al. 2020, table 1)."""
    k1, b = 1.2, 0.75
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, total = Counter(document), 0.0
        for word in query:
            df = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            total += idf * counts[word] / (counts[word] + k1 * (1 - b + b * len(document) / mean))
        scores.append(total)
    return scores


def search(queries: list[dict[str, object]], **settings: object) -> dict[str, dict[str, float]]:
    with Bm25Model().open(RETRIEVAL, Path("unused")) as opened:
        where = {"task_metadata": MockRetrievalTask.metadata, "hf_split": "t", "hf_subset": "d", "encode_kwargs": {}}
        opened.model.index(Dataset.from_list(CORPUS), **where)
        settings = {"top_k": 10, **settings}
        return opened.model.search(Dataset.from_list(queries), **where, **settings)


def test_scores_are_lucenes_over_title_and_text() -> None:
    words = [["appl", "banana", "cherri", "banana"], ["banana"], ["cherri", "date", "elderberri", "fig"], ["banana"]]
    words.append(["run", "dog"])
    found = search([{"id": "q", "text": "Banana CHERRY apples"}])["q"]
    expected = lucene(["banana", "cherri", "appl"], words)
    assert {f"d{i}": pytest.approx(score, rel=1e-5) for i, score in enumerate(expected) if score} == found
    assert expected[4] == 0


def test_words_are_stemmed_and_stop_words_left_out() -> None:
    found = search([{"id": "q", "text": "the runs of a dog"}, {"id": "stop", "text": "the of a"}])
    assert ["d4"] == list(found["q"])
    assert {} == found["stop"]


def test_the_settings_are_what_is_used(subtests: pytest.Subtests) -> None:
    """So that the fingerprint, which is theirs, stands for the ranks."""
    for setting, value, query, expected in [
        ("words", r"(?u)\b\w{6,}\b", "dogs", []),
        ("stop_words", "dogs", "dogs", []),
        ("stop_words", "dogs", "the", ["d4"]),
        ("lower", False, "DOGS", []),
        ("stemmer", "german", "runs", []),
    ]:
        with (
            subtests.test(setting=setting, value=value, query=query, expected=expected),
            pytest.MonkeyPatch.context() as monkeypatch,
        ):
            usual = Bm25Model().identify().fingerprint
            assert list(search([{"id": "q", "text": query}])["q"]) == ([] if query == "the" else ["d4"])
            monkeypatch.setitem(SETTINGS, setting, value)
            assert expected == list(search([{"id": "q", "text": query}])["q"])
            assert usual != Bm25Model().identify().fingerprint


def test_the_stop_words_are_lucenes() -> None:
    from bm25s.stopwords import STOPWORDS_EN

    assert list(STOPWORDS_EN) == str(SETTINGS["stop_words"]).split()


def test_equal_scores_rank_in_the_order_of_the_corpus_for_mteb_which_orders_them_by_id() -> None:
    found = search([{"id": "q", "text": "banana"}])["q"]
    assert ["d1", "d3", "d0"] == sorted(found, key=lambda id_: (found[id_], id_), reverse=True)
    assert found["d1"] == pytest.approx(found["d3"], rel=1e-6)


def test_the_order_of_equal_scores_is_part_of_the_fingerprint() -> None:
    """Scores of the time when mteb ordered them are not reused."""
    assert digest_of(SETTINGS) != Bm25Model().identify().fingerprint


def test_equal_scores_rank_in_the_order_of_the_corpus_up_to_top_k() -> None:
    assert ["d1", "d3", "d0"] == list(search([{"id": "q", "text": "banana"}])["q"])
    assert ["d1"] == list(search([{"id": "q", "text": "banana"}], top_k=1)["q"])


def test_reranking_scores_the_named_documents_and_all_of_them() -> None:
    found = search(
        [{"id": "q", "text": "banana"}, {"id": "none", "text": "banana"}], top_ranked={"q": ["d2", "d3"]}, top_k=1
    )
    alone = search([{"id": "q", "text": "banana"}])["q"]
    assert {"d2": 0.0, "d3": pytest.approx(alone["d3"])} == found["q"]
    assert {} == found["none"]


def test_equal_scores_of_candidates_stay_equal() -> None:
    """The order in which data list them must not decide: what is relevant often comes first."""
    found = search([{"id": "q", "text": "banana"}], top_ranked={"q": ["d4", "d2", "d3", "d1"]})["q"]
    assert found["d4"] == found["d2"] == 0.0
    assert found["d3"] == found["d1"] > 0


def test_an_instruction_and_a_conversation_are_searched_too() -> None:
    found = search([{"id": "q", "text": "date", "instruction": "apple"}])
    assert {"d2", "d0"} == set(found["q"])
    turns = [{"role": "user", "content": "date"}, {"role": "assistant", "content": "apple"}]
    assert {"d2", "d0"} == set(search([{"id": "q", "text": turns}])["q"])


def test_the_best_are_those_of_a_full_sort() -> None:
    random = np.random.default_rng(0)
    for size, k in ((1, 1), (30, 7), (30, 30), (30, 40), (200, 50), (5000, 3000)):
        scores = random.integers(0, 6, size).astype(np.float32)
        expected = [row for row in sorted(range(size), key=lambda row: (-scores[row], row)) if scores[row] > 0][:k]
        assert expected == best(scores, k).tolist()


def test_bm25_only_ranks_documents() -> None:
    model = Bm25Model()
    supported = [name for name in ("Retrieval", "Reranking", "STS", "Clustering") if model.supports(name)]
    assert ["Retrieval", "Reranking"] == supported
    with pytest.raises(EvaluationError, match="cannot do sts"), model.open(STS, Path("unused")):
        pass


def test_an_empty_corpus_finds_nothing() -> None:
    with Bm25Model().open(RETRIEVAL, Path("unused")) as opened:
        where = {"task_metadata": MockRetrievalTask.metadata, "hf_split": "t", "hf_subset": "d", "encode_kwargs": {}}
        opened.model.index(Dataset.from_dict({"id": ["a"], "text": [" "]}), **where)
        assert {"q": {}} == opened.model.search(Dataset.from_dict({"id": ["q"], "text": ["x"]}), **where, top_k=3)
        assert (2, 1) == (opened.meter.texts, opened.meter.empty)


def test_without_the_extra_the_error_names_it(subtests: pytest.Subtests) -> None:
    for module in ["bm25s", "Stemmer", "mteb.models"]:
        with subtests.test(module=module), pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(sys.modules, module, None)
            with (
                pytest.raises(EvaluationError, match=r"needs the extra eval: `pip install 'searchctl\[eval\]'`"),
                Bm25Model().open(RETRIEVAL, Path("unused")),
            ):
                pass
