"""Ignore files as git reads them: nested, negated, the deepest and then the last matching pattern wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from .errors import IndexRoomError, QuerySyntaxError, ReadError
from .readers.decoding import decode

OWN_IGNORE_FILE = ".searchctlignore"
IGNORE_FILES = (OWN_IGNORE_FILE, ".ignore", ".gitignore")
"""Strongest first within one folder."""
_BRACKETS = re.compile(r"\\.|\[([!^]?)(\]?[^\]/]*)\]")
_RANGE = re.compile(r"(.)-([^\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreLevel:
    """The ignore files of one folder, strongest first."""

    base: Path
    specs: tuple[tuple[Path, GitIgnoreSpec], ...]


def parse_patterns(lines: Iterable[str], source: str) -> GitIgnoreSpec:
    """Return the compiled patterns. Raises QuerySyntaxError naming `source` and the pattern for a malformed one."""
    patterns: list[GitIgnoreSpecPattern] = []
    for line in lines:
        try:
            patterns.append(GitIgnoreSpecPattern(line))
        except (ValueError, re.error) as error:  # pathspec lets the latter out: a range such as [9-0]
            raise QuerySyntaxError(
                f"{source}: the pattern {line!r} cannot be understood ({error}). Expected patterns as in .gitignore; "
                "correct or remove it."
            ) from error
    return GitIgnoreSpec(patterns)


def load_level(folder: Path, names: AbstractSet[str] | None = None) -> IgnoreLevel | None:
    """Return the ignore files of `folder`, None when it has none; `names` spares the look when known.

    An ignore file that cannot be read raises IndexRoomError: to stop is better than to index
    what someone meant to hide."""
    specs: list[tuple[Path, GitIgnoreSpec]] = []
    for name in IGNORE_FILES:
        path = folder / name
        if (names is None or name in names) and path.is_file():
            specs.append((path, _load(path)))
    exclude = folder / ".git" / "info" / "exclude"
    if (names is None or ".git" in names) and exclude.is_file():
        specs.append((exclude, _load(exclude)))
    return IgnoreLevel(base=folder, specs=tuple(specs)) if specs else None


def ancestor_levels(root: Path, base: Path | None = None) -> tuple[IgnoreLevel, ...]:
    """Return the ignore files above `root` that count below it, outermost first.

    In a git work tree those between the git root and the parent of `root`; and the .searchctlignore of `base`, the
    folder that holds the collection, when that is above `root`. Either are dropped when they hide `root` itself:
    whoever names an ignored folder wants what is in it."""
    levels = _git_levels(root)
    if base is None or base not in root.parents or any(level.base == base for level in levels):
        return levels
    path = base / OWN_IGNORE_FILE
    if not path.is_file():
        return levels
    own = IgnoreLevel(base=base, specs=((path, _load(path)),))
    return levels if _hides(root, (own,), below=base) else (own, *levels)


def _git_levels(root: Path) -> tuple[IgnoreLevel, ...]:
    parents = list(root.parents)
    top = next((depth for depth, folder in enumerate(parents) if (folder / ".git").exists()), None)
    if top is None or (root / ".git").exists():
        return ()
    found = (load_level(folder) for folder in reversed(parents[: top + 1]))
    levels = tuple(level for level in found if level is not None)
    return () if _hides(root, levels, below=parents[top]) else levels


def _hides(root: Path, levels: Sequence[IgnoreLevel], *, below: Path) -> bool:
    """Return whether `levels` hide `root` or a folder between it and `below`."""
    between = [folder for folder in (root, *root.parents) if below in folder.parents]
    return any(ignored_by(folder, levels, is_dir=True) is not None for folder in between)


def ignored_by(path: Path, levels: Sequence[IgnoreLevel], *, is_dir: bool) -> Path | None:
    """Return the ignore file that hides `path`, None when it is to be indexed."""
    full = str(path) + ("/" if is_dir else "")
    for level in reversed(levels):
        base = str(level.base).rstrip("/") + "/"
        if not full.startswith(base):
            continue
        relative = full[len(base) :]
        for source, spec in level.specs:
            verdict = spec.check_file(relative).include
            if verdict is not None:
                return source if verdict else None
    return None


def _load(path: Path) -> GitIgnoreSpec:
    try:
        text = decode(path.read_bytes(), path.name).text
    except (OSError, ReadError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise IndexRoomError(
            f"{path}: cannot read this ignore file ({reason}). Make it readable, or index without ignore rules."
        ) from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return parse_patterns(map(_with_ranges_of_git, lines), str(path))


def _with_ranges_of_git(line: str) -> str:
    """Return a line of an ignore file whose ranges all run forwards.

    Of one that runs backwards ([9-0]) git takes the first character, and a regular expression is an error.
    """

    def fix(found: re.Match[str]) -> str:
        if found[0].startswith("\\"):
            return found[0]
        # As a range of its own the character cannot begin another one with what follows.
        members = _RANGE.sub(lambda pair: pair[0] if pair[1] <= pair[2] else f"{pair[1]}-{pair[1]}", found[2])
        return f"[{found[1]}{members}]"

    return _BRACKETS.sub(fix, line)
