"""The shape of the house: who imports whom, what --help loads, and that every command explains itself."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.main import get_command

from searchctl.app.cli import app, run
from searchctl.app.command_groups import COMMANDS
from searchctl.app.terminal.help import WIDTH, dressed, every_command

TREE = Path(__file__).resolve().parents[2]
ROOMS = ("encoder", "index", "training", "app")
MAY_IMPORT = {
    "encoder": {"encoder"},
    "index": {"index"},
    "training": {"training", "encoder", "index"},
    "app": {"app", "training", "encoder", "index"},
}
LAYERS: dict[str, list[set[str]]] = {
    "encoder": [
        {"errors", "config", "protocol"},
        {"adapters", "batching", "bidirectional", "depth", "hashing", "pooling", "prompts", "proof", "tokenize"},
        {"models"},
        {"transformer", "compiled"},
        {"load"},
        {"open"},
        {"export"},
    ],
    "index": [
        {"errors", "documents", "durable", "dedup_settings", "file_names"},
        {"readers"},
        {"ignore", "walk", "chunking", "keeper", "protocol", "lock", "memory", "schema"},
        {"cosine", "fusion", "filters", "lexical", "faiss_store", "catalogue", "rows", "restriction"},
        {"faiss_file", "contents", "dense", "items", "integrity", "set_aside", "writer"},
        {"collection"},
        {"groups"},
    ],
    "training": [
        {"errors", "recipe", "lora_linear", "sentence_transformer"},
        {"data"},
        {"trainable", "checkpoints", "distributed", "loop"},
        {"objectives"},
        {"chain"},
        {"evaluation"},
        {"probing"},
    ],
    "app": [
        {"errors", "options"},
        {"terminal"},
        {"command_groups"},
        {"collection"},
        {"pages"},
        {"search"},
        {"dedup"},
        {"cluster"},
        {"models"},
        {"probe"},
        {"evaluate"},
        {"train"},
        {"cli"},
    ],
}
"""Low to high: a module or folder imports those of its own set and of the sets before it."""
APART = {"search", "dedup", "cluster", "models", "probe"}
"""Subjects of app/ that know nothing of each other."""
MOST_LINES, MOST_MODULES, MOST_OF_A_FUNCTION = 600, 30, 60
HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "mteb",
    "numpy",
    "tokenizers",
    "sqlite_utils",
    "peft",
    "trafilatura",
    "blake3",
)
MODULES = sorted(path for room in ROOMS for path in (TREE / room).rglob("*.py"))
SOURCES = {path: path.read_text(encoding="utf-8") for path in MODULES}
TREES = {path: ast.parse(source) for path, source in SOURCES.items()}


def shown(path: Path) -> str:
    return str(path.relative_to(TREE))


def module_path(parts: Sequence[str]) -> Path | None:
    """Return the file of a dotted name below the package, None when it is none."""
    base = TREE.joinpath(*parts)
    found = [base.with_suffix(".py"), base / "__init__.py"] if parts else []
    return next((path for path in found if path in SOURCES), None)


def imported(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and dotted name of each import below the package, relative ones resolved: ("index", "walk", "walk").

    Imports inside functions and those for type checkers count as well.
    """
    package = path.relative_to(TREE).parts[:-1]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                yield (
                    node.lineno,
                    (*base, *(node.module or "").split("."), alias.name)
                    if node.module
                    else (
                        *base,
                        alias.name,
                    ),
                )


def edges() -> dict[Path, set[Path]]:
    """Return which files each file imports."""
    found: dict[Path, set[Path]] = {}
    for path in MODULES:
        targets = (module_path(parts) or module_path(parts[:-1]) for _, parts in imported(path))
        found[path] = {target for target in targets if target is not None and target != path}
    return found


def test_imports_go_one_way() -> None:
    offenders = []
    for path in MODULES:
        room, *below = path.relative_to(TREE).with_suffix("").parts
        ranks = {name: rank for rank, names in enumerate(LAYERS[room]) for name in names}
        for line, parts in imported(path):
            if not parts or parts[0] not in ROOMS:
                continue
            if parts[0] not in MAY_IMPORT[room]:
                offenders.append(f"{shown(path)}:{line}: {room} imports {'.'.join(parts)}")
            elif parts[0] == room and len(parts) > 1 and below[0] != "__init__" and parts[1] in ranks:
                here, there = below[0], parts[1]
                if ranks[there] > ranks[here] or (here != there and {here, there} <= APART):
                    offenders.append(f"{shown(path)}:{line}: {room}.{here} imports {room}.{there}")
    assert offenders == []


