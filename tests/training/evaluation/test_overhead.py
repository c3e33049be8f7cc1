"""The benchmark of evaluation itself: which part of a task `--limit` takes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[3] / "benchmarks" / "eval_overhead.py"


@pytest.fixture(scope="module")
def overhead() -> Any:
    spec = importlib.util.spec_from_file_location("eval_overhead", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "sts").mkdir()
    (tmp_path / "sts" / "alike.jsonl").write_text(lines([{"a": f"a{n}", "b": f"b{n}", "score": n} for n in range(9)]))
    folder = tmp_path / "retrieval" / "birds"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(lines([{"_id": f"d{n}", "text": f"text {n}"} for n in range(9)]))
    (folder / "queries.jsonl").write_text(lines([{"_id": f"q{n}", "text": f"query {n}"} for n in range(4)]))
    # q0 is answered by the first two documents and a later one, q1 by a later one, q2 by none of the first, q3 by d1.
    judgements = [("q0", "d0", 1), ("q0", "d1", 1), ("q0", "d8", 1), ("q1", "d7", 1), ("q2", "d1", 0), ("q2", "d5", 1)]
    rows = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in [*judgements, ("q3", "d1", 2)])
    (folder / "qrels" / "test.tsv").write_text(rows)
    (tmp_path / "clustering").mkdir()
    (tmp_path / "clustering" / "groups.jsonl").write_text(lines([{"text": f"t{n}", "label": n % 2} for n in range(4)]))
    return tmp_path


def test_the_first_documents_with_the_queries_that_they_answer(overhead: Any, local: Path) -> None:
    whole, (part,) = overhead.tasks_of(["birds"], local, None), overhead.tasks_of(["birds"], local, 2)
    made = part.make()
    made.load_data()
    data = made.dataset["default"]["test"]
    assert ["d0", "d1"] == list(data["corpus"]["id"])
    assert ["q0", "q3"] == list(data["queries"]["id"])
    assert {"q0": {"d0": 1, "d1": 1}, "q3": {"d1": 2}} == data["relevant_docs"]
    assert part.data != whole[0].data


def test_the_first_pairs(overhead: Any, local: Path) -> None:
    (part,) = overhead.tasks_of(["alike"], local, 3)
    made = part.make()
    made.load_data()
    assert ["a0", "a1", "a2"] == list(made.dataset["test"]["sentence1"])


def test_other_kinds_are_refused(overhead: Any, local: Path) -> None:
    with pytest.raises(SystemExit, match="groups is neither"):
        overhead.tasks_of(["groups"], local, 2)
