"""Each kind of damage is found by verify, named, and fixed by repair or left with the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from searchctl.index.collection import FolderCollection
from searchctl.index.documents import Chunk
from searchctl.index.errors import CollectionDamagedError
from searchctl.index.faiss_store import FaissStore
from searchctl.index.lexical import register
from searchctl.index.protocol import Batch, CollectionSettings, DocumentRecord, FileRecord, Vectors

DIM = 8
SETTINGS = CollectionSettings(
    encoder_name="e", encoder_revision="", encoder_fingerprint="f", encoder_config="{}", dim=DIM, chunk_tokens=9,
    chunk_overlap=0,
)  # fmt: skip


def unit(seed: int) -> Vectors:
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def document(path: str, *seeds: int) -> DocumentRecord:
    return DocumentRecord(
        file=FileRecord(path=path, size=1, mtime_ns=1, inode=1, content_hash=path),
        format="text", title=None, date=None, metadata={},
        chunks=[
            Chunk(
                ordinal=ordinal, text=f"text{seed}", context="", anchor=None, headings=(), line_start=1, line_end=1,
                char_start=0, char_end=1, tokens=1, hash=f"{seed}",
            )
            for ordinal, seed in enumerate(seeds)
        ],
    )  # fmt: skip


DOCUMENTS = [document("a.txt", 1, 2), document("b.txt", 2, 3), document("c.txt", 4)]


def store(collection: FolderCollection, *documents: DocumentRecord) -> None:
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        lacking = writer.missing(chunk.hash for record in documents for chunk in record.chunks)
        vectors = np.array([unit(int(seed)) for seed in lacking], dtype=np.float32).reshape(-1, DIM)
        writer.commit(Batch(hashes=lacking, vectors=vectors, documents=documents))
        writer.finish(skipped={})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    collection = FolderCollection.create(tmp_path / ".searchctl")
    store(collection, *DOCUMENTS)
    collection.close()
    return tmp_path / ".searchctl"


def sql(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "catalogue.db", isolation_level=None)
    register(connection)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def faiss_file(folder: Path) -> Path:
    (path,) = folder.glob("vectors-*.faiss")
    return path


def answers(folder: Path) -> list[list[tuple[str, int, float]]]:
    collection = FolderCollection.open(folder)
    hits = [collection.dense(unit(seed), 9) for seed in (1, 4)] + [collection.lexical("text2 text4", 9)]
    found = [
        [(c.path, c.ordinal, s) for c, s in zip(collection.chunks(h.ids.tolist()), h.scores.tolist(), strict=True)]
        for h in hits
    ]
    collection.close()
    return found


def test_clean(folder: Path) -> None:
    collection = FolderCollection.open(folder)
    assert collection.verify() == []
    assert collection.repair().fixed == ()
    assert collection.repair().left == ()
    assert FolderCollection.create(folder.parent / "empty").verify() == []


Damage = Callable[[Path], object]

FAISS_DAMAGE: dict[str, tuple[Damage, str]] = {
    "missing": (lambda f: faiss_file(f).unlink(), "is missing"),
    "truncated": (lambda f: faiss_file(f).write_bytes(faiss_file(f).read_bytes()[:-9]), "bytes, expected"),
    "flipped bit": (lambda f: flip(faiss_file(f)), "has checksum"),
    "foreign": (lambda f: foreign(faiss_file(f)), "has checksum"),
    "empty": (lambda f: faiss_file(f).write_bytes(b""), "has 0 bytes"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    other = FaissStore(DIM)
    other.add(np.arange(1, 5), np.array([unit(seed) for seed in range(11, 15)]))
    other.write(path)


@pytest.mark.parametrize("kind", FAISS_DAMAGE)
def test_damaged_faiss_file_changes_no_answer_and_is_mended(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """chroma#1134: a store that could not recover."""
    damage, message = FAISS_DAMAGE[kind]
    before = answers(folder)
    damage(folder)
    collection = FolderCollection.open(folder)
    assert answers(folder) == before
    hits = collection.dense(unit(1), 3)
    assert hits.scores[0] == pytest.approx(1)
    assert {message in line for line in caplog.messages} == {True}
    (problem,) = collection.verify()
    assert (message in problem.what, problem.repairable) == (True, True)
    report = collection.repair()
    assert ("published the FAISS file" in report.fixed[-1], report.left) == (True, ())
    assert collection.verify() == []
    assert answers(folder) == before
    caplog.clear()
    assert FolderCollection.open(folder).dense(unit(1), 3).ids.tolist() == hits.ids.tolist()
    assert caplog.messages == []


def test_damaged_faiss_file_is_written_anew_by_the_next_run(folder: Path) -> None:
    before = answers(folder)
    faiss_file(folder).unlink()
    store(FolderCollection.open(folder))
    assert FolderCollection.open(folder).verify() == []
    assert answers(folder) == before


def test_faiss_file_with_the_right_checksum_and_wrong_values_is_found(folder: Path) -> None:
    sql(folder, "UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE hash = '4') WHERE hash = '1'")
    collection = FolderCollection.open(folder)
    (problem,) = collection.verify()
    assert "holds other values" in problem.what
    collection.repair()
    assert collection.verify() == []
    assert [path for path, _, score in answers(folder)[1] if score == pytest.approx(1)] == ["a.txt", "c.txt"]