def test_every_module_has_a_layer() -> None:
    missing = []
    for room in ROOMS:
        named = set().union(*LAYERS[room])
        there = {path.relative_to(TREE / room).with_suffix("").parts[0] for path in (TREE / room).rglob("*.py")}
        missing += [f"{room}/{name}" for name in sorted(named ^ (there - {"__init__"}))]
    assert missing == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = edges()
    state: dict[Path, int] = {}
    circles: list[str] = []

    def visit(path: Path, way: tuple[Path, ...]) -> None:
        state[path] = 1
        for target in sorted(graph[path]):
            if state.get(target) == 1:
                circles.append(" -> ".join(shown(each) for each in (*way[way.index(target) :], target)))
            elif target not in state:
                visit(target, (*way, target))
        state[path] = 2

    for path in MODULES:
        if path not in state:
            visit(path, (path,))
    assert circles == []


def test_product_imports_are_relative() -> None:
    offenders = []
    for path in MODULES:
        for node in ast.walk(TREES[path]):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            bare = [name for name in names if name.split(".")[0] in {"searchctl", *ROOMS}]
            offenders += [f"{shown(path)}:{node.lineno}: {name}" for name in bare]  # type: ignore[attr-defined]
    assert offenders == []


def test_only_app_prints_and_reads_the_environment() -> None:
    offenders = []
    for path in MODULES:
        if path.relative_to(TREE).parts[0] == "app":
            continue
        forbidden = {("os", "getenv"), ("sys", "exit"), ("sys", "stdout")}
        # pip runs in a process of its own and needs the person's proxy and certificates.
        if path.name != "pull_wheel.py":
            forbidden.add(("os", "environ"))
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("print", "input", "exit", "quit"):
                    offenders.append(f"{shown(path)}:{node.lineno}: {node.func.id}()")
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and (node.value.id, node.attr) in forbidden
            ):
                offenders.append(f"{shown(path)}:{node.lineno}: {node.value.id}.{node.attr}")
    assert offenders == []


def test_the_lower_rooms_name_no_command_in_their_messages() -> None:
    """What to type next is a value of the error, and what collection it is about only the boundary knows."""
    offenders = []
    for path in MODULES:
        if path.relative_to(TREE).parts[0] == "app":
            continue
        documented = {
            id(node.body[0].value)  # type: ignore[attr-defined]
            for node in ast.walk(TREES[path])
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        }
        documented |= {
            id(node.value)
            for node in ast.walk(TREES[path])
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(TREES[path]):
            said = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if "`searchctl " in said and id(node) not in documented:
                offenders.append(f"{shown(path)}:{node.lineno}: {said}")  # type: ignore[attr-defined]
    assert offenders == []


def test_modules_folders_and_functions_are_small() -> None:
    offenders = [
        f"{shown(path)}: {lines} lines" for path in MODULES if (lines := SOURCES[path].count("\n")) > MOST_LINES
    ]
    folders = Counter(path.parent for path in MODULES)
    offenders += [f"{shown(path)}: {count} modules" for path, count in folders.items() if count > MOST_MODULES]
    for path in MODULES:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.FunctionDef):
                # Signature and docstring apart: those of a command are its options and its help.
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > MOST_OF_A_FUNCTION:
                    offenders.append(f"{shown(path)}:{node.lineno}: {node.name} has {lines} lines")
    assert offenders == []


def test_no_module_is_named_for_nothing() -> None:
    assert not [shown(path) for path in MODULES if path.stem in ("utils", "util", "common", "helpers", "misc")]


