"""kill -9 and Ctrl-C at any point of `searchctl index`: nothing committed is lost or embedded twice."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from searchctl.index.collection import FolderCollection

POINTS = 20
TWO = (0.3, 0.9)
"""The kill points of the default run, as shares of the writer's steps: among the batches, and after the last one."""

# A process that has everything imported and forks a child per run: starting Python 40 times would take a minute.
SERVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from searchctl.app.collection.encoder_choice import EncoderChoice
from searchctl.app.collection.talk import Talk
from searchctl.app.collection.indexer import Indexer, IndexRequest
from searchctl.app.collection.indexing import IndexHooks
from searchctl.index.walk import WalkOptions
import semantic_text_splitter, sqlite_utils, sqlite_utils.migrations, searchctl.encoder.hashing
from searchctl.index.faiss_store import load_faiss
load_faiss()

docs, work, points, shares = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), [float(a) for a in sys.argv[4:]]
request = IndexRequest(places=((docs, WalkOptions()),), choice=EncoderChoice(model="hashing"))

def child(task):
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            task()
            status = 0
        finally:
            os._exit(status)
    return pid

def index(folder, out=None, die_at=None):
    steps = 0
    def step(name):
        nonlocal steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    summary = Indexer(folder / ".searchctl", Talk(step=step)).index(request, IndexHooks())
    if out is not None:
        out.write_text(json.dumps({"embedded": summary.chunks_embedded, "steps": steps}))

def finish(folder):
    out = folder / "summary.json"
    os.waitpid(child(lambda: index(folder, out)), 0)
    return json.loads(out.read_text())

whole = work / "whole"
whole.mkdir()
began = time.monotonic()
summary = finish(whole)
duration = time.monotonic() - began
print(json.dumps({"whole": summary}), flush=True)
chance = random.Random(11)
for point in range(points):
    folder = work / f"killed-{point}"
    folder.mkdir()
    if shares or point % 2:
        # At a step of the writer, the narrow places between two writes among them.
        die_at = round(shares[point] * summary["steps"]) if shares else chance.randint(1, summary["steps"])
        os.waitpid(child(lambda: index(folder, die_at=die_at)), 0)
    else:
        # At any moment, by another process.
        pid = child(lambda: index(folder))
        time.sleep(chance.uniform(0, duration))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(json.dumps({"point": point}), flush=True)
    if sys.stdin.readline().strip() == "finish":
        print(json.dumps(finish(folder)), flush=True)
"""


def vectors(folder: Path, table: str = "vectors") -> int:
    """Return how many vectors, or rows of another table, are committed."""
    file = folder / ".searchctl" / "catalogue.db"
    if not file.exists():
        return 0
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0
    finally:
        connection.close()


def ranks(shell: Any, folder: Path) -> list[Any]:
    """Return the ranking of a few queries, with scores."""
    queries = folder / "queries.jsonl"
    queries.write_text("".join(json.dumps({"query": f"word{n} word{n * 3 + 1}"}) + "\n" for n in range(3)))
    found = shell(
        "query", "--queries", queries, "--collection", folder / ".searchctl", "--format", "json", "-k", "20"
    ).json
    return [(h["path"].rpartition("/")[2], h["chunk"], h["score"]) for a in found["results"] for h in a["hits"]]


def killed_and_rerun(shell: Any, words: Any, work: Path, *shares: float) -> int:
    """Kill at each share of the steps, by default at many points; return how many fell between first and last."""
    docs = shell.folder / "docs"
    for number in range(40):
        shell.write(
            f"docs/{number}.txt", "\n\n".join(words(number * 100 + part, 120) for part in range(number % 20 + 1))
        )
    work.mkdir()
    points = len(shares) or POINTS
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(docs), str(work), str(points), *map(str, shares)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    whole = json.loads(server.stdout.readline())["whole"]
    total = vectors(work / "whole")
    assert whole["embedded"] == total > 100
    expected = ranks(shell, work / "whole")
    cut_short = 0
    for point in range(points):
        assert json.loads(server.stdout.readline()) == {"point": point}
        folder = work / f"killed-{point}"
        committed = vectors(folder)
        cut_short += 0 < committed < total
        server.stdin.write("finish\n")
        server.stdin.flush()
        finished = json.loads(server.stdout.readline())
        assert finished["embedded"] == total - committed, f"point {point}: committed chunks were embedded again"
        collection = FolderCollection.open(folder / ".searchctl")
        assert collection.verify() == []
        assert collection.status().complete
        collection.close()
        assert ranks(shell, folder) == expected
    assert server.wait(timeout=30) == 0
    return cut_short


def test_kill_9_at_two_points_and_rerun(shell: Any, words: Any, tmp_path: Path) -> None:
    assert killed_and_rerun(shell, words, tmp_path / "runs", *TWO) == 1


@pytest.mark.slow
def test_kill_9_at_20_points_and_rerun(shell: Any, words: Any, tmp_path: Path) -> None:
    cut_short = killed_and_rerun(shell, words, tmp_path / "runs")
    assert cut_short >= 3, "the points did not fall into the run: nothing was tested"


def started_index(shell: Any, words: Any) -> subprocess.Popen[str]:
    """Return an `index` run in its own process that has committed something and is not done."""
    for number in range(60):
        shell.write(f"docs/{number}.txt", "\n\n".join(words(number * 100 + part, 180) for part in range(50)))
    process: subprocess.Popen[str] = shell.start("index", "docs", "--model", "hashing")
    deadline = time.monotonic() + 60
    while vectors(shell.folder, "documents") == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_ctrl_c_keeps_what_is_committed_and_says_how_to_go_on(shell: Any, words: Any) -> None:
    process = started_index(shell, words)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "run the same command again" in err
    assert "Traceback" not in err
    committed = vectors(shell.folder)
    status = shell("status", "--format", "json").json
    assert status["complete"] is False
    assert status["documents"] > 0  # searchable before the rerun
    summary = shell.index("docs")
    assert 0 < summary["chunks_embedded"] == vectors(shell.folder) - committed


@pytest.mark.slow
def test_kill_9_of_the_command_itself_and_a_second_writer(shell: Any, words: Any) -> None:
    process = started_index(shell, words)
    refused = shell("index", "docs", "--model", "hashing")
    alive = process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    if not alive:
        pytest.skip("the run ended before the second writer came")
    assert refused.code == 4
    assert str(process.pid) in refused.err
    committed = vectors(shell.folder)
    summary = shell.index("docs")
    assert summary["chunks_embedded"] == vectors(shell.folder) - committed
    assert shell("verify").code == 0


@pytest.mark.slow
def test_run_over_other_paths_neither_completes_nor_loses_a_killed_one(shell: Any, words: Any) -> None:
    """The vectors of a document that was cut off in the middle wait for the run that goes on with it."""
    shell.write("big/a.txt", "\n\n".join(words(seed, 180) for seed in range(2000)))
    shell.write("small/b.txt", "a small text\n")
    process: subprocess.Popen[str] = shell.start("index", "big", "--model", "hashing")
    deadline = time.monotonic() + 60
    while vectors(shell.folder) == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    committed = vectors(shell.folder)
    if vectors(shell.folder, "documents"):
        pytest.skip("the run committed its document before it was killed")

    shell.index("small")
    assert vectors(shell.folder) == committed + 1
    assert shell("status", "--format", "json").json["complete"] is False
    assert len(shell.hits("small")) == 1
    summary = shell.index("big")
    assert summary["chunks_embedded"] == vectors(shell.folder) - committed - 1
    assert shell("status", "--format", "json").json["complete"] is True
    assert shell("verify").code == 0
