"""The published scores: typed correctly as far as their own averages tell, and shown beside the right models."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from searchctl.training.errors import DataError
from searchctl.training.evaluation.measurement import Identity
from searchctl.training.evaluation.paper_scores import FILE, PaperScores, base_model, beside, read_paper_scores

PAPER = read_paper_scores()


def encoder(name: str, kind: Any = "encoder") -> Identity:
    return Identity(label="x", kind=kind, name=name, fingerprint="f")


def column(table: int, model: str, paper: PaperScores = PAPER) -> dict[str, float]:
    return next(dict(c.scores) for c in paper.columns if (c.table, c.model) == (table, model))


def test_tables_11_and_12_average_to_what_the_paper_prints(subtests: pytest.Subtests) -> None:
    for table, model, average in [
        (11, "sheared-llama-1.3b", 49.42),
        (11, "llama-2-7b-chat", 55.36),
        (11, "mistral-7b-instruct-v0.2", 56.80),
        (12, "sheared-llama-1.3b", 61.85),
        (12, "llama-2-7b-chat", 64.14),
        (12, "mistral-7b-instruct-v0.2", 64.80),
    ]:
        with subtests.test(table=table, model=model, average=average):
            scores = column(table, model)
            assert 56 == len(scores)
            assert average == pytest.approx(100 * fmean(scores.values()), abs=0.015)


def test_the_subset_of_table_3_averages_to_what_the_reference_recomputed(subtests: pytest.Subtests) -> None:
    for table, expected in [(11, [52.37, 58.88, 60.43]), (12, [64.68, 66.90, 67.46])]:
        with subtests.test(table=table, expected=expected):
            models = ["sheared-llama-1.3b", "llama-2-7b-chat", "mistral-7b-instruct-v0.2"]
            means = [100 * fmean(column(table, model)[task] for task in PAPER.subset) for model in models]
            assert 15 == len(PAPER.subset)
            assert expected == pytest.approx(means, abs=0.005)


def test_category_means_weigh_up_to_the_average() -> None:
    """Table 1, Mistral LLM2Vec: (15 38.05 + 4 53.99 + 11 40.63 + 3 80.94 + 12 74.07 + 10 78.5 + 30.19) / 56 = 56.8."""
    row = next(r for r in PAPER.category_scores if (r.model, r.step) == ("mistral-7b-instruct-v0.2", "bi+mntp+simcse"))
    weights = [15, 4, 11, 3, 12, 10, 1]
    assert weights == list(PAPER.categories.values())
    total = sum(weight * score for weight, score in zip(weights, row.scores.values(), strict=True))
    assert 56.80 == pytest.approx(100 * total / 56, abs=0.015)
    assert 0.5680 == pytest.approx(row.average)


def test_every_line_of_the_four_models_is_there() -> None:
    assert {1: 18, 2: 12} == {t: sum(r.table == t for r in PAPER.category_scores) for t in (1, 2)}
    assert 3 * 6 == len(PAPER.ablation)
    row = next(r for r in PAPER.ablation if (r.model, r.step) == ("llama-2-7b-chat", "bi+mntp"))
    assert {"last": 0.3266, "mean": 0.48, "weighted_mean": 0.443} == pytest.approx(dict(row.values))
    assert 0.0390 == pytest.approx(
        next(r for r in PAPER.category_scores if (r.model, r.step) == ("llama-3-8b-instruct", "bi")).scores["Retrieval"]
    )


def test_tasks_bear_the_names_and_types_that_mteb_gives_them() -> None:
    """By the statistics that mteb ships, one file a task: importing mteb takes many seconds."""
    spec = find_spec("mteb")
    assert spec is not None and spec.origin is not None
    known = {path.stem: path.parent.name for path in Path(spec.origin).parent.glob("descriptive_stats/*/*.json")}
    unknown = {task for task, category in PAPER.types.items() if known.get(task) != category}
    assert {"CQADupstackRetrieval"} == unknown  # mteb's sum of twelve tasks, which has no statistics of its own


def test_a_slip_in_a_number_is_found(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for right, wrong, message in [
        ("table_11 = [43.64,", "table_11 = [34.64,", "table 11, sheared-llama-1.3b: average"),
        (
            "average = 56.80",
            "average = 58.60",
            "table 1, mistral-7b-instruct-v0.2 bi.mntp.simcse: average is printed as",
        ),
        ("[38.05, 53.99,", "[38.05, 54.04,", "table 11, mistral-7b-instruct-v0.2: mean of Reranking"),
        ('SummEval = { type = "Summarization"', 'SummEval = { type = "STS"', "tasks by category"),
    ]:
        with subtests.test(right=right, wrong=wrong, message=message):
            tmp_path = tmp_path_factory.mktemp("row")
            text = FILE.read_text(encoding="utf-8")
            assert 1 == text.count(right)
            path = tmp_path / "paper.toml"
            path.write_text(text.replace(right, wrong), encoding="utf-8")
            with pytest.raises(DataError, match=message):
                read_paper_scores(path)


def test_base_models_are_known_by_their_names(subtests: pytest.Subtests) -> None:
    for name, expected in [
        ("mistral-7b-instruct-v0.2", "mistral-7b-instruct-v0.2"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b-instruct-v0.2"),
        ("/models/Sheared-LLaMA-1.3B", "sheared-llama-1.3b"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b-instruct"),
        ("smollm2-135m", None),
        ("my-mistral", None),
    ]:
        with subtests.test(name=name, expected=expected):
            assert expected == base_model(encoder(name))
            assert base_model(encoder(name, "sentence-transformers")) is None


def test_a_base_of_the_paper_stands_beside_its_own_numbers_only() -> None:
    found = beside([encoder("llama-2-7b-chat"), encoder("bm25", "bm25")], ["scifact", "SciFact", "STSBenchmark"])
    assert ("llama-2-7b-chat",) == found.models
    assert found.related
    assert ("SciFact", "STSBenchmark") == found.tasks
    assert [(11, 0.6448), (12, 0.7730)] == [(c.table, pytest.approx(c.scores["SciFact"])) for c in found.columns]
    assert {"llama-2-7b-chat"} == {row.model for row in found.category_scores}


def test_any_other_model_stands_beside_all_four() -> None:
    found = beside([encoder("smollm2-135m")], ["SICK-R"])
    assert tuple(PAPER.models) == found.models
    assert not found.related
    assert 6 == len(found.columns)
    assert () == beside([encoder("smollm2-135m")], ["stsb-test"]).columns
