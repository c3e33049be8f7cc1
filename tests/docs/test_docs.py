"""The user guide and README tell the truth about the command line, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from searchctl.app.cli import app
from searchctl.app.terminal.help import every_command

TREE = Path(__file__).resolve().parents[2]
README = TREE / "README.md"
GUIDE = sorted((TREE / "docs").glob("*.md"))
PAGES = [README, *GUIDE]
COMMANDS_PAGE = TREE / "docs" / "commands.md"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*)")
HEADING = re.compile(r"^(#+) (.+)$", flags=re.MULTILINE)


@cache
def command_line() -> dict[str, frozenset[str]]:
    """Return the option names of each command by its words ("models list"); "" is searchctl itself."""
    found: dict[str, frozenset[str]] = {}
    for words, command in every_command(get_command(app)):
        options = {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}
        found[words] = frozenset(options | {"--help", "-h"})
    for group in ("eval", "train", "dedup"):
        found[group] |= found[f"{group} run"]  # `searchctl eval TASK` is short for it
    return found


@cache
def leaves() -> frozenset[str]:
    """Return the commands that do something, groups left out."""
    words = command_line()
    return frozenset(w for w in words if w and not any(other.startswith(f"{w} ") for other in words))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def shell_commands(page: Path) -> list[list[str]]:
    """Return each call of searchctl in the page's code, as words without the program's name."""
    text = text_of(page)
    code = [block for language, block in FENCE.findall(text) if language in {"sh", "bash", "console"}]
    code += [span for span in CODE_SPAN.findall(FENCE.sub("", text)) if span.startswith("searchctl ")]
    calls = []
    for line in "\n".join(code).splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>"):
                if words and words[0].rpartition("/")[2] == "searchctl":
                    calls.append(words[1:])
                words = []
            else:
                words.append(word)
    return calls


def command_of(words: list[str]) -> str:
    """Return the longest command that the words begin with, options of searchctl itself skipped; "" for none."""
    plain = [word for word in words if not word.startswith("-")]
    best = ""
    for count in (1, 2):
        candidate = " ".join(plain[:count])
        if candidate in command_line():
            best = candidate
    return best


def test_commands_in_code_exist_with_their_options(subtests: pytest.Subtests) -> None:
    for page in PAGES:
        with subtests.test(page=page):
            for words in shell_commands(page):
                command = command_of(words)
                options = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z0-9]", word)}
                known = command_line()[command] | command_line()[""]
                assert command or options, f"{page.name}: `searchctl {' '.join(words)}` is no command"
                assert options <= known, f"{page.name}: searchctl {command} has no {sorted(options - known)}"


def test_options_in_the_text_exist(subtests: pytest.Subtests) -> None:
    for page in PAGES:
        with subtests.test(page=page):
            known = frozenset().union(*command_line().values())
            # Spans only: an option in a fenced block may be another program's, and searchctl's are checked above.
            for span in CODE_SPAN.findall(FENCE.sub("", text_of(page))):
                if span.split()[0] in {"pip", "pytest", "git", "python3", "sqlite3"}:
                    continue
                for option in OPTION.findall(span):
                    assert option in known, f"{page.name}: `{span}` names {option}, which no command has"


def test_every_command_has_a_section_that_names_its_options() -> None:
    """Each command is a heading of commands.md, and each of its options stands in the section below it."""
    sections = {
        title.strip("`").removeprefix("searchctl "): body
        for title, body in re.findall(
            r"^#+ (`searchctl [^`]+`)\n(.*?)(?=^#+ |\Z)", FENCE.sub("", text_of(COMMANDS_PAGE)), flags=re.M | re.S
        )
    }
    assert sorted(leaves()) == sorted(sections)
    for command, body in sections.items():
        documented = set(re.findall(r"(?<![\w-])--?[a-zA-Z0-9][a-z0-9-]*", " ".join(CODE_SPAN.findall(body))))
        missing = {name for name in command_line()[command] if name not in {"--help", "-h"}} - documented
        assert not missing, f"docs/commands.md, searchctl {command}: {sorted(missing)} not described"


def test_tables_of_options_are_what_the_program_says() -> None:
    spec = importlib.util.spec_from_file_location("options", TREE / "docs" / "options.py")
    assert spec is not None and spec.loader is not None
    options = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(options)
    page = text_of(COMMANDS_PAGE)

    assert "" == options.difference(page)
    assert "-| `--offset M` |" in options.difference(page.replace("| `--offset N` |", "| `--offset M` |"))
    with pytest.raises(ValueError, match="eval word"):
        options.difference(page.replace("<!-- options: eval word -->", ""))


def test_options_of_searchctl_itself_are_described() -> None:
    spans = " ".join(CODE_SPAN.findall(text_of(COMMANDS_PAGE)))
    missing = {option for option in command_line()[""] if option.startswith("--") and option not in spans}
    assert not missing


def test_readme_names_every_command() -> None:
    spans = CODE_SPAN.findall(text_of(README))
    for command in leaves():
        top = command.split()[0]
        assert any(span.startswith(f"searchctl {top}") for span in spans), f"README.md does not name {top}"


def test_readme_has_exactly_two_setup_commands_near_the_top() -> None:
    text = text_of(README)
    marked = re.findall(r"<!-- ci:(\w+) -->\n```sh\n(.*?)```", text, flags=re.DOTALL)

    assert ["run", "test"] == [name for name, _ in marked]
    assert 2 == len(FENCE.findall(text))
    for _, command in marked:
        assert 1 == len(command.strip().splitlines())
        assert "shared/" not in command
    assert text.index("<!-- ci:test -->") < text.index("## What it does")
    assert text[: text.index("<!-- ci:test -->")].count("\n") < 30


def test_readme_run_command_indexes_and_queries_the_guide() -> None:
    (words, asked) = shell_commands(README)[:2]
    assert ["index", "docs"] == words
    assert "query" == asked[0]


def test_internal_links_resolve(subtests: pytest.Subtests) -> None:
    for page in [*PAGES, TREE / "CHANGELOG.md"]:
        with subtests.test(page=page):
            for target in LINK.findall(FENCE.sub("", text_of(page))):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, fragment = target.partition("#")
                linked = (page.parent / path) if path else page
                assert linked.exists(), f"{page.name}: {target} leads nowhere"
                if fragment:
                    assert fragment in slugs(linked), f"{page.name}: {target} names no heading of {linked.name}"


def test_readme_links_every_page_of_the_guide() -> None:
    assert {f"docs/{page.name}" for page in GUIDE} <= set(LINK.findall(text_of(README)))


def test_pictures_load_nothing_from_the_network() -> None:
    for picture in (TREE / "docs").rglob("*.svg"):
        content = text_of(picture).replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\((?!#)", content), f"{picture.name} refers to another place"


def slugs(page: Path) -> set[str]:
    """Return the fragments that headings of a page get on the usual hosts."""
    titles = [title for _, title in HEADING.findall(FENCE.sub("", text_of(page)))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
