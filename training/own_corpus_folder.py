"""The folder of a test set of one's own: BEIR's files, readable by anything that reads BEIR, and where they are from.

    corpus.jsonl      _id, title, text
    queries.jsonl     _id, text, kind
    qrels/test.tsv    query-id, corpus-id, score
    manifest.json     seed, counts, the collection it was made from, the passages that were cut

Queries and judgements may be added by hand: a query without a kind is of kind "own".
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DataError, EvaluationError
from .json_lines import Source
from .local_data import HEADER, RetrievalData, read
from .local_folders import LocalTask
from .measurement import Json
from .whole_files import sync_tree

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
        raise EvaluationError(f"{folder} is there and is no test set: expected another place, --out DIR")
    if (folder / MANIFEST).is_file() and not force:
        raise EvaluationError(
            f"{folder} holds a test set already: measure with `searchctl eval mine`, or replace it, with the queries "
            "that were added to it, by adding --force"
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
        raise DataError(path, "is missing: expected a test set, as `searchctl eval init` makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        cut = frozenset(map(str, manifest["cut"]))
        generation, encoder = int(manifest["generation"]), str(manifest["encoder"]["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is damaged ({error!r}): make it anew with `searchctl eval init --force`") from error
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
