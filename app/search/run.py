"""How `searchctl query` runs: questions from words, stdin or a file, and answers in the form asked for."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ...index.filters import Candidate, matching_documents
from ...index.protocol import Collection, CollectionStatus, Filter
from ..collection.encoder_choice import EncoderChoice, collection_encoder
from ..collection.items import INCOMPLETE
from ..collection.opening import open_collection
from ..collection.paths import existing_collection, rooted_globs
from ..collection.talk import talk_to
from ..errors import AppError, ExitCode
from ..options import HitFormat, SearchMode
from ..terminal.console import Terminal, printable
from ..terminal.progress import pull_bar
from ..terminal.text_input import decoded_lines, own_id, parsed_json, require_unicode
from ..terminal.wording import many
from .formats import ResultContext, render
from .groups import grouping_notices, read_grouping
from .hits import Answer, Answers, Freshness, Question, SearchRequest
from .searcher import FUSION_DEPTH, Searcher
from .table import TableOptions, show_answer

_FOLDERS_NAMED = 8
"""Of those with the most files."""
_MOST_HITS = 2**30
"""SQLite and FAISS count in 64 bits; what is added and multiplied on the way stays far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOutput:
    """How to print answers."""

    form: HitFormat
    nul: bool
    explain: bool
    full: bool
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedGroups:
    """What --cluster and --collapse were given."""

    clusters: tuple[str, ...] = ()
    collapse: bool = False


def read_questions(words: Sequence[str], file: Path | None) -> list[Question]:
    """Return the questions of a command.

    Raises AppError for none, for two sources of them, and for one that is empty or no valid Unicode.
    """
    if file is not None and words:
        raise AppError(f"both a query ({' '.join(words)!r}) and --queries {file} were given: expected one of them")
    if file is not None:
        try:
            with file.open("rb") as stream:
                questions = list(_from_jsonl(stream, str(file)))
        except OSError as error:
            raise AppError(
                f'--queries is {file}: {error.strerror or error}: expected a file of JSON lines {{"query": TEXT}}',
                next_command=("query", "--queries", "FILE.jsonl"),
            ) from error
    elif list(words) == ["-"]:
        lines = (text.strip() for _, text, _ in decoded_lines(sys.stdin.buffer, "stdin"))
        questions = [Question(text=line) for line in lines if line]
    elif words and words[0] == "-":
        raise AppError(
            f"- reads queries from stdin, and {' '.join(words[1:])!r} was given too: expected one of them",
            next_command=("query", "-"),
        )
    else:
        require_unicode(" ".join(words), "the query")
        questions = [Question(text=" ".join(words).strip())]
        if not words:
            raise AppError("query was given no text: expected words to look for", next_command=("query", "TEXT"))
    if not questions:
        raise AppError(f"{file or 'stdin'} holds no query: expected one a line")
    for question in questions:
        if not question.text.strip():
            raise AppError("the query is empty: expected words to look for", next_command=("query", "TEXT"))
    return questions


