"""A writer killed at any point leaves a whole collection, and the next run ends where an uninterrupted one does.

Run as a script, this file is a server with everything imported, which forks a writer for each kill point: starting
Python for each would take a minute. A writer brings a collection from one version of a small corpus to the next as
`index` does, in batches, with documents longer than a batch, and notes in a journal what was committed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from searchctl.index.collection import FolderCollection
from searchctl.index.documents import Chunk
from searchctl.index.errors import CollectionLockedError
from searchctl.index.faiss_store import load_faiss
from searchctl.index.protocol import Batch, CollectionSettings, DocumentRecord, FileRecord, Vectors

DIM = 32
BATCH = 10
STEPS = [
    "commit:begin", "commit:stored", "commit:done", "finish:marked", "finish:committed", "publish:write",
    "publish:written", "publish:synced", "publish:renamed", "publish:folder-synced", "publish:recording",
    "publish:recorded", "publish:checkpointed", "publish:cleaned",
]  # fmt: skip
TWO_STEPS = ["commit:stored", "publish:renamed"]
"""Those of the default run: inside a commit, and between two files that are published."""
SETTINGS = CollectionSettings(
    encoder_name="random", encoder_revision="1", encoder_fingerprint="crash", encoder_config="{}", dim=DIM,
    chunk_tokens=64, chunk_overlap=8,
)  # fmt: skip


def vector_of(hash_: str) -> Vectors:
    seed = int.from_bytes(hash_.encode(), "big") % 2**63
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def corpus(version: int) -> list[DocumentRecord]:
    """60 documents; version 2 has some changed, some gone, some new; a few texts stand in several documents."""
    documents = []
    for number in range(60 if version == 1 else 65):
        if version == 2 and number % 9 == 4:
            continue
        changed = version if number % 5 in (0, 2) else 1
        count = 25 if number % 20 == 7 else number % 5
        texts = [f"passage {part} of number{number} word{changed * 100 + part}" for part in range(count)]
        texts += [f"shared text {number % 3}"]
        documents.append(
            DocumentRecord(
                file=FileRecord(path=f"d{number}.txt", size=1, mtime_ns=1, inode=1, content_hash=f"{number}v{changed}"),
                format="text", title=None, date=None, metadata={},
                chunks=[
                    Chunk(
                        ordinal=ordinal, text=text, context="", anchor=None, headings=(), line_start=1, line_end=1,
                        char_start=0, char_end=1, tokens=4, hash=f"h {text}",
                    )
                    for ordinal, text in enumerate(texts)
                ],
            )
        )  # fmt: skip
    return documents


def index(folder: Path, version: int, journal: Callable[[str], None], step: Callable[[str], None]) -> int:
    """Bring the collection to a version of the corpus and return how many chunks were embedded."""
    collection = FolderCollection.create(folder, step=step)
    embedded = 0
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        known = writer.files()
        wanted = corpus(version)
        journal("begin")
        for document in wanted:
            if (file := known.get(document.file.path)) is not None and file.content_hash == document.file.content_hash:
                continue
            lacking = writer.missing(chunk.hash for chunk in document.chunks)
            parts = [lacking[start : start + BATCH] for start in range(0, len(lacking), BATCH)] or [[]]
            for part in parts:
                embedded += len(part)
                documents = [document] if part is parts[-1] else []
                vectors = np.array([vector_of(hash_) for hash_ in part], dtype=np.float32).reshape(-1, DIM)
                writer.commit(Batch(hashes=part, vectors=vectors, documents=documents))
                lines = [f"vector {hash_}" for hash_ in part] + [f"document {d.file.path}" for d in documents]
                journal("\n".join(lines))
        writer.remove(set(known) - {document.file.path for document in wanted})
        journal("removed")
        writer.finish(skipped={})
        journal("finished")
    collection.close()
    return embedded


def write(folder: str, version: int, journal: str, fatal: str) -> None:
    """`fatal` is "STEP NUMBER": the process ends itself without warning when it comes to that step that often."""
    name, number = fatal.rsplit(" ", 1)
    left = int(number)

    def step(done: str) -> None:
        nonlocal left
        left -= done == name
        if done == name and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with Path(journal).open("a", encoding="utf-8") as stream:
        index(Path(folder), version, lambda line: print(line, file=stream, flush=True), step)


def repair(folder: str, fatal: str) -> None:
    FolderCollection.open(Path(folder), step=lambda done: os._exit(9) if done == fatal else None).repair()


def serve() -> None:
    """Fork a process for each task on stdin and print its number; wait for one and print how it ended."""
    load_faiss()
    tasks = {"write": write, "repair": repair}

    def tell(number: int) -> None:
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()

    for line in sys.stdin:
        name, *args = json.loads(line)
        if name == "wait":
            _, status = os.waitpid(args[0], 0)
            tell(os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                tasks[name](*args)
                status = 0
            finally:
                os._exit(status)
        tell(pid)


if __name__ == "__main__":
    serve()
    sys.exit()


Results = list[tuple[str, int, str, float]]


def silent(line: str) -> None:
    """A journal or step that nobody reads."""


@pytest.fixture(autouse=True)
def _nothing_is_damaged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert caplog.messages == []


def results(folder: Path) -> list[Results]:
    collection = FolderCollection.open(folder)
    answers = []
    for query in ("shared text 1", "number7 word205 passage", "passage 3 of number40"):
        for hits in (collection.lexical(query, 30), collection.dense(vector_of(query), 500)):
            chunks = collection.chunks(hits.ids.tolist())
            answers.append([(c.path, c.ordinal, c.text, s) for c, s in zip(chunks, hits.scores.tolist(), strict=True)])
    collection.close()
    return answers


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete collection of version 1."""
    folder = tmp_path_factory.mktemp("first") / ".searchctl"
    index(folder, 1, silent, silent)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Results]]:
    """What a collection answers that went from version 1 to 2 undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / ".searchctl"
    shutil.copytree(first, folder)
    assert index(folder, 2, silent, silent) > 50
    yield results(folder)


class Server:
    """The process that forks writers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *task: object) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task, default=str) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, folder: Path, version: int, journal: Path, fatal: str) -> int:
        """Return the number of a process that writes."""
        return self.ask("write", folder, version, journal, fatal)

    def wait(self, pid: int) -> int:
        """Return how a process ended, the negative signal where one killed it."""
        return self.ask("wait", pid)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.process.wait(timeout=30) == 0


