"""The command line in this process and in its own, with a home of its own and the encoder that needs no model."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.cli import run

MAIN = [sys.executable, "-c", "from searchctl.app.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs searchctl in a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def __call__(self, *args: str | Path, stdin: str | bytes = "") -> Ended:
        """Run in this process, streams not terminals."""
        out, err = io.BytesIO(), io.BytesIO()
        given = stdin.encode() if isinstance(stdin, str) else stdin
        with self._monkeypatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="utf-8", write_through=True))
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
            code = run([str(arg) for arg in args])
            sys.stdout.flush()
            sys.stderr.flush()
            return Ended(int(code), out.getvalue().decode("utf-8", "replace"), err.getvalue().decode(), out.getvalue())

    def start(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start in a process of its own."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen([*MAIN, *map(str, args)], cwd=self.folder, **streams)

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def index(self, *args: str | Path) -> Any:
        """Index with the hashing encoder and return the JSON summary."""
        ended = self("index", *args, "--model", "hashing", "--format", "json")
        assert ended.out, ended.err
        return ended.json

    def hits(self, *args: str | Path) -> list[dict[str, Any]]:
        """Query and return the hits of the one answer."""
        ended = self("query", *args, "--format", "json")
        assert ended.code in (0, 1), ended.err
        hits: list[dict[str, Any]] = ended.json["results"][0]["hits"]
        return hits


def shell_in(around: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Make a shell in an empty folder, with nothing of the person's own settings."""
    for name in list(os.environ):
        if name.startswith("SEARCHCTL_") or name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
            monkeypatch.delenv(name)
    home = around / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a test that asks for a real model fails instead of fetching it
    monkeypatch.setenv("SEARCHCTL_CACHE", str(around / "cache"))
    folder = around / "work"
    folder.mkdir()
    return Shell(folder, monkeypatch)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in an empty folder, with nothing of the person's own settings."""
    return shell_in(tmp_path, monkeypatch)


@pytest.fixture
def new_shell(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Shell]:
    """Return a maker of shells, for a test that begins again with each row of a table."""
    return lambda: shell_in(tmp_path_factory.mktemp("shell"), monkeypatch)


TEXTS = {
    "docs/crash.md": "# Crash\n\nWhat was committed stays.\n\n## Power\n\nThe catalogue survives a power cut.\n",
    "docs/query.md": "# Searching\n\nA query finds passages by meaning and by words.\n",
    "docs/animals/birds.txt": "The heron stands in shallow water and waits for fish.\n",
    "docs/animals/bees.txt": "Bees dance to tell others where flowers bloom.\n",
    "code/tide.py": 'def tide(moon):\n    """Return the height of the tide."""\n    return moon * 2\n',
}


@pytest.fixture
def library(shell: Shell) -> Shell:
    """A shell with a few documents, indexed."""
    for path, text in TEXTS.items():
        shell.write(path, text)
    summary = shell.index("docs", "code")
    assert summary["added"] == len(TEXTS), summary
    return shell


@pytest.fixture
def words() -> Callable[[int, int], str]:
    """Return a maker of text: `count` words that differ with `seed`."""

    def make(seed: int, count: int) -> str:
        return " ".join(f"word{(seed * 7919 + position * 104729) % 997}" for position in range(count))

    return make


@pytest.fixture(scope="session")
def made_up() -> Any:
    """The module that makes up documents of `dedup --format json` and `cluster --format json`."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "report_documents.py"
    spec = importlib.util.spec_from_file_location("report_documents", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
