"""Passages: sentences, the best one, and how it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchctl.app.search.snippets import best_by_words, candidates, cut_code, cut_snippet, matches_in, sentences


def test_sentences(subtests: pytest.Subtests) -> None:
    for text, expected in [
        ("", []),
        ("  \n ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("one line\nof a paragraph\n\nanother", ["one line\nof a paragraph", "another"]),
        ("- first\n- second", ["- first", "- second"]),
        ("鷺は水辺に立つ。魚を待つ。", ["鷺は水辺に立つ。", "魚を待つ。"]),
        ("Run:\n\n```sh\na b\nc d\n```\n\nDone.", ["Run:", "```sh", "a b", "c d", "```", "Done."]),
        ("Version 1.5 is out", ["Version 1.5 is out"]),
        ("# Refunds\nMoney is\nback.", ["# Refunds", "Money is\nback."]),
        ("Money is back\n## Refunds\n#todo", ["Money is back", "## Refunds", "#todo"]),
    ]:
        with subtests.test(text=text, expected=expected):
            assert [text[start:end] for start, end in sentences(text)] == expected


def test_lines_of_code_are_its_sentences() -> None:
    text = "def f():\n    return 1. + 2\n"
    assert [text[s:e] for s, e in sentences(text, code=True)] == ["def f():", "return 1. + 2"]


def best(query: str, text: str) -> str | None:
    span = best_by_words(text, matches_in(query, text))
    return None if span is None else text[slice(*span)]


def test_best_sentence_has_most_distinct_words() -> None:
    text = "A fish, a fish, a fish. The heron eats fish. Nothing here."
    assert best("heron fish", text) == "The heron eats fish."


def test_common_words_do_not_decide() -> None:
    text = "What is in the box and what is not. Committed data survives."
    assert best("what survives the crash", text) == "Committed data survives."
    assert best("to be or not to be", "He asked: to be or not? Then he left.") == "He asked: to be or not?"


def test_headings_are_no_passage() -> None:
    text = "# Crash\n\nIt stays after a crash."
    assert [text[s:e] for s, e in candidates(text)] == ["It stays after a crash."]
    assert cut_snippet(text, None, []).text == "It stays after a crash."
    assert not cut_snippet(text, None, []).cut_before


def test_only_a_line_that_is_a_heading_is_no_passage(subtests: pytest.Subtests) -> None:
    """What followed it up to the next full stop was thrown away with it."""
    for query, text, expected in [
        (
            "money returned",
            "# Refunds\nMoney is returned within 14 days.\nShipping is extra.",
            "Money is returned within 14 days.",
        ),
        ("pangolin food", "# todo list\nbuy pangolin food", "buy pangolin food"),
        ("heron", "# Birds\n\n```sh\n# count the heron\nls\n```\n", "# count the heron"),
        ("heron", "Tell it apart from the egret! # heron is one\n", "# heron is one"),
        ("heron", "Like this:\n\n    # count the heron\n    ls\n", "# count the heron\n    ls"),
        ("heron", "   ## The heron ##\nIt waits.\n", None),
    ]:
        with subtests.test(query=query, text=text, expected=expected):
            assert best(query, text) == expected


def test_no_match_is_none() -> None:
    assert best("zebra", "The heron eats fish.") is None


texts = st.text(alphabet=st.sampled_from("ab heron. \n#-é鷺\t"), max_size=900)


@given(texts, st.sampled_from(["heron", "a b", "鷺", "zz"]))
def test_spans_always_lie_inside(text: str, query: str) -> None:
    matches = matches_in(query, text)
    passage = best_by_words(text, matches)
    for cut in (cut_snippet(text, passage, matches), cut_code(text, passage, matches)):
        assert text[cut.start : cut.start + len(cut.text)] == cut.text
        for start, end in (cut.passage, *cut.matches):
            assert 0 <= start <= end <= len(cut.text)
        for start, end in cut.matches:
            assert (cut.start + start, cut.start + end) in matches
    if passage is not None and passage[1] - passage[0] <= 200:
        cut = cut_snippet(text, passage, matches)
        assert cut.text[slice(*cut.passage)] == text[slice(*passage)]


def test_long_sentence_is_cut_near_its_match() -> None:
    text = "word " * 300 + "heron " + "word " * 300
    matches = matches_in("heron", text)
    cut = cut_snippet(text, best_by_words(text, matches), matches)
    assert "heron" in cut.text
    assert len(cut.text) <= 320
    assert cut.cut_before
    assert cut.cut_after


def test_code_snippet_keeps_whole_lines() -> None:
    text = "\n".join(f"line_{number} = {number}" for number in range(20))
    matches = matches_in("line_12", text)
    cut = cut_code(text, best_by_words(text, matches, code=True), matches)
    assert (
        cut.text.splitlines() == text.splitlines()[cut.text.splitlines()[0].count("") and 10 : 15]
        or len(cut.text.splitlines()) == 5
    )
    assert "line_12 = 12" in cut.text.splitlines()
