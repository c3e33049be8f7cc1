"""Files of pairs that a command makes: where they may go, and how a pair looks in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.text import Text

from ..training.data.pair_files import is_pair_file, manifest_of
from .console import Terminal, printable
from .errors import AppError

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
