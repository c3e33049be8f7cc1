"""What a query asks for, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from blake3 import blake3

from ...index.protocol import Filter, StoredChunk
from ..options import SearchMode
from .snippets import Snippet


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A chunk that says what a hit says, and has passed the filters as well."""

    path: str
    file: Path
    lines: tuple[int, int] | None
    chunk: int
    """Its place in the document, counted from 0."""
    score: float


class Freshness(StrEnum):
    FRESH = "fresh"
    CHANGED = "changed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query as it was asked."""

    text: str
    id: Any = None  # as JSON has it: a number stays one
    instruction: str | None = None
    """None: the one of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """How to search."""

    mode: SearchMode = SearchMode.HYBRID
    k: int = 10
    offset: int = 0
    where: Filter = field(default_factory=Filter)
    instruction: str | None = None
    dense_weight: float | None = None
    """None: what the model recommends, else the default."""
    min_score: float | None = None
    snippets: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score and its parts; None: that side did not take part, or did not find the chunk."""

    total: float
    lexical: float | None = None
    """BM25."""
    dense: float | None = None
    """Cosine."""
    lexical_part: float | None = None
    dense_part: float | None = None
    lexical_rank: int | None = None
    dense_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that answers a query."""

    rank: int
    """1-based, over all pages."""
    score: Score
    chunk: StoredChunk
    file: Path
    freshness: Freshness
    snippet: Snippet | None
    duplicates: tuple[Duplicate, ...] = ()
    """What says the same and is not shown by itself, best first."""

    @property
    def line(self) -> int | None:
        """The line of the best passage where the format has lines, else of the chunk."""
        start = self.chunk.line_start
        if start is None or self.snippet is None or self.chunk.char_start is None:
            return start
        at = self.snippet.start + self.snippet.passage[0]
        return start + self.chunk.text.count("\n", 0, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The hits of one query."""

    question: Question
    hits: tuple[Hit, ...]
    more: bool
    """Whether there are hits after these."""
    dense_weight: float | None
    """Share of the dense side in hybrid mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One per question, and what became of questions that are longer than the encoder reads."""

    answers: Sequence[Answer]
    queries_cut: int
    max_tokens: int | None
    """That the encoder reads of a question; None where none was encoded."""


def freshness(file: Path, known: StoredChunk) -> Freshness:
    """Return how a file on disk compares with what the catalogue knows of it."""
    try:
        info = file.stat()
        same = info.st_size == known.size and (
            info.st_mtime_ns == known.mtime_ns or blake3(file.read_bytes()).hexdigest() == known.content_hash
        )
    except OSError:
        return Freshness.MISSING
    return Freshness.FRESH if same else Freshness.CHANGED
