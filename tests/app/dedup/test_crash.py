"""kill -9 at every step of `searchctl dedup apply` and `undo`: the tree and the index come back as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# A process that has everything imported and forks a child per run: starting Python for each would take minutes.
SERVER = """
import hashlib, json, os, signal, sqlite3, sys, traceback
from contextlib import closing
from pathlib import Path
from blake3 import blake3
from searchctl.app.dedup.apply import Application
from searchctl.app.dedup.plan import Action, Kept, Plan
from searchctl.app.dedup.undo import Undoing
from searchctl.app.collection.encoder_choice import EncoderChoice
from searchctl.app.collection.talk import Talk
from searchctl.app.collection.indexer import Indexer, IndexRequest
from searchctl.app.errors import AppError
from searchctl.app.collection.indexing import IndexHooks
from searchctl.index.collection import FolderCollection
from searchctl.index.walk import WalkOptions
import numpy as np
import semantic_text_splitter, sqlite_utils, sqlite_utils.migrations, searchctl.encoder.hashing
from searchctl.index.faiss_store import load_faiss
load_faiss()

work, only = Path(sys.argv[1]), tuple(sys.argv[2:])
root, collection = work / "root", work / "root" / ".searchctl"
out = work / "answer.json"
TABLES = ("documents", "chunks", "vectors", "skipped")

def child(task):
    # Runs the task in a process of its own and returns what it returns, None when it was killed.
    out.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            value = task()
            out.write_text(json.dumps(value))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    assert status == 0, "a run failed"
    return json.loads(out.read_text())

def index():
    request = IndexRequest(
        places=tuple((place.resolve(), WalkOptions()) for place in (root, work / "beside")),
        choice=EncoderChoice(model="hashing"),
    )
    summary = Indexer(collection, Talk()).index(request, IndexHooks())
    return len(summary.added)

def plan():
    def digest(path):
        return blake3((root / path).read_bytes()).hexdigest()
    goes = json.loads((work / "plan.json").read_text())
    return Plan(
        collection=str(collection), against=None, threshold=0.95, near_threshold=0.7, keep="longest",
        actions=tuple(
            Action(path=path, content_hash=digest(path), bytes=(root / path).stat().st_size,
                   kept=Kept(path=kept, content_hash=digest(kept)), tier="exact", score=1.0)
            for path, kept in goes.items()
        ),
    )

