from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchctl.index.collection import FolderCollection
from searchctl.index.documents import Chunk
from searchctl.index.lexical import match_expression, matching_spans, search
from searchctl.index.protocol import Batch, CollectionSettings, DocumentRecord, FileRecord, Filter

Find = Callable[[str], list[str]]

TEXTS = {
    "dots": "Call numpy.linalg.norm on version 1.15.2 of the array",
    "linalg": "The linalg part is about matrices and norms",
    "hyphens": "A state-of-the-art well-known re-index run",
    "underscores": "Set max_tokens and __init__ in snake_case",
    "quotes": 'He said "vector store" twice and O\'Reilly printed it',
    "apart": "The store keeps each vector in a row",
    "chinese": "我们使用向量检索来查找文档。",
    "japanese": "ベクトル検索エンジンを使って文書を探す",
    "korean": "벡터를 검색하는 엔진입니다",
    "hindi": "हिन्दी भाषा में खोज",
    "thai": "ค้นหาเอกสาร ภาษาไทย",
    "accents": "Le café déjà vu à Zürich, naïve façade",
    "nfd": "re\u0301sume\u0301 of the e\u0301tude",
    "ligature": "The e\ufb03cient \ufb01le system, and \uff21\uff22\uff23 in full width",
    "stems": "Running connections are generalised by encoders",
    "operators": "near and not or match",
}


def chunk(ordinal: int, text: str, context: str = "") -> Chunk:
    return Chunk(
        ordinal=ordinal, text=text, context=context, anchor=None, headings=(), line_start=None, line_end=None,
        char_start=None, char_end=None, tokens=1, hash=f"{context}|{text}",
    )  # fmt: skip


def collection_of(folder: Path, documents: dict[str, list[Chunk]]) -> FolderCollection:
    collection = FolderCollection.create(folder / ".searchctl")
    records = [
        DocumentRecord(
            file=FileRecord(path=path, size=1, mtime_ns=1, inode=1, content_hash=path),
            format="text", title=None, date=None, metadata={}, chunks=chunks,
        )
        for path, chunks in documents.items()
    ]  # fmt: skip
    hashes = [part.hash for record in records for part in record.chunks]
    with collection.writer() as writer:
        writer.configure(
            CollectionSettings(
                encoder_name="none",
                encoder_revision="",
                encoder_fingerprint="",
                encoder_config="{}",
                dim=2,
                chunk_tokens=1,
                chunk_overlap=0,
            )
        )
        writer.commit(Batch(hashes=hashes, vectors=np.tile(np.float32([[1, 0]]), (len(hashes), 1)), documents=records))
        writer.finish(skipped={})
    return collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> FolderCollection:
    return collection_of(
        tmp_path_factory.mktemp("lexical"), {f"{name}.txt": [chunk(0, text)] for name, text in TEXTS.items()}
    )


@pytest.fixture(scope="module")
def find(collection: FolderCollection) -> Find:
    def names(query: str) -> list[str]:
        return [hit.path.removesuffix(".txt") for hit in collection.chunks(collection.lexical(query, 99).ids.tolist())]

    return names


def test_dots(find: Find) -> None:
    """qmd#563, #757: a dot was a syntax error, or hid the word."""
    assert find("numpy.linalg.norm")[:2] == ["dots", "linalg"]
    assert find("1.15.2") == ["dots"]
    assert find("...dots.txt...")[0] == "dots"


def test_hyphens(find: Find) -> None:
    """qmd#463: a hyphen was NOT."""
    assert find("state-of-the-art")[0] == "hyphens"
    assert find("art") == ["hyphens"]
    assert set(find("well-known -array")) == {"hyphens", "dots"}
    assert find("re-index")[0] == "hyphens"


def test_underscores(find: Find) -> None:
    """qmd#404."""
    assert find("max_tokens") == ["underscores"]
    assert find("tokens") == ["underscores"]
    assert find("__init__") == ["underscores"]


def test_compound_ranks_before_its_parts_apart(tmp_path: Path) -> None:
    made = collection_of(
        tmp_path,
        {f"{n}.txt": [chunk(0, text)] for n, text in enumerate(["tokens max it is", "x max_tokens is", "a", "b", "c"])},
    )
    assert made.lexical("max_tokens", 5).ids.tolist() == [2, 1]


