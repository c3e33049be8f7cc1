"""Cutting a query out of the passages where it stands."""

from __future__ import annotations

import re

from .word_runs import Words, holds, words_of

SEPARATOR = " > "
"""Between the title and the headings of a context."""
_LEAST_PART = 2
"""Words from which the beginning of a heading is taken for a heading that was shortened."""
_LEAST_FRAGMENT = 3
"""Words of a sentence at a passage's border from which the fragment gives it away."""
_TOKEN = re.compile(r"\S+")
_LONE_MARKER = re.compile(r"(?:\A|(?<=\n))[ \t]*(?:[-*+>]|\d+[.)]|#+|//+)\Z")


def without(text: str, piece: str) -> str:
    """Return `text` without each `piece`, its rest joined as if that had never stood there."""
    first, *others = text.split(piece)
    for part in others:
        first = _joined(first, part)
    return first.strip("\n")


def _joined(before: str, after: str) -> str:
    before, after = before.rstrip(" "), after.lstrip(" ")
    if not after or after.startswith("\n"):
        before = _LONE_MARKER.sub("", before)
    lines = len(before) - len(before.rstrip("\n")) + len(after) - len(after.lstrip("\n"))
    if lines:
        return before.rstrip("\n") + "\n" * min(lines, 2) + after.lstrip("\n")
    return f"{before} {after}" if before and after else before + after


def without_heading(context: str, text: str, heading: Words) -> tuple[str, str]:
    """Return a context without its part that is `heading`, and a text without its lines."""
    parts = [part for part in context.split(SEPARATOR) if not _is_heading(words_of(part), heading)]
    lines = [line for line in text.split("\n") if not _is_heading_line(line, heading)]
    return SEPARATOR.join(parts), "\n".join(lines).strip("\n")


def _is_heading(part: Words, heading: Words) -> bool:
    """Return whether a part of a context is the heading, which may have lost its end there."""
    return len(part) >= min(_LEAST_PART, len(heading)) and heading[: len(part)] == part


def _is_heading_line(line: str, heading: Words) -> bool:
    words = words_of(line)
    return words == heading or (line.lstrip().startswith(("#", "=")) and holds(words, heading))


def shared(text: str, sentence: str, *, after: bool) -> str | None:
    """Return what a neighbour has of `sentence`: all of it, else what stands at the border, else None.

    `after` is whether the neighbour follows: it may begin with the sentence's end. Fewer than 3 words are nothing.
    """
    if sentence in text:
        return sentence
    spans = [match.span() for match in _TOKEN.finditer(sentence)]
    pieces = [sentence[start:] for start, _ in spans] if after else [sentence[:end] for _, end in reversed(spans)]
    for piece in pieces[: max(0, len(pieces) - _LEAST_FRAGMENT + 1)]:
        if text.startswith(piece) if after else text.endswith(piece):
            return piece
    return None