def check_after_kill(folder: Path, version: int, journal: Path, *, fresh: bool) -> None:
    """Whole, nothing committed lost, nothing embedded twice, and the rerun finishes."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    vectors = {line.removeprefix("vector ") for line in lines if line.startswith("vector ")}
    paths = {line.removeprefix("document ") for line in lines if line.startswith("document ")}
    wanted = {document.file.path: document for document in corpus(version)}
    collection = FolderCollection.create(folder)
    problems = collection.verify()
    assert [problem for problem in problems if "left from an interrupted run" not in problem.what] == []
    assert all(problem.repairable for problem in problems)
    with collection.writer() as writer:
        assert writer.missing(sorted(vectors)) == []
        files = writer.files()
        for path in paths:
            assert files[path] == wanted[path].file
        lacking = writer.missing(chunk.hash for document in wanted.values() for chunk in document.chunks)
        known = {f"h {text}" for document in corpus(1) for text in [c.text for c in document.chunks]}
        everything = {chunk.hash for document in wanted.values() for chunk in document.chunks}
        assert set(lacking) <= everything - vectors - (set() if fresh else known)
    # Every visible document is whole: one of the two versions, never a mixture.
    texts = {d.file.content_hash: [c.text for c in d.chunks] for v in (1, 2) for d in corpus(v)}
    seen: dict[tuple[str, str], list[str]] = {}
    ids = [row[0] for row in _sql(folder, "SELECT id FROM chunks ORDER BY document_id, ordinal")]
    for chunk in collection.chunks(ids):
        seen.setdefault((chunk.path, chunk.content_hash), []).append(chunk.text)
    assert all(texts[content] == found for (_, content), found in seen.items())
    collection.close()
    assert index(folder, version, silent, silent) == len(lacking)
    again = FolderCollection.open(folder)
    assert again.verify() == []
    assert again.status().complete
    assert index(folder, version, silent, silent) == 0
    assert len(list(folder.glob("vectors-*"))) == 1
    again.close()


def _sql(folder: Path, sql: str) -> list[tuple[int, ...]]:
    import sqlite3

    connection = sqlite3.connect(f"{(folder / 'catalogue.db').as_uri()}?mode=ro", uri=True)
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def killed_at(step: str, server: Server, first: Path, uninterrupted: list[Results], tmp_path: Path) -> None:
    folder, journal = tmp_path / ".searchctl", tmp_path / "journal"
    shutil.copytree(first, folder)
    times = 12 if step.startswith("commit") else 1
    assert server.wait(server.start(folder, 2, journal, f"{step} {times}")) == -signal.SIGKILL
    check_after_kill(folder, 2, journal, fresh=False)
    assert results(folder) == uninterrupted


def test_killed_at_two_steps(
    server: Server, first: Path, uninterrupted: list[Results], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for step in TWO_STEPS:
        with subtests.test(step=step):
            killed_at(step, server, first, uninterrupted, tmp_path / step)


@pytest.mark.slow
def test_killed_at_each_step(
    server: Server, first: Path, uninterrupted: list[Results], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for step in STEPS:
        with subtests.test(step=step):
            killed_at(step, server, first, uninterrupted, tmp_path / step)


@pytest.mark.slow
def test_killed_at_random_points_of_a_first_and_a_second_run(
    server: Server, first: Path, uninterrupted: list[Results], tmp_path: Path
) -> None:
    chance = random.Random(2)
    killed = 0
    for number in range(10):
        folder, journal = tmp_path / f"{number}" / ".searchctl", tmp_path / f"{number}.journal"
        fresh = number % 2 == 0
        if not fresh:
            shutil.copytree(first, folder)
        pid = server.start(folder, 1 if fresh else 2, journal, "never 1")
        deadline = time.monotonic() + 60
        while not journal.exists() or not journal.stat().st_size:
            time.sleep(0.002)
            assert time.monotonic() < deadline
        time.sleep(chance.uniform(0.0, 0.35))
        os.kill(pid, signal.SIGKILL)
        killed += server.wait(pid) == -signal.SIGKILL
        check_after_kill(folder, 1 if fresh else 2, journal, fresh=fresh)
        index(folder, 2, silent, silent)
        assert results(folder) == uninterrupted
    assert killed >= 3


@pytest.mark.slow
def test_killed_while_it_is_made(server: Server, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for moment_s in [0.0, 0.015, 0.03, 0.05]:
        with subtests.test(moment_s=moment_s):
            folder, journal = tmp_path / f"{moment_s}" / ".searchctl", tmp_path / f"{moment_s}.journal"
            pid = server.start(folder, 1, journal, "never 1")
            deadline = time.monotonic() + 60
            while not folder.exists():
                time.sleep(0.001)
                assert time.monotonic() < deadline
            time.sleep(moment_s)
            os.kill(pid, signal.SIGKILL)
            server.wait(pid)
            check_after_kill(folder, 1, journal, fresh=True)


@pytest.mark.slow
def test_repair_killed_while_it_publishes(
    server: Server, first: Path, uninterrupted: list[Results], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for step in ["publish:written", "publish:renamed", "publish:recorded"]:
        with subtests.test(step=step):
            folder = tmp_path / step / ".searchctl"
            shutil.copytree(first, folder)
            index(folder, 2, silent, silent)
            (published,) = folder.glob("vectors-*.faiss")
            published.write_bytes(published.read_bytes()[:-7])
            assert server.wait(server.ask("repair", folder, step)) == 9
            collection = FolderCollection.open(folder)
            assert all(problem.repairable for problem in collection.verify())
            collection.repair()
            assert collection.verify() == []
            assert results(folder) == uninterrupted


def test_second_writer_is_refused_while_the_first_lives(first: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".searchctl"
    shutil.copytree(first, folder)
    code = (
        "import sys; from pathlib import Path; from searchctl.index.collection import FolderCollection\n"
        "with FolderCollection.open(Path(sys.argv[1])).writer():\n    print('writing', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    with pytest.raises(CollectionLockedError, match=f"process {process.pid}") as caught:
        index(folder, 2, silent, silent)
    assert caught.value.pid == process.pid
    assert len(results(folder)) == 6  # readers go on
    process.kill()
    process.communicate()
    index(folder, 2, silent, silent)
