"""Sentences with a label per word, read from the columns of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..errors import DataError

FILES = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}
"""File of each split, in the order in which they are encoded."""
DOCUMENT_START = "-DOCSTART-"
_GAP = re.compile(r"[ \t]+")


class WordTask(StrEnum):
    CHUNK = "chunk"
    NER = "ner"
    POS = "pos"


COLUMNS = ("word", WordTask.POS, WordTask.CHUNK, WordTask.NER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Words and, for each task, as many labels."""

    words: tuple[str, ...]
    labels: Mapping[WordTask, tuple[str, ...]]

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordData:
    """The splits of one folder."""

    splits: Mapping[str, tuple[Sentence, ...]]
    """By the names of FILES, in that order."""
    digest: str
    """Hex digest of the three files."""


def load_words(folder: Path) -> WordData:
    """Return the sentences of eng.train, eng.testa and eng.testb in `folder`.

    Labels are as they stand in the files (IOB1 in the original release). Raises DataError as `read_columns` does.
    """
    if not folder.is_dir():
        raise DataError(folder, f"no such folder, expected one with {', '.join(FILES.values())}")
    digest = hashlib.blake2b(digest_size=32)
    splits = {}
    for split, name in FILES.items():
        path = folder / name
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise DataError(path, f"no such file, expected {', '.join(FILES.values())} in the folder") from None
        splits[split] = tuple(read_columns(path, raw))
        if not splits[split]:
            raise DataError(path, "holds no sentence, expected lines of WORD POS CHUNK NER")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return WordData(splits=splits, digest=digest.hexdigest())


def read_columns(path: Path, raw: bytes) -> Iterator[Sentence]:
    """Yield the sentences in `raw`, the content of `path`: a line per word, an empty line after each sentence.

    Lines that begin with -DOCSTART- are dropped. Raises DataError with the line for another number of columns than
    four and for bytes that are no UTF-8.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip(" \t\r")
        except UnicodeDecodeError as error:
            raise DataError(path, f"{error}, expected UTF-8", line=number) from error
        if not text:
            if rows:
                yield _sentence(rows)
                rows = []
            continue
        cells = _GAP.split(text)
        if cells[0] == DOCUMENT_START:
            continue
        if len(cells) != len(COLUMNS):
            what = f"{len(cells)} columns ({text[:60]!r}), expected {len(COLUMNS)}: WORD POS CHUNK NER"
            raise DataError(path, what, line=number)
        if cells[0].isspace():
            raise DataError(path, f"the word is {cells[0]!r}, expected at least one visible character", line=number)
        rows.append(cells)
    if rows:
        yield _sentence(rows)


def _sentence(rows: list[list[str]]) -> Sentence:
    words, *labels = zip(*rows, strict=True)
    tasks = [WordTask(column) for column in COLUMNS[1:]]
    return Sentence(words=words, labels=dict(zip(tasks, labels, strict=True)))
