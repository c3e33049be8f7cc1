"""CSV, TSV, JSONL, mail and notebooks."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest

from searchctl.index.documents import Document
from searchctl.index.errors import ReadError
from searchctl.index.readers import read_document


def rows(document: Document) -> list[tuple[str, str, int | None]]:
    return [(one.anchor.value if one.anchor else "", one.text, one.line) for one in document.sections]


def test_csv_rows_name_their_columns_and_know_their_line_past_quoted_newlines() -> None:
    source = 'name,note,\r\npears,"two\r\nlines, ""quoted""",x\r\n\r\nfigs,,\r\n'.replace("note,\r", "note,more\r", 1)
    document = read_document(source.encode(), "a.csv")
    assert document.format == "csv"
    assert rows(document) == [
        ("2", 'name: pears\nnote: two\r\nlines, "quoted"\nmore: x', 2),
        ("4", "name: figs", 5),
    ]


def test_delimiters_are_found(subtests: pytest.Subtests) -> None:
    for source, name in [
        ("a;b\n1,5;2\n3,5;4\n", "a.csv"),
        ("a\tb\n1,5\t2\n3,5\t4\n", "a.csv"),
        ("a\tb\n1,5\t2\n3,5\t4\n", "a.tsv"),
        ("a|b\n1,5|2\n3,5|4\n", "a.csv"),
        ("a;b\r1,5;2\r3,5;4\r", "a.csv"),
    ]:
        with subtests.test(source=source, name=name):
            assert [one.text for one in read_document(source.encode(), name).sections] == [
                "a: 1,5\nb: 2",
                "a: 3,5\nb: 4",
            ]


def test_csv_without_a_header_with_ragged_rows_and_with_one_row() -> None:
    assert [one.text for one in read_document(b"1,x\n2,y,z\n", "a.csv").sections] == [
        "column 1: 1\ncolumn 2: x",
        "column 1: 2\ncolumn 2: y\ncolumn 3: z",
    ]
    assert [one.text for one in read_document(b"a,b\n1,2,3\n", "a.csv").sections] == ["a: 1\nb: 2\ncolumn 3: 3"]
    assert [one.text for one in read_document(b"name,size\n", "a.csv").sections] == ["column 1: name\ncolumn 2: size"]
    assert read_document(b"\n", "a.csv").sections == ()


def test_csv_with_a_quote_never_closed_names_its_line() -> None:
    with pytest.raises(ReadError, match=r"a\.csv: line 3: a quote is opened and never closed"):
        read_document(b'a,b\n1,2\n3,"four\n5,6\n7,8\n', "a.csv")
    sloppy = read_document(b'a,b\n1,"x" y\n', "a.csv")
    assert [one.text for one in sloppy.sections] == ["a: 1\nb: x y"]


def test_csv_fields_longer_than_the_module_allows_and_its_limit_is_put_back() -> None:
    before = csv.field_size_limit()
    document = read_document(b"a,b\n1," + b"x" * 200_000 + b"\n", "a.csv")
    assert len(document.sections[0].text) > 200_000
    assert csv.field_size_limit() == before


def test_jsonl_records_with_and_without_text_fields() -> None:
    records = [
        {"_id": "7", "title": "On  wings", "text": "Lift and drag."},
        {"body": "Only body."},
        {"title": "Only title", "text": ""},
        {"a": {"b": [1, 2], "c": None}, "d": True, "e": [{"f": "x"}]},
        "bare string",
        {},
    ]
    source = "\r\n".join(json.dumps(record) for record in records) + "\n\n"
    document = read_document(source.encode(), "a.jsonl")
    assert [(row, text, line) for row, text, line in rows(document)] == [
        ("1", "Lift and drag.", 1),
        ("2", "Only body.", 2),
        ("3", "Only title", 3),
        ("4", "a.b: 1, 2\nd: true\ne.f: x", 4),
        ("5", "bare string", 5),
    ]
    assert [one.headings for one in document.sections] == [("On wings",), (), ("Only title",), (), ()]