def test_cjk_substring_of_two_characters_or_more(find: Find, subtests: pytest.Subtests) -> None:
    """unicode61 makes one word of a whole clause."""
    for query in ["检索", "向量", "向量检索", "查找文档", "量检"]:
        with subtests.test(query=query):
            assert find(query) == ["chinese"]


def test_cjk_other_scripts_and_longer_questions(find: Find) -> None:
    assert find("検索") == ["japanese"]
    assert find("エンジン") == ["japanese"]
    assert find("검색") == ["korean"]
    assert find("検索エンジンとは何ですか")[0] == "japanese"
    assert find("請檢索 向量資料庫") == ["chinese"]
    assert find("索検") == []
    assert find("vector检索store")[0] in ("chinese", "apart", "quotes")


def test_scripts_with_marks_are_whole_words(find: Find) -> None:
    assert find("हिन्दी") == ["hindi"]
    assert find("ह") == []
    assert find("ค้นหาเอกสาร") == ["thai"]


def test_accents_ligatures_and_widths_are_folded(find: Find, subtests: pytest.Subtests) -> None:
    for query, name in [
        ("cafe", "accents"), ("DÉJÀ", "accents"), ("naive", "accents"), ("Zurich", "accents"), ("résumé", "nfd"),
        ("re\u0301sume\u0301", "nfd"), ("efficient file", "ligature"), ("abc", "ligature"), ("ＡＢＣ", "ligature"),
    ]:  # fmt: skip
        with subtests.test(query=query, name=name):
            assert find(query) == [name]


def test_quoted_phrases(find: Find) -> None:
    assert find('"vector store"') == ["quotes"]
    assert set(find("vector store")) == {"quotes", "apart"}
    assert find("\u201cvector store\u201d") == ["quotes"]
    assert find('"store vector"') == []
    assert set(find('"vector store" matrices')) == {"quotes", "linalg"}
    assert set(find('matrices "vector store" max_tokens')) == {"quotes", "linalg", "underscores"}
    assert find('"向量检索"') == ["chinese"]
    assert find('"向量文档"') == []


def test_nothing_is_syntax(find: Find, subtests: pytest.Subtests) -> None:
    for query in [
        '"', '"vector', '""', "*", "vec*", "NEAR(", "AND", "NOT NOT", "a:b", "{x}:", "-", "\\", "'; --", "\0",
    ]:  # fmt: skip
        with subtests.test(query=query):
            find(query)


def test_operators_are_words(find: Find) -> None:
    assert "operators" in find("NEAR")
    assert "operators" in find("NOT match")
    assert find("text:vector") != []
    assert find("vec*") == []


