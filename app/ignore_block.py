"""The marked lines that `searchctl dedup apply --from index` puts into .searchctlignore, one for each file."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPECIAL = re.compile(r"[\\*?\[\]#!]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # not str.splitlines: names may hold what that takes for a line end
_TRAILING = re.compile(r"\s+\Z")


def can_be_ignored(path: str) -> bool:
    """Return whether an ignore file can name this path: a line break in it would end its line."""
    return "\n" not in path and "\r" not in path


def pattern_for(path: str) -> str:
    """Return the line that ignores the file at a relative path, and no other."""
    escaped = _SPECIAL.sub(r"\\\g<0>", path)
    # White space at the end of a line does not count, but a set of one such character does.
    return "/" + _TRAILING.sub(lambda found: "".join(f"[{mark}]" for mark in found.group()), escaped)


def with_block(text: str, id_: str, paths: Iterable[str]) -> str:
    """Return the text of an ignore file with a block that ignores these files, at its end."""
    start = f"{text}\n" if text and not text.endswith("\n") else text
    lines = [_first(id_), *map(pattern_for, paths), _last(id_)]
    return start + "".join(f"{line}\n" for line in lines)


def has_block(text: str, id_: str) -> bool:
    """Return whether the block of this apply, or what a person left of it, begins in the text."""
    return _first(id_) in _lines(text)


def without_block(text: str, id_: str) -> str:
    """Return the text without the block of this apply; without its last line it is taken to end with its patterns."""
    kept: list[str] = []
    inside = False
    for line in _LINE.findall(text):
        plain = line.rstrip("\r\n")
        if plain == _first(id_):
            inside = True
        elif inside and plain == _last(id_):
            inside = False
        elif inside and not plain.startswith("/"):  # its last line is gone: what follows is a person's
            inside = False
            kept.append(line)
        elif not inside:
            kept.append(line)
    return "".join(kept)


def _first(id_: str) -> str:
    return f"# searchctl dedup {id_}: taken out of the index; `searchctl dedup undo {id_}` takes these lines away"


def _last(id_: str) -> str:
    return f"# end of searchctl dedup {id_}"


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.split("\n")]