TYPERS = {
    *("typer", "rich", "click", "shellingham", "annotated_doc", "pygments", "markdown_it", "mdurl", "attr", "attrs"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
}
"""Typer and Rich with what they import."""


def test_help_loads_nothing_heavy_and_nothing_foreign_besides_typer(subtests: pytest.Subtests) -> None:
    """What takes the time of help is what it imports; a clock would measure the machine."""
    script = (
        "import sys; before = set(sys.modules); from searchctl.app.cli import run; code = run(sys.argv[1:])\n"
        "sys.stdout.flush(); sys.stderr.write('\\n'.join(set(sys.modules) - before)); sys.exit(code)"
    )
    for words in [[], ["index"], ["query"], ["models", "list"]]:
        with subtests.test(words=words):
            ended = subprocess.run(
                [sys.executable, "-c", script, *words, "--help"], capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, ended.stderr
            assert "Usage: searchctl" in ended.stdout
            loaded = ended.stderr.split()
            assert [] == [name for name in HEAVY if name in loaded]
            tops = {name.partition(".")[0] for name in loaded if not name.startswith("_sysconfigdata")}
            assert {"searchctl"} == tops - set(sys.stdlib_module_names) - TYPERS


def commands() -> dict[str, object]:
    """Return every command by its words."""
    return {words: command for words, command in every_command(get_command(app)) if not hasattr(command, "commands")}


def test_help_cuts_nothing_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cut = []
    for words in ["eval", "train", "dedup", "models", *commands()]:
        run([*words.split(), "--help"])
        cut += [f"{words}: {line}" for line in capsys.readouterr().out.splitlines() if "…" in line]
    assert cut == []


def test_a_word_that_is_no_command_is_told_the_one_that_is_meant(
    capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for typed, meant in [("search", "query"), ("serch", "query"), ("find", "query"), ("indx", "index"), ("xyzzy", "")]:
        with subtests.test(typed=typed, meant=meant):
            assert run([typed, "x"]) == 2
            said = capsys.readouterr().err
            assert typed in said
            assert (f"{meant!r}?" in said) == bool(meant)


def test_a_group_by_itself_shows_its_help_and_no_error(
    capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for group in ["eval", "train", "models"]:
        with subtests.test(group=group):
            assert run([group]) == 2
            shown = capsys.readouterr()
            assert f"Usage: searchctl {group}" in shown.out + shown.err
            assert "error" not in shown.err


def test_the_help_of_a_group_has_the_options_of_what_runs_by_default(
    capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for group, option in [("eval", "--suite"), ("train", "--stages"), ("dedup", "--threshold")]:
        with subtests.test(group=group, option=option):
            assert run([group, "--help"]) == 0
            assert option in capsys.readouterr().out


def test_an_example_goes_on_in_the_next_line_with_option_and_value_together() -> None:
    long = "  searchctl train --stages mntp,simcse,supervised --data texts.jsonl --data pairs.jsonl.gz --max-minutes 60"
    shown = dressed(f"First line\nof a paragraph.\n\n[bold]Examples[/bold]\n\n{long}\n  searchctl short\n")
    first, _, examples = shown.split("\n\n")
    assert first == "First line of a paragraph."
    lines = examples.split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1] == "  searchctl short"
    assert shlex.split("\n".join(lines[:-1]).replace("\\\n", "")) == long.split()
    assert all(not line.removesuffix(" \\").split()[-1].startswith("-") for line in lines[:-1])


def test_every_command_has_help_with_examples(subtests: pytest.Subtests) -> None:
    for words in commands():
        with subtests.test(words=words):
            command = commands()[words]
            text = command.help or ""  # type: ignore[attr-defined]
            assert len(text.strip().splitlines()[0]) > 20
            assert "[bold]Examples[/bold]" in text
            assert f"searchctl {words}" in text
            for parameter in command.params:  # type: ignore[attr-defined]
                assert parameter.help or parameter.name == "help", f"{words}: {parameter.name} has no help"


def test_program_help_has_the_first_words_of_each_command() -> None:
    for name, (_, brief) in COMMANDS.items():
        first = (get_command(app).commands[name].help or "").split("\n\n")[0]  # type: ignore[attr-defined]
        assert first.startswith(brief.rstrip(".").partition(";")[0].partition(":")[0]), f"{name}: {brief!r}, {first!r}"


def test_settings_of_a_command_have_an_environment_variable(subtests: pytest.Subtests) -> None:
    """What a person may want for good; not what is said of one run."""
    for words in ["query", "index"]:
        with subtests.test(words=words):
            one_run = {
                *("help", "text", "paths", "queries", "offset", "files_only", "nul", "explain", "full", "no_snippet"),
                *("prune", "rebuild", "yes", "quiet", "verbose", "debug"),
            }
            command = commands()[words]
            for parameter in command.params:  # type: ignore[attr-defined]
                if parameter.name not in one_run or (words == "query" and parameter.name == "paths"):
                    assert parameter.envvar, f"{words}: {parameter.name} has no variable"
                    names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
                    assert all(name.startswith("SEARCHCTL_") for name in names)


def test_one_module_of_app_knows_what_kind_of_collection_it_is() -> None:
    """The others use the protocol, which mypy holds them to: a collection in a database takes its place one day."""
    users = [shown(path) for path in MODULES if "FolderCollection" in SOURCES[path]]
    assert [path for path in users if path.startswith("app")] == ["app/collection/opening.py"]


def test_applying_a_plan_loads_few_modules() -> None:
    program = (
        "import sys, searchctl.app.dedup.apply; print(*(name for name in sys.modules if name.startswith('searchctl')))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(loaded) <= 30, sorted(loaded)
    assert not [name for name in loaded if name.startswith("searchctl.training")]
