"""One suite for every Collection: a search among some chunks equals brute force on those, in values and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchctl.index.collection import FolderCollection
from searchctl.index.cosine import exact_cosines
from searchctl.index.documents import Chunk
from searchctl.index.protocol import (
    Batch,
    Collection,
    CollectionSettings,
    DocumentRecord,
    FileRecord,
    Filter,
    Scored,
    Vectors,
)

DIM = 8
WORDS = ("red", "blue", "green", "grey", "pink")
PALETTE = np.random.default_rng(3).standard_normal((12, DIM)).astype(np.float32)
PALETTE /= np.linalg.norm(PALETTE, axis=1, keepdims=True)
TEXTS = [f"{WORDS[n % 5]} " * (1 + n % 3) + WORDS[n // 5 % 5] for n in range(12)]
"""Text n has vector n; documents share them, so that every score is there more than once."""


def document(path: str, numbers: Sequence[int]) -> DocumentRecord:
    chunks = [
        Chunk(
            ordinal=ordinal, text=TEXTS[number], context="", anchor=None, headings=(), line_start=ordinal + 1,
            line_end=ordinal + 1, char_start=0, char_end=1, tokens=2, hash=f"hash {number}",
        )
        for ordinal, number in enumerate(numbers)
    ]  # fmt: skip
    file = FileRecord(path=path, size=1, mtime_ns=1, inode=1, content_hash=path)
    return DocumentRecord(file=file, format="text", title=None, date=None, metadata={}, chunks=chunks)


def put(collection: Collection, *documents: DocumentRecord) -> None:
    with collection.writer() as writer:
        writer.configure(
            CollectionSettings(
                encoder_name="none", encoder_revision="", encoder_fingerprint="", encoder_config="{}", dim=DIM,
                chunk_tokens=9, chunk_overlap=0,
            )
        )  # fmt: skip
        hashes = [f"hash {number}" for number in range(len(TEXTS))]
        writer.commit(Batch(hashes=hashes, vectors=PALETTE, documents=documents))
        writer.finish(skipped={})


Make = Callable[[Path], Collection]


@pytest.fixture(scope="module", params=[FolderCollection.create])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def collection(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """90 chunks with ids 31 to 120 of 10 documents; those with ids 1 to 30 are gone."""
    made = make(tmp_path_factory.mktemp("filter") / ".searchctl")
    put(made, *(document(f"{'ab'[n % 2]}/{n}.txt", [n + m for m in range(3)]) for n in range(10)))
    put(made, *(document(f"{'ab'[n % 2]}/{n}.txt", [(n * 5 + m * 7) % 12 for m in range(9)]) for n in range(10)))
    yield made
    made.close()


def pairs(found: Scored) -> list[tuple[int, float]]:
    assert (found.ids.dtype, found.scores.dtype) == (np.int64, np.float32)
    return list(zip(found.ids.tolist(), found.scores.tolist(), strict=True))


def brute_force(collection: Collection, query: Vectors, k: int, ids: set[int], folder: str | None) -> list[Any]:
    chunks = [chunk for chunk in collection.chunks(range(31, 121)) if chunk.id in ids]
    chunks = [chunk for chunk in chunks if folder is None or chunk.path.startswith(folder)]
    vectors = np.array([PALETTE[TEXTS.index(chunk.text)] for chunk in chunks], dtype=np.float32).reshape(-1, DIM)
    scores = exact_cosines(vectors, query).tolist()
    found = sorted((-score, chunk.id) for score, chunk in zip(scores, chunks, strict=True))
    return [(id_, -score) for score, id_ in found[:k]]


@settings(max_examples=60, deadline=None)
@given(
    ids=st.sets(st.integers(-3, 150)) | st.just(set(range(200))),
    k=st.integers(1, 150),
    folder=st.sampled_from([None, "a/", "b/"]),
    query=st.integers(0, 11),
)
def test_values_and_order(collection: Collection, ids: set[int], k: int, folder: str | None, query: int) -> None:
    where = Filter(chunks=tuple(ids), paths=() if folder is None else (folder,))
    vector = PALETTE[query]
    assert pairs(collection.dense(vector, k, where=where)) == brute_force(collection, vector, k, ids, folder)
    whole = pairs(collection.lexical(TEXTS[query], 200))
    paths = {chunk.id: chunk.path for chunk in collection.chunks(range(31, 121))}
    expected = [
        (id_, score) for id_, score in whole if id_ in ids and (folder is None or paths[id_].startswith(folder))
    ]
    assert len(whole) > 20
    assert pairs(collection.lexical(TEXTS[query], k, where=where)) == expected[:k]


def test_no_chunks_let_none_through_and_none_lets_all(collection: Collection) -> None:
    nothing = Filter(chunks=())
    assert not nothing.is_empty
    assert pairs(collection.dense(PALETTE[0], 5, where=nothing)) == []
    assert pairs(collection.lexical("red", 5, where=nothing)) == []
    everything = Filter(chunks=None)
    assert everything.is_empty
    assert len(pairs(collection.dense(PALETTE[0], 200, where=everything))) == 90
    gone = Filter(chunks=tuple(range(1, 31)))
    assert pairs(collection.dense(PALETTE[0], 5, where=gone)) == []
    assert pairs(collection.lexical("red", 5, where=gone)) == []


def test_a_chunk_given_twice_is_found_once(collection: Collection) -> None:
    assert [id_ for id_, _ in pairs(collection.dense(PALETTE[0], 5, where=Filter(chunks=(40, 31, 40))))] in (
        [31, 40],
        [40, 31],
    )


def test_filters_by_turns_do_not_mix(collection: Collection) -> None:
    """What is remembered of the last filter is not taken for another's."""
    for ids in ((31, 32), (33,), (31, 32), (), (33,)):
        for folder in ((), ("a/",), ("b/",)):
            found = collection.dense(PALETTE[1], 9, where=Filter(chunks=ids, paths=folder)).ids.tolist()
            assert set(found) == (set(ids) if folder != ("b/",) else set())  # they are of the document a/0.txt


def test_the_memory_follows_the_catalogue(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / ".searchctl")
    put(made, document("a.txt", [0, 1]), document("b.txt", [2]))
    where = Filter(chunks=(1, 2, 3, 4))
    assert sorted(made.dense(PALETTE[0], 9, where=where).ids.tolist()) == [1, 2, 3]
    put(made, document("a.txt", [4]))
    assert sorted(made.dense(PALETTE[0], 9, where=where).ids.tolist()) == [3, 4]
    assert made.lexical(TEXTS[4], 9, where=where).ids.tolist()[0] == 4
    made.close()
