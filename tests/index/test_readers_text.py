"""Decoding, plain text, Markdown, reStructuredText and HTML."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchctl.index.documents import Document
from searchctl.index.errors import ReadError
from searchctl.index.readers import read_document
from searchctl.index.readers.decoding import clean, decode, looks_binary

GERMAN = "Die Größe der Straße überrascht: vierzig Füße müssen genügen, höchstens fünfzig.\n" * 4
RUSSIAN = "Быстрая коричневая лиса прыгает через ленивую собаку и бежит дальше по лесу.\n" * 4
JAPANESE = "日本語の文章は空白で区切られていません。それでも検索できるはずです。\n" * 6


def trails(document: Document) -> list[tuple[str, ...]]:
    return [section.headings for section in document.sections]


def assert_verbatim(document: Document, source: str) -> None:
    for section in document.sections:
        assert section.char is not None
        assert source[section.char : section.char + len(section.text)] == section.text
        assert section.line == source.count("\n", 0, section.char) + 1
    kept = "".join(section.text for section in document.sections)
    assert "".join(kept.split()) == "".join(source.split())


def test_text_of_any_encoding_is_read_and_a_foreign_one_named(subtests: pytest.Subtests) -> None:
    for encoding, text in [
        ("utf-8", GERMAN), ("utf-8-sig", GERMAN), ("utf-16", GERMAN), ("utf-16-le", GERMAN), ("utf-16-be", GERMAN),
        ("utf-32", GERMAN), ("latin-1", GERMAN), ("cp1252", GERMAN), ("cp1251", RUSSIAN), ("koi8-r", RUSSIAN),
        ("shift_jis", JAPANESE), ("euc_jp", JAPANESE), ("cp1252", "short café\n"), ("cp1252", "it’s “quoted”\n"),
    ]:  # fmt: skip
        with subtests.test(encoding=encoding, text=text):
            document = read_document(text.encode(encoding), "a.txt")
            assert [section.text for section in document.sections] == [text]
            assert ("encoding" in document.metadata) == (encoding not in {"utf-8", "utf-8-sig"})


def test_utf8_with_a_broken_byte_keeps_its_accents_and_says_what_was_replaced() -> None:
    data = GERMAN.encode() + b"\xff broken\n"
    decoded = decode(data, "a.txt")
    assert decoded.text == GERMAN + "\ufffd broken\n"
    assert decoded.replaced == 1
    assert "1 invalid" in decoded.metadata["encoding"]


def test_offsets_survive_nul_and_old_newlines() -> None:
    text = "a\r\nb\rc" + "x" * 9000 + "\x00d\n"
    decoded = decode(text.encode(), "a.txt").text
    assert decoded == text.replace("\x00", "\ufffd")
    assert len(decoded) == len(text)


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert clean("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert clean("\ud83d\ude00\x00") == "\U0001f600\ufffd"


def test_binary_data_is_never_text(subtests: pytest.Subtests) -> None:
    for data in [b"\x00\x01\x02\x03" * 10, b"GIF89a\x01\x00\x01\x00", bytes(range(32)) * 4]:
        with subtests.test(data=data):
            assert looks_binary(data)
            for name in ("a.txt", "a.md", "a.py", "a.csv", "a.unknown"):
                with pytest.raises(ReadError, match=f"{name}: binary"):
                    read_document(data, name)


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_decode_returns_text_for_sqlite_or_raises_read_error(data: bytes) -> None:
    try:
        text = decode(data, "a.txt").text
    except ReadError:
        return
    assert "\x00" not in text
    text.encode("utf-8")


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_utf8_is_its_own_text(text: str) -> None:
    if looks_binary(text.encode()) or text.startswith("\ufeff") or "\x00" in text:
        return
    assert decode(text.encode(), "a.txt").text == text


def test_plain_text_is_one_verbatim_section_and_empty_text_none() -> None:
    document = read_document(b"# no heading\n\ntext\n", "a.txt")
    assert (document.format, document.title) == ("text", None)
    assert_verbatim(document, "# no heading\n\ntext\n")
    assert read_document(b" \n", "a.txt").sections == ()
    assert read_document(b'{"a": 1}', "a.json").format == "json"


MARKDOWN = """\
---
title: "The Guide"
date: 2024-05-06
---
Preface.

