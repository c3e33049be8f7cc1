"""The shape of the house: who imports whom, what --help loads, and that every command explains itself."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from searchctl.app.cli import app
from searchctl.app.command_groups import COMMANDS

TREE = Path(__file__).resolve().parents[2]
ALLOWED = {
    "encoder": {"encoder"},
    "index": {"index"},
    "training": {"training", "encoder", "index"},
    "app": {"app", "training", "encoder", "index"},
}
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
MODULES = sorted(path for room in ALLOWED for path in (TREE / room).rglob("*.py"))


def imported(path: Path) -> list[tuple[int, str]]:
    """Return line and dotted target of each import, relative ones resolved to start at "searchctl"."""
    package = ("searchctl", *path.relative_to(TREE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            if node.level and not node.module:
                found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TREE)))
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(TREE).parts[0]
    for line, target in imported(path):
        parts = target.split(".")
        assert parts[0] not in ALLOWED, f"{path}:{line} imports a room by its bare name: {target}"
        if parts[0] == "searchctl" and len(parts) > 1 and (TREE / parts[1]).is_dir():
            assert parts[1] in ALLOWED[room], f"{path}:{line}: {room} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TREE)))
def test_product_imports_are_relative(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] != "searchctl", f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[-2] in ("encoder", "index", "training")], ids=str)
def test_only_app_prints_and_reads_the_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "exit", "quit"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            forbidden = {("os", "getenv"), ("sys", "exit"), ("sys", "stdout")}
            # pip runs in a process of its own and needs the person's proxy and certificates.
            if path.name != "pull_wheel.py":
                forbidden.add(("os", "environ"))
            assert (node.value.id, node.attr) not in forbidden, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TREE)))
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


def test_no_module_is_named_for_nothing() -> None:
    assert not [path for path in MODULES if path.stem in ("utils", "util", "common", "helpers", "misc")]


@pytest.mark.parametrize(
    "words", [[], ["index"], ["query"], ["models", "list"]], ids=lambda words: " ".join(words) or "root"
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys; from searchctl.app.cli import run; code = run(sys.argv[1:]);"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules];"
        "sys.stdout.flush(); sys.exit(f'code {code}, loaded {loaded}' if code or loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *words, "--help"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Usage: searchctl" in ended.stdout


def test_help_takes_at_most_three_times_as_long_as_typer_and_rich() -> None:
    def fastest(code: str, *args: str) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code, *args], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - began)
        return min(times)

    # Measured by turns, as the machine may be busy with something else for a while.
    for _ in range(3):
        base = fastest("import typer, rich")
        own = fastest("from searchctl.app.cli import main; main()", "--help")
        if own <= 3 * base:
            return
    pytest.fail(f"--help took {own:.3f} s, importing typer and rich {base:.3f} s")


def commands() -> dict[str, object]:
    """Return every command by its words."""
    found: dict[str, object] = {}

    def visit(command: object, words: tuple[str, ...]) -> None:
        children = getattr(command, "commands", None)
        if not children:
            found[" ".join(words)] = command
            return
        for name, child in children.items():
            visit(child, (*words, name))

    visit(get_command(app), ())
    return found


@pytest.mark.parametrize("words", commands())
def test_every_command_has_help_with_examples(words: str) -> None:
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


@pytest.mark.parametrize("words", ["query", "index"])
def test_settings_of_a_command_have_an_environment_variable(words: str) -> None:
    """What a person may want for good; not what is said of one run."""
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
