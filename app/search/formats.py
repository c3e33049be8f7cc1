"""Hits for programs: JSON, JSONL, CSV, Markdown and bare file names. The schema is versioned and the columns fixed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..collection.paths import shown_path
from ..options import HitFormat, SearchMode
from ..terminal.console import harmless, printable
from ..terminal.csv_rows import csv_text
from .hits import Answer, Hit
from .snippets import Snippet

SCHEMA = 1

CSV_COLUMNS = (
    *("query_id", "query", "rank", "score", "lexical", "dense", "path", "file", "format", "title"),
    *("line_start", "line_end", "char_start", "char_end", "anchor_kind", "anchor_value", "headings"),
    *("docid", "chunk", "date", "freshness", "snippet", "duplicates", "text"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """What all answers of one invocation share."""

    collection: str
    generation: int
    complete: bool
    mode: SearchMode
    full: bool
    """Give the whole text of each chunk."""
    explain: bool
    """Say how each score came about, where the format does not always do so."""


def render(answers: Sequence[Answer], context: ResultContext, form: HitFormat, *, nul: bool = False) -> str:
    """Return all answers as text that ends with a newline, or "" where there is nothing to say."""
    if form is HitFormat.JSON:
        return json.dumps(to_json(answers, context), ensure_ascii=False, indent=2) + "\n"
    if form is HitFormat.JSONL:
        lines = (json.dumps(_row(a, h, context), ensure_ascii=False) for a in answers for h in a.hits)
        return "".join(f"{line}\n" for line in lines)
    if form is HitFormat.CSV:
        return csv_text(CSV_COLUMNS, (_csv_row(answer, hit, context) for answer in answers for hit in answer.hits))
    if form is HitFormat.MD:
        return _markdown(answers, context)
    assert form is HitFormat.FILES, form
    names = dict.fromkeys(shown_path(hit.file) for answer in answers for hit in answer.hits)
    return "".join(name + ("\0" if nul else "\n") for name in names)


def to_json(answers: Sequence[Answer], context: ResultContext) -> dict[str, Any]:
    """Return the one JSON document of a query command."""
    return {
        "schema": SCHEMA,
        "collection": context.collection,
        "generation": context.generation,
        "complete": context.complete,
        "mode": context.mode.value,
        "results": [
            {
                "query": answer.question.text,
                "id": answer.question.id,
                "dense_weight": answer.dense_weight,
                "more": answer.more,
                "hits": [hit_to_json(hit, context) for hit in answer.hits],
            }
            for answer in answers
        ],
    }


def hit_to_json(hit: Hit, context: ResultContext) -> dict[str, Any]:
    """Return one hit; every key is always there, null where it does not apply."""
    chunk, score = hit.chunk, hit.score
    return {
        "rank": hit.rank,
        "score": score.total,
        "parts": {
            "lexical": score.lexical,
            "dense": score.dense,
            "lexical_part": score.lexical_part,
            "dense_part": score.dense_part,
            "lexical_rank": score.lexical_rank,
            "dense_rank": score.dense_rank,
        },
        "path": chunk.path,
        "file": str(hit.file),
        "format": chunk.format,
        "title": chunk.title,
        "headings": list(chunk.headings),
        "anchor": None if chunk.anchor is None else {"kind": chunk.anchor.kind, "value": chunk.anchor.value},
        "lines": None if chunk.line_start is None else [chunk.line_start, chunk.line_end],
        "chars": None if chunk.char_start is None else [chunk.char_start, chunk.char_end],
        "docid": docid(hit),
        "chunk": chunk.ordinal,
        "date": chunk.date.isoformat(),
        "freshness": hit.freshness.value,
        "snippet": None if hit.snippet is None else _snippet(hit, hit.snippet),
        "text": chunk.text if context.full else None,
        "duplicates": [
            {
                "path": duplicate.path,
                "file": str(duplicate.file),
                "lines": None if duplicate.lines is None else list(duplicate.lines),
                "chunk": duplicate.chunk,
                "score": duplicate.score,
            }
            for duplicate in hit.duplicates
        ],
    }


def docid(hit: Hit) -> str:
    """Return a short name of a document's content: the same after a move, another after a change."""
    return hit.chunk.content_hash[:8]