def test_older_faiss_file_is_caught_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    collection = FolderCollection.open(folder)
    assert collection.dense(unit(4), 1).ids.tolist() == [5]
    with collection.writer() as writer:  # interrupted before finish
        writer.remove(["c.txt"])
        writer.commit(Batch(hashes=["6"], vectors=unit(6)[None], documents=[document("d.txt", 6, 3)]))
    for one in (collection, FolderCollection.open(folder)):
        assert {hit.path for hit in one.chunks(one.dense(unit(6), 9).ids.tolist())} == {"a.txt", "b.txt", "d.txt"}
        assert one.dense(unit(6), 1).scores[0] == pytest.approx(1)
    assert collection.verify() == []
    assert caplog.messages == []


def test_file_replaced_by_a_writer_meanwhile_is_no_damage(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = FolderCollection.open(folder)
    with reader.snapshot():
        assert reader.status().documents == 3
        store(FolderCollection.open(folder), document("new.txt", 9))
        hits = reader.dense(unit(9), 99)
    assert len(hits.ids) == 5
    assert reader.dense(unit(9), 1).scores[0] == pytest.approx(1)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE vectors SET vector = zeroblob(32) WHERE hash = '2'", "vector 2 has norm 0"),
        ("UPDATE vectors SET vector = x'0000807f' || zeroblob(28) WHERE hash = '2'", "vector 2 is not finite"),
        ("UPDATE vectors SET vector = x'00' WHERE hash = '2'", "vector 2 has the wrong width"),
        ("DELETE FROM vectors WHERE hash = '2'", r"has no vector (2 is gone)"),
    ],
)
def test_lost_vector_is_named_and_only_it_is_embedded_again(statement: str, message: str, folder: Path) -> None:
    before = answers(folder)
    sql(folder, statement)
    collection = FolderCollection.open(folder)
    named = [problem for problem in collection.verify() if not problem.repairable]
    assert [problem.what.split(":")[0] for problem in named] == ["a.txt", "b.txt"]
    assert all(message in problem.what for problem in named)
    report = collection.repair()
    assert [problem.what.split(":")[0] for problem in report.left] == ["a.txt", "b.txt"]
    assert collection.verify() == []
    assert not collection.status().complete
    with collection.writer() as writer:
        assert list(writer.files()) == ["c.txt"]
        assert writer.missing(["1", "2", "3", "4"]) == ["2"]
    store(collection, *DOCUMENTS)
    assert collection.verify() == []
    assert [sorted(found) for found in answers(folder)] == [sorted(found) for found in before]


def test_lost_chunk_drops_its_document(folder: Path) -> None:
    sql(folder, "DELETE FROM chunks WHERE document_id = 2 AND ordinal = 0")
    collection = FolderCollection.open(folder)
    problems = collection.verify()
    assert [p.repairable for p in problems] == [False, True]
    assert "b.txt: it has 1 chunks, expected 2" in problems[0].what
    assert "word index" in problems[1].what
    assert len(collection.repair().left) == 1
    assert collection.verify() == []


def test_stray_chunk_is_dropped(folder: Path) -> None:
    """qmd#766: a crash between two deletes left a document nobody could find."""
    sql(folder, "PRAGMA foreign_keys=OFF", "DELETE FROM documents WHERE path = 'c.txt'")
    collection = FolderCollection.open(folder)
    assert "chunk 5 belongs to no document" in collection.verify()[0].what
    assert "dropped 1 chunks that belonged to no document" in collection.repair().fixed
    assert collection.verify() == []
    assert collection.status().chunks == 4


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO chunk_fts (chunk_fts) VALUES ('delete-all')",
        "UPDATE chunks SET text = 'something else' WHERE id = 1",
        "DELETE FROM chunk_fts_data WHERE id > 10",
        "DROP TABLE chunk_fts",
    ],
)
def test_damaged_word_index_is_rebuilt(statement: str, folder: Path) -> None:
    sql(folder, statement)
    collection = FolderCollection.open(folder)
    assert [(problem.repairable, "word index" in problem.what) for problem in collection.verify()] == [(True, True)]
    assert collection.repair().fixed == ("rebuilt the word index",)
    assert collection.verify() == []
    assert collection.chunks(collection.lexical("text4", 5).ids.tolist())[0].path == "c.txt"


def test_leftovers_are_named_and_removed(folder: Path) -> None:
    (folder / "vectors-9.faiss.tmp").write_bytes(b"half")
    (folder / "vectors-9.faiss").write_bytes(b"whole, not recorded")
    collection = FolderCollection.open(folder)
    assert [problem.what.split("/")[-1] for problem in collection.verify()] == [
        "vectors-9.faiss is left from an interrupted run",
        "vectors-9.faiss.tmp is left from an interrupted run",
    ]
    collection.repair()
    assert collection.verify() == []
    assert len(list(folder.glob("vectors-*"))) == 1


def test_damaged_catalogue_is_said_and_never_repaired(folder: Path) -> None:
    path = folder / "catalogue.db"
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 16384 - 1):
        data[page * 16384 : page * 16384 + 200] = b"\x5a" * 200
    path.write_bytes(data)
    collection = FolderCollection.open(folder)
    problems = collection.verify()
    assert problems
    assert not any(problem.repairable for problem in problems)
    with pytest.raises(CollectionDamagedError, match=r"Move .* away") as caught:
        collection.repair()
    assert caught.value.next_command == ("index", "PATH")


def test_quick_check_after_a_killed_writer(folder: Path) -> None:
    (folder / "owner.json").write_text('{"pid": 1, "host": "h", "started": "s"}')
    path = folder / "catalogue.db"
    data = bytearray(path.read_bytes())
    data[16384 * 6 : 16384 * 9] = b"\x5a" * (16384 * 3)
    path.write_bytes(data)
    with pytest.raises(CollectionDamagedError, match="damaged"), FolderCollection.open(folder).writer():
        pass
