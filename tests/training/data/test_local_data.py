"""Data of one's own: read as written, hashed by content, and every fault named with file and line."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from blake3 import blake3

from searchctl.training.data.local_data import (
    ClassificationData,
    ClusteringData,
    Kind,
    LabelledTexts,
    LocalTask,
    PairData,
    RetrievalData,
    StsData,
    digest_of,
    read,
)
from searchctl.training.errors import DataError

RETRIEVAL = {
    "corpus.jsonl": '{"_id": "d1", "title": "Wings", "text": "lift"}\n{"_id": "d2", "text": ""}\n'
    '{"_id": 3, "title": null, "text": "drag", "metadata": {"x": 1}}\n',
    "queries.jsonl": '{"_id": "q2", "text": "what slows"}\n{"_id": "q1", "text": "what lifts"}\n'
    '{"_id": "q3", "text": "nobody judged it"}\n',
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\t3\t1\nq1\td2\t0\n",
}
CLASSIFICATION = {
    "train.jsonl": '{"text": "one", "label": "x"}\n{"text": "two", "label": 7}\n',
    "test.jsonl": '{"text": "three", "label": "7"}\n',
}
STS = '{"a": "A", "b": "B", "score": 5, "part": "p"}\n{"a": "C", "b": "D", "score": 0.5}\n'
PAIRS = '{"a": "A", "b": "B", "label": 1}\n{"a": "C", "b": "D", "label": 0}\n'
CLUSTERING = '{"text": "A\\t", "label": "g"}\n{"text": "B", "label": "h"}\n'
ROWS: dict[Kind, str] = {"sts": STS, "pairs": PAIRS, "clustering": CLUSTERING}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def task_of(kind: Kind, path: Path) -> LocalTask:
    return LocalTask(kind=kind, name="t", path=path)


def hash_by_hand(kind: str, *contents: str) -> str:
    parts = [blake3(content.encode()).hexdigest() for content in contents]
    return blake3(" ".join([kind, *parts]).encode()).hexdigest()


def test_retrieval_folder_is_read_as_written(tmp_path: Path) -> None:
    task = task_of("retrieval", write(tmp_path, RETRIEVAL))
    expected = RetrievalData(
        document_ids=("d1", "d2", "3"),
        titles=("Wings", "", ""),
        texts=("lift", "", "drag"),
        query_ids=("q2", "q1"),
        queries=("what slows", "what lifts"),
        judgements={"q2": {"3": 1}, "q1": {"d1": 2, "d2": 0}},
        unjudged=1,
        digest=hash_by_hand("retrieval", *RETRIEVAL.values()),
    )
    assert expected == read(task)
    assert expected.digest == digest_of(task)


def test_file_is_read_as_written_plain_or_packed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kind, expected in [
        ("sts", StsData(first=("A", "C"), second=("B", "D"), scores=(5.0, 0.5), digest=hash_by_hand("sts", STS))),
        ("pairs", PairData(first=("A", "C"), second=("B", "D"), labels=(1, 0), digest=hash_by_hand("pairs", PAIRS))),
        (
            "clustering",
            ClusteringData(
                rows=LabelledTexts(texts=("A\t", "B"), labels=("g", "h")), digest=hash_by_hand("clustering", CLUSTERING)
            ),
        ),
    ]:
        with subtests.test(kind=kind, expected=expected):
            tmp_path = tmp_path_factory.mktemp("row")
            write(tmp_path, {"t.jsonl": ROWS[kind], "packed.jsonl.gz": gzip.compress(ROWS[kind].encode())})
            assert expected == read(task_of(kind, tmp_path / "t.jsonl"))
            assert expected == read(task_of(kind, tmp_path / "packed.jsonl.gz"))


def test_classification_folder_is_read_as_written(tmp_path: Path) -> None:
    expected = ClassificationData(
        train=LabelledTexts(texts=("one", "two"), labels=("x", "7")),
        test=LabelledTexts(texts=("three",), labels=("7",)),
        digest=hash_by_hand("classification", *CLASSIFICATION.values()),
    )
    assert expected == read(task_of("classification", write(tmp_path, CLASSIFICATION)))


def test_packed_parts_of_a_folder(tmp_path: Path) -> None:
    plain = task_of("retrieval", write(tmp_path / "plain", RETRIEVAL))
    corpus = gzip.compress(RETRIEVAL["corpus.jsonl"].encode())
    packed = task_of("retrieval", write(tmp_path / "packed", {**RETRIEVAL, "corpus.jsonl.gz": corpus}))
    with pytest.raises(DataError, match=r"corpus\.jsonl: is there twice, also as corpus\.jsonl\.gz"):
        read(packed)
    (packed.path / "corpus.jsonl").unlink()
    assert read(plain) == read(packed)


def test_each_file_counts_in_the_digest(tmp_path: Path) -> None:
    digests = {digest_of(task_of("retrieval", write(tmp_path / "0", RETRIEVAL)))}
    for number, part in enumerate(RETRIEVAL, start=1):
        changed = {**RETRIEVAL, part: RETRIEVAL[part] + " "}
        digests.add(digest_of(task_of("retrieval", write(tmp_path / str(number), changed))))
    same = write(tmp_path / "same", {"t.jsonl": STS}) / "t.jsonl"
    digests |= {digest_of(task_of("sts", same)), digest_of(task_of("pairs", same))}
    assert len(digests) == 6


def test_only_line_feeds_end_lines_and_a_byte_order_mark_is_none_of_the_text(tmp_path: Path) -> None:
    rows = '\ufeff{"a": "A\u2028A", "b": "B", "score": 1}\r\n{"a": "C\u0085", "b": "D", "score": 2}'
    data = read(task_of("sts", write(tmp_path, {"t.jsonl": rows}) / "t.jsonl"))
    assert isinstance(data, StsData)
    assert ("A\u2028A", "C\u0085") == data.first


def test_qrels_need_no_header(tmp_path: Path) -> None:
    data = read(task_of("retrieval", write(tmp_path, {**RETRIEVAL, "qrels/test.tsv": "q1\td1\t1\r\n"})))
    assert isinstance(data, RetrievalData)
    assert {"q1": {"d1": 1}} == data.judgements
    assert 2 == data.unjudged


def row(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def test_fault_in_a_file_is_named(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for kind, line, content, what in [
        ("sts", None, "", "is empty"),
        ("sts", 3, STS + "{'a': 1}\n", "is no valid JSON"),
        ("sts", 3, STS + "\n", "is no valid JSON"),
        ("sts", 3, STS + "[" * 100_000, "is no valid JSON"),
        ("sts", 1, "[1]\n", "holds [1], expected an object"),
        ("sts", 1, '{"a": "x", "score": 1}\n', "b is missing. The line has a, score"),
        ("sts", 1, "{}\n", "a is missing. The line has no field"),
        ("sts", 3, STS + row(a=" \n", b="y", score=1), "a is ' \\n', expected a text that is not empty"),
        ("sts", 3, STS + row(a=["x"], b="y", score=1), 'a is ["x"], expected a string'),
        ("sts", 3, STS + row(a=None, b="y", score=1), "a is null, expected a string"),
        ("sts", 3, STS + row(a="x\ud800", b="y", score=1), "a holds half of a surrogate pair"),
        ("sts", 3, STS + row(a="x", b="y", score="1"), "score is '1', expected a finite number"),
        ("sts", 3, STS + row(a="x", b="y", score=True), "score is true, expected a finite number"),
        ("sts", 3, STS + row(a="x", b="y", score=float("nan")), "score is NaN, expected a finite number"),
        ("sts", 3, STS + row(a="x", b="y", score=10**400), "score is 1000000"),
        ("sts", None, row(a="x", b="y", score=2) * 2, "every score is 2: expected different ones"),
        ("sts", 2, STS.encode()[:-4] + b"\xff" + STS.encode()[-4:], "is no UTF-8"),
        ("pairs", 3, PAIRS + row(a="x", b="y", label=2), "label is 2, expected 0 or 1"),
        ("pairs", 3, PAIRS + row(a="x", b="y", label="1"), "label is '1', expected a finite number"),
        ("pairs", None, row(a="x", b="y", label=1), "every label is 1: expected pairs of both kinds"),
        ("clustering", 3, CLUSTERING + row(text="x", label=""), "label is '', expected a string that is not empty"),
        ("clustering", 3, CLUSTERING + row(text="x", label=0.5), "label is 0.5, expected a string"),
        ("clustering", None, row(text="x", label=1) + row(text="y", label="1"), "every label is '1'"),
    ]:
        with subtests.test(kind=kind, line=line, content=content, what=what):
            tmp_path = tmp_path_factory.mktemp("row")
            path = write(tmp_path, {"t.jsonl": content}) / "t.jsonl"
            with pytest.raises(DataError) as caught:
                read(task_of(kind, path))
            assert str(caught.value).startswith(f"{path}: {what}" if line is None else f"{path}, line {line}: {what}")
            assert (path, line) == (caught.value.path, caught.value.line)


def test_fault_in_a_retrieval_folder_is_named(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for part, line, content, what in [
        ("corpus.jsonl", None, None, "is missing"),
        ("queries.jsonl", None, None, "is missing"),
        ("qrels/test.tsv", None, None, "is missing: expected lines of query-id, corpus-id, score"),
        ("corpus.jsonl", None, "", "is empty"),
        ("corpus.jsonl", 2, '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "b"}\n', "_id 'd1' was given before"),
        ("corpus.jsonl", 1, '{"_id": "", "text": "a"}\n', "_id is '', expected"),
        ("corpus.jsonl", 1, '{"_id": true, "text": "a"}\n', "_id is true, expected"),
        ("corpus.jsonl", 1, '{"_id": "d1"}\n', "text is missing"),
        ("corpus.jsonl", 1, '{"_id": "d1", "text": "a", "title": 5}\n', "title is 5, expected a string"),
        ("queries.jsonl", 1, '{"_id": "q1", "text": ""}\n', "text is '', expected a text that is not empty"),
        ("qrels/test.tsv", None, "", "is empty"),
        ("qrels/test.tsv", None, "query-id\tcorpus-id\tscore\n", "names no relevant document"),
        ("qrels/test.tsv", None, "q1\td1\t0\nq2\td1\t-1\n", "names no relevant document"),
        ("qrels/test.tsv", 2, "q1\td1\t1\nq9\td1\t1\n", "query 'q9' is not in the queries"),
        ("qrels/test.tsv", 2, "q1\td1\t1\nq2\td9\t1\n", "document 'd9' is not in the corpus"),
        ("qrels/test.tsv", 2, "q1\td1\t1\nq1\td1\t0\n", "query 'q1' with document 'd1' is judged twice"),
        ("qrels/test.tsv", 1, "q1 d1 1\n", "has 1 columns, expected 3 separated by tabs"),
        ("qrels/test.tsv", 1, "q1\t0\td1\t1\n", "has 4 columns, expected 3 separated by tabs"),
        ("qrels/test.tsv", 2, "q1\td1\t1\nq2\td1\t0.5\n", "score is '0.5', expected a whole number"),
        ("qrels/test.tsv", 2, "q1\td1\t1\nquery-id\tcorpus-id\tscore\n", "score is 'score', expected a whole number"),
    ]:
        with subtests.test(part=part, line=line, content=content, what=what):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = write(tmp_path, {**RETRIEVAL, part: content or ""})
            if content is None:
                (folder / part).unlink()
            with pytest.raises(DataError) as caught:
                read(task_of("retrieval", folder))
            assert str(caught.value).startswith(f"{folder / part}{'' if line is None else f', line {line}'}: {what}")


def test_fault_in_a_classification_folder_is_named(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for part, line, content, what in [
        ("test.jsonl", None, None, "is missing"),
        ("test.jsonl", 1, '{"text": "x", "label": "new"}\n', "label 'new' is not among the 2 of the training file"),
        ("train.jsonl", None, '{"text": "x", "label": "7"}\n', "every label is '7': expected two or more"),
    ]:
        with subtests.test(part=part, line=line, content=content, what=what):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = write(tmp_path, {**CLASSIFICATION, part: content or ""})
            if content is None:
                (folder / part).unlink()
            with pytest.raises(DataError) as caught:
                read(task_of("classification", folder))
            assert str(caught.value).startswith(f"{folder / part}{'' if line is None else f', line {line}'}: {what}")


def test_damaged_gzip_is_an_error_also_when_only_hashed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for case, content in [
        ("none", b"no gzip at all"),
        ("cut", gzip.compress(STS.encode())[:-9]),
        ("damaged", gzip.compress(STS.encode())[:10] + b"\xff" * 20),
    ]:
        with subtests.test(case):
            tmp_path = tmp_path_factory.mktemp("row")
            task = task_of("sts", write(tmp_path, {"t.jsonl.gz": content}) / "t.jsonl.gz")
            for use in (read, digest_of):
                with pytest.raises(DataError, match=re.escape(f"{task.path}: cannot be read")):
                    use(task)