# Guide to [Things](x.md) #

## Set-up

```python
# not a heading
```

Text `code`.

### **Deep** {#anchor}

deep text

Setext One
==========

under one

Two
words
---

- item
---

<!--
# commented
-->

    # indented code

~~~
# tilde
```
## still fenced
~~~

#no space
####### seven
## Last
"""


def test_markdown_heading_path_without_what_only_looks_like_headings() -> None:
    document = read_document(MARKDOWN.encode(), "a.md")
    assert document.title == "The Guide"
    assert document.date == datetime(2024, 5, 6).astimezone()
    assert trails(document) == [
        (),
        ("Guide to Things", "Set-up"),
        ("Guide to Things", "Set-up", "Deep"),
        ("Setext One",),
        ("Setext One", "Two words"),
        ("Setext One", "Last"),
    ]
    assert_verbatim(document, MARKDOWN)
    assert document.sections[1].text.startswith("# Guide to [Things]")
    assert document.sections[1].anchor is not None
    assert document.sections[1].anchor.value == "Set-up"


def test_markdown_with_crlf_and_an_unclosed_fence() -> None:
    source = "# A\r\n\r\ntext\r\n\r\nB\r\n===\r\n\r\n```\r\n# c\r\n"
    document = read_document(source.encode(), "a.md")
    assert trails(document) == [("A",), ("B",)]
    assert_verbatim(document, source)


def test_markdown_corner_cases(subtests: pytest.Subtests) -> None:
    for source, expected in [
        ("---\n\ntext\n\n---\n\n# T\n", [(), ("T",)]),
        ("---\n# comment: only\nkey: 1\n---\n# T\n", [(), ("T",)]),
        ("---\n# never closed\n", [(), ("never closed",)]),
        ("text\n***\n# T\nx", [(), ("T",)]),
        ("* a\n* b\n---\nx", [()]),
        ("> quote\n---\nx", [()]),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", [()]),
        ("a | b\n---|---\n", [()]),
        ("# A\n# B\nb\n", [("A",), ("B",)]),
        ("### Deep first\nx\n# A\ny", [("Deep first",), ("A",)]),
        ("```\n# x\n````\n# A\ny", [(), ("A",)]),
        ("`` ``` `` inline\n# A\ny", [(), ("A",)]),
        ("# snake_case and *em* \\# x\ny", [("snake_case and em # x",)]),
        ("<pre>\n# x\n</pre>\n# A\n", [(), ("A",)]),
        ("#\nempty\n", [()]),
        ("", []),
    ]:
        with subtests.test(source=source, expected=expected):
            document = read_document(source.encode(), "a.md")
            assert trails(document) == expected
            assert_verbatim(document, source)


def test_front_matter_dates_are_aware_or_absent(subtests: pytest.Subtests) -> None:
    for value, expected in [
        ("2024-05-06T07:08:09+02:00", datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))),
        ("'2024-05-06'", datetime(2024, 5, 6).astimezone()),
        ("last week", None),
    ]:
        with subtests.test(value=value, expected=expected):
            document = read_document(f"---\ndate: {value}\n---\nx".encode(), "a.md")
            assert document.date == expected
            assert document.date is None or document.date.tzinfo is not None


RST = """\
==========
 The Title
==========

Intro with ``code``.

.. _label:

:mod:`first` part
-----------------

Text::

    literal
    -------

=====  =====
a      b
=====  =====
1      2
=====  =====

Sub
~~~

sub text

----

Second
------

end
"""


def test_rst_heading_path_from_adornments_in_order_of_appearance() -> None:
    document = read_document(RST.encode(), "a.rst")
    assert document.title == "The Title"
    assert trails(document) == [
        ("The Title",),
        ("The Title", "first part"),
        ("The Title", "first part", "Sub"),
        ("The Title", "Second"),
    ]
    assert_verbatim(document, RST)
    assert_verbatim(read_document(RST.replace("\n", "\r\n").encode(), "a.rst"), RST.replace("\n", "\r\n"))


