"""kill -9 at any point of `searchctl models promote`: nothing is embedded twice, and the collection always answers."""

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

NARROW = ("first", "before second", "second", "finish:marked", "publish:recorded", "swap:decided", "swap:kept",
          "swap:swapped")  # fmt: skip
"""Where runs end: after the first or second batch, one step before, and at steps by their name."""
AT_ANY_MOMENT = 2
"""Runs that are killed whenever it happens."""

# A process that has everything imported and forks a child per run: starting Python 40 times would take a minute.
SERVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
from searchctl.app.collection.encoder_choice import EncoderChoice
from searchctl.app.collection.talk import Talk
from searchctl.app.collection.indexing import IndexHooks
from searchctl.app.collection.promotion import Promotion
import sqlite_utils, sqlite_utils.migrations, searchctl.encoder.hashing
from searchctl.index.faiss_store import load_faiss
load_faiss()

source, work = Path(sys.argv[1]), Path(sys.argv[2])
at_any_moment, named = int(sys.argv[3]), sys.argv[4:]

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

def promote(folder, out=None, die_at=None):
    steps = []
    def step(name):
        steps.append(name)
        if len(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    promotion = Promotion(folder / ".searchctl", Talk(step=step))
    done = promotion.promote(EncoderChoice(model="hashing", dim=64), IndexHooks())
    if out is not None:
        out.write_text(json.dumps({"embedded": done.filled.chunks_embedded, "steps": steps, "changed": done.changed}))

def finish(folder):
    out = folder / "summary.json"
    os.waitpid(child(lambda: promote(folder, out)), 0)
    return json.loads(out.read_text())

def fresh(name):
    folder = work / name
    shutil.copytree(source, folder / ".searchctl")
    return folder

whole = fresh("whole")
began = time.monotonic()
summary = finish(whole)
duration = time.monotonic() - began
print(json.dumps({"whole": summary}), flush=True)
chance = random.Random(5)
steps = summary["steps"]
first, second = [number for number, name in enumerate(steps, 1) if name == "commit:done"][:2]
counted = {"first": first, "before second": second - 1, "second": second}
narrow = [counted[name] if name in counted else steps.index(name) + 1 for name in named]
for point in range(len(narrow) + at_any_moment):
    folder = fresh(f"killed-{point}")
    if point < len(narrow):
        # In the narrow places between two writes.
        os.waitpid(child(lambda: promote(folder, die_at=narrow[point])), 0)
    else:
        # At any moment, by another process.
        pid = child(lambda: promote(folder))
        time.sleep(chance.uniform(0, duration))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(json.dumps({"point": point}), flush=True)
    if sys.stdin.readline().strip() == "finish":
        print(json.dumps(finish(folder)), flush=True)
"""


def vectors(folder: Path) -> int:
    """Return how many vectors are committed, 0 when there is no catalogue yet."""
    file = folder / "catalogue.db"
    if not file.exists():
        return 0
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0
    finally:
        connection.close()


def ranks(shell: Any, folder: Path) -> list[Any]:
    """Return the ranking of a few queries, with scores."""
    queries = shell.folder / "queries.jsonl"
    queries.write_text("".join(json.dumps({"query": f"word{n} word{n * 3 + 1}"}) + "\n" for n in range(3)))
    found = shell(
        "query", "--queries", queries, "--collection", folder, "--format", "json", "-k", "20", "--mode", "dense"
    ).json
    return [(h["path"].rpartition("/")[2], h["chunk"], h["score"]) for a in found["results"] for h in a["hits"]]


def killed_and_rerun(
    shell: Any, words: Any, work: Path, narrow: tuple[str, ...], at_any_moment: int
) -> tuple[int, int]:
    """Return how many points fell between the first and the last batch, and how many after the swap."""
    for number in range(24):
        shell.write(
            f"docs/{number}.txt", "\n\n".join(words(number * 100 + part, 130) for part in range(number % 12 + 1))
        )
    total = shell.index("docs")["chunks_embedded"]
    source = shell.folder / ".searchctl"
    before = ranks(shell, source)
    work.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(source), str(work), str(at_any_moment), *narrow],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    whole = json.loads(server.stdout.readline())["whole"]
    assert whole["embedded"] == total > 100
    expected = ranks(shell, work / "whole" / ".searchctl")
    assert expected != before
    cut_short = swapped = 0
    for point in range(len(narrow) + at_any_moment):
        assert json.loads(server.stdout.readline()) == {"point": point}
        folder = work / f"killed-{point}"
        collection = folder / ".searchctl"
        # The collection answers as before or as after, and what was embedded is counted beside it.
        answers = ranks(shell, collection)
        assert answers in (before, expected)
        committed = vectors(folder / ".searchctl.promote") if answers == before else total
        cut_short += 0 < committed < total
        swapped += answers == expected
        server.stdin.write("finish\n")
        server.stdin.flush()
        finished = json.loads(server.stdout.readline())
        assert finished["embedded"] == total - committed, f"point {point}: committed chunks were embedded again"
        assert finished["changed"] is (answers == before)
        for path, dim in ((collection, 64), (folder / ".searchctl.previous", 256)):
            opened = FolderCollection.open(path)
            assert opened.verify() == []
            status = opened.status()
            assert status.settings is not None
            assert (status.complete, status.settings.dim, status.vectors) == (True, dim, total)
            opened.close()
        assert ranks(shell, collection) == expected
        # An empty lock file may stay of a swap that was killed; it is taken away by the next one.
        beside = {path.name for path in folder.glob(".search*")} - {".searchctl.swap.lock"}
        assert beside == {".searchctl", ".searchctl.previous"}
    assert server.wait(timeout=30) == 0
    return cut_short, swapped


def test_kill_9_at_two_points_and_rerun(shell: Any, words: Any, tmp_path: Path) -> None:
    assert killed_and_rerun(shell, words, tmp_path / "runs", ("first", "swap:kept"), 0) == (1, 1)


@pytest.mark.slow
def test_kill_9_at_many_points_and_rerun(shell: Any, words: Any, tmp_path: Path) -> None:
    cut_short, swapped = killed_and_rerun(shell, words, tmp_path / "runs", NARROW, AT_ANY_MOMENT)
    assert cut_short >= 3, "the points did not fall into the run: nothing was tested"
    assert swapped >= 3, "no point fell into the swap"


def test_ctrl_c_keeps_what_is_embedded_and_says_how_to_go_on(shell: Any, words: Any) -> None:
    for number in range(30):
        shell.write(f"docs/{number}.txt", "\n\n".join(words(number * 100 + part, 180) for part in range(20)))
    total = shell.index("docs")["chunks_embedded"]
    folder = shell.folder / ".searchctl"
    before = ranks(shell, folder)
    process = shell.start("models", "promote", "hashing", "--dim", "64")
    deadline = time.monotonic() + 60
    while vectors(shell.folder / ".searchctl.promote") == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "answers with the encoder it had: run the same command again" in err
    assert "Traceback" not in err
    assert ranks(shell, folder) == before
    committed = vectors(shell.folder / ".searchctl.promote")
    again = shell("models", "promote", "hashing", "--dim", "64", "--format", "json").json
    assert 0 < again["chunks_embedded"] == total - committed
    assert again["vectors_reused"] == committed
