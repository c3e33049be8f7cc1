"""Which tasks a folder holds: a root, a kind's folder, one task; what is neither is an error."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from searchctl.training.data.local_data import Kind, LocalTask, discover
from searchctl.training.errors import DataError

STS = '{"a": "A", "b": "B", "score": 5}\n'
PAIRS = '{"a": "A", "b": "B", "label": 1}\n'
CLUSTERING = '{"text": "A", "label": "g"}\n'
ROWS: dict[Kind, str] = {"sts": STS, "pairs": PAIRS, "clustering": CLUSTERING}
RETRIEVAL = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
CLASSIFICATION = ("train.jsonl", "test.jsonl")


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {f"retrieval/beir/{name}": "" for name in RETRIEVAL}
    files |= {f"classification/intents/{name}": "" for name in CLASSIFICATION}
    files |= {"sts/z.jsonl": STS, "sts/a.jsonl": STS, "pairs/p.jsonl": PAIRS, "clustering/c.jsonl": CLUSTERING}
    files |= {"README.md": "words", "sts/README": "words", "sts/.hidden.tsv": "", "retrieval/LICENCE.html": ""}
    return write(tmp_path / "root", {**files, "word/conll/eng.train": "not ours"})


def test_root_holds_all_kinds(root: Path) -> None:
    expected = [
        ("retrieval", "beir", root / "retrieval" / "beir"),
        ("sts", "a", root / "sts" / "a.jsonl"),
        ("sts", "z", root / "sts" / "z.jsonl"),
        ("pairs", "p", root / "pairs" / "p.jsonl"),
        ("clustering", "c", root / "clustering" / "c.jsonl"),
        ("classification", "intents", root / "classification" / "intents"),
    ]
    assert expected == [(task.kind, task.name, task.path) for task in discover(root)]


def test_kind_folder_or_single_task(root: Path, subtests: pytest.Subtests) -> None:
    for place, expected in [
        ("sts", [("sts", "a"), ("sts", "z")]),
        ("retrieval", [("retrieval", "beir")]),
        ("classification", [("classification", "intents")]),
        ("retrieval/beir", [("retrieval", "beir")]),
        ("retrieval/beir/qrels/..", [("retrieval", "beir")]),
        ("classification/intents", [("classification", "intents")]),
        ("pairs/p.jsonl", [("pairs", "p")]),
        ("sts/z.jsonl", [("sts", "z")]),
    ]:
        with subtests.test(place=place, expected=expected):
            assert expected == [(task.kind, task.name) for task in discover(root / place)]


def test_file_elsewhere_tells_its_kind_by_its_fields(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kind in list(ROWS):
        with subtests.test(kind=kind):
            tmp_path = tmp_path_factory.mktemp("row")
            path = write(tmp_path, {"mine.jsonl.gz": gzip.compress(ROWS[kind].encode())}) / "mine.jsonl.gz"
            assert [LocalTask(kind=kind, name="mine", path=path)] == discover(path)


def test_what_is_no_task_is_an_error(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for files, place, what in [
        ({}, "nowhere", "nowhere: is no file or folder. Expected a folder with retrieval/NAME/"),
        ({"notes/a.txt": ""}, "", "holds no task. Expected retrieval/NAME/"),
        ({"sts/.keep": ""}, "", "holds no task. Expected retrieval/NAME/"),
        ({"sts/a.csv": ""}, "", "a.csv: is no task of the kind sts"),
        ({"sts/a/b.jsonl": STS}, "", "a: is no task of the kind sts"),
        ({"retrieval/a.jsonl": ""}, "retrieval", "a.jsonl: is no task of the kind retrieval"),
        ({"sts/a.jsonl": STS, "pairs/a.jsonl": PAIRS}, "", "expected one task a: rename one"),
        ({"sts/a.jsonl": STS, "sts/a.jsonl.gz": ""}, "sts", "expected one task a: rename one"),
        ({"a.tsv": ""}, "a.tsv", "a.tsv: is no task"),
        ({"x/train.jsonl": CLUSTERING}, "x/train.jsonl", "may be one file of a task: name its folder"),
        ({"a.jsonl": '{"query": "x", "label": 1}\n'}, "a.jsonl", "line 1: has query, label. Expected a, b, score or"),
    ]:
        with subtests.test(files=files, place=place, what=what):
            tmp_path = tmp_path_factory.mktemp("row")
            write(tmp_path, files)
            with pytest.raises(DataError, match=re.escape(what)):
                discover(tmp_path / place)