def test_a_blank_text_field_is_none(subtests: pytest.Subtests) -> None:
    for record, text, headings in [
        ({"text": "", "summary": "a zebra"}, "summary: a zebra", ()),
        ({"content": "  ", "question": "why zebra"}, "question: why zebra", ()),
        ({"body": "", "title": None, "notes": "zebra notes"}, "notes: zebra notes", ()),
        ({"title": "Zebra", "text": " ", "notes": "striped"}, "notes: striped", ("Zebra",)),
        ({"_id": "7", "title": "Zebra", "text": "", "metadata": {}}, "Zebra", ("Zebra",)),
        ({"text": 5, "title": "Zebra"}, "text: 5", ("Zebra",)),
        ({"title": "Zebra", "text": "", "body": "Striped."}, "Striped.", ("Zebra",)),
    ]:
        with subtests.test(record=record, text=text, headings=headings):
            (section,) = read_document(json.dumps(record).encode(), "a.jsonl").sections
            assert (section.text, section.headings) == (text, headings)


def test_jsonl_records_of_blank_fields_have_no_text() -> None:
    assert read_document(b'{"text": " ", "title": "", "notes": "\\n", "tags": []}', "a.jsonl").sections == ()


def test_jsonl_lines_end_at_newlines_only() -> None:
    source = '{"text": "a\u2028b\x0cc"}\n{"text": "d"}'.replace("\x0c", "\\f")
    assert [line for _, _, line in rows(read_document(source.encode(), "a.ndjson"))] == [1, 2]


def test_jsonl_names_the_malformed_line(subtests: pytest.Subtests) -> None:
    for bad in ["{", "{'a': 1}", "[" * 100_000, "nope"]:
        with subtests.test(bad=bad), pytest.raises(ReadError, match=r"a\.jsonl: line 3: not JSON"):
            read_document(f'{{"text": "x"}}\n\n{bad}\n'.encode(), "a.jsonl")


def test_json_escapes_that_are_no_text_do_not_reach_sqlite() -> None:
    document = read_document(b'{"title": "\\ud800 t", "text": "a\\u0000b \\udc00 \\ud83d\\ude00"}', "a.jsonl")
    assert document.sections[0].text == "a\ufffdb \ufffd \U0001f600"
    assert document.sections[0].headings == ("\ufffd t",)


