"""kill -9, Ctrl-C and a second process: nothing finished is computed twice, and the scores are those of a whole run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A process that has everything imported and forks a child per command: importing mteb takes seconds each time.
SERVER = """
import json, os, signal, sys
import mteb, searchctl.app.evaluate.run, searchctl.encoder.hashing, searchctl.encoder.transformer
from searchctl.app.cli import run

for line in sys.stdin:
    task = json.loads(line)
    if "wait" in task:
        _, status = os.waitpid(task["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        # A shell that runs tests in the background has SIGINT ignored, and what it starts inherits that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(task["folder"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(task[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os._exit(run(task["args"]))
    print(pid, flush=True)
os._exit(0)  # taking everything down again takes seconds
"""


DOCUMENTS, QUERIES = 4000, 20
"""So many that a signal falls between the first block of vectors and the last, even when it is late."""


class Started:
    """A command in a process of its own."""

    def __init__(self, server: subprocess.Popen[str], folder: Path, name: str, args: tuple[str, ...]) -> None:
        self._server = server
        self._files = {stream: folder / f"{name}.{stream}" for stream in ("out", "err")}
        files = {stream: str(file) for stream, file in self._files.items()}
        self.pid = self._ask({"args": args, "folder": str(folder), **files})

    def _ask(self, task: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def end(self) -> tuple[int, str, str]:
        """Wait and return exit code, stdout and stderr."""
        code = self._ask({"wait": self.pid})
        return code, self._files["out"].read_text(), self._files["err"].read_text()


class Bench:
    """A folder with data, and commands over it."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server = server
        self._count = 0
        self.folder = folder

    def start(self, results: str, tasks: tuple[str, ...] = ("small", "big")) -> Started:
        self._count += 1
        args = ("eval", "run", *tasks, "--local", "data", "--model", "hashing", "--results", results, "-f", "json")
        return Started(self._server, self.folder, f"run-{self._count}", args)

    def finish(self, results: str, tasks: tuple[str, ...] = ("small", "big")) -> Any:
        code, out, err = self.start(results, tasks).end()
        assert code == 0, err
        return json.loads(out)

    def stopped(self, results: str, number: signal.Signals) -> tuple[Started, dict[Path, tuple[int, int]]]:
        """Start, and send a signal once the first score is there and some vectors of the second task are."""
        started = self.start(results)
        deadline = time.monotonic() + 60
        while self.vectors(results) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        files = self.files(results)
        os.kill(started.pid, number)
        return started, files

    def files(self, results: str) -> dict[Path, tuple[int, int]]:
        found = (self.folder / results).rglob("*.json")
        return {
            file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found if "_predictions" not in file.name
        }

    def vectors(self, results: str) -> int:
        """Return how many vectors of the big task are kept."""
        for file in (self.folder / results).glob(".unfinished/*-big-*/vectors.sqlite"):
            connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
            try:
                return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
            except sqlite3.OperationalError:  # before the table is made
                return 0
            finally:
                connection.close()
        return 0


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@pytest.fixture
def bench(server: subprocess.Popen[str], shell: Any, words: Any) -> Bench:
    def write(path: str, rows: list[dict[str, Any]]) -> None:
        shell.write(f"data/{path}", "".join(json.dumps(row) + "\n" for row in rows))

    write("sts/small.jsonl", [{"a": words(n, 6), "b": words(n + n % 3, 6), "score": n % 5} for n in range(20)])
    corpus = [{"_id": f"d{n}", "title": "", "text": words(n, 60)} for n in range(DOCUMENTS)]
    write("retrieval/big/corpus.jsonl", corpus)
    write("retrieval/big/queries.jsonl", [{"_id": f"q{n}", "text": words(n * 30, 5)} for n in range(QUERIES)])
    shell.write("data/retrieval/big/qrels/test.tsv", "".join(f"q{n}\td{n * 30}\t1\n" for n in range(QUERIES)))
    rows = [{"text": words(n, 8), "label": n % 2} for n in range(40)]
    write("classification/sides/train.jsonl", rows)
    write("classification/sides/test.jsonl", rows[5:30])
    return Bench(server, shell.folder)


def scores(document: Any) -> Any:
    """Return what must be equal to the last bit."""
    return [[score[key] for key in ("task", "score", "metrics", "samples")] for score in document["scores"]]


@pytest.mark.slow
def test_kill_9_within_a_task_and_rerun(bench: Bench) -> None:
    tasks = ("small", "big", "sides")
    whole = bench.finish("whole", tasks)
    started, before = bench.stopped("killed", signal.SIGKILL)
    assert -signal.SIGKILL == started.end()[0]
    kept = bench.vectors("killed")
    assert 0 < kept < DOCUMENTS + QUERIES, "the signal did not fall into the encoding: nothing was tested"
    assert ["small"] == [file.name.partition("-")[0] for file in before]

    document = bench.finish("killed", tasks)
    assert scores(whole) == scores(document)
    assert [True, False, False] == [score["reused"] for score in document["scores"]]
    after = bench.files("killed")
    assert 3 == len(after)
    assert before.items() <= after.items()
    big, whole_big = document["scores"][1]["cost"], whole["scores"][1]["cost"]
    assert whole_big["texts"] == big["texts"]
    assert big["tokens"] == pytest.approx(whole_big["tokens"] * (1 - kept / (DOCUMENTS + QUERIES)), rel=0.05)
    assert [] == list((bench.folder / "killed" / ".unfinished").glob("*-big-*/*"))


def test_ctrl_c_says_what_is_kept_and_rerun_goes_on(bench: Bench) -> None:
    started, before = bench.stopped("stopped", signal.SIGINT)
    code, out, err = started.end()
    assert (130, "") == (code, out)
    assert "1 new score is kept in stopped, and of big with hashing what is encoded so far" in err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert bench.vectors("stopped") > 0
    document = bench.finish("stopped")
    assert [True, False] == [score["reused"] for score in document["scores"]]
    assert before.items() <= bench.files("stopped").items()


def test_two_processes_share_the_work_and_harm_nothing(bench: Bench) -> None:
    pair = [bench.start("shared"), bench.start("shared")]
    documents = []
    for started in pair:
        code, out, err = started.end()
        assert code == 0, err
        documents.append(json.loads(out))
    assert scores(documents[0]) == scores(documents[1])
    reused = [[score["reused"] for score in document["scores"]] for document in documents]
    assert [1, 1] == [sum(column) for column in zip(*reused, strict=True)]
    assert 2 == len(bench.files("shared"))
