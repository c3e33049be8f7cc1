"""Chunks and documents as they are compared: canonical order, shared nodes, joined texts, mean vectors."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from searchctl.index.collection import FolderCollection
from searchctl.index.dedup_settings import Keep, Level, Thresholds
from searchctl.index.documents import Chunk
from searchctl.index.errors import IndexRoomError
from searchctl.index.groups.duplicate_groups import DuplicateGraph
from searchctl.index.groups.text_pairs import find_text_pairs, first_texts
from searchctl.index.items import with_vectors
from searchctl.index.protocol import Batch, CollectionSettings, DocumentRecord, FileRecord, Filter

DIM = 8
SETTINGS = CollectionSettings(
    encoder_name="hashing", encoder_revision="1", encoder_fingerprint="f" * 64, encoder_config="{}", dim=DIM,
    chunk_tokens=64, chunk_overlap=8,
)  # fmt: skip


def vector_of(hash_: str) -> np.ndarray:
    row = np.random.default_rng(int.from_bytes(hash_.encode()[-7:], "big")).normal(size=DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


def document(path: str, *pieces: tuple[str, int | None], context: str = "") -> DocumentRecord:
    """Return a document of chunks, each a text with where it begins in the source, or None."""
    chunks = [
        Chunk(
            ordinal=ordinal, text=text, context=context, anchor=None, headings=(), line_start=ordinal + 1,
            line_end=ordinal + 2, char_start=start, char_end=None if start is None else start + len(text), tokens=3,
            hash=f"{context}|{text}",
        )
        for ordinal, (text, start) in enumerate(pieces)
    ]  # fmt: skip
    file = FileRecord(path=path, size=100 + len(pieces), mtime_ns=10**18, inode=1, content_hash=f"content of {path}")
    return DocumentRecord(file=file, format="text", title="T", date=None, metadata={}, chunks=chunks)


def collection_of(folder: Path, documents: Sequence[DocumentRecord]) -> FolderCollection:
    collection = FolderCollection.create(folder / ".searchctl")
    hashes = list(dict.fromkeys(chunk.hash for one in documents for chunk in one.chunks))
    vectors = np.array([vector_of(hash_) for hash_ in hashes], dtype=np.float32).reshape(len(hashes), DIM)
    with collection.writer() as writer:
        writer.configure(SETTINGS)
        writer.commit(Batch(hashes=hashes, vectors=vectors, documents=documents))
        writer.finish(skipped={})
    return collection


ALL = [
    document("b.md", ("the quick brown", 0), ("brown fox jumps", 10)),
    document("a.md", ("other words", 0)),
    document("c/d.md", ("the quick brown", 0), ("brown fox jumps", 10)),
    document("e.pdf", ("ends with shared words", None), ("shared words begin this", None), ("apart", None)),
]


def test_chunks_come_by_path_and_equal_ones_share_a_node(tmp_path: Path) -> None:
    items = collection_of(tmp_path, ALL).items(Level.CHUNK)
    assert ["a.md#0", "b.md#0", "b.md#1", "c/d.md#0", "c/d.md#1", "e.pdf#0", "e.pdf#1", "e.pdf#2"] == [
        item.key for item in items.items
    ]
    assert [0, 1, 2, 1, 2, 3, 4, 5] == items.nodes.tolist()
    assert tuple(f"|{text}" for text in first_texts(items)) == items.names
    np.testing.assert_array_equal(items.vectors, [vector_of(name) for name in items.names])
    assert (2, 3) == items.items[2].lines


def test_documents_are_joined_without_what_their_chunks_share(tmp_path: Path) -> None:
    items = collection_of(tmp_path, ALL).items(Level.DOCUMENT)
    assert ["a.md", "b.md", "c/d.md", "e.pdf"] == [item.key for item in items.items]
    assert [
        "other words",
        "the quick brown fox jumps",
        "the quick brown fox jumps",
        "ends with shared words\nshared words begin this\napart",
    ] == [item.text for item in items.items]
    assert [0, 1, 1, 2] == items.nodes.tolist()
    assert [101, 102, 102, 103] == [item.bytes for item in items.items]
    assert (1, 4) == items.items[3].lines


def test_a_documents_vector_is_the_mean_of_its_chunks_by_their_length(tmp_path: Path) -> None:
    items = collection_of(tmp_path, [document("a", ("1234", 0), ("123456789012", 4))]).items(Level.DOCUMENT)
    mean = 4 * vector_of("|1234").astype(np.float64) + 12 * vector_of("|123456789012").astype(np.float64)
    np.testing.assert_allclose(items.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_the_order_of_indexing_changes_nothing(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(ALL, len(ALL))
    one, two = (collection_of(tmp_path / str(n), docs) for n, docs in enumerate((ALL, shuffled)))
    for level in Level:
        first, second = one.items(level), two.items(level)
        assert first.items == second.items
        assert first.names == second.names
        np.testing.assert_array_equal(first.vectors, second.vectors)


def test_a_filter_leaves_out_documents(tmp_path: Path) -> None:
    items = collection_of(tmp_path, ALL).items(Level.CHUNK, Filter(exclude=("c/", "*.pdf")))
    assert ["a.md#0", "b.md#0", "b.md#1"] == [item.key for item in items.items]
    assert 3 == len(items.vectors)


def test_no_item_passes(tmp_path: Path) -> None:
    items = collection_of(tmp_path, ALL).items(Level.DOCUMENT, Filter(paths=("nowhere/",)))
    assert ((), (0, DIM)) == (items.items, items.vectors.shape)
    assert [] == find_text_pairs(items, floor=0.5).first.tolist()


def test_an_empty_collection_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IndexRoomError, match="empty") as caught:
        FolderCollection.create(tmp_path / ".searchctl").items(Level.CHUNK)
    assert caught.value.next_command == ("index", "PATH")


def test_the_same_text_under_two_headings_is_one_text_with_the_nearest_of_its_vectors(tmp_path: Path) -> None:
    documents = [
        document("a.md", ("Said twice.", 0), context="one"),
        document("b.md", ("said  TWICE.", 0), context="two"),
        document("c.md", ("something else", 0)),
    ]
    items = collection_of(tmp_path, documents).items(Level.CHUNK)
    pairs = find_text_pairs(items, floor=-1.0)
    assert [0, 0, 1] == pairs.texts.tolist()
    assert [(0, 1)] == list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    wide = items.vectors.astype(np.float64)
    assert [np.float32(max(wide[0] @ wide[2], wide[1] @ wide[2]))] == pairs.cosines.tolist()


def test_two_collections_are_compared_across_only(tmp_path: Path) -> None:
    sentence = "one two three four five six seven eight nine ten eleven twelve"
    ours = collection_of(
        tmp_path / "ours",
        [document("own.md", ("nothing like it", 0)), document("same.md", (f"{sentence}.", 0)),
         document("near.md", (f"{sentence} thirteen", 0)), document("near2.md", (f"{sentence} fourteen", 0))],
    )  # fmt: skip
    theirs = collection_of(
        tmp_path / "theirs",
        [document("test.md", (f"{sentence.upper()}.", 0)), document("apart.md", ("of another kind", 0))],
    )
    left, right = ours.items(Level.DOCUMENT), theirs.items(Level.DOCUMENT)
    pairs = find_text_pairs(left, right, floor=0.999)
    graph = DuplicateGraph(left.items + right.items, pairs, keep=Keep.LONGEST, own=len(left.items))
    (group,) = graph.groups(Thresholds(near=0.7, semantic=0.999))
    assert "test.md" == graph.items[group.kept].key
    assert {"near.md": "near", "near2.md": "near", "same.md": "exact"} == {
        graph.items[found.item].key: found.tier.value for found in group.dropped
    }
    wide = (left.vectors.astype(np.float64), right.vectors.astype(np.float64))
    assert [np.float32(wide[0][0] @ wide[1][1])] == [
        found.cosine for found in group.dropped if graph.items[found.item].key == "near.md"
    ]


def test_other_vectors_of_the_same_texts_make_other_items(tmp_path: Path) -> None:
    collection = collection_of(tmp_path, [document("a", ("1234", 0), ("123456789012", 4)), document("b", ("xy", 0))])
    items = collection.items(Level.DOCUMENT)
    hashes = sorted({hash_ for part in items.parts for hash_, _ in part})
    other = np.array([vector_of(f"other {hash_}") for hash_ in hashes], dtype=np.float32)
    same = with_vectors(items, hashes, np.array([vector_of(hash_) for hash_ in hashes], dtype=np.float32))
    np.testing.assert_array_equal(items.vectors, same.vectors)
    changed = with_vectors(items, hashes, other)
    mean = 4 * vector_of("other |1234").astype(np.float64) + 12 * vector_of("other |123456789012").astype(np.float64)
    np.testing.assert_allclose(changed.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(changed.vectors[1], vector_of("other |xy"))
    assert changed.items == items.items


def test_what_was_embedded_is_context_and_text(tmp_path: Path) -> None:
    collection = collection_of(tmp_path, [document("a", ("one", 0), context="H"), document("b", ("two", 0))])
    assert ["two", "H\none"] == collection.embedded_texts(["|two", "H|one"])
