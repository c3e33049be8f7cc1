from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchctl.index.collection import FolderCollection
from searchctl.index.cosine import exact_cosines
from searchctl.index.documents import Anchor, Chunk
from searchctl.index.errors import (
    CollectionDamagedError,
    CollectionLockedError,
    CollectionNotFoundError,
    EncoderMismatchError,
    IndexRoomError,
    StorageError,
)
from searchctl.index.protocol import Batch, Collection, CollectionSettings, DocumentRecord, FileRecord, Filter, Vectors
from searchctl.index.protocol import Writer as WriterProtocol

DIM = 16
SETTINGS = CollectionSettings(
    encoder_name="hashing", encoder_revision="1", encoder_fingerprint="f" * 64, encoder_config="{}", dim=DIM,
    chunk_tokens=64, chunk_overlap=8,
)  # fmt: skip


def vector_of(text: str) -> Vectors:
    """A unit vector made from the text alone; texts that share their first letter are near each other."""
    seed = int.from_bytes(text.encode()[:6].ljust(6), "big")
    vector = np.random.default_rng(seed).standard_normal(DIM) * 0.3
    vector[ord(text[0]) % DIM] += 2
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def chunk_of(text: str, ordinal: int = 0) -> Chunk:
    return Chunk(
        ordinal=ordinal, text=text, context="", anchor=None, headings=(), line_start=1, line_end=1, char_start=0,
        char_end=len(text), tokens=len(text.split()), hash=f"hash of {text}",
    )  # fmt: skip


def file_of(path: str, content: str = "", *, mtime_ns: int = 1_700_000_000_000_000_000) -> FileRecord:
    return FileRecord(path=path, size=len(content), mtime_ns=mtime_ns, inode=7, content_hash=content or path)


def document_of(path: str, *texts: str, format: str = "text", date: datetime | None = None) -> DocumentRecord:
    return DocumentRecord(
        file=file_of(path, "|".join(texts)), format=format, title=None, date=date, metadata={},
        chunks=[chunk_of(text, ordinal) for ordinal, text in enumerate(texts)],
    )  # fmt: skip


def batch_of(*documents: DocumentRecord) -> Batch:
    texts = list(dict.fromkeys(chunk.text for document in documents for chunk in document.chunks))
    vectors = np.array([vector_of(text) for text in texts], dtype=np.float32).reshape(len(texts), DIM)
    return Batch(hashes=[f"hash of {text}" for text in texts], vectors=vectors, documents=documents)


def store(collection: FolderCollection, *documents: DocumentRecord) -> None:
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(batch_of(*documents))
        writer.finish(skipped={})


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[FolderCollection]:
    made = FolderCollection.create(tmp_path / ".searchctl")
    yield made
    made.close()


def found(collection: FolderCollection, text: str, k: int = 5, where: Filter | None = None) -> list[tuple[str, str]]:
    """Path and text of the dense hits."""
    ids = collection.dense(vector_of(text), k, where=where).ids.tolist()
    return [(hit.path, hit.text) for hit in collection.chunks(ids)]


def test_it_is_what_the_protocol_says(collection: FolderCollection) -> None:
    as_protocol: Collection = collection
    with as_protocol.writer() as writer:
        as_writer: WriterProtocol = writer
        assert as_writer.files() == {}


def test_a_new_folder_keeps_itself_out_of_git_and_another_is_none(tmp_path: Path) -> None:
    made = FolderCollection.create(tmp_path / ".searchctl")
    assert made.root == tmp_path
    assert (tmp_path / ".searchctl" / ".gitignore").read_text() == "*\n"
    with pytest.raises(CollectionNotFoundError) as caught:
        FolderCollection.open(tmp_path / "a")
    assert caught.value.next_command == ("index", "PATH")


