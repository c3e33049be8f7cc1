"""Chunks: they fit, they lose nothing, and their spans are exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from searchctl.index.chunking import Chunker
from searchctl.index.documents import Anchor, Chunk, Document, Section
from searchctl.index.readers import read_document

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst of times.",
    "def encode(texts):\n    return [model(text) for text in texts]\n\n"
    "class Index:\n    def search(self, query): ...\n",
    "# Heading\n\nSome *Markdown* text with `code`, [links](https://example.org) and a list:\n\n- one\n- two\n",
]
SPECIAL_TEXTS = [
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u7a7a\u767d\u304c\u3042\u308a\u307e\u305b\u3093\u3002" * 40,
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea " * 80,
    "line one\r\nline two\r\n\r\nline three\r\n" * 60,
    "a" * 5000,
    "e\u0301" * 900,
    " \n\t\n" * 300 + "lonely" + "\n " * 300,
    "word " * 9000,
    ("    indented = 'code'\n" * 30 + "\n") * 20,
    "x\x1c\x1f\x85 \u2028\u00a0y\n" * 200,
]


def bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """As the Llama-2 and Gemma families have it: a mark put before the text, spaces replaced, bytes as fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


TOKENIZERS = {"bpe": bpe(), "sentencepiece": sentencepiece_like()}


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


def document(
    text: str, *, format_name: str = "text", title: str | None = None, headings: tuple[str, ...] = ()
) -> Document:
    # The section stands somewhere in a file, so that local and absolute positions differ.
    return Document(
        format=format_name, title=title, sections=(Section(text=text, headings=headings, line=11, char=100),)
    )


def check(source: Document, chunks: list[Chunk], tokenizer: Tokenizer, max_tokens: int) -> None:
    """Assert everything that holds for any chunks of a one-section verbatim document."""
    text = source.sections[0].text
    covered = bytearray(len(text))
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text.strip()
        assert chunk.char_start is not None
        assert chunk.char_end is not None
        start, end = chunk.char_start - 100, chunk.char_end - 100
        assert text[start:end] == chunk.text
        assert chunk.line_start == 11 + text.count("\n", 0, start)
        assert chunk.line_end == 11 + text.count("\n", 0, end - 1)
        assert chunk.tokens == len(tokenizer.encode(chunk.embed_text, add_special_tokens=False))
        assert chunk.tokens <= max_tokens
        assert chunk.hash == blake3(chunk.embed_text.encode()).hexdigest()
        covered[start:end] = b"\x01" * (end - start)
    lost = "".join(char for char, kept in zip(text, covered, strict=True) if not kept)
    assert lost.strip() == ""


