"""The option tables of commands.md, written from the command line itself.

    python docs/options.py            rewrite the tables
    python docs/options.py --check    change nothing; print a diff and end with 1 when they are stale

A table stands between `<!-- options: NAME -->` and `<!-- /options -->`. NAME is a command's words, as in `dedup run`,
or one of the two lists that all commands share: `all commands` and `encoder`. What a table cannot say stands below it,
and is left alone.
"""

from __future__ import annotations

import difflib
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from searchctl.app.cli import app
from searchctl.app.options import COMMON, ENCODER
from searchctl.app.terminal.help import every_command

PAGE = Path(__file__).with_name("commands.md")
EVERY, ENCODING = "all commands", "encoder"
BLOCK = re.compile(r"(<!-- options: ([\w -]+) -->\n)(.*?)(<!-- /options -->)", flags=re.DOTALL)
CODE = re.compile(
    r"`[^`]+`"  # is code already
    r"|(?<![\w-])--[a-z][a-z-]*"  # an option
    r"|\{[^}]*\}"  # JSON
    r"|(?<![\w.])[A-Z]+_[A-Z_]+"  # an environment variable
    r"|(?<![\w/.])\.?[a-z]+/(?!\w)"  # a folder
    r"|(?<![\w.])\.[a-z]+(?:\.[a-z]+)*"  # an extension, or a file such as .gitignore
)


def written(page: str) -> str:
    """Return the page with every table as the program has it. Raises ValueError when a command has no table."""
    blocks = tables()
    there = [name for _, name, _, _ in BLOCK.findall(page)]
    if sorted(there) != sorted(blocks):
        wrong = sorted(set(there) ^ set(blocks)) or sorted({name for name in there if there.count(name) > 1})
        raise ValueError(f"{PAGE.name}: expected one `<!-- options: NAME -->` for each command: see {', '.join(wrong)}")
    return BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}{found[4]}", page)


def difference(page: str) -> str:
    """Return what `written` would change, as a unified diff; "" for nothing."""
    return "".join(difflib.unified_diff(page.splitlines(True), written(page).splitlines(True), "there", "expected"))


def tables() -> dict[str, str]:
    """Return the Markdown of each block by its name."""
    root = get_command(app)
    commands = {words: command for words, command in every_command(root) if not hasattr(command, "commands")}
    every = [p for p in commands["index"].params if p.rich_help_panel == COMMON]
    encoding = [p for p in commands["index"].params if p.rich_help_panel == ENCODER]
    known = {p.name for p in every}
    for_searchctl = [*root.params, root.get_help_option(typer.Context(root, **root.context_settings))]
    found = {
        EVERY: table([*every, *(p for p in for_searchctl if p.name not in known)]),
        ENCODING: table(encoding),
    }
    for words, command in commands.items():
        # By what is said of it, not by its name: `--device` of dedup is where vectors are compared.
        common, encoder = ([p for p in command.params if row(p) in map(row, those)] for those in (every, encoding))
        own = [p for p in command.params if p not in (*common, *encoder)]
        found[words] = "\n".join([*([table(own)] if own else []), reference(encoder, common)])
    return found


def table(parameters: Sequence[Any]) -> str:
    """Return one line for each parameter, arguments first."""
    ordered = sorted(parameters, key=lambda p: p.param_type_name == "option")
    head = "option" if ordered[0].param_type_name == "option" else "argument, option"
    rows = [(head, "meaning"), ("---", "---"), *map(row, ordered)]
    lines = (" | ".join(cell.replace("|", "\\|") for cell in cells) for cells in rows)
    return "".join(f"| {line} |\n" for line in lines)


def reference(encoding: Sequence[Any], every: Sequence[Any]) -> str:
    """Return the sentence that names the options which are described once for all commands."""
    also = f"[encoder options](#encoder-options): {spans(encoding)}; and " if encoding else ""
    sentence = f"Also {also}those [for all commands](#for-all-commands): {spans(every)}."
    return textwrap.fill(sentence, 120, break_on_hyphens=False, break_long_words=False) + "\n"


def spans(parameters: Iterable[Any]) -> str:
    return ", ".join(f"`{name}`" for parameter in parameters for name in names_of(parameter))


def names_of(parameter: Any) -> list[str]:
    """Return all names of an option, long ones first."""
    return sorted((*parameter.opts, *parameter.secondary_opts), key=lambda name: not name.startswith("--"))


def row(parameter: Any) -> tuple[str, str]:
    """Return how a parameter is typed, and what it means: its help, its default and its environment variable."""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return f"`{name if parameter.required or name[0] == '[' else f'[{name}]'}`", meaning(parameter)
    first, *others = names_of(parameter)
    choices = choices_of(parameter)
    value = "" if parameter.is_flag or choices else f" {parameter.metavar or number_or_text(parameter)}"
    typed = ", ".join(f"`{name}`" for name in (first + value, *others))
    return typed + (f": {one_of(choices)}" if choices else ""), meaning(parameter)


def choices_of(parameter: Any) -> list[str]:
    """Return the values that an option takes, [] where it takes any."""
    described = parameter.type_descriptor
    if parameter.metavar is None and described.is_choice:
        return [str(choice.value if isinstance(choice, Enum) else choice) for choice in described.choices]
    alternatives = (parameter.metavar or "").split("|")
    return alternatives if len(alternatives) > 1 and alternatives[0].islower() else []


def one_of(values: Sequence[str]) -> str:
    *before, last = (f"`{value}`" for value in values)
    return f"{', '.join(before)} or {last}" if before else last


def number_or_text(parameter: Any) -> str:
    kinds: dict[Any, str] = {int: "N", float: "X"}
    return kinds.get(parameter.type_descriptor.annotation, "TEXT")


def meaning(parameter: Any) -> str:
    """Return the help of a parameter as one line of Markdown, with what help shows beside it."""
    parts = [markdown(parameter.help)]
    if getattr(parameter, "multiple", False) and not re.search("repeat|several times", parameter.help):
        parts.append("Repeatable.")
    if parameter.min is not None and parameter.min > 1:
        parts.append(f"At least {parameter.min}.")
    if parameter.required and parameter.param_type_name == "option":
        parts.append("Required.")
    default = default_of(parameter)
    if default:
        parts.append(f"Default: `{default}`.")
    if parameter.envvar:
        variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
        parts.append(f"Variable: {one_of(variables)}.")
    return " ".join(parts)


def default_of(parameter: Any) -> str:
    """Return the default that help shows, "" for none."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default
    if value is None or parameter.show_default is False or getattr(parameter, "is_flag", False):
        return ""
    return str(value.value if isinstance(value, Enum) else value)


def markdown(text: str) -> str:
    """Return help with Rich's markup as Markdown, on one line; what is typed is set as code."""
    plain = re.sub(r"(?<!\\)\[/?dim\]", "", text)
    plain = re.sub(r"(?<!\\)\[/?bold\]", "**", plain).replace("\\[", "[")
    return CODE.sub(lambda found: found[0] if found[0][0] == "`" else f"`{found[0]}`", " ".join(plain.split()))


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write(__doc__ or "")
        return 2
    page = PAGE.read_text(encoding="utf-8")
    if not arguments:
        PAGE.write_text(written(page), encoding="utf-8")
        return 0
    found = difference(page)
    if found:
        sys.stdout.write(found)
        sys.stderr.write(f"docs/{PAGE.name} is not what the program says: run `python docs/options.py`\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
