"""The folder of a test set of one's own: BEIR's files, readable by anything that reads BEIR, and where they are from.

    corpus.jsonl      _id, title, text
    queries.jsonl     _id, text, kind
    qrels/test.tsv    query-id, corpus-id, score
    manifest.json     seed, counts, the collection it was made from, the passages that were cut

Queries and judgements may be added by hand: a query without a kind is of kind "own".
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...encoder.protocol import Vectors
from ...index.durable import sync_tree
from ..data.json_lines import Source
from ..data.local_data import HEADER, LocalTask, RetrievalData, read
from ..errors import DataError, EvaluationError
from .measurement import Json

MANIFEST = "manifest.json"
SCHEMA = 1
OWN = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage of the corpus, as the search holds it."""

    id: str
    document: str
    """Path of its document."""
    title: str | None
    """The document's."""
    headings: tuple[str, ...]
    """From the outermost to the innermost."""
    context: str
    """Title and headings as they stand before the text when it is embedded, joined by " > "."""
    text: str
    position: int
    """In the document; neighbours may overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query with the passages that answer it."""

    id: str
    kind: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A passage of the test corpus."""

    id: str
    title: str
    """Its context: the document's title and the headings above it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """A corpus with queries, none of which stands in it."""

    __test__ = False  # for pytest, which would take the name for its own

    corpus: tuple[Entry, ...]
    queries: tuple[Query, ...]
    cut: frozenset[str]
    """Ids of the passages from which something was cut."""
    duplicates: int
    """Passages left out because another has the same text."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Queries not used, by reason."""

    @property
    def kinds(self) -> dict[str, int]:
        """How many queries of each kind there are."""
        kinds = [query.kind for query in self.queries]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTestSet:
    """A test set as its folder has it, perhaps with queries that were added."""

    data: RetrievalData
    kinds: Mapping[str, str]
    """By query, in the order of `data`."""
    cut: frozenset[str]
    generation: int
    """Of the collection it was made from."""
    encoder: str
    """Fingerprint of the encoder of that collection, by whose tokens its passages were cut."""


def write_test_set(test_set: TestSet, folder: Path, source: Mapping[str, Json], *, force: bool, hidden: bool) -> None:
    """Write the folder as a whole or not at all; `source` is what the manifest tells of collection and settings.

    With `force` a test set that is there is replaced. `hidden` keeps git from it; searchctl is always kept from it.
    Raises EvaluationError when the folder is there, and is no test set or not to be replaced.
    """
    check_free(folder, force=force)
    staging = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "qrels").mkdir(parents=True)
    _write_lines(staging / "corpus.jsonl", ({"_id": e.id, "title": e.title, "text": e.text} for e in test_set.corpus))
    _write_lines(staging / "queries.jsonl", ({"_id": q.id, "text": q.text, "kind": q.kind} for q in test_set.queries))
    pairs = [f"{query.id}\t{answer}\t1\n" for query in test_set.queries for answer in query.answers]
    (staging / "qrels" / "test.tsv").write_text("\t".join(HEADER) + "\n" + "".join(pairs), encoding="utf-8")
    (staging / ".searchctlignore").write_text("*\n", encoding="utf-8")
    if hidden:
        (staging / ".gitignore").write_text("*\n", encoding="utf-8")
    manifest = {
        "schema": SCHEMA,
        **source,
        "passages": len(test_set.corpus),
        "duplicates_left_out": test_set.duplicates,
        "queries": test_set.kinds,
        "dropped": dict(test_set.dropped),
        "cut": sorted(test_set.cut),
    }
    (staging / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sync_tree(staging)
    _put(staging, folder)


def check_free(folder: Path, *, force: bool) -> None:
    """Raise EvaluationError when a test set cannot be written to `folder`."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
        raise EvaluationError(f"{folder} is there and is no test set: expected another place, --output DIR")
    if (folder / MANIFEST).is_file() and not force:
        raise EvaluationError(
            f"{folder} holds a test set already: measure with it, or replace it, with the queries that "
            "were added to it, by adding --force",
            next_command=("eval", "own"),
        )


def _write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _put(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`; what was there is deleted once the new one is in its place."""
    replaced = folder.with_name(f"{folder.name}.replaced-{os.getpid()}")
    if folder.exists():
        folder.rename(replaced)
    staging.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def read_test_set(folder: Path) -> StoredTestSet:
    """Return the test set in `folder`. Raises DataError with file and line for whatever is not as it should be."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(path, "is missing: expected a test set", next_command=("eval", "init"))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        cut = frozenset(map(str, manifest["cut"]))
        generation, encoder = int(manifest["generation"]), str(manifest["encoder"]["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            path, f"is damaged ({error!r}): make another", next_command=("eval", "init", "--force")
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise DataError(path, f"has schema {manifest.get('schema')!r}, expected {SCHEMA}: it is of another searchctl")
    data = read(LocalTask(kind="retrieval", name=folder.name, path=folder))
    assert isinstance(data, RetrievalData)
    rows = Source(folder / "queries.jsonl").rows()
    kinds = {row.name("_id"): row.text("kind") if "kind" in row.fields else OWN for row in rows}
    return StoredTestSet(
        data=data,
        kinds={id_: kinds[id_] for id_ in data.query_ids},
        cut=cut,
        generation=generation,
        encoder=encoder,
    )


Ids = NDArray[np.int64]

TIE = 1e-6
"""Cosines nearer than this are equal: exact search may return either."""


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return the normalised discounted cumulative gain of the first `k`, with linear gains, as trec_eval has it.

    0 without a relevant passage. Jarvelin and Kekalainen, TOIS 2002.
    """
    ideal = _gain(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k])
    return _gain([max(grades.get(id_, 0), 0) for id_ in ranking[:k]]) / ideal if ideal else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def recall(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return the share of the relevant passages that are among the first `k`, 0 without a relevant passage."""
    relevant = {id_ for id_, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return 1 / rank of the first relevant passage among the first `k`, 0 without one."""
    ranks = (rank for rank, id_ in enumerate(ranking[:k], start=1) if grades.get(id_, 0) > 0)
    return next((1.0 / rank for rank in ranks), 0.0)


def exact_thresholds(
    queries: Vectors, blocks: Iterable[tuple[Ids, Vectors]], chunks_of: Mapping[int, int], k: int
) -> NDArray[np.float64]:
    """Return (q,): the cosine of the k-th best chunk for each query, over all vectors, each compared in float64.

    A vector counts as often as `chunks_of` says, by its id, which is how many chunks share it. With fewer than `k`
    chunks it is the least cosine.
    """
    best = np.empty((len(queries), 0))
    for ids, vectors in blocks:
        repeats = np.array([min(chunks_of.get(int(id_), 0), k) for id_ in ids])
        cosines = queries.astype(np.float64) @ vectors.astype(np.float64).T
        best = np.concatenate([best, np.repeat(cosines, repeats, axis=1)], axis=1)
        best = -np.sort(-best, axis=1)[:, :k]
    thresholds: NDArray[np.float64] = best[:, -1]
    return thresholds


def share_found(cosines: Vectors, threshold: float, expected: int) -> float:
    """Return the recall of one search: how many of the `expected` nearest it found, by their exact cosines."""
    return min(int((cosines >= threshold - TIE).sum()), expected) / expected