def test_create_opens_what_is_there(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    assert FolderCollection.create(collection.path).status().documents == 1


def test_create_killed_before_its_tables_were_made(tmp_path: Path) -> None:
    folder = tmp_path / ".searchctl"
    folder.mkdir()
    (folder / "catalogue.db").touch()
    store(FolderCollection.open(folder), document_of("a.txt", "alpha"))
    assert FolderCollection.open(folder).verify() == []


def test_two_processes_may_create_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from searchctl.index.collection import FolderCollection;"
        "print(FolderCollection.create(Path(sys.argv[1])).status().documents)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".searchctl")], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in running] == ["0\n"] * 3


def test_round_trip_of_everything_a_hit_shows(collection: FolderCollection) -> None:
    date = datetime(2023, 4, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=-7)))
    chunk = Chunk(
        ordinal=0, text="page text", context="Book > Part", anchor=Anchor(kind="page", value="3"),
        headings=("Book", "Pärt"), line_start=None, line_end=None, char_start=4, char_end=13, tokens=2, hash="h",
    )  # fmt: skip
    file = FileRecord(path="böok.pdf", size=5, mtime_ns=123_456_789, inode=2**64 - 2, content_hash="c")
    record = DocumentRecord(file=file, format="pdf", title="Title", date=date, metadata={"author": "Å"}, chunks=[chunk])
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(Batch(hashes=["h"], vectors=vector_of("page")[None], documents=[record]))
        writer.finish(skipped={"bad.pdf": "no pages", "odd\udcff.txt": "name"})
        assert writer.files() == {"böok.pdf": file}
    assert collection.files() == {"böok.pdf": file}
    (hit,) = collection.chunks([1])
    assert (hit.path, hit.format, hit.title, hit.date, hit.size, hit.mtime_ns, hit.content_hash) == (
        "böok.pdf", "pdf", "Title", date, 5, 123_456_789, "c",
    )  # fmt: skip
    for name in ("ordinal", "text", "context", "anchor", "headings", "line_start", "line_end", "char_start"):
        assert getattr(hit, name) == getattr(chunk, name)
    assert collection.skipped() == {"bad.pdf": "no pages", "odd\\udcff.txt": "name"}
    assert collection.settings == SETTINGS
    status = collection.status()
    assert (status.documents, status.chunks, status.vectors, status.skipped) == (1, 1, 1, 2)
    assert (status.formats, status.complete, status.generation) == ({"pdf": 1}, True, 1)
    assert status.bytes_faiss > 4 * DIM
    assert status.created is not None
    assert status.updated is not None
    assert status.created <= status.updated


