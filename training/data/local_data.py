"""Evaluation data of one's own in plain files: found, checked line by line, and read into frozen dataclasses.

The layouts, below one root folder (all files UTF-8; every .jsonl may be a .jsonl.gz):

    retrieval/NAME/corpus.jsonl       _id, text, and title if any      BEIR
    retrieval/NAME/queries.jsonl      _id, text
    retrieval/NAME/qrels/test.tsv     query-id, corpus-id, score       header optional
    sts/NAME.jsonl                    a, b, score
    pairs/NAME.jsonl                  a, b, label                      1 = same meaning, 0 = not
    clustering/NAME.jsonl             text, label
    classification/NAME/train.jsonl   text, label                      and test.jsonl

Other keys of an object are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from blake3 import blake3

from ..errors import DataError
from .corpus import source_name
from .json_lines import SUFFIXES, Row, Source

Kind = Literal["retrieval", "sts", "pairs", "clustering", "classification"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LAYOUT = (
    "retrieval/NAME/{corpus.jsonl,queries.jsonl,qrels/test.tsv}, sts/NAME.jsonl, pairs/NAME.jsonl, "
    "clustering/NAME.jsonl or classification/NAME/{train,test}.jsonl"
)
_FOLDER_KINDS: tuple[Kind, ...] = ("retrieval", "classification")
_PARTS: dict[Kind, tuple[str, ...]] = {"retrieval": ("corpus", "queries"), "classification": ("train", "test")}
_FIELDS: dict[Kind, frozenset[str]] = {
    "sts": frozenset(["a", "b", "score"]),
    "pairs": frozenset(["a", "b", "label"]),
    "clustering": frozenset(["text", "label"]),
}
_ASIDE = (".md", ".txt", ".rst")
_ASIDE_NAMES = ("README", "LICENSE", "LICENCE", "NOTICE", "COPYING", "CITATION")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """Where the files of one task are."""

    kind: Kind
    name: str
    path: Path
    """A folder for retrieval and classification, else the file."""


def discover(place: Path) -> list[LocalTask]:
    """Return the tasks that `place` holds, kind by kind and by name.

    `place` is the root with folders named by kind, one of these, or a single task's folder or file. Other entries of
    the root are left alone; in a folder of a kind only hidden ones, readmes and licences are. Raises DataError for
    anything else there, for two tasks of one name, and when there is no task at all.
    """
    if place.is_file():
        return [_single_file(place)]
    if not place.is_dir():
        raise DataError(place, f"is no file or folder. Expected a folder with {LAYOUT}")
    tasks = [task for kind in KINDS if (place / kind).is_dir() for task in _of_kind(kind, place / kind)]
    name = _name_of_folder(place)
    if not tasks:
        kind = next((kind for kind in _FOLDER_KINDS if _is_task(kind, place)), None)
        if kind is not None:
            tasks = [LocalTask(kind=kind, name=name, path=place)]
    if not tasks:
        tasks = [task for kind in KINDS if kind == name for task in _of_kind(kind, place)]
    if not tasks:
        raise DataError(place, f"holds no task. Expected {LAYOUT}")
    _check_names(tasks)
    return tasks


def _of_kind(kind: Kind, folder: Path) -> list[LocalTask]:
    tasks = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error})") from error
    for entry in entries:
        if entry.name.startswith(".") or _is_aside(entry):
            continue
        if kind in _FOLDER_KINDS and entry.is_dir():
            tasks.append(LocalTask(kind=kind, name=entry.name, path=entry))
        elif kind not in _FOLDER_KINDS and entry.is_file() and entry.name.endswith(SUFFIXES):
            tasks.append(LocalTask(kind=kind, name=source_name(entry), path=entry))
        else:
            raise DataError(entry, f"is no task of the kind {kind}. Expected {LAYOUT}")
    return tasks


def _is_aside(entry: Path) -> bool:
    return entry.is_file() and (entry.suffix.lower() in _ASIDE or entry.name.upper().startswith(_ASIDE_NAMES))


def _is_task(kind: Kind, folder: Path) -> bool:
    """Return whether `folder` has a part of a task of `kind`; what is missing shows when it is read."""
    parts = (folder / f"{part}{suffix}" for part in _PARTS[kind] for suffix in SUFFIXES)
    return any(part.is_file() for part in parts) or (kind == "retrieval" and (folder / "qrels").is_dir())


def _single_file(path: Path) -> LocalTask:
    if not path.name.endswith(SUFFIXES):
        raise DataError(path, f"is no task. Expected {LAYOUT}")
    if source_name(path) in {part for parts in _PARTS.values() for part in parts} and path.parent.name not in _FIELDS:
        raise DataError(path, f"may be one file of a task: name its folder, {path.parent}")
    for kind in _FIELDS:
        if path.parent.name == kind:
            return LocalTask(kind=kind, name=source_name(path), path=path)
    row = next(Source(path).rows())
    for kind, fields in _FIELDS.items():
        if fields <= row.fields.keys():
            return LocalTask(kind=kind, name=source_name(path), path=path)
    raise row.error(f"has {', '.join(row.fields) or 'no field'}. Expected a, b, score or a, b, label or text, label")


def _check_names(tasks: list[LocalTask]) -> None:
    seen: dict[str, Path] = {}
    for task in tasks:
        if task.name in seen:
            raise DataError(task.path, f"has the name of {seen[task.name]}, expected one task {task.name}: rename one")
        seen[task.name] = task.path


def _name_of_folder(folder: Path) -> str:
    # "." and ".." name no task.
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


T = TypeVar("T")
HEADER = ("query-id", "corpus-id", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalData:
    """Queries, the documents to rank, and which of them answer which query; columns in the order of the files."""

    document_ids: tuple[str, ...]
    titles: tuple[str, ...]
    """"" where there is none."""
    texts: tuple[str, ...]
    """May be "": a document of a collection may have lost its text."""
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    judgements: Mapping[str, Mapping[str, int]]
    """Grade by query and document; above 0 is relevant."""
    unjudged: int
    """Queries of the file that no judgement names; they are left out, as BEIR does."""
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StsData:
    """Pairs of texts with the similarity that people gave them."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairData:
    """Pairs of texts that mean the same (1) or not (0)."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTexts:
    """Texts, each with the name of its class."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> LabelledTexts:
        found = [(row.text("text"), row.name("label")) for row in rows]
        return cls(texts=tuple(text for text, _ in found), labels=tuple(label for _, label in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringData:
    """Texts of two or more groups."""

    rows: LabelledTexts
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationData:
    """Texts to learn two or more classes from, and texts to classify."""

    train: LabelledTexts
    test: LabelledTexts
    digest: str


LocalData = RetrievalData | StsData | PairData | ClusteringData | ClassificationData


def digest_of(task: LocalTask) -> str:
    """Return the hex digest of the contents of all files of `task`, whose form is not looked at.

    A file and its gzip are the same. Raises DataError for a file that is missing or cannot be read.
    """
    sources = [Source(path) for path in _files(task)]
    for source in sources:
        for _ in source.raw_lines():
            pass
    return _digest(task, sources)


def read(task: LocalTask) -> LocalData:
    """Return the data of `task`. Raises DataError with file and line for whatever is not as the layout says."""
    sources = [Source(path) for path in _files(task)]
    match task.kind:
        case "retrieval":
            return _read_retrieval(task, *sources)
        case "sts":
            return _read_sts(task, *sources)
        case "pairs":
            return _read_pairs(task, *sources)
        case "clustering":
            return _read_clustering(task, *sources)
        case "classification":
            return _read_classification(task, *sources)


def _files(task: LocalTask) -> list[Path]:
    """Return the files of `task` in the order of their readers. Raises DataError when one is missing or there twice."""
    if task.kind == "retrieval":
        qrels = task.path / "qrels" / "test.tsv"
        if not qrels.is_file():
            raise DataError(qrels, f"is missing: expected lines of {', '.join(HEADER)}, separated by tabs")
        return [_one_file(task.path, "corpus"), _one_file(task.path, "queries"), qrels]
    if task.kind == "classification":
        return [_one_file(task.path, "train"), _one_file(task.path, "test")]
    return [task.path]


def _one_file(folder: Path, part: str) -> Path:
    found = [path for path in (folder / f"{part}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if not found:
        raise DataError(folder / f"{part}.jsonl", "is missing")
    if len(found) > 1:
        raise DataError(found[0], f"is there twice, also as {found[1].name}: remove one")
    return found[0]


def _digest(task: LocalTask, sources: Sequence[Source]) -> str:
    return blake3(" ".join([task.kind, *(source.digest for source in sources)]).encode()).hexdigest()


def _read_sts(task: LocalTask, source: Source) -> StsData:
    rows = [(row.text("a"), row.text("b"), row.number("score")) for row in source.rows()]
    first, second, scores = zip(*rows, strict=True)
    if len(set(scores)) < 2:
        raise DataError(source.path, f"every score is {scores[0]:g}: expected different ones, for a correlation")
    return StsData(first=first, second=second, scores=scores, digest=_digest(task, [source]))


def _read_pairs(task: LocalTask, source: Source) -> PairData:
    rows = [(row.text("a"), row.text("b"), _binary(row)) for row in source.rows()]
    first, second, labels = zip(*rows, strict=True)
    if len(set(labels)) < 2:
        raise DataError(source.path, f"every label is {labels[0]}: expected pairs of both kinds, 0 and 1")
    return PairData(first=first, second=second, labels=labels, digest=_digest(task, [source]))


def _binary(row: Row) -> int:
    label = row.number("label")
    if label not in (0, 1):
        raise row.error(f"label is {label:g}, expected 0 or 1")
    return int(label)


def _read_clustering(task: LocalTask, source: Source) -> ClusteringData:
    rows = LabelledTexts.of(source.rows())
    _check_labels(source, rows)
    return ClusteringData(rows=rows, digest=_digest(task, [source]))


def _read_classification(task: LocalTask, train: Source, test: Source) -> ClassificationData:
    learnt = LabelledTexts.of(train.rows())
    _check_labels(train, learnt)
    known = set(learnt.labels)
    asked = LabelledTexts.of(_known_rows(test, known))
    return ClassificationData(train=learnt, test=asked, digest=_digest(task, [train, test]))


def _known_rows(source: Source, known: Set[str]) -> Iterator[Row]:
    for row in source.rows():
        if row.name("label") not in known:
            raise row.error(f"label {row.name('label')!r} is not among the {len(known)} of the training file")
        yield row


def _check_labels(source: Source, rows: LabelledTexts) -> None:
    found = set(rows.labels)
    if len(found) < 2:
        raise DataError(source.path, f"every label is {rows.labels[0]!r}: expected two or more")


def _read_retrieval(task: LocalTask, corpus: Source, queries: Source, qrels: Source) -> RetrievalData:
    documents = _by_id(corpus, lambda row: (_title(row), row.string("text")))
    asked = _by_id(queries, lambda row: row.text("text"))
    judgements = _judgements(qrels, asked.keys(), documents.keys())
    kept = {id_: text for id_, text in asked.items() if id_ in judgements}
    return RetrievalData(
        document_ids=tuple(documents),
        titles=tuple(title for title, _ in documents.values()),
        texts=tuple(text for _, text in documents.values()),
        query_ids=tuple(kept),
        queries=tuple(kept.values()),
        judgements={id_: judgements[id_] for id_ in kept},
        unjudged=len(asked) - len(kept),
        digest=_digest(task, [corpus, queries, qrels]),
    )


def _by_id(source: Source, value_of: Callable[[Row], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for row in source.rows():
        id_ = row.name("_id")
        if id_ in found:
            raise row.error(f"_id {id_!r} was given before, expected each once")
        found[id_] = value_of(row)
    return found


def _title(row: Row) -> str:
    return row.string("title") if row.fields.get("title") is not None else ""


def _judgements(source: Source, queries: Set[str], documents: Set[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line, written in source.lines():
        cells = tuple(written.split("\t"))
        if line == 1 and cells == HEADER:
            continue
        query, document, grade = _judgement(source.path, line, cells)
        if query not in queries:
            raise DataError(source.path, f"query {query!r} is not in the queries", line=line)
        if document not in documents:
            raise DataError(source.path, f"document {document!r} is not in the corpus", line=line)
        if document in found.setdefault(query, {}):
            raise DataError(source.path, f"query {query!r} with document {document!r} is judged twice", line=line)
        found[query][document] = grade
    if not any(grade > 0 for grades in found.values() for grade in grades.values()):
        raise DataError(source.path, "names no relevant document: expected a score above 0 somewhere")
    return found


def _judgement(path: Path, line: int, cells: tuple[str, ...]) -> tuple[str, str, int]:
    if len(cells) != len(HEADER):
        expected = f"expected {len(HEADER)} separated by tabs: {', '.join(HEADER)}"
        raise DataError(path, f"has {len(cells)} columns, {expected}", line=line)
    query, document, score = cells
    if not re.fullmatch(r"-?\d{1,9}", score, re.ASCII):
        raise DataError(path, f"score is {score!r}, expected a whole number; above 0 is relevant", line=line)
    return query, document, int(score)