def stepping(die_at):
    steps = []
    def step(name):
        steps.append(name)
        if len(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return steps, step

def apply(the_plan, die_at=None):
    steps, step = stepping(die_at)
    applied = Application(collection, the_plan, Talk(step=step)).apply()
    assert not applied.left
    return steps

def undo(die_at=None):
    steps, step = stepping(die_at)
    try:
        undone = Undoing(collection, Talk(step=step)).undo()
    except AppError as error:  # killed before anything was noted: there is nothing to take back
        assert "nothing to take back" in str(error), error
        return steps
    assert undone.whole, undone.conflicts
    return steps

def snapshot():
    # Everything that has to be as it was, and the counters that must not go back.
    tree = {}
    for top in (root, work / "beside"):
        for path in sorted(top.rglob("*")):
            parts = path.relative_to(work).parts
            if ".searchctl" in parts or ".searchctl-trash" in parts:
                continue
            info = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            times = info.st_mtime_ns if path.is_file() else 0
            tree[str(path.relative_to(work))] = [info.st_ino, oct(info.st_mode), times, content]
    with closing(sqlite3.connect(f"file:{collection / 'catalogue.db'}?mode=ro", uri=True)) as catalogue:
        rows = {t: list(map(repr, catalogue.execute(f"SELECT * FROM {t} ORDER BY 1"))) for t in TABLES}
        vector = np.frombuffer(catalogue.execute("SELECT vector FROM vectors ORDER BY id").fetchone()[0], "<f4")
        meta = dict(catalogue.execute("SELECT key, value FROM meta"))
    digest = {table: hashlib.sha256(json.dumps(content).encode()).hexdigest() for table, content in rows.items()}
    opened = FolderCollection.open(collection)
    found = [
        (scored.ids.tolist(), scored.scores.tolist())
        for scored in (opened.lexical("heron water", 50), opened.dense(vector, 50))
    ]
    problems = [problem.what for problem in opened.verify()]
    complete = opened.status().complete
    opened.close()
    return {
        "same": [tree, {t: len(c) for t, c in rows.items()}, digest, found, problems, complete],
        "counters": [int(meta[name]) for name in ("generation", "changes", "vector_changes")],
    }

added = child(index)
the_plan = plan()
before = child(snapshot)
applied = child(lambda: apply(the_plan))
between = child(snapshot)
undone = child(undo)
print(json.dumps({"added": added, "before": before, "applied": applied, "between": between, "undone": undone,
                  "after": child(snapshot)}), flush=True)

def told(kind, steps, at, runs):
    before = [run() for run in runs[:-1]]
    def last():
        runs[-1]()
        return snapshot()
    state = child(last)
    print(json.dumps({"kind": kind, "step": steps[at - 1], "killed": before[0] is None, "state": state}), flush=True)

def points(steps):
    return [number for number, name in enumerate(steps, 1) if name.startswith(only)]

for at in points(applied):
    told("undo", applied, at, [lambda: child(lambda: apply(the_plan, at)), undo])
    if not applied[at - 1].startswith("publish:"):  # to go on from there is for the tests of `index`
        runs = [lambda: child(lambda: apply(the_plan, at)), lambda: child(lambda: apply(the_plan)), undo]
        told("again", applied, at, runs)
for at in points(undone):
    child(lambda: apply(the_plan))
    told("undo", undone, at, [lambda: child(lambda: undo(at)), undo])
"""

NAMES = {
    "docs/a copy.md": "docs/heron.md",
    "docs/-dash #1 [x].md": "docs/heron.md",
    "docs/sub/only é.md": "docs/tide.md",
}


def make(work: Path) -> None:
    """Make a tree with files to go and files to stay, of different times and modes."""
    texts = {
        "docs/heron.md": "# Heron\n\nThe heron stands in shallow water and waits for fish.\n",
        "docs/tide.md": "# Tide\n\nThe water rises with the moon.\n",
        "docs/bees.md": "# Bees\n\nBees dance.\n\nThe water rises with the moon.\n",
    }
    texts |= {path: texts[kept] for path, kept in NAMES.items()}
    texts["docs/sub/only é.md"] += "\nA line of its own about ebb.\n"
    for number, (path, text) in enumerate(texts.items()):
        file = work / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        os.utime(file, ns=(10**18 + number, 10**18 + 12345 * number))
        file.chmod(0o600 + number)
    (work / "beside").mkdir()
    (work / "beside" / "no document").write_text("outside\n")
    (work / "root" / ".searchctlignore").write_text("# mine\n*.bak", encoding="utf-8")
    (work / "root" / ".searchctlignore").chmod(0o640)


def run_server(work: Path, goes: dict[str, str], *only: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the server said of a whole run, and of each point it was killed at: steps that begin with `only`."""
    (work / "plan.json").write_text(json.dumps(goes), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", SERVER, str(work), *only], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    whole, *points = [json.loads(line) for line in done.stdout.splitlines()]
    return whole, points


def check(whole: dict[str, Any], points: list[dict[str, Any]]) -> None:
    assert whole["before"]["same"] == whole["after"]["same"]
    assert whole["before"]["same"] != whole["between"]["same"]
    assert [] == whole["between"]["same"][4], "verify of what is left"
    counters = whole["after"]["counters"]
    assert all(old < new for old, new in zip(whole["before"]["counters"], counters, strict=True))
    for point in points:
        where = f"{point['kind']} after a kill at {point['step']}"
        assert point["killed"], where
        assert whole["before"]["same"] == point["state"]["same"], where
        assert all(old <= new for old, new in zip(counters, point["state"]["counters"], strict=True)), where
        counters = point["state"]["counters"]


def test_kill_9_at_two_steps_of_moving_files(tmp_path: Path) -> None:
    make(tmp_path)
    whole, points = run_server(tmp_path, NAMES, "rows:dropped", "undo:begun")
    check(whole, points)
    told = [(point["kind"], point["step"]) for point in points]
    assert told == [("undo", "rows:dropped"), ("again", "rows:dropped"), ("undo", "undo:begun")]


@pytest.mark.slow
@pytest.mark.timeout(1500)  # a hundred runs, which on a machine that is busy with other things take minutes
def test_kill_9_at_every_step_of_moving_files(tmp_path: Path) -> None:
    make(tmp_path)
    outside = str(tmp_path / "beside" / "twin\nof heron.md")
    Path(outside).write_text((tmp_path / "root/docs/heron.md").read_text())
    whole, points = run_server(tmp_path, {**NAMES, outside: "docs/heron.md"}, "")
    check(whole, points)
    assert 8 == whole["added"]
    assert 4 == whole["applied"].count("apply:moved")
    assert {"trash:begun", "keep:synced", "rows:dropped", "settle:committed", "publish:renamed"} < set(whole["applied"])
    assert {"undo:begun", "back:linked", "rows:inserted", "publish:recorded", "undo:marked"} < set(whole["undone"])
    published = sum(step.startswith("publish:") for step in whole["applied"])
    assert len(points) == 2 * len(whole["applied"]) - published + len(whole["undone"])


@pytest.mark.slow
@pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK) or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="needs a second file system",
)
def test_kill_9_while_copying_from_another_file_system(tmp_path: Path) -> None:
    """There a file gets another inode; everything else is as it was."""
    import tempfile

    make(tmp_path)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (tmp_path / "beside" / "no document").unlink()
        (tmp_path / "beside").rmdir()
        (tmp_path / "beside").symlink_to(folder)
        outside = Path(folder) / "twin.md"
        outside.write_text((tmp_path / "root/docs/heron.md").read_text() + "\nA line of its own.\n")
        os.utime(outside, ns=(10**18, 10**18 + 77))
        outside.chmod(0o604)
        whole, points = run_server(tmp_path, {str(outside): "docs/heron.md"}, "copy:")
        for state in (whole["before"], whole["after"], *(point["state"] for point in points)):
            for path, values in state["same"][0].items():
                values[0] *= not path.startswith("beside")
        check(whole, points)
    assert {"copy:copied", "copy:named"} <= set(whole["applied"])
    assert {"copy:copied", "copy:named"} <= set(whole["undone"])