def message(subject: str = "Gr\u00fc\u00dfe", **extra: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ada <ada@example.org>"
    mail["To"] = "Bob <bob@example.org>"
    mail["Subject"] = subject
    mail["Date"] = "Mon, 06 May 2024 07:08:09 +0200"
    mail.set_content("Plain body, caf\u00e9.\n")
    return mail


def test_eml_subject_date_addresses_body_and_names_of_attachments() -> None:
    mail = message()
    mail.add_alternative("<p>HTML body</p>", subtype="html")
    mail.add_attachment(b"%PDF secret", maintype="application", subtype="pdf", filename="r\u00e9port.pdf")
    document = read_document(mail.as_bytes(), "a.eml")
    assert (document.format, document.title) == ("eml", "Gr\u00fc\u00dfe")
    assert document.date == datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    assert document.metadata["from"] == "Ada <ada@example.org>"
    assert document.metadata["to"] == "Bob <bob@example.org>"
    (section,) = document.sections
    assert section.headings == ("Gr\u00fc\u00dfe",)
    assert "Plain body, caf\u00e9." in section.text
    assert "Attachments: r\u00e9port.pdf" in section.text
    assert "HTML body" not in section.text
    assert "secret" not in section.text


def test_eml_with_only_html_forwarded_mail_and_headers_that_break_parsers() -> None:
    mail = EmailMessage()
    mail["Subject"] = "x"
    mail.set_content("<html><style>p{}</style><body><p>One</p><p>Two &amp; three</p></body></html>", subtype="html")
    assert read_document(mail.as_bytes(), "a.eml").sections[0].text.endswith("One\n\nTwo & three")
    outer = message("outer")
    outer.add_attachment(message("inner"))
    text = read_document(outer.as_bytes(), "a.eml").sections[0].text
    assert "Forwarded: inner" in text
    assert text.count("Plain body") == 2
    hostile = b"From: =?utf-8?b?broken\nTo: <<>>,;;,\nSubject: caf\xe9 =?nope?q?x?=\nDate: not a date\n"
    hostile += b"Content-Type: text/plain; charset=klingon\nContent-Transfer-Encoding: base64\n\n!!!caf\n"
    document = read_document(hostile, "a.eml")
    assert document.date is None
    assert (document.title or "").startswith("caf\u00e9")


def test_mail_dates_are_always_aware(subtests: pytest.Subtests) -> None:
    for zone in ["-0000", ""]:
        with subtests.test(zone=zone):
            document = read_document(f"Subject: x\nDate: Mon, 06 May 2024 07:08:09 {zone}\n\ny".encode(), "a.eml")
            assert document.date == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_mbox_messages_with_lines_and_unquoted_from() -> None:
    first = "From a@b Mon May  6 07:08:09 2024\nSubject: one\n\nHello\n>From here on\nFrom me, no separator\n\n"
    second = "From c@d Mon May  6 07:08:10 2024\r\nSubject: two\r\nFrom: c@d\r\n\r\nBye\r\n"
    document = read_document((first + second).encode(), "a.mbox")
    assert [(one.headings, one.line) for one in document.sections] == [(("one",), 1), (("two",), 8)]
    assert [one.anchor.value for one in document.sections if one.anchor] == ["1", "2"]
    assert "From here on\nFrom me, no separator" in document.sections[0].text
    assert document.sections[1].text == "Subject: two\nFrom: c@d\n\nBye"


class CountedBytes(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def lstrip(self, _: object = None, /) -> CountedBytes:
        return self

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.copied += len(found) if isinstance(found, bytes) else 0
        return found


def test_mbox_is_split_without_copying_what_is_before_each_message(subtests: pytest.Subtests) -> None:
    for newline in ["\n", "\r\n"]:
        with subtests.test(newline=newline):
            one = "From a@b Mon May  6 07:08:09 2024\nSubject: one\n\nHello\nFrom c@d at 07:08, no separator\n\n"
            data = CountedBytes((one * 100).replace("\n", newline).encode())
            sections = read_document(data, "a.mbox").sections
            assert [section.line for section in sections] == [1 + 6 * number for number in range(100)]
            assert {section.text for section in sections} == {"Subject: one\n\nHello\nFrom c@d at 07:08, no separator"}
            assert data.copied <= len(data)


def test_notebook_cells_stand_under_the_headings_of_its_markdown() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text\n", "## Part"]},
        {"cell_type": "code", "source": "import x\n", "outputs": [{"text": "output"}]},
        {"cell_type": "code", "source": []},
        {"cell_type": "raw", "source": "raw"},
    ]
    document = read_document(json.dumps({"cells": cells, "nbformat": 4}).encode(), "a.ipynb")
    assert document.title == "Title"
    assert [(one.headings, one.text, one.anchor.value if one.anchor else "") for one in document.sections] == [
        (("Title",), "# Title\ntext\n## Part", "1"),
        (("Title", "Part"), "import x\n", "2"),
        (("Title", "Part"), "raw", "4"),
    ]


def test_malformed_files_are_read_errors_that_name_the_file(subtests: pytest.Subtests) -> None:
    for name, data in [
        ("a.eml", b"no mail at all"),
        ("a.eml", b""),
        ("a.mbox", b"garbage\n"),
        ("a.mbox", b"From a Mon May  6 07:08:09 2024\njust text\n"),
        ("a.ipynb", b"{"),
        ("a.ipynb", b"[]"),
        ("a.ipynb", b'{"cells": 3}'),
        ("a.ipynb", b'{"cells": [3]}'),
        ("a.ipynb", b'{"worksheets": [3]}'),
        ("a.ipynb", b"[" * 100_000),
        ("a.csv", b"\x00\x01\x02" * 50),
        ("a.jsonl", b"\x00\x01\x02" * 50),
    ]:
        with subtests.test(name=name, data=data):
            with pytest.raises(ReadError) as caught:
                read_document(data, name)
            assert str(caught.value).startswith(f"{name}: ")