def _from_jsonl(stream: BinaryIO, name: str) -> Iterator[Question]:
    for where, line, _ in decoded_lines(stream, name):
        if not line.strip():
            continue
        item = parsed_json(line, where, '{"query": TEXT}')
        text = item.get("query", item.get("text")) if isinstance(item, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise AppError(f'{where}: no query in it: expected {{"query": TEXT}} with at least one word')
        instruction = item.get("instruction")
        if instruction is not None and not isinstance(instruction, str):
            raise AppError(f"{where}: instruction is {instruction!r}, expected a string")
        yield Question(text=text, id=own_id(item, where), instruction=instruction)


def run_query(
    terminal: Terminal,
    questions: Sequence[Question],
    request: SearchRequest,
    *,
    choice: EncoderChoice,
    output: QueryOutput,
    given: Path | None,
    asked: AskedGroups,
) -> ExitCode:
    """Search, print, and return how to exit. Raises AppError for more hits than any collection has."""
    began = time.monotonic()
    _check_count(request)
    with pull_bar(terminal, "the model") as pulling:
        talk, path = talk_to(terminal, pulling), existing_collection(given)
        collection = open_collection(path, talk)
        try:
            grouping = read_grouping(path, asked.clusters, collapse=asked.collapse)
            globs = rooted_globs(request.where.paths, collection.root)
            request = replace(request, where=replace(request.where, paths=globs))
            searcher = Searcher(collection, collection_encoder(collection.settings, choice, talk))
            duplicates = None if grouping.duplicates is None else grouping.duplicates.still(collection)
            found = searcher.search(questions, request, within=grouping.within, duplicates=duplicates)
            answers = found.answers
            status = collection.status()
            notices = [*_cut(found), *grouping_notices(grouping, collection, terminal)]
            if not any(answer.hits for answer in answers):
                notices += _unmatched(collection, request.where, status.formats)
        finally:
            collection.close()
    context = ResultContext(
        collection=str(path),
        generation=status.generation,
        complete=status.complete,
        mode=request.mode,
        full=output.full,
        explain=output.explain,
    )
    _print(terminal, answers, request, output, context)
    hits = sum(len(answer.hits) for answer in answers)
    for notice in notices:
        terminal.notice(notice)
    _talk(terminal, answers, request, asked, status=status, seconds=time.monotonic() - began)
    stale = any(hit.freshness is not Freshness.FRESH for answer in answers for hit in answer.hits)
    if output.strict and (stale or not status.complete):
        return ExitCode.INCOMPLETE
    return ExitCode.OK if hits else ExitCode.NO_HIT


def _check_count(request: SearchRequest) -> None:
    for option, count in (("-k", request.k), ("--offset", request.offset)):
        if count > _MOST_HITS:
            raise AppError(f"{option} is {count}: expected at most {_MOST_HITS}, more than any collection holds")


def _cut(found: Answers) -> list[str]:
    """Return what to say of questions that the encoder did not read to their end."""
    cut, asked, limit = found.queries_cut, len(found.answers), found.max_tokens
    if not cut:
        return []
    verb = "was" if cut == 1 else "were"
    who = "the query" if asked == 1 else f"{cut:,} of {asked:,} queries"
    return [f"{who} {verb} longer than {limit} tokens and {verb} cut for the search by meaning"]


def _unmatched(collection: Collection, where: Filter, formats: Mapping[str, int]) -> list[str]:
    """Return what to say of a --type and a --path that no indexed file passes, with what there is; [] where some do."""
    if not (where.types or where.paths):
        return []
    said, names = [], list(collection.files())
    files = [Candidate(id=at, path=name, format="", date_us=0) for at, name in enumerate(names)]
    kinds = [Candidate(id=-1, path="", format=name, date_us=0) for name in formats]
    if where.types and not len(matching_documents([*files, *kinds], Filter(types=where.types))):
        there = ", ".join(f"{name} ({count:,})" for name, count in formats.items()) or "none"
        said.append(f"no indexed file is of type {', '.join(where.types)}: the types there are {there}")
    if where.paths and not len(matching_documents(files, Filter(paths=where.paths))):
        folders = Counter(f"{name.rpartition('/')[0]}/" if "/" in name else "." for name in names)
        there = ", ".join(name for name, _ in folders.most_common(_FOLDERS_NAMED)) or "none"
        said.append(f"no indexed file matches --path {', '.join(where.paths)}: the folders there are {there}")
    return said


def _print(
    terminal: Terminal, answers: Sequence[Answer], request: SearchRequest, output: QueryOutput, context: ResultContext
) -> None:
    if output.form is not HitFormat.TABLE:
        text = render(answers, context, output.form, nul=output.nul)
        # As ls does: exact names for programs, no escape codes for a terminal.
        terminal.write(printable(text) if output.form is HitFormat.FILES and terminal.is_terminal else text)
        return
    options = TableOptions(
        mode=request.mode,
        width=terminal.width,
        links=terminal.is_terminal and terminal.has_color,
        explain=output.explain,
        full=output.full,
    )
    for answer in answers:
        show_answer(terminal.out, answer, options, titled=len(answers) > 1)


def _talk(
    terminal: Terminal,
    answers: Sequence[Answer],
    request: SearchRequest,
    asked: AskedGroups,
    *,
    status: CollectionStatus,
    seconds: float,
) -> None:
    if not status.complete:
        terminal.notice(INCOMPLETE)
    if len(answers) == 1 and not answers[0].hits:
        narrowed = "" if request.where.is_empty and not asked.clusters else " that passes the filters"
        beyond = f" after the first {request.offset}" if request.offset else ""
        above = "" if request.min_score is None else f" with a score of at least {request.min_score}"
        terminal.say(f"no hit{narrowed}{beyond}{above}")
    changed = {h.chunk.path for a in answers for h in a.hits if h.freshness is not Freshness.FRESH}
    if changed:
        terminal.notice(
            f"{len(changed)} of these files changed since indexed: run {terminal.command('index')} to follow"
        )
    if request.mode is SearchMode.HYBRID and status.chunks > FUSION_DEPTH and _may_end_early(answers, request):
        terminal.notice(
            f"a hybrid ranking goes as far as the {FUSION_DEPTH} best by words and by meaning: use --mode dense or "
            "--mode lexical for more"
        )
    terminal.detail(f"{many(sum(len(a.hits) for a in answers), 'hit')}, {request.mode.value}, {seconds:.2f} s")


def _may_end_early(answers: Sequence[Answer], request: SearchRequest) -> bool:
    """Return whether a hybrid ranking, of limited depth, may lack hits that the page has room for."""
    # Duplicates take places in the ranking and none on the page.
    short = [answer.hits for answer in answers if len(answer.hits) < request.k]
    return any(request.offset + sum(1 + len(hit.duplicates) for hit in hits) >= FUSION_DEPTH for hits in short)
