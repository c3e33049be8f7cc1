"""Documents set aside and put back: the catalogue is row for row what it was, for readers that were open too."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchctl.index.collection import FolderCollection
from searchctl.index.documents import Chunk
from searchctl.index.errors import CollectionLockedError, KeptRowsError, StorageError
from searchctl.index.keeper import Keeper
from searchctl.index.protocol import Batch, Collection, CollectionSettings, DocumentRecord, FileRecord, Vectors

DIM = 16
SETTINGS = CollectionSettings(
    encoder_name="hashing", encoder_revision="1", encoder_fingerprint="f" * 64, encoder_config="{}", dim=DIM,
    chunk_tokens=64, chunk_overlap=8,
)  # fmt: skip
TABLES = ("documents", "chunks", "vectors", "skipped")
TEXTS = {
    "a.txt": ["alpha heron", "shared text"],
    "b.txt": ["beta bee", "shared text"],
    "c.txt": ["gamma tide"],
    "d.txt": ["delta moon", "gamma tide"],
}


def vector_of(text: str) -> Vectors:
    vector = np.random.default_rng(sum(text.encode())).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def document_of(path: str, texts: list[str]) -> DocumentRecord:
    return DocumentRecord(
        file=FileRecord(path=path, size=9, mtime_ns=17, inode=2**63 + 5, content_hash="|".join(texts)),
        format="text", title=None, date=None, metadata={"k": path},
        chunks=[
            Chunk(
                ordinal=ordinal, text=text, context="", anchor=None, headings=(path,), line_start=1, line_end=1,
                char_start=0, char_end=4, tokens=2, hash=f"hash of {text}",
            )
            for ordinal, text in enumerate(texts)
        ],
    )  # fmt: skip


def batch_of(texts: dict[str, list[str]]) -> Batch:
    distinct = list(dict.fromkeys(text for some in texts.values() for text in some))
    return Batch(
        hashes=[f"hash of {text}" for text in distinct],
        vectors=np.array([vector_of(text) for text in distinct]).reshape(-1, DIM),
        documents=[document_of(path, some) for path, some in texts.items()],
    )


def store(collection: FolderCollection, texts: dict[str, list[str]], *, settings: Any = SETTINGS) -> None:
    with collection.writer() as writer:
        writer.configure(settings)
        writer.commit(batch_of(texts))
        writer.finish(skipped={"bad.pdf": "damaged"})


def rows(collection: FolderCollection) -> dict[str, list[Any]]:
    connection = sqlite3.connect(f"file:{collection.path / 'catalogue.db'}?mode=ro", uri=True)
    try:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES}
    finally:
        connection.close()


def counters(collection: FolderCollection) -> dict[str, int]:
    connection = sqlite3.connect(f"file:{collection.path / 'catalogue.db'}?mode=ro", uri=True)
    try:
        names = "('generation', 'changes', 'vector_changes')"
        return {key: int(value) for key, value in connection.execute(f"SELECT * FROM meta WHERE key IN {names}")}
    finally:
        connection.close()


def answers(collection: FolderCollection) -> list[Any]:
    """What lexical and dense search find, with scores."""
    found = []
    for text in ("alpha heron", "shared text", "gamma tide", "delta moon"):
        for scored in (collection.lexical(text, 9), collection.dense(vector_of(text), 9)):
            found.append((scored.ids.tolist(), scored.scores.tolist()))
    return found


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[FolderCollection]:
    made = FolderCollection.create(tmp_path / ".searchctl")
    store(made, TEXTS)
    yield made
    made.close()


def set_aside(collection: FolderCollection, *paths: str, file: Path) -> int:
    with collection.keeper() as keeper:
        keeper.keep(paths, file)
        return keeper.set_aside(set(paths), file)


def test_it_is_what_the_protocol_says(collection: FolderCollection) -> None:
    as_collection: Collection = collection
    with as_collection.keeper() as keeper:
        as_keeper: Keeper = keeper
        assert 4 == as_keeper.keep(TEXTS, collection.path / "rows.db")


def test_there_and_back_is_row_for_row_the_same(collection: FolderCollection, tmp_path: Path) -> None:
    file = tmp_path / "rows.db"
    before, found, counted = rows(collection), answers(collection), counters(collection)
    assert 2 == set_aside(collection, "a.txt", "d.txt", "never.txt", file=file)
    assert {"b.txt", "c.txt"} == set(collection.files())
    # "shared text" is b's too, "gamma tide" c's: only what nobody uses went.
    assert {"hash of shared text", "hash of beta bee", "hash of gamma tide"} == {
        hash_ for _, hash_, _ in rows(collection)["vectors"]
    }
    assert [] == collection.verify()
    assert 0 == set_aside(collection, "a.txt", "d.txt", file=file)
    with collection.keeper() as keeper:
        back = keeper.put_back({"a.txt", "d.txt", "never.txt"}, file)
    assert (("a.txt", "d.txt"), (), (), ()) == (back.restored, back.present, back.conflicting, back.foreign)
    assert before == rows(collection)
    assert found == answers(collection)
    assert [] == collection.verify()
    assert collection.status().complete
    after = counters(collection)
    assert all(after[name] > counted[name] for name in counted)
    with collection.keeper() as keeper:
        again = keeper.put_back({"a.txt", "d.txt"}, file)
    assert ((), ("a.txt", "d.txt")) == (again.restored, again.present)
    assert before == rows(collection)


def test_open_readers_follow_ids_that_come_back(collection: FolderCollection, tmp_path: Path) -> None:
    reader = FolderCollection.open(collection.path)
    jumping = FolderCollection.open(collection.path)
    found = answers(reader)
    set_aside(collection, "d.txt", file=tmp_path / "d.db")
    assert found != answers(reader)
    assert answers(reader) == answers(jumping)
    # Seen as one change: as many vectors as before, but others.
    with collection.keeper() as keeper:
        keeper.put_back({"d.txt"}, tmp_path / "d.db")
    set_aside(collection, "b.txt", file=tmp_path / "b.db")
    fresh = FolderCollection.open(collection.path)
    assert answers(fresh) == answers(jumping)
    with collection.keeper() as keeper:
        keeper.put_back({"b.txt"}, tmp_path / "b.db")
    for one in (reader, jumping, fresh):
        assert found == answers(one)
        one.close()


def test_what_is_indexed_again_meanwhile_stays(collection: FolderCollection, tmp_path: Path) -> None:
    file = tmp_path / "rows.db"
    before = rows(collection)
    set_aside(collection, "a.txt", "b.txt", "d.txt", file=file)
    store(collection, {"a.txt": TEXTS["a.txt"], "b.txt": ["beta, but other"], "e.txt": ["delta moon"]})
    between = rows(collection)
    with collection.keeper() as keeper:
        back = keeper.put_back({"a.txt", "b.txt", "d.txt"}, file)
    assert (("d.txt",), ("a.txt",), ("b.txt",)) == (back.restored, back.present, back.conflicting)
    after = rows(collection)
    assert [row for row in after["documents"] if row[1] != "d.txt"] == between["documents"]
    assert [row for row in before["documents"] if row[1] == "d.txt"] == [
        r for r in after["documents"] if r[1] == "d.txt"
    ]
    # "delta moon" has come back under another id, for e.txt: d.txt uses that one.
    assert between["vectors"] == after["vectors"]
    assert [] == collection.verify()
    hits = collection.chunks(collection.dense(vector_of("delta moon"), 2).ids.tolist())
    assert {"d.txt", "e.txt"} == {hit.path for hit in hits}


def test_vectors_that_nobody_uses_and_an_unfinished_run_stay_as_they_are(
    collection: FolderCollection, tmp_path: Path
) -> None:
    with collection.writer() as writer:
        writer.commit(Batch(hashes=["ahead"], vectors=vector_of("ahead")[None]))
    before = rows(collection)
    set_aside(collection, "a.txt", file=tmp_path / "rows.db")
    assert not collection.status().complete
    assert "ahead" in {hash_ for _, hash_, _ in rows(collection)["vectors"]}
    with collection.keeper() as keeper:
        keeper.put_back({"a.txt"}, tmp_path / "rows.db")
    assert before == rows(collection)
    assert not collection.status().complete


def test_a_collection_made_anew_gives_its_own_ids(collection: FolderCollection, tmp_path: Path) -> None:
    file = tmp_path / "rows.db"
    set_aside(collection, "a.txt", "d.txt", file=file)
    other = FolderCollection.create(tmp_path / "again")
    store(other, {"x.txt": ["ex", "why", "zed"], "c.txt": TEXTS["c.txt"]})
    between = rows(other)
    with other.keeper() as keeper:
        back = keeper.put_back({"a.txt", "d.txt"}, file)
    assert ("a.txt", "d.txt") == back.restored
    after = rows(other)
    assert all(row in after[table] for table in TABLES for row in between[table])
    assert [] == other.verify()
    hits = other.chunks(other.dense(vector_of("delta moon"), 1).ids.tolist())
    assert [("d.txt", "delta moon")] == [(hit.path, hit.text) for hit in hits]
    other.close()


def test_a_free_id_of_another_collection_is_not_taken(collection: FolderCollection, tmp_path: Path) -> None:
    """A reader that was open all along would take it for the vector it knows under that id."""
    file = tmp_path / "rows.db"
    set_aside(collection, "a.txt", file=file)
    other = FolderCollection.create(tmp_path / "again")
    store(other, {"x.txt": ["ex", "why", "zed"], "c.txt": TEXTS["c.txt"]})
    reader = FolderCollection.open(other.path)
    answers(reader)
    with other.writer() as writer:
        writer.remove(["x.txt"])
        writer.finish(skipped={})
    with other.keeper() as keeper:
        keeper.put_back({"a.txt"}, file)
    fresh = FolderCollection.open(other.path)
    assert answers(fresh) == answers(reader)
    for one in (fresh, reader, other):
        one.close()


def test_another_encoder_takes_nothing_back(collection: FolderCollection, tmp_path: Path) -> None:
    file = tmp_path / "rows.db"
    set_aside(collection, "a.txt", file=file)
    other = FolderCollection.create(tmp_path / "other")
    store(other, {"c.txt": TEXTS["c.txt"]}, settings=replace(SETTINGS, encoder_fingerprint="e" * 64))
    before = rows(other)
    with other.keeper() as keeper:
        back = keeper.put_back({"a.txt", "c.txt"}, file)
    assert (("a.txt",), ()) == (back.foreign, back.restored)
    assert before == rows(other)
    other.close()


@pytest.mark.parametrize("content", [None, b"", b"this is no database" * 900])
def test_kept_rows_that_are_gone_or_damaged_are_said(
    collection: FolderCollection, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "rows.db"
    if content is not None:
        file.write_bytes(content)
    before = rows(collection)
    with collection.keeper() as keeper, pytest.raises(KeptRowsError, match=r"rows\.db"):
        keeper.put_back({"a.txt"}, file)
    assert before == rows(collection)


def test_each_document_is_found_without_reading_all_rows(collection: FolderCollection, tmp_path: Path) -> None:
    """Else the time to put back grows with the square of the documents."""
    file = tmp_path / "rows.db"
    set_aside(collection, *TEXTS, file=file)
    queries = (
        "SELECT * FROM chunks WHERE document_id = 1 ORDER BY id",
        "SELECT * FROM vectors WHERE id IN (SELECT vector_id FROM chunks WHERE document_id = 1) ORDER BY id",
    )
    kept = sqlite3.connect(file)
    plans = [row[3] for query in queries for row in kept.execute(f"EXPLAIN QUERY PLAN {query}")]
    kept.close()
    assert any("USING INDEX" in step for step in plans)
    assert [] == [step for step in plans if step.startswith("SCAN")]


def test_full_disk_leaves_the_rows_as_they_were(collection: FolderCollection, tmp_path: Path) -> None:
    big = {f"{n}.txt": [f"text {n} {part} " * 300 for part in range(9)] for n in range(9)}
    store(collection, TEXTS | big)
    file = tmp_path / "rows.db"
    set_aside(collection, *big, file=file)
    with collection.keeper() as keeper:
        keeper._connection.execute("VACUUM")
        pages = keeper._connection.execute("PRAGMA page_count").fetchone()[0]
        keeper._connection.execute(f"PRAGMA max_page_count={pages}")
        before = rows(collection)
        with pytest.raises(StorageError, match=r"the disk is full.*Free space"):
            keeper.put_back(set(big), file)
    assert before == rows(collection)
    with collection.keeper() as keeper:
        assert len(big) == len(keeper.put_back(set(big), file).restored)
    assert [] == collection.verify()


def test_a_keeper_is_a_writer_to_others(collection: FolderCollection) -> None:
    with collection.keeper(), pytest.raises(CollectionLockedError), collection.writer():
        pass
    with collection.writer(), pytest.raises(CollectionLockedError), collection.keeper():
        pass
