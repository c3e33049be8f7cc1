from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from searchctl.index.errors import QuerySyntaxError
from searchctl.index.filters import Candidate, matching_documents, microseconds
from searchctl.index.protocol import Filter

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

PATHS = [
    "README.md",  # 1
    "docs/guide.md",  # 2
    "docs/deep/er/page.html",  # 3
    "src/my_file.py",  # 4
    "src/myXfile.py",  # 5
    "src/100%.txt",  # 6
    "src/1000.txt",  # 7
    "Docs/Guide.MD",  # 8
    "#notes.md",  # 9
    "/elsewhere/docs/far.md",  # 10
    "a b/c d .txt ",  # 11
    "pkg/archive.tar.gz",  # 12
]


def matched(where: Filter) -> list[int]:
    candidates = [
        Candidate(number, path, "python" if path.endswith(".py") else "other", microseconds(NOON) + number)
        for number, path in enumerate(PATHS, start=1)
    ]
    return matching_documents(candidates, where).tolist()


def test_globs_are_gitignore_style(subtests: pytest.Subtests) -> None:
    for globs, expected in [
        (("*.md",), [1, 2, 9, 10]),
        (("docs",), [2, 3, 10]),
        (("docs/",), [2, 3, 10]),
        (("/docs",), [2, 3]),
        (("./docs/guide.md",), [2]),
        (("docs/*",), [2, 3]),
        (("docs/**/page.html",), [3]),
        (("/elsewhere/**",), [10]),
        (("src", "README.md"), [1, 4, 5, 6, 7]),
        (("#notes.md",), [9]),
        (("a b/c d .txt ",), [11]),
        (("*.[mh]*",), [1, 2, 3, 9, 10]),
        (("nothing",), []),
    ]:
        with subtests.test(globs=globs, expected=expected):
            assert matched(Filter(paths=globs)) == expected


def test_underscore_and_percent_are_plain_characters() -> None:
    """qmd#801, #717: LIKE took them for wildcards."""
    assert matched(Filter(paths=("my_file.py",))) == [4]
    assert matched(Filter(paths=("100%.txt",))) == [6]


def test_case_of_paths_is_kept() -> None:
    """qmd#759: paths were folded and slugged."""
    assert matched(Filter(paths=("Docs",))) == [8]


def test_types_are_extensions_or_formats(subtests: pytest.Subtests) -> None:
    for types, expected in [
        (("md",), [1, 2, 8, 9, 10]),
        ((".MD",), [1, 2, 8, 9, 10]),
        (("Python",), [4, 5]),
        (("gz",), [12]),
        (("tar.gz", "html"), [3, 12]),
        (("d",), []),
    ]:
        with subtests.test(types=types, expected=expected):
            assert matched(Filter(types=types)) == expected


def test_exclude_wins_over_paths() -> None:
    assert matched(Filter(paths=("*.md",), exclude=("docs", "#*"))) == [1]


def test_dates_after_is_inclusive_and_before_exclusive() -> None:
    step = timedelta(microseconds=1)
    assert matched(Filter(after=NOON + 3 * step, before=NOON + 6 * step)) == [3, 4, 5]
    elsewhere = (NOON + 3 * step).astimezone(timezone(timedelta(hours=9)))
    assert matched(Filter(after=elsewhere, before=NOON + 4 * step)) == [3]


def test_what_cannot_be_understood_is_said(subtests: pytest.Subtests) -> None:
    for where, message in [
        (Filter(paths=("",)), "glob '' is empty"),
        (Filter(paths=("/",)), "glob '/' is empty"),
        (Filter(exclude=("!docs",)), "negated"),
        (Filter(paths=("[2024-06]*",)), r"glob '\[2024-06\]\*' cannot be understood \(bad character range 4-0"),
        (Filter(exclude=("x[z-a]",)), r"glob 'x\[z-a\]' cannot be understood"),
        (Filter(types=(" .",)), "file type ' .' is empty"),
        (Filter(after=datetime(2024, 1, 1)), "no time zone"),
    ]:
        with subtests.test(where=where, message=message), pytest.raises(QuerySyntaxError, match=message):
            matched(where)