def explanation(hit: Hit, mode: SearchMode) -> str:
    """Return how a hit's score came about; in hybrid mode the two parts add up to it."""
    score = hit.score
    words = "no word matches" if score.lexical is None else f"BM25 {score.lexical:.2f}, rank {score.lexical_rank}"
    if mode is SearchMode.LEXICAL:
        return f"{words}"
    rank = f"rank {score.dense_rank}" if score.dense_rank is not None else "not among the nearest"
    meaning = "" if score.dense is None else f"cosine {score.dense:.3f}, {rank}"
    if mode is SearchMode.DENSE:
        return meaning
    assert score.lexical_part is not None
    total, first = round(score.total, 3), round(score.lexical_part, 3)
    # Rounded by itself the second part would now and then be off by the last digit.
    return f"{total:.3f} = {first:.3f} by words ({words}) + {total - first:.3f} by meaning ({meaning})"


def duplicate_words(hit: Hit) -> str:
    """Return e.g. "+2 duplicates: notes/a.md:12, b.md:3": what hangs on a hit that has any."""
    noun = "duplicate" if len(hit.duplicates) == 1 else "duplicates"
    places = (
        shown_path(other.file) + ("" if other.lines is None else f":{other.lines[0]}") for other in hit.duplicates
    )
    return f"+{len(hit.duplicates):,} {noun}: {', '.join(places)}"


def _snippet(hit: Hit, snippet: Snippet) -> dict[str, Any]:
    return {
        "text": snippet.text,
        "passage": list(snippet.passage),
        "matches": [list(span) for span in snippet.matches],
        "line": hit.line,
    }


def _row(answer: Answer, hit: Hit, context: ResultContext) -> dict[str, Any]:
    asked = {"schema": SCHEMA, "query": answer.question.text, "id": answer.question.id}
    return {**asked, **hit_to_json(hit, context)}


def _csv_row(answer: Answer, hit: Hit, context: ResultContext) -> list[object]:
    chunk = hit.chunk
    return [
        answer.question.id,
        answer.question.text,
        hit.rank,
        hit.score.total,
        hit.score.lexical,
        hit.score.dense,
        chunk.path,
        str(hit.file),
        chunk.format,
        chunk.title,
        chunk.line_start,
        chunk.line_end,
        chunk.char_start,
        chunk.char_end,
        chunk.anchor.kind if chunk.anchor else None,
        chunk.anchor.value if chunk.anchor else None,
        " > ".join(chunk.headings),
        docid(hit),
        chunk.ordinal,
        chunk.date.isoformat(),
        hit.freshness.value,
        hit.snippet.text if hit.snippet else None,
        len(hit.duplicates),
        chunk.text if context.full else None,
    ]


def _link(hit: Hit) -> str:
    """Return the place of a hit, a link to its file: in code marks a name is shown as it is."""
    name = shown_path(hit.file)
    place = _one_line(name) + (f":{hit.line}" if hit.line is not None else "")
    target = quote(os.fsencode(Path(name).as_posix()))
    if "`" in place:
        fence = "`" * (1 + max(len(run) for run in re.findall("`+", place)))
        return f"[{fence} {place} {fence}]({target})"
    return f"[`{place}`]({target})"


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _markdown(answers: Sequence[Answer], context: ResultContext) -> str:
    parts: list[str] = []
    for answer in answers:
        parts.append(f"## {_one_line(answer.question.text)}\n")
        for hit in answer.hits:
            trail = _one_line(" > ".join(hit.chunk.headings))
            about = [f"score {hit.score.total:.3f}"]
            if hit.chunk.anchor is not None and hit.chunk.anchor.kind not in ("heading", "symbol"):
                about.append(_one_line(f"{hit.chunk.anchor.kind} {hit.chunk.anchor.value}"))
            if trail:
                about.append(trail)
            if hit.freshness.value != "fresh":
                about.append(f"file {hit.freshness.value} since indexed")
            mark = f"{hit.rank}. "
            # What belongs to a hit stands below its first letter: that far, or Markdown takes it for a text of its own.
            indent = " " * len(mark)
            parts.append(f"{mark}{_link(hit)} ({'; '.join(about)})\n")
            if context.explain:
                parts.append(f"{indent}{explanation(hit, context.mode)}\n")
            body = hit.chunk.text if context.full else hit.snippet.text if hit.snippet else ""
            if body:
                lines = harmless(body).strip().split("\n")
                parts.append("\n".join(f"{indent}> {line}".rstrip() for line in lines) + "\n")
            if hit.duplicates:
                parts.append(f"{indent}{_one_line(duplicate_words(hit))}\n")
        if not answer.hits:
            parts.append("No hit.\n")
    return "\n".join(parts) if parts else ""
