"""How `searchctl train pairs` runs: plain text read and checked, pairs made, written and shown."""

from __future__ import annotations

import os
import shlex
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from ... import __version__
from ...training.data.crops import PASSAGE_CHARS, MadePairs, Method, Passage, make_pairs
from ...training.data.pair_files import is_pair_file, manifest_of, write_pairs
from ...training.data.plain_texts import TextFile, read_documents, read_lines, text_files
from ..collection.opening import open_collection
from ..collection.paths import existing_collection, shown_path
from ..collection.talk import Talk
from ..errors import AppError
from ..terminal.console import Terminal, printable
from ..terminal.wording import duration

_SHOWN = 160
"""Characters of a text shown as an example."""
_MOST_REASONS = 12
_INDENT = 12


def checked_output(given: Path, inputs: Iterable[Path], *, force: bool) -> Path:
    """Return where to write, looked at before any work is done. Raises AppError for a place that will not do.

    In a folder of `inputs` it may be: it is none of them.
    """
    path = given.expanduser().absolute()
    if not is_pair_file(path):
        raise AppError(f"--output is {given}: expected a file name ending in .jsonl or .jsonl.gz")
    if not path.parent.is_dir():
        raise AppError(f"--output is {given}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise AppError(f"--output is {given}, which is a folder: expected a file name")
    places = [place.expanduser() for place in inputs]
    if any(place.resolve() == path.resolve() for place in places):
        raise AppError(f"--output is {given}, which is read from: expected another file")
    for place in data_below(places):
        if manifest_of(place).resolve() == manifest_of(path).resolve() and place.resolve() != path.resolve():
            raise AppError(
                f"--output is {given}, whose manifest {manifest_of(path).name} would be that of {place} too, which is "
                "read from: expected another name, or another folder"
            )
    there = next((place for place in (path, manifest_of(path)) if place.exists()), None)
    if there is not None and not force:
        raise AppError(f"{there} is there already: expected a new name for --output, or --force to replace it")
    return path


def data_below(places: Iterable[Path]) -> list[Path]:
    """Return the files of JSON lines among `places`, and those in the folders among them."""
    files = [file for place in places for file in (sorted(place.iterdir()) if place.is_dir() else (place,))]
    return [file for file in files if is_pair_file(file)]


def shown(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(printable(text[: 2 * _SHOWN]).split())
    return line if len(line) <= _SHOWN and len(text) <= 2 * _SHOWN else line[:_SHOWN].rstrip() + " ..."


def say_example(terminal: Terminal, lines: Iterable[tuple[str, str]]) -> None:
    """Say labelled texts one below the other; what does not fit on a line goes on below its beginning."""
    width = max(_INDENT, terminal.err.width - _INDENT)
    for label, text in lines:
        wrapped = textwrap.fill(shown(text), width, break_on_hyphens=False)
        terminal.say(
            Text.assemble((f"  {label:<{_INDENT - 3}} ", "dim"), textwrap.indent(wrapped, " " * _INDENT).lstrip())
        )


def reasons(counts: Mapping[str, int]) -> str:
    """Return counts with their reasons, the most frequent first; "" for none."""
    found = sorted(((str(reason), count) for reason, count in counts.items() if count), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in found[:_MOST_REASONS])


SCHEMA = 1
_EXAMPLES = 3
_MOST_NAMED = 5
"""Unreadable documents named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsWish:
    """What a person typed."""

    texts: tuple[Path, ...]
    output: Path
    method: str
    crops: int | None
    seed: int
    collection: Path | None
    force: bool


@dataclass(slots=True)
class _Read:
    """What was read, and where from."""

    passages: list[Passage] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    """For the manifest."""
    kinds: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, file: TextFile) -> None:
        self.passages += file.passages
        self.sources.append({"file": str(file.path), "digest": file.digest, "texts": len(file.passages)})
        self.kinds[kind] += 1


def run_pairs(terminal: Terminal, wish: PairsWish) -> None:
    """Make pairs and tell what became of the text. Raises AppError when there is none to be made."""
    method = Method(wish.method)
    if method is Method.TITLE and wish.crops is not None:
        raise AppError(f"--crops is {wish.crops} and --method is title: a text has one title, leave --crops out")
    if not wish.texts and wish.collection is None:
        raise AppError(
            "there is nothing to make pairs of: expected files or folders, or --collection PATH",
            next_command=("train", "pairs", "notes.jsonl", "-o", "pairs.jsonl"),
        )
    output = checked_output(wish.output, wish.texts, force=wish.force)
    began = time.monotonic()
    read = _read(terminal, wish, output)
    _tell_read(terminal, read)
    with terminal.progress("Making pairs") as update:
        made = make_pairs(
            read.passages, method=method, each=wish.crops or 1, seed=wish.seed, told=_words(update, method)
        )
    if not made.pairs:
        raise AppError(
            f"{len(read.passages):,} texts make no pair by --method {method}: "
            f"{_left_out(made) or 'they hold nothing'}. Expected prose of several sentences a text; try another method",
            next_command=("train", "pairs", "--help"),
        )
    with terminal.waiting("writing"):
        write_pairs(output, made.pairs, lambda: _manifest(wish, method, read, made))
    _tell_made(terminal, made, method, time.monotonic() - began)
    terminal.write(f"{output}\n")
    terminal.say(
        Text.assemble(
            "train with ",
            (f"`searchctl train run --stages supervised --data {shlex.quote(shown_path(output))}`", "bold"),
        )
    )


def _read(terminal: Terminal, wish: PairsWish, output: Path) -> _Read:
    read = _Read()
    lines, documents = text_files([path.expanduser() for path in wish.texts])
    # It may be in a folder of texts, from an earlier run: what is made never becomes what it is made of.
    made = [output, manifest_of(output)]
    if output.exists() and any(place.resolve() in output.resolve().parents for place in documents):
        terminal.say(f"{shown_path(output)} is written by this run, and not read")
    with terminal.waiting("reading the texts"):
        for path in lines:
            if path.resolve() != output.resolve():
                read.add("file of JSON lines", read_lines(path))
        for found in read_documents(documents, terminal.detail, apart=[*lines, *made]) if documents else ():
            if isinstance(found, TextFile):
                read.add("document", found)
            else:
                # A name that is no UTF-8 may be the reason, and goes into the manifest.
                read.unread[os.fsencode(found.path).decode("utf-8", "backslashreplace")] = found.reason
        if wish.collection is not None:
            _read_collection(terminal, wish.collection, read)
    if not read.passages:
        places = ", ".join(map(str, wish.texts)) or str(wish.collection)
        expected = "documents that have a reader"
        if read.unread:
            expected = "documents that can be read: fix what is named, or give the text of it as JSON lines"
        raise AppError(f"{places}: no text found{_unread(read)}. Expected JSON lines or {expected}")
    return read


def _read_collection(terminal: Terminal, given: Path, read: _Read) -> None:
    path = existing_collection(given)
    with closing(open_collection(path, Talk())) as collection:
        passages = [Passage(chunk.text, chunk.context or None) for chunk in collection.all_chunks()]
        generation = collection.status().generation
    read.passages += passages
    read.sources.append({"collection": str(path), "generation": generation, "texts": len(passages)})
    read.kinds["collection"] += 1


def _tell_read(terminal: Terminal, read: _Read) -> None:
    kinds = ", ".join(_counted(count, kind) for kind, count in read.kinds.items())
    terminal.say(f"read: {len(read.passages):,} texts in {kinds}")
    if read.unread:
        terminal.notice(f"{_counted(len(read.unread), 'document')} could not be read{_unread(read)}")


def _unread(read: _Read) -> str:
    named = [f"{path} ({reason})" for path, reason in list(read.unread.items())[:_MOST_NAMED]]
    return f": {', '.join(named)}{' ...' if len(read.unread) > _MOST_NAMED else ''}" if named else ""


def _counted(count: int, kind: str) -> str:
    if count == 1:
        return f"1 {kind}"
    return f"{count:,} {kind.replace('file ', 'files ') if kind.startswith('file ') else kind + 's'}"


def _words(update: Callable[[float, str], None], method: Method) -> Callable[[str, int, int], None]:
    """Return what moves the bar: with CLOZE about two thirds of the time go into looking at all sentences."""
    began = time.monotonic()
    looking = 0.6 if method is Method.CLOZE else 0.0

    def told(what: str, done: int, of: int) -> None:
        share = done / max(of, 1)
        share = looking * share if what == "sentences" else looking + (1 - looking) * share
        spent = time.monotonic() - began
        left = f", {duration(spent * (1 - share) / share)} left" if share > 0 else ""
        update(share, f"{'sentences of ' if what == 'sentences' else ''}{done:,} of {of:,} passages{left}")

    return told


def _left_out(made: MadePairs) -> str:
    parts = [
        f"{what}: {found}"
        for what, found in (
            ("passages", reasons(made.passages_left_out)),
            ("sentences", reasons(made.sentences_left_out)),
        )
        if found
    ]
    return "; ".join(parts)


def _tell_made(terminal: Terminal, made: MadePairs, method: Method, seconds: float) -> None:
    stays = f"; in {made.kept:,} the query stays in its passage" if method is Method.CLOZE else ""
    terminal.say(
        Text.assemble(
            "made: ",
            (f"{len(made.pairs):,} pairs", "green"),
            f" from {made.passages:,} passages in {duration(seconds)}{stays}",
        )
    )
    for what, counts in (("passages", made.passages_left_out), ("sentences", made.sentences_left_out)):
        if found := reasons(counts):
            terminal.say(Text(f"{what} not used: {found}", "dim"))
    terminal.say("for example:")
    step = max(1, len(made.pairs) // _EXAMPLES)
    for pair in made.pairs[step // 2 :: step][:_EXAMPLES]:
        say_example(terminal, (("query", pair.query), ("positive", pair.positive)))


def _manifest(wish: PairsWish, method: Method, read: _Read, made: MadePairs) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "made_by": f"searchctl {__version__} train pairs",
        "method": method.value,
        "pairs_per_passage": wish.crops or 1,
        "passage_chars": PASSAGE_CHARS,
        "seed": wish.seed,
        "input": read.sources,
        "unread": read.unread,
        "passages": made.passages,
        "queries_that_stay": made.kept,
        "passages_not_used": {str(reason): count for reason, count in made.passages_left_out.items()},
        "sentences_not_used": {str(reason): count for reason, count in made.sentences_left_out.items()},
    }