def test_date_of_a_file_without_one_is_its_mtime(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    assert collection.chunks([1])[0].date == datetime.fromtimestamp(1_700_000_000, UTC)


def test_same_text_under_two_documents_stores_both_and_one_vector(collection: FolderCollection) -> None:
    """llm: embedding the same text under two ids stored only the first."""
    store(collection, document_of("a.txt", "same", "other"), document_of("b.txt", "same", "same"))
    assert found(collection, "same", 3) == [("a.txt", "same"), ("b.txt", "same"), ("b.txt", "same")]
    assert (collection.status().vectors, collection.status().chunks) == (2, 4)


def test_a_document_replaces_the_one_at_its_path_everywhere(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha", "beta"), document_of("b.txt", "beta"))
    store(collection, document_of("a.txt", "gamma"))
    assert sorted(found(collection, "alpha", 9)) == [("a.txt", "gamma"), ("b.txt", "beta")]
    assert collection.lexical("alpha", 5).ids.tolist() == []
    assert [hit.path for hit in collection.chunks(collection.lexical("beta", 5).ids.tolist())] == ["b.txt"]
    assert collection.status().vectors == 2
    assert collection.verify() == []


def test_missing_names_each_uncommitted_hash_once_and_in_order(collection: FolderCollection) -> None:
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(Batch(hashes=["b"], vectors=vector_of("b")[None]))
        assert writer.missing(iter(["c", "b", "a", "c"])) == ["c", "a"]
        assert writer.missing(f"h{number}" for number in range(3000)) == [f"h{number}" for number in range(3000)]


def test_a_hash_committed_again_keeps_its_vector(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    with collection.writer() as writer:
        writer.commit(Batch(hashes=["hash of alpha", "new", "new"], vectors=np.array([vector_of("x")] * 3)))
        assert writer.missing(["new"]) == []
    assert collection.cosines(vector_of("alpha"), np.array([1])).tolist() == [pytest.approx(1)]
    assert found(collection, "alpha") == [("a.txt", "alpha")]
    assert collection.verify() == []


def test_partial_document_is_not_visible(collection: FolderCollection) -> None:
    """qmd#637, #378: a document with some of its chunks embedded counted as done."""
    document = document_of("long.txt", "alpha", "beta", "gamma")
    ahead = Batch(hashes=["hash of alpha", "hash of beta"], vectors=np.array([vector_of("alpha"), vector_of("beta")]))
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(ahead)
        with pytest.raises(ValueError, match=r"long.txt: 1 of 3 chunks have no vector \(the first is chunk 2\)"):
            writer.commit(Batch(documents=[document]))
        assert writer.files() == {}
        assert writer.missing(chunk.hash for chunk in document.chunks) == ["hash of gamma"]
    assert found(collection, "alpha") == []
    assert collection.lexical("alpha", 5).ids.tolist() == []
    assert not collection.status().complete
    assert collection.verify() == []
    with collection.writer() as writer:  # a later run uses what the first one embedded
        writer.commit(Batch(hashes=["hash of gamma"], vectors=vector_of("gamma")[None], documents=[document]))
        writer.finish(skipped={})
    assert {text for _, text in found(collection, "alpha")} == {"alpha", "beta", "gamma"}


def test_vectors_ahead_of_their_document_do_not_crowd_out_hits(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "zulu"))
    with collection.writer() as writer:
        vectors = np.array([vector_of("alpha")] * 100)
        writer.commit(Batch(hashes=[f"ahead {number}" for number in range(100)], vectors=vectors))
    assert found(collection, "alpha", 3) == [("a.txt", "zulu")]


def test_the_catalogue_gives_the_room_of_removed_documents_back(collection: FolderCollection) -> None:
    """xagent#1195: a store that grew to 14.9 GB for 2,500 documents."""
    words = " ".join(f"word{number}" for number in range(20_000))
    big = [document_of(f"{name}.txt", f"{name} {words}") for name in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"]
    store(collection, document_of("kept.txt", "alpha"), *big)
    catalogue = collection.path / "catalogue.db"
    full = catalogue.stat().st_size
    with collection.writer() as writer:
        assert writer.remove([document.file.path for document in big]) == len(big)
        writer.finish(skipped={})
    assert catalogue.stat().st_size < full / 4
    assert found(collection, "alpha") == [("kept.txt", "alpha")]
    assert collection.verify() == []


def test_only_finish_drops_unused_vectors(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"), document_of("b.txt", "beta"))
    with collection.writer() as writer:
        assert writer.remove(["a.txt", "nowhere.txt", "a.txt"]) == 1
        assert writer.missing(["hash of alpha"]) == []
    assert found(collection, "alpha") == [("b.txt", "beta")]
    with collection.writer() as writer:
        writer.finish(skipped={})
        assert writer.missing(["hash of alpha"]) == ["hash of alpha"]
    assert found(collection, "alpha") == [("b.txt", "beta")]
    assert collection.verify() == []


def test_move_keeps_chunks_and_renews_path_words(collection: FolderCollection) -> None:
    store(collection, document_of("old/name.txt", "alpha"), document_of("new/title.txt", "beta"))
    content = "alpha"
    with collection.writer() as writer:
        with pytest.raises(ValueError, match=r"old/name\.txt is not indexed with content other"):
            writer.move("old/name.txt", file_of("new/title.txt", "other"))
        writer.move("old/name.txt", file_of("new/title.txt", content))
        assert list(writer.files()) == ["new/title.txt"]
        writer.finish(skipped={})
    assert found(collection, "alpha") == [("new/title.txt", "alpha")]
    assert collection.chunks([1])[0].path == "new/title.txt"
    assert collection.lexical("name", 5).ids.tolist() == []
    assert collection.lexical("title", 5).ids.tolist() == [1]
    assert collection.verify() == []


def test_touch_renews_the_file_and_nothing_else(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    with collection.writer() as writer:
        writer.touch([file_of("a.txt", "alpha", mtime_ns=5)])
        assert writer.files()["a.txt"].mtime_ns == 5
        with pytest.raises(ValueError, match=r"a\.txt is not indexed with content changed"):
            writer.touch([file_of("a.txt", "changed")])
        writer.touch([])
        writer.finish(skipped={})
    assert collection.chunks([1])[0].mtime_ns == 5


def test_nothing_new_publishes_nothing(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    before = collection.status()
    (published,) = collection.path.glob("vectors-*.faiss")
    stamp = published.stat().st_mtime_ns
    with collection.writer() as writer:
        assert not collection.status().complete
        writer.finish(skipped={})
    after = collection.status()
    assert (after.generation, after.complete) == (before.generation, True)
    assert [path.stat().st_mtime_ns for path in collection.path.glob("vectors-*")] == [stamp]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Batch(hashes=["a"], vectors=np.full((1, DIM), np.nan, dtype=np.float32)), "not finite"),
        (Batch(hashes=["a"], vectors=np.ones((1, DIM + 1), dtype=np.float32)), "must have shape"),
        (Batch(hashes=["a"], vectors=np.ones((1, DIM), dtype=np.float32)), "norm 4"),
        (Batch(hashes=["a", "b"], vectors=vector_of("a")[None]), "2 hashes for 1 vectors"),
        (Batch(hashes=["a"]), "1 hashes for 0 vectors"),
        (batch_of(document_of("a.txt", "alpha", date=datetime(2024, 1, 1))), "no time zone"),
    ],
)
def test_a_refused_batch_stores_nothing(collection: FolderCollection, batch: Batch, message: str) -> None:
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        with pytest.raises(ValueError, match=message):
            writer.commit(batch)
        assert writer.missing(["a", "hash of alpha"]) == ["a", "hash of alpha"]
        assert writer.files() == {}


def test_name_that_is_not_unicode_is_refused(collection: FolderCollection) -> None:
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        with pytest.raises(IndexRoomError, match="not valid Unicode at character 1"):
            writer.commit(batch_of(document_of("a\udcff.txt", "alpha")))


def test_commit_before_configure_is_refused(collection: FolderCollection) -> None:
    with collection.writer() as writer, pytest.raises(IndexRoomError, match="configure"):
        writer.commit(Batch())
    with pytest.raises(IndexRoomError, match="empty") as caught:
        collection.dense(vector_of("x"), 1)
    assert caught.value.next_command == ("index", "PATH")


def test_another_encoder_of_the_same_width_is_refused(collection: FolderCollection) -> None:
    other = CollectionSettings(
        encoder_name="other", encoder_revision="1", encoder_fingerprint="0" * 64, encoder_config="{}", dim=DIM,
        chunk_tokens=64, chunk_overlap=8,
    )  # fmt: skip
    with collection.writer() as writer:
        writer.configure(other)
        writer.configure(SETTINGS)  # nothing is stored yet
        writer.commit(batch_of(document_of("a.txt", "alpha")))
        writer.configure(SETTINGS)
        with pytest.raises(EncoderMismatchError, match=r"hashing \(ffffffffffff\).*other \(000000000000\)"):
            writer.configure(other)
    assert collection.settings == SETTINGS


def test_second_writer_is_refused_and_readers_are_not(collection: FolderCollection) -> None:
    """qmd#825, ck#150."""
    store(collection, document_of("a.txt", "alpha"))
    other = FolderCollection.open(collection.path)
    with collection.writer() as writer:
        writer.commit(batch_of(document_of("b.txt", "always")))
        with pytest.raises(CollectionLockedError) as caught, other.writer():
            pass
        assert caught.value.pid == os.getpid()
        assert {path for path, _ in found(other, "alpha")} == {"a.txt", "b.txt"}
        writer.commit(batch_of(document_of("c.txt", "also")))
        assert len(found(other, "alpha")) == 3


def test_snapshot_shows_one_commit(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    with collection.snapshot():
        ids = collection.dense(vector_of("alpha"), 3).ids.tolist()
        other = FolderCollection.open(collection.path)
        store(other, document_of("a.txt", "beta"))
        assert collection.chunks(ids)[0].text == "alpha"
        assert collection.lexical("beta", 3).ids.tolist() == []
    with pytest.raises(IndexRoomError, match="not in the collection any more"):
        collection.chunks(ids)
    with pytest.raises(IndexRoomError, match="not in the collection any more"):
        collection.cosines(vector_of("alpha"), np.array(ids))
    assert found(collection, "beta") == [("a.txt", "beta")]


def test_threads_search_while_another_writes(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    failures: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                with collection.snapshot():
                    hits = found(collection, "alpha", 3)
                    assert hits[0] == ("a.txt", "alpha")
                    assert len(collection.lexical("alpha", 3).ids) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    with collection.writer() as writer:
        for number in range(15):
            writer.commit(batch_of(document_of("b.txt", f"number {number}")))
        writer.finish(skipped={})
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_cosines_are_those_of_the_search(collection: FolderCollection) -> None:
    store(collection, *(document_of(f"{n}.txt", f"text {n}", f"{n} more", "same") for n in range(30)))
    hits = collection.dense(vector_of("text"), 90)
    assert len(hits.ids) == 90
    order = np.random.default_rng(0).permutation(90)
    again = collection.cosines(vector_of("text"), hits.ids[order])
    np.testing.assert_array_equal(again, hits.scores[order])
    assert collection.cosines(vector_of("text"), np.array([], dtype=np.int64)).shape == (0,)


PATHS = [f"{folder}/{name}.{suffix}" for folder in "xy" for name in "pq" for suffix in ("md", "txt")]
TEXT = st.text(alphabet="abc", min_size=1, max_size=2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.dictionaries(st.sampled_from(PATHS), st.lists(TEXT, max_size=6), max_size=8),
    k=st.integers(1, 12),
    query=TEXT,
    where=st.builds(
        Filter,
        types=st.sampled_from([(), ("md",), ("txt", "md")]),
        paths=st.sampled_from([(), ("x/",), ("p.*", "y")]),
        exclude=st.sampled_from([(), ("q.md",)]),
    ),
)
def test_filtered_search_equals_brute_force_on_the_filtered_set(
    tmp_path_factory: pytest.TempPathFactory, documents: dict[str, list[str]], k: int, query: str, where: Filter
) -> None:
    """qmd#775, #791, #803; ck#111: a filter must not empty the results."""
    collection = FolderCollection.create(tmp_path_factory.mktemp("property") / ".searchctl")
    store(collection, *(document_of(path, *texts) for path, texts in documents.items()))
    kept = {
        path
        for path in documents
        if (not where.types or path.rsplit(".", 1)[1] in where.types)
        and (not where.paths or (path[0] == "x" if where.paths == ("x/",) else "p." in path or path[0] == "y"))
        and (not where.exclude or not path.endswith("q.md"))
    }
    count = collection.status().chunks
    chunks = [hit for hit in collection.chunks(range(1, count + 1)) if hit.path in kept]
    rows = np.array([vector_of(hit.text) for hit in chunks], dtype=np.float32).reshape(-1, DIM)
    scores = exact_cosines(rows, vector_of(query)).tolist()
    expected = sorted((-score, hit.id) for score, hit in zip(scores, chunks, strict=True))[:k]
    hits = collection.dense(vector_of(query), k, where=where)
    assert [(-s, i) for i, s in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)] == expected
    whole = collection.lexical(query, 99)
    ids = {hit.id for hit in chunks}
    words = [(i, s) for i, s in zip(whole.ids.tolist(), whole.scores.tolist(), strict=True) if i in ids][:k]
    some = collection.lexical(query, k, where=where)
    assert list(zip(some.ids.tolist(), some.scores.tolist(), strict=True)) == words
    collection.close()


def test_filter_follows_the_catalogue(collection: FolderCollection) -> None:
    where = Filter(paths=("new",))
    store(collection, document_of("old/a.txt", "alpha"))
    assert found(collection, "alpha", 5, where) == []
    store(collection, document_of("new/b.txt", "beta"))
    assert found(collection, "alpha", 5, where) == [("new/b.txt", "beta")]
    late = Filter(after=datetime(2024, 1, 1, tzinfo=UTC))
    assert found(collection, "alpha", 5, late) == []
    with collection.writer() as writer:
        writer.touch([file_of("old/a.txt", "alpha", mtime_ns=1_800_000_000_000_000_000)])
    assert found(collection, "alpha", 5, late) == [("old/a.txt", "alpha")]


def test_dense_refuses_what_is_not_a_unit_query_of_its_width(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    for query, message in [(np.ones(DIM), "norm 4"), (np.ones(3), r"shape \(16,\)"), (vector_of("a")[None], "shape")]:
        with pytest.raises(ValueError, match=message):
            collection.dense(query.astype(np.float32), 1)


def test_lexical_search_needs_no_faiss(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    code = (
        "import sys; from pathlib import Path; from searchctl.index.collection import FolderCollection;"
        "c = FolderCollection.open(Path(sys.argv[1])); print(c.lexical('alpha', 1).ids.tolist());"
        "print(sorted({'faiss', 'sqlite_utils', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(collection.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[1]\n[]\n"


@pytest.mark.skipif(not hasattr(os, "setuid") or os.geteuid() != 0, reason="changes its user, which only root may")
@pytest.mark.usefixtures("reachable")
def test_read_only_folder_is_said(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    collection.close()
    code = (
        "import os, sys; from pathlib import Path; import searchctl.index.integrity, sqlite_utils, faiss;"
        "from searchctl.index.collection import FolderCollection; from searchctl.index.errors import StorageError;"
        "os.setuid(65534); c = FolderCollection.open(Path(sys.argv[1])); print(c.lexical('alpha', 1).ids.tolist())\n"
        "try:\n    c.writer().__enter__()\nexcept StorageError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(collection.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[:1], done.stderr) == (["[1]"], "")
    assert "lock" in done.stdout
    assert "Make the folder writable" in done.stdout


def test_full_disk_is_said_and_loses_nothing_committed(collection: FolderCollection) -> None:
    store(collection, document_of("a.txt", "alpha"))
    with collection.writer() as writer:
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageError, match=r"the disk is full.*Free space"):
            writer.commit(batch_of(*(document_of(f"{n}.txt", f"text {n} " * 500) for n in range(50))))
    assert found(collection, "alpha") == [("a.txt", "alpha")]
    assert collection.verify() == []


def test_foreign_catalogue_is_said(tmp_path: Path) -> None:
    folder = tmp_path / ".searchctl"
    folder.mkdir()
    (folder / "catalogue.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(CollectionDamagedError, match=r"Move .*") as caught:
        FolderCollection.open(folder)
    assert caught.value.next_command == ("index", "PATH")


def test_catalogue_of_a_newer_searchctl_is_refused(collection: FolderCollection) -> None:
    connection = sqlite3.connect(collection.path / "catalogue.db")
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('searchctl', 'm999_future', '')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(IndexRoomError, match=r"newer searchctl.*m999_future.*pip install --upgrade"):
        FolderCollection.open(collection.path)


def test_reader_does_not_checkpoint(collection: FolderCollection) -> None:
    """SQLite before 3.51.3 may corrupt a WAL file when two connections checkpoint."""
    store(collection, document_of("a.txt", "alpha"))
    writer = sqlite3.connect(collection.path / "catalogue.db")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute("UPDATE documents SET size = 99")
    writer.commit()
    before = (collection.path / "catalogue.db").read_bytes()
    other = FolderCollection.open(collection.path)
    assert other.chunks([1])[0].size == 99
    other.close()
    assert (collection.path / "catalogue.db").read_bytes() == before
    writer.close()


def test_finish_that_is_not_whole_keeps_unused_vectors_and_stays_incomplete(collection: FolderCollection) -> None:
    """An interrupted run over other paths goes on later: its vectors wait for it."""
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(Batch(hashes=["ahead"], vectors=vector_of("ahead")[None]))
    for _ in range(2):  # the second has nothing to publish
        with collection.writer() as writer:
            writer.finish(skipped={}, whole=False)
            assert writer.missing(["ahead"]) == []
        assert not collection.status().complete
    with collection.writer() as writer:
        writer.finish(skipped={})
        assert writer.missing(["ahead"]) == ["ahead"]
    assert collection.status().complete
