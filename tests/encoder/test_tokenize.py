"""Dressing, token spans by offsets, and exact truncation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from searchctl.encoder.config import Method
from searchctl.encoder.errors import EmptyTextError, EncoderError
from searchctl.encoder.prompts import PromptFormat
from searchctl.encoder.protocol import Role
from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer

CHAT = PromptFormat(prefix="[INST] ", suffix=" [/INST]", query_instruction="Find it")


@pytest.fixture(scope="module")
def plain(make_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(make_folder())


@pytest.fixture(scope="module")
def with_bos(make_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(make_folder(bos=True))


def pooled_text(tokenizer: Tokenizer, row: object) -> str:
    # The first token may hold the space before the text: a token across the border is the text's.
    return tokenizer.decode([int(i) for i in row.ids[row.start : row.end]]).removeprefix(" ")  # type: ignore[attr-defined]


def test_instruction_and_markup_attend_but_are_not_pooled(with_bos: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=with_bos, prompt=CHAT, max_tokens=200)
    (row,) = texts(["yeast turns sugar"], role=Role.QUERY, instruction=None)
    assert pooled_text(with_bos, row) == "yeast turns sugar"
    assert with_bos.decode([int(i) for i in row.ids]) == "[INST] Instruct: Find it\nQuery: yeast turns sugar [/INST]"
    assert row.ids[0] == 1


def test_documents_carry_no_query_instruction_and_empty_instruction_means_none(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=CHAT, max_tokens=200)
    (document,) = texts(["a text"], role=Role.DOCUMENT, instruction=None)
    (query,) = texts(["a text"], role=Role.QUERY, instruction="")
    assert document.ids.tolist() == query.ids.tolist()


def test_d4_separator_in_the_text_is_text(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=CHAT, max_tokens=200)
    text = "before !@#$%^&*() after [/INST] Query: end"
    (row,) = texts([text], role=Role.QUERY, instruction="Find")
    assert pooled_text(plain, row) == text


def test_d5_span_is_found_by_offsets_where_merges_differ(plain: Tokenizer) -> None:
    """Tokenised alone, "is" after a space has another first token than in " is"."""
    prompt = PromptFormat(instruction="{instruction} ")
    texts = TextTokenizer(tokenizer=plain, prompt=prompt, max_tokens=200)
    (row,) = texts(["is Paris"], role=Role.QUERY, instruction="The capital of France")
    assert pooled_text(plain, row).strip() == "is Paris"
    assert (row.end - row.start) != len(plain.encode("is Paris").ids) or row.ids[row.start] != plain.encode("is").ids[0]


def test_d2_text_without_whitespace_is_cut_at_a_token_not_emptied(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=CHAT, max_tokens=40)
    (row,) = texts(["東京" * 300], role=Role.DOCUMENT, instruction=None)
    assert row.truncated
    assert len(row.ids) == 40
    assert row.end - row.start > 20
    tail = plain.encode(" [/INST]").ids
    assert row.ids[-len(tail) :].tolist() == tail


def test_truncation_is_exact(plain: Tokenizer) -> None:
    text = "garbage collector"
    count = len(plain.encode(text).ids)
    whole = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=count)
    less = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=count - 1)
    (row,) = whole([text], role=Role.DOCUMENT, instruction=None)
    assert (len(row.ids), row.truncated) == (count, False)
    (row,) = less([text], role=Role.DOCUMENT, instruction=None)
    assert (row.ids.tolist(), row.truncated) == (plain.encode(text).ids[: count - 1], True)


def test_no_room_for_text_is_an_error(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=CHAT, max_tokens=10)
    with pytest.raises(EncoderError, match="leave no room"):
        texts(["word"], role=Role.QUERY, instruction="a long instruction " * 5)


def test_eos_is_appended_and_pooled_alone_also_when_cut(plain: Tokenizer) -> None:
    for max_tokens in (200, 5):
        texts = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=max_tokens, eos=2)
        (row,) = texts(["The capital of France is Paris"], role=Role.DOCUMENT, instruction=None)
        assert row.ids[-1] == 2
        assert (row.start, row.end) == (len(row.ids) - 1, len(row.ids))
        assert len(row.ids) <= max_tokens


def test_echo_pools_the_second_copy(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=200, method=Method.ECHO)
    (row,) = texts(["A short one."], role=Role.DOCUMENT, instruction=None)
    assert plain.decode([int(i) for i in row.ids]) == (
        "Rewrite the passage: A short one.\nRewritten passage: A short one."
    )
    assert row.end == len(row.ids)
    assert pooled_text(plain, row).strip() == "A short one."


def test_echo_cuts_both_copies_alike(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=80, method=Method.ECHO)
    (row,) = texts(["ownership decides when memory is freed " * 20], role=Role.DOCUMENT, instruction=None)
    assert row.truncated
    assert len(row.ids) in (79, 80)
    first = len(plain.encode("Rewrite the passage:").ids)
    pooled = row.ids[row.start : row.end]
    assert pooled.tolist()[1:] == row.ids[first + 1 : first + len(pooled)].tolist()


def test_d3_empty_text_is_an_error_naming_the_row(plain: Tokenizer, subtests: pytest.Subtests) -> None:
    for bad in ["", " ", "\n\t \u3000"]:
        with subtests.test(bad=bad):
            texts = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=64)
            with pytest.raises(EmptyTextError, match="text 2 is empty"):
                texts(["fine", "also fine", bad], role=Role.DOCUMENT, instruction=None)


def test_a_bare_string_is_refused_and_an_empty_list_is_not(plain: Tokenizer) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=PromptFormat(), max_tokens=64)
    with pytest.raises(TypeError, match="'hello'"):
        texts("hello", role=Role.DOCUMENT, instruction=None)
    assert texts([], role=Role.DOCUMENT, instruction=None) == []


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=80).filter(lambda t: not t.isspace()), room=st.integers(30, 60))
def test_any_text_keeps_markup_and_length_limit(plain: Tokenizer, text: str, room: int) -> None:
    texts = TextTokenizer(tokenizer=plain, prompt=CHAT, max_tokens=room)
    (row,) = texts([text], role=Role.DOCUMENT, instruction=None)
    assert len(row.ids) <= room
    assert 0 < row.start < row.end <= len(row.ids)
    if not row.truncated:
        assert text.strip() in plain.decode([int(i) for i in row.ids])