def test_spans_limits_and_coverage_on_hard_texts(tokenizer: Tokenizer, subtests: pytest.Subtests) -> None:
    for text in SPECIAL_TEXTS:
        for format_name in ["text", "markdown", "python"]:
            with subtests.test(text=text, format_name=format_name):
                source = document(text, format_name=format_name, title="A title", headings=("One", "Two"))
                chunks = Chunker(tokenizer, max_tokens=48, overlap=8).chunk(source)
                assert chunks
                check(source, chunks, tokenizer, 48)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(
        st.one_of(
            st.sampled_from(
                [*"aab \n\r\t.#`-_(){}", "\u65e5", "\u672c\u8a9e", "\U0001f600", "\u200d", "\u0301", "\r\n", "word "]
            ),
            st.characters(blacklist_categories=["Cs"]),
            st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=20, max_size=120),
        ),
        max_size=120,
    ).map("".join),
    format_name=st.sampled_from(["text", "markdown", "python", "javascript"]),
    max_tokens=st.integers(16, 40),
    heading=st.sampled_from(["", "Short", "A rather long heading that will not fit into a quarter of anything here"]),
    name=st.sampled_from(sorted(TOKENIZERS)),
)
def test_property_spans_limits_and_coverage(
    text: str, format_name: str, max_tokens: int, heading: str, name: str
) -> None:
    source = document(text, format_name=format_name, headings=(heading,) if heading else ())
    chunks = Chunker(TOKENIZERS[name], max_tokens=max_tokens, overlap=max_tokens // 5).chunk(source)
    check(source, chunks, TOKENIZERS[name], max_tokens)


def test_overlap_is_kept_within_its_bound_even_across_windows(tokenizer: Tokenizer, subtests: pytest.Subtests) -> None:
    for overlap in [0, 10]:
        with subtests.test(overlap=overlap):
            text = " ".join(f"word{number}" for number in range(7000))
            chunks = Chunker(tokenizer, max_tokens=64, overlap=overlap).chunk(document(text))
            shared: list[int] = []
            for before, after in pairwise(chunks):
                assert before.char_end is not None
                assert after.char_start is not None
                common = text[after.char_start - 100 : before.char_end - 100]
                # Counted alone a piece may have a token more than it adds where it stands.
                assert len(tokenizer.encode(common, add_special_tokens=False)) <= overlap + 2
                shared.append(len(common))
            assert len(chunks) > 100
            assert (min(shared) > 0) == (overlap > 0)


def test_chunks_are_filled_and_not_just_short_enough(tokenizer: Tokenizer) -> None:
    text = " ".join(CORPUS[0] for _ in range(300))
    chunks = Chunker(tokenizer, max_tokens=128, overlap=0).chunk(document(text))
    fills = [chunk.tokens for chunk in chunks[:-1]]
    assert sum(fills) / len(fills) > 0.8 * 128
    assert min(fills) > 40


def test_a_section_that_fits_is_one_chunk_and_no_chunk_crosses_sections(tokenizer: Tokenizer) -> None:
    first = Section(text="First words.\n", anchor=Anchor(kind="page", value="1"))
    second = Section(text="Second words.", anchor=Anchor(kind="page", value="2"))
    chunks = Chunker(tokenizer).chunk(Document(format="pdf", sections=(first, second)))
    assert [(chunk.text, chunk.anchor, chunk.ordinal) for chunk in chunks] == [
        ("First words.", first.anchor, 0),
        ("Second words.", second.anchor, 1),
    ]
    assert {(chunk.line_start, chunk.char_start) for chunk in chunks} == {(None, None)}


def test_text_that_is_not_verbatim_stays_on_the_line_of_its_section(tokenizer: Tokenizer) -> None:
    section = Section(text="a: 1\nb: 2\n" * 60, line=7)
    chunks = Chunker(tokenizer, max_tokens=32, overlap=0).chunk(Document(format="csv", sections=(section,)))
    assert len(chunks) > 5
    assert {(chunk.line_start, chunk.line_end, chunk.char_start) for chunk in chunks} == {(7, 7, None)}


def test_context_is_title_and_trail(tokenizer: Tokenizer, subtests: pytest.Subtests) -> None:
    for title, headings, expected in [
        (None, (), ""),
        ("T", (), "T"),
        ("T", ("T", "Sub"), "T > Sub"),
        ("T", ("A", "B"), "T > A > B"),
        (None, ("A\n  b",), "A b"),
        ("  ", ("",), ""),
    ]:
        with subtests.test(title=title, headings=headings, expected=expected):
            (chunk,) = Chunker(tokenizer).chunk(document("body", title=title, headings=headings))
            assert chunk.context == expected
            assert chunk.embed_text == (f"{expected}\nbody" if expected else "body")
            assert chunk.headings == headings


def test_long_context_keeps_the_title_and_the_innermost_heading(tokenizer: Tokenizer) -> None:
    headings = ("outer " * 10, "middle " * 10, "inner")
    (chunk,) = Chunker(tokenizer, max_tokens=64, overlap=0).chunk(document("body", title="Book", headings=headings))
    assert chunk.context == "Book > inner"


def test_long_context_is_cut_to_a_quarter_at_a_token(tokenizer: Tokenizer) -> None:
    title = "\U0001f600 caf\u00e9 " * 50
    (chunk,) = Chunker(tokenizer, max_tokens=64, overlap=0).chunk(document("body", title=title))
    assert " ".join(title.split()).startswith(chunk.context)
    assert 0 < len(tokenizer.encode(chunk.context, add_special_tokens=False)) <= 16


def test_equal_text_under_other_headings_has_another_hash(tokenizer: Tokenizer) -> None:
    sections = (
        Section(text="same", headings=("A",)),
        Section(text="same", headings=("B",)),
        Section(text="same ", headings=("A",)),
    )
    a, b, again = Chunker(tokenizer).chunk(Document(format="text", sections=sections))
    assert a.hash != b.hash
    assert a.hash == again.hash


def test_special_tokens_do_not_count(tokenizer: Tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    marked = Tokenizer.from_str(tokenizer.to_str())
    marked.add_special_tokens(["<s>"])
    marked.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", marked.token_to_id("<s>"))])
    plain, special = (
        Chunker(one, max_tokens=32, overlap=4).chunk(document("word " * 300)) for one in (tokenizer, marked)
    )
    assert plain == special


def test_only_whitespace_gives_no_chunk_and_an_empty_document_none(tokenizer: Tokenizer) -> None:
    assert Chunker(tokenizer).chunk(document(" \n\t\u2003\x1c ")) == []
    assert Chunker(tokenizer).chunk(Document(format="text", sections=())) == []


def test_indentation_of_the_first_line_is_kept(tokenizer: Tokenizer) -> None:
    (chunk,) = Chunker(tokenizer).chunk(document("\n\n    def m(self):\n        return 1\n\n", format_name="python"))
    assert chunk.text == "    def m(self):\n        return 1"
    assert (chunk.line_start, chunk.line_end) == (13, 14)


def test_settings_that_cannot_work_are_refused(subtests: pytest.Subtests) -> None:
    for max_tokens, overlap in [(15, 0), (64, 17), (64, -1)]:
        with subtests.test(max_tokens=max_tokens, overlap=overlap), pytest.raises(ValueError, match=r"expected"):
            Chunker(TOKENIZERS["bpe"], max_tokens=max_tokens, overlap=overlap)


def test_a_tokenizer_that_truncates_or_pads_is_refused() -> None:
    cutting = Tokenizer.from_str(TOKENIZERS["bpe"].to_str())
    cutting.enable_truncation(8)
    with pytest.raises(ValueError, match="truncation"):
        Chunker(cutting)


def test_crlf_file_has_the_right_lines_through_reader_and_chunker(tokenizer: Tokenizer) -> None:
    data = b"# T\r\n\r\nalpha\r\n\r\n## S\r\n\r\nbeta\r\ngamma\r\n"
    chunks = Chunker(tokenizer).chunk(read_document(data, "a.md"))
    assert [(chunk.line_start, chunk.line_end) for chunk in chunks] == [(1, 3), (5, 8)]


def test_one_edited_paragraph_changes_few_chunks(tokenizer: Tokenizer) -> None:
    parts = [f"## Part {number}\n\n" + f"{CORPUS[0]} Number {number}. " * 8 for number in range(30)]
    before = Chunker(tokenizer).chunk(read_document("\n\n".join(parts).encode(), "a.md"))
    parts[14] = parts[14].replace("lazy", "sleepy", 1)
    after = Chunker(tokenizer).chunk(read_document("\n\n".join(parts).encode(), "a.md"))
    assert 1 <= len({chunk.hash for chunk in after} - {chunk.hash for chunk in before}) <= 3