PARAGRAPH = "This is a sentence of the main article, long enough for an extractor to see that it is prose. " * 4
PAGE = f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>The Page</title>
<meta property="article:published_time" content="2023-01-02T03:04:05Z">
<style>p {{ color: red }}</style><script>var hidden = 1;</script></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/x">Other section of the site</a></li></ul></nav>
<article><h1>Main<a href="#m">¶</a></h1>
<p>{PARAGRAPH}</p>
<h2>Details</h2>
<p>Second: {PARAGRAPH}</p>
<table><tr><th>Name</th><th>Size</th></tr><tr><td>alpha particles</td><td>42 millimetres</td></tr></table>
<pre>code  here
  indented line of code</pre>
</article><footer>Copyright Example Corporation, all rights reserved</footer></body></html>"""


def test_html_keeps_headings_lines_tables_and_code_and_drops_page_furniture() -> None:
    document = read_document(PAGE.encode(), "a.html")
    assert (document.title, document.date) == ("The Page", datetime(2023, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert "note" not in document.metadata
    assert trails(document) == [("Main",), ("Main", "Details")]
    first, second = document.sections
    assert first.text.split("\n\n")[0] == "Main"
    assert (first.line, second.line) == (6, 8)
    assert "alpha particles | 42 millimetres" in second.text
    assert "code  here\n  indented line of code" in second.text
    text = first.text + second.text
    for absent in ("hidden", "color", "Other section", "Copyright"):
        assert absent not in text


def test_a_short_html_page_never_loses_its_text(subtests: pytest.Subtests) -> None:
    for body in [
        "<p>Just this.</p>", "<div>Just this.</div>", "<ul><li>Just this.</li></ul>",
        "<table><tr><td>Just this.</td></tr></table>", "<nav><p>Just this.</p></nav>",
        "<footer>Just this.</footer>", "Just this.",
    ]:  # fmt: skip
        with subtests.test(body=body):
            document = read_document(f"<html><body><h1>T</h1>{body}</body></html>".encode(), "a.html")
            assert "Just this." in document.sections[0].text


def test_deeply_nested_html_loses_nothing() -> None:
    page = "<html><body>" + "<div>" * 1000 + "ocelot" + "</div>" * 1000 + "<p>after it</p></body></html>"
    text = "\n".join(section.text for section in read_document(page.encode(), "deep.html").sections)
    assert "ocelot" in text
    assert "after it" in text


def test_html_nested_deeper_than_the_parser_goes_is_an_error_not_a_short_page() -> None:
    page = "<html><body><p>first</p>" + "<div>" * 3000 + "ocelot</body></html>"
    with pytest.raises(ReadError, match="nested too deep"):
        read_document(page.encode(), "deeper.html")


def test_html_that_extraction_would_drop_is_kept_whole_and_says_so() -> None:
    links = "".join(f"<a href='{n}'>Entry number {n} of the menu</a><br>" for n in range(60))
    document = read_document(f"<html><body><nav>{links}</nav><p>{PARAGRAPH}</p></body></html>".encode(), "a.html")
    assert "Entry number 59" in document.sections[-1].text
    assert "whole page kept: only" in document.metadata["note"]
    empty = read_document(f"<html><body><footer>{links}</footer></body></html>".encode(), "a.html")
    assert "whole page kept" in empty.metadata["note"]


def test_html_charset_declared_in_the_page_counts() -> None:
    page = f'<html><head><meta charset="windows-1251"><title>T</title></head><body><p>{RUSSIAN}</p></body></html>'
    document = read_document(page.encode("cp1251"), "a.html")
    assert "лиса прыгает" in document.sections[0].text
    assert document.metadata["encoding"] == "cp1251"
    lying = read_document('<meta charset="ascii"><p>Größe</p>'.encode(), "a.html")
    assert lying.sections[0].text


def test_html_without_text_has_no_sections(subtests: pytest.Subtests) -> None:
    for source in ["", "   ", "<html></html>", "<!-- only -->", "<script>x</script>"]:
        with subtests.test(source=source):
            assert read_document(source.encode(), "a.html").sections == ()


def test_html_however_broken_is_read(subtests: pytest.Subtests) -> None:
    for source in ["<p>cut <b>off", "<<<>>>&&& text", "<table><tr><td>a", "<div>" * 2000 + "deep", "&#0;&#xD800;x"]:
        with subtests.test(source=source):
            document = read_document(source.encode(), "a.html")
            for section in document.sections:
                section.text.encode("utf-8")
                assert "\x00" not in section.text
