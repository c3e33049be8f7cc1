"""How `searchctl index` looks: one bar while it runs, and a summary that names what is missing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.text import Text

from ..errors import AppError
from ..options import ReportFormat, cache_folder
from ..terminal.console import Terminal, printable
from ..terminal.interrupts import Interrupts
from ..terminal.progress import pull_bar
from ..terminal.wording import duration, reason_of
from .indexer import Indexer, IndexRequest
from .indexing import IndexHooks, IndexProgress, IndexSummary
from .opening import open_collection
from .paths import collection_to_write, existing_collection, shown_path
from .talk import Talk

SCHEMA = 1
_STOPPING = "ending after this batch; Ctrl-C again drops it"
_MOST_NAMED = 10
"""Failures named without --verbose."""


def run_index(
    terminal: Terminal, request: IndexRequest, given: Path | None, *, rebuild: bool, form: ReportFormat
) -> IndexSummary:
    """Run `index`, show its progress and print its summary."""
    path = existing_collection(given) if rebuild else collection_to_write(given)
    began = time.monotonic()
    with pull_bar(terminal, request.choice.model or "the model") as pulling:
        words = BarWords()
        interrupts = Interrupts(words.stopping)
        talk = Talk(pulling=pulling, loading=words.loading, cache=cache_folder())
        indexer = Indexer(path, talk)
        if not request.places and not rebuild:
            request = _again(terminal, indexer, request)
        try:
            with interrupts.active(), terminal.progress("Indexing") as update:
                words.update = update
                hooks = IndexHooks(
                    progress=words.progress,
                    file=lambda what, file: terminal.detail(f"{what}: {file}"),
                    shield=interrupts.shield,
                )
                summary = indexer.rebuild(request, hooks) if rebuild else indexer.index(request, hooks)
        except KeyboardInterrupt:
            terminal.say("everything committed so far is kept: run the same command again to go on")
            raise
    _report(terminal, summary, path, time.monotonic() - began, form)
    types = dict.fromkeys(type_ for _, options in request.places for type_ in options.types)
    if types and not (summary.added or summary.updated or summary.moved or summary.unchanged or summary.failed):
        terminal.notice(
            f"no file of type {', '.join(types)} was found in {', '.join(str(p) for p, _ in request.places)}"
        )
    return summary


class BarWords:
    """What the bar says: loading, how far, or that it is about to end."""

    def __init__(self, noun: str = "files") -> None:
        self._noun = noun
        self.update: Callable[[float, str], None] = lambda share, words: None
        self._stopping = False

    def progress(self, progress: IndexProgress) -> None:
        self.update(progress.share, _STOPPING if self._stopping else words_of(progress, self._noun))

    def stopping(self) -> None:
        self._stopping = True
        self.update(0.0, _STOPPING)

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        self.update(0.0, f"loading {name}")
        yield


def _again(terminal: Terminal, indexer: Indexer, request: IndexRequest) -> IndexRequest:
    """Return the request with the places of earlier runs that are there, or of which files are indexed."""
    from dataclasses import replace

    every = indexer.places()
    if not every:
        raise AppError("index was given no path, and there were no earlier runs", next_command=("index", "PATH"))
    with closing(open_collection(indexer.path, indexer.talk)) as collection:
        places = indexer.remembered(collection.files())
    lost = ", ".join(str(place[0]) for place in every if place not in places)
    if not places:
        raise AppError(f"{lost}: not there any more, and nothing of it is indexed", next_command=("index", "PATH"))
    if lost:
        terminal.notice(f"{lost}: not there any more, and nothing of it is indexed")
    return replace(request, places=tuple(places))


def words_of(progress: IndexProgress, noun: str = "files") -> str:
    """Return what stands beside the bar; `noun` is what a document is called."""
    words = f"{progress.files_done}/{progress.files_total} {noun}"
    if progress.tokens_done:
        words += f", {progress.tokens_per_s:,.0f} tokens/s"
    if progress.remaining_s is not None:
        words += f", {duration(progress.remaining_s)} left"
    return words


def summary_to_json(summary: IndexSummary, path: Path, seconds: float) -> dict[str, Any]:
    """Return the JSON document of an `index` run."""
    return {
        "schema": SCHEMA,
        "collection": str(path),
        "complete": summary.complete,
        "added": len(summary.added),
        "updated": len(summary.updated),
        "moved": len(summary.moved),
        "unchanged": summary.unchanged,
        "removed": len(summary.removed),
        "skipped": len(summary.skipped),
        "failed": summary.failed,
        "protected": summary.protected,
        "chunks_embedded": summary.chunks_embedded,
        "chunks_reused": summary.chunks_reused,
        "tokens_embedded": summary.tokens_embedded,
        "texts_truncated": summary.texts_truncated,
        "tokens_per_s": round(summary.tokens_embedded / summary.encode_s, 1) if summary.encode_s > 0 else None,
        "seconds": round(seconds, 3),
    }


def _report(terminal: Terminal, summary: IndexSummary, path: Path, seconds: float, form: ReportFormat) -> None:
    if form is ReportFormat.JSON:
        document = summary_to_json(summary, path, seconds)
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    else:
        terminal.say(_counts(summary))
        terminal.say(Text(_work(summary, path, seconds), style="dim"))
    _failures(terminal, summary)


def _counts(summary: IndexSummary) -> Text:
    counts = {
        "added": (len(summary.added), "green"),
        "updated": (len(summary.updated), "green"),
        "moved": (len(summary.moved), "green"),
        "removed": (len(summary.removed), "yellow"),
        "unchanged": (summary.unchanged, ""),
        "skipped": (len(summary.skipped), ""),
        "failed": (len(summary.failed), "red"),
    }
    shown = [
        Text(f"{number:,} {word}", style=style)
        for word, (number, style) in counts.items()
        if number or word in ("added", "unchanged")
    ]
    return Text("files: ") + Text(", ").join(shown)


def _work(summary: IndexSummary, path: Path, seconds: float) -> str:
    chunks = f"chunks: {summary.chunks_embedded:,} embedded, {summary.chunks_reused:,} reused"
    if summary.encode_s > 0:
        chunks += f", {summary.tokens_embedded / summary.encode_s:,.0f} tokens/s"
    if summary.texts_truncated:
        chunks += f", {summary.texts_truncated:,} cut at the encoder's longest input"
    return f"{chunks}. {duration(seconds)}, {shown_path(path)}"


def _failures(terminal: Terminal, summary: IndexSummary) -> None:
    """Name what could not be done, so that exit code 3 is understood."""
    if summary.failed and not terminal.verbose:
        for path, reason in list(summary.failed.items())[:_MOST_NAMED]:
            terminal.say(
                Text.assemble(("  could not read ", "red"), printable(path), f": {printable(reason_of(path, reason))}")
            )
        if len(summary.failed) > _MOST_NAMED:
            terminal.say(
                f"  and {len(summary.failed) - _MOST_NAMED} more: {terminal.command('index', '--verbose')} names all"
            )
    for folder, count in summary.protected.items():
        place = "here" if folder == "." else folder
        terminal.say(
            Text.assemble(
                ("  kept ", "yellow"),
                f"{count} indexed {'file' if count == 1 else 'files'} although {printable(place)} is gone or empty, as "
                f"when a drive is not mounted. If they are really gone: {terminal.command('index', '--prune')}",
            )
        )