@given(st.text(max_size=60))
def test_any_text_is_a_query(query: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(text)")
    if expression := match_expression(query.encode("utf-8", "replace").decode()):
        connection.execute("SELECT rowid FROM t WHERE t MATCH ?", [expression]).fetchall()
    connection.close()


def test_query_without_words_finds_nothing(collection: FolderCollection) -> None:
    hits = collection.lexical("... ?!", 3)
    assert (hits.ids.shape, hits.ids.dtype, hits.scores.dtype) == ((0,), np.int64, np.float32)


def test_stems_match(find: Find) -> None:
    assert find("run connect")[0] == "stems"
    assert find("generalising encoder") == ["stems"]


def test_title_headings_and_path_are_searched(tmp_path: Path) -> None:
    made = collection_of(
        tmp_path,
        {
            "guide/setup.md": [chunk(0, "nothing special", context="Install > Windows")],
            "other.md": [chunk(0, "plain words")],
            "third.md": [chunk(0, "more plain words")],
        },
    )
    assert made.lexical("windows", 5).ids.tolist() == [1]
    assert made.lexical("setup", 5).ids.tolist() == [1]
    assert made.lexical("guide/setup.md", 5).ids.tolist()[0] == 1


def test_higher_is_nearer_ties_by_id_and_k_is_a_prefix(tmp_path: Path) -> None:
    texts = ["red apple", "blue plum", "red apple", "red red apple pie", "green", "red apple", *["other"] * 9]
    made = collection_of(tmp_path, {"a.txt": [chunk(n, text) for n, text in enumerate(texts)]})
    whole = made.lexical("red apple", 99)
    assert whole.ids.tolist()[1:] == [1, 3, 6]
    assert (np.diff(whole.scores) <= 0).all()
    assert (whole.scores > 0).all()
    for k in (1, 2, 3):
        part = made.lexical("red apple", k)
        assert part.ids.tolist() == whole.ids.tolist()[:k]
        assert part.scores.tolist() == whole.scores.tolist()[:k]


def test_many_ties_beyond_the_spare_rows(tmp_path: Path) -> None:
    made = collection_of(tmp_path, {"a.txt": [chunk(n, "same" if n % 2 else "none") for n in range(600)]})
    hits = made.lexical("same", 100)
    assert hits.ids.tolist() == list(range(2, 202, 2))


def test_scores_equal_only_in_float32_are_ties(tmp_path: Path) -> None:
    """One needle in 15 words and two in 39 score the same when the mean is 27, but for float64's last bit."""
    short, long = "needle" + " hay" * 12, "needle needle" + " hay" * 35
    for first, second in ((short, long), (long, short)):
        texts = [first] * 5 + [second] * 100
        words = sum(len(text.split()) + 2 for text in texts)  # the path is two words
        filler = 27 * (len(texts) + 300) - words - 300 * 2
        texts += ["hay " * (filler // 300 + (number < filler % 300)) for number in range(300)]
        made = collection_of(tmp_path / first[:9].strip(), {"a.txt": [chunk(n, text) for n, text in enumerate(texts)]})
        hits = made.lexical("needle", 20)
        assert hits.ids.tolist() == list(range(1, 21))


def test_filter_comes_before_top_k_and_keeps_scores(tmp_path: Path) -> None:
    """qmd#775, ck 0.7.6: filtering the top k afterwards left nothing."""
    made = collection_of(
        tmp_path,
        {
            **{f"loud/{n}.txt": [chunk(0, "needle " * 5)] for n in range(80)},
            **{f"calm/{n}.txt": [chunk(0, "a needle among many other words")] for n in range(3)},
            **{f"none/{n}.txt": [chunk(0, "hay")] for n in range(90)},
        },
    )
    whole = made.lexical("needle", 999)
    calm = made.lexical("needle", 2, where=Filter(paths=("calm/",)))
    expected = [(i, s) for i, s in zip(whole.ids.tolist(), whole.scores.tolist(), strict=True) if i > 80][:2]
    assert list(zip(calm.ids.tolist(), calm.scores.tolist(), strict=True)) == expected
    assert len(expected) == 2


def test_query_of_thousands_of_words(collection: FolderCollection) -> None:
    query = " ".join(f"w{number}-x" for number in range(3000)) + " matrices"
    assert [hit.path for hit in collection.chunks(collection.lexical(query, 1).ids.tolist())] == ["linalg.txt"]


def test_k_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        search(sqlite3.connect(":memory:"), "x", 0)


def test_matching_spans(subtests: pytest.Subtests) -> None:
    for query, text, words in [
        ("running encoder", "He runs encoders; encode RUN.", ["runs", "encoders", "encode", "RUN"]),
        ("max_tokens", "the max_tokens, maximal", ["max", "tokens"]),
        ("cafe", "Le Café, cafe\u0301s", ["Café", "cafe\u0301s"]),
        ('"vector store"', "a vector in the stores", ["vector", "stores"]),
        ("向量检索", "使用向量数据和检索的量检", ["向量", "检索", "量检"]),
        ("向量检索", "做向量检索吧", ["向量检索"]),
        ("检", "检索和检查", ["检", "检"]),
        ("nothing", "to see", []),
        ("?!", "to see?!", []),
        ("", "to see", []),
    ]:
        with subtests.test(query=query, text=text, words=words):
            assert [text[start:end] for start, end in matching_spans(query, text)] == words


@given(st.text(max_size=30), st.text(max_size=80))
def test_spans_are_ascending_and_apart(query: str, text: str) -> None:
    edges = [edge for span in matching_spans(query, text) for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(text) for edge in edges)
