"""PDF, DOCX, PPTX, XLSX, ODT and EPUB, made here by the libraries that offices use."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from pptx.util import Inches

from searchctl.index.documents import Document
from searchctl.index.errors import ReadError
from searchctl.index.readers import archives, read_document


def anchors(document: Document) -> list[tuple[str, str] | None]:
    return [(one.anchor.kind, one.anchor.value) if one.anchor else None for one in document.sections]


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    thing.save(buffer)
    return buffer.getvalue()


def zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def pdf(pages: list[str], *, title: str = "", encrypt: bool = False) -> bytes:
    """Return a PDF with one line of text per page, written by hand."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        stream = f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({title}) /Author (Ada) >>")
    info = len(objects)
    extra = ""
    if encrypt:
        key = "00" * 32
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >>")
        extra = f" /Encrypt {len(objects)} 0 R /ID [<{'11' * 16}> <{'11' * 16}>]"
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R /Info {info} 0 R{extra} >>\nstartxref\n{start}\n%%EOF\n"
    return out.encode("latin-1")


def test_pdf_pages_are_sections_and_blank_pages_are_counted() -> None:
    document = read_document(pdf(["First page", "", "Third page"], title="Paper"), "a.pdf")
    assert [(one.text, one.line, one.char) for one in document.sections] == [
        ("First page", None, None),
        ("Third page", None, None),
    ]
    assert anchors(document) == [("page", "1"), ("page", "3")]
    assert document.title == "Paper"
    assert document.metadata == {"author": "Ada", "note": "1 of 3 pages have no text"}


def test_pdf_titles_that_programs_make_up_are_no_titles() -> None:
    assert read_document(pdf(["x y"], title="Microsoft Word - draft.doc"), "a.pdf").title is None


def test_pdf_without_text_layer_or_with_password_is_a_read_error_that_says_so() -> None:
    with pytest.raises(ReadError, match=r"a\.pdf: 2 page\(s\) and no text layer.*OCR"):
        read_document(pdf(["", ""]), "a.pdf")
    with pytest.raises(ReadError, match=r"a\.pdf: encrypted with a password"):
        read_document(pdf(["secret"], encrypt=True), "a.pdf")


def word() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Report"
    document.add_paragraph("Before any heading.")
    document.add_heading("Alpha", 1)
    document.add_paragraph("Alpha text.")
    document.add_paragraph("first", style="List Bullet")
    document.add_heading("Beta", 2)
    table = document.add_table(rows=2, cols=3)
    for cell, text in zip((cell for row in table.rows for cell in row.cells), "abcdef", strict=True):
        cell.text = text
    table.cell(1, 0).merge(table.cell(1, 1))
    document.add_heading("Gamma", 1)
    body = document.element.body
    control = OxmlElement("w:sdt")
    content = OxmlElement("w:sdtContent")
    paragraph = document.add_paragraph("In a content control.")._p
    control.append(content)
    content.append(paragraph)
    body.insert(len(body) - 1, control)
    deleted = OxmlElement("w:del")
    run = OxmlElement("w:r")
    gone = OxmlElement("w:delText")
    gone.text = "deleted words"
    run.append(gone)
    deleted.append(run)
    document.add_paragraph("Kept. ")._p.append(deleted)
    return saved(document)


def test_docx_trail_tables_content_controls_and_no_deleted_text() -> None:
    document = read_document(word(), "a.docx")
    assert (document.format, document.title) == ("docx", "Report")
    assert [(one.headings, one.text) for one in document.sections] == [
        ((), "Before any heading."),
        (("Alpha",), "Alpha\n\nAlpha text.\n\nfirst"),
        (("Alpha", "Beta"), "Beta\n\na | b | c\nd e | f"),
        (("Gamma",), "Gamma\n\nIn a content control.\n\nKept."),
    ]
    assert anchors(document)[2] == ("heading", "Beta")


def in_control(paragraph: Any) -> None:
    """Put a paragraph into a content control, where it stands."""
    control, content = OxmlElement("w:sdt"), OxmlElement("w:sdtContent")
    paragraph.addprevious(control)
    control.append(content)
    content.append(paragraph)


def test_docx_table_cells_with_content_controls_and_tables_in_them() -> None:
    source = docx.Document()
    table = source.add_table(rows=1, cols=2)
    table.cell(0, 0).text = "Name"
    field = table.cell(0, 1)
    field.text = "zebra"
    in_control(field.paragraphs[0]._p)
    field.add_paragraph("after")
    inner = field.add_table(rows=1, cols=2)
    inner.cell(0, 0).text = "in"
    inner.cell(0, 1).text = "ner"
    in_control(inner.cell(0, 1).paragraphs[0]._p)
    in_control(inner._tbl)
    (section,) = read_document(saved(source), "a.docx").sections
    assert section.text == "Name | zebra after\nin | ner"


def test_docx_headings_by_a_style_that_builds_on_heading_and_by_outline_level() -> None:
    source = docx.Document()
    style = source.styles.add_style("Kapitel", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = source.styles["Heading 1"]
    source.add_paragraph("Eins", style="Kapitel")
    source.add_paragraph("text")
    outlined = source.add_paragraph("Zwei")
    level = OxmlElement("w:outlineLvl")
    level.set(qn("w:val"), "1")
    outlined._p.get_or_add_pPr().append(level)
    source.add_paragraph("more")
    assert [one.headings for one in read_document(saved(source), "a.docx").sections] == [("Eins",), ("Eins", "Zwei")]


def test_pptx_slides_notes_tables_and_groups() -> None:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Plans"
    first.placeholders[1].text = "one\ntwo"
    first.notes_slide.notes_text_frame.text = "say it slowly"
    deck.slides.add_slide(deck.slide_layouts[6])
    third = deck.slides.add_slide(deck.slide_layouts[6])
    table = third.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for row in range(2):
        for column in range(2):
            table.cell(row, column).text = f"r{row}c{column}"
    group = third.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 100, 100).text_frame.text = "grouped"
    document = read_document(saved(deck), "a.pptx")
    assert anchors(document) == [("slide", "1"), ("slide", "3")]
    assert document.sections[0].headings == ("Plans",)
    assert document.sections[0].text == "Plans\n\none\ntwo\n\nNotes: say it slowly"
    assert document.sections[1].text == "r0c0 | r0c1\nr1c0 | r1c1\n\ngrouped"
    assert document.title is None


def test_xlsx_rows_carry_their_header_and_the_range_they_stand_in() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Q1"
    rows: list[list[Any]] = [
        ["Sales"], [], ["Name", "Count", "When"], ["pears", 3.0, datetime(2024, 1, 2)],
        [None, 2.5, date(2024, 2, 3)], ["figs", None, None],
    ]  # fmt: skip
    for row in rows:
        sheet.append(row)
    plain = book.create_sheet("Numbers")
    for number in range(200):
        plain.append([number, number * 1000])
    book.create_sheet("Empty")
    only = book.create_sheet("Header only")
    only.append(["a", "b"])
    document = read_document(saved(book), "a.xlsx")
    assert [(one.headings, one.text) for one in document.sections[:2]] == [
        (("Q1",), "Sales"),
        (("Q1",), "Name: pears; Count: 3; When: 2024-01-02\nCount: 2.5; When: 2024-02-03\nName: figs"),
    ]
    assert anchors(document)[:2] == [("sheet", "Q1!A1"), ("sheet", "Q1!A4:C6")]
    numbers = [one for one in document.sections if one.headings == ("Numbers",)]
    assert len(numbers) > 1
    assert "\n".join(one.text for one in numbers) == "\n".join(f"{n}; {n * 1000}" for n in range(200))
    assert numbers[0].anchor is not None
    last_row = numbers[0].text.count("\n") + 1
    assert numbers[0].anchor.value == f"Numbers!A1:B{last_row}"
    assert document.sections[-1].text == "a; b"


EPUB: dict[str, str | bytes] = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/p.opf"/></rootfiles></container>',
    "OEBPS/p.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
    "<dc:title>The Book</dc:title><dc:creator>Ann Author</dc:creator></metadata><manifest>"
    '<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="a" href="text/a%20one.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/></manifest>'
    '<spine><itemref idref="nav"/><itemref idref="a"/><itemref idref="b"/></spine></package>',
    "OEBPS/nav.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><nav>'
    '<a href="text/a%20one.xhtml#x">Chapter A</a></nav></body></html>',
    "OEBPS/toc.ncx": '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint>'
    "<navLabel><text>Old A</text></navLabel>"
    '<content src="text/a%20one.xhtml"/></navPoint></navMap></ncx>',
    "OEBPS/text/a one.xhtml": '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>'
    "<body><p>Caf\u00e9&nbsp;in A.</p></body></html>",
    "OEBPS/b.xhtml": "<html><body><h1>Bee</h1><p>In B.</p><h2>Part</h2><p>More.</p></body></html>",
}


def test_epub_chapters_in_spine_order_with_names_from_the_contents() -> None:
    document = read_document(zipped(EPUB), "a.epub")
    assert (document.title, document.metadata) == ("The Book", {"author": "Ann Author"})
    assert [one.text for one in document.sections] == ["Caf\u00e9 in A.", "Bee\n\nIn B.", "Part\n\nMore."]
    assert anchors(document) == [("chapter", "Chapter A"), ("chapter", "Bee"), ("chapter", "Bee")]
    assert [one.headings for one in document.sections] == [("Chapter A",), ("Bee",), ("Bee", "Part")]


def test_epub_without_its_parts_and_under_drm() -> None:
    for missing in ("META-INF/container.xml", "OEBPS/p.opf", "OEBPS/b.xhtml"):
        with pytest.raises(ReadError, match=missing):
            read_document(zipped({name: data for name, data in EPUB.items() if name != missing}), "a.epub")
    encryption = '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:CipherReference URI="{}"/></encryption>'
    with pytest.raises(ReadError, match="DRM"):
        read_document(zipped({**EPUB, "META-INF/encryption.xml": encryption.format("OEBPS/b.xhtml")}), "a.epub")
    fonts = zipped({**EPUB, "META-INF/encryption.xml": encryption.format("OEBPS/font.otf")})
    assert len(read_document(fonts, "a.epub").sections) == 3


ODT_CONTENT = """<?xml version="1.0" encoding="UTF-8"?>
<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0">
<office:body><office:text><text:p>Intro</text:p><text:h text:outline-level="1">One</text:h>
<text:p>a<text:s/>b<text:span>c</text:span>d</text:p><text:list><text:list-item><text:p>item</text:p></text:list-item>
</text:list><text:h text:outline-level="2">Two</text:h>
<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>
<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table></office:text></office:body>
</office:document-content>"""


def test_odt_headings_lists_and_tables() -> None:
    document = read_document(zipped({"content.xml": ODT_CONTENT}), "a.odt")
    assert [(one.headings, one.text) for one in document.sections] == [
        ((), "Intro"),
        (("One",), "One\n\na bcd\n\n- item"),
        (("One", "Two"), "Two\n\nx | y"),
    ]


def test_odt_headings_in_lists_and_paragraphs_within_their_items() -> None:
    frame = "<text:p>box<office:annotation><text:p>a remark</text:p></office:annotation></text:p>"
    listed = (
        "<text:list><text:list-item><text:p>first</text:p></text:list-item><text:list-item>"
        '<text:h text:outline-level="2">Zebra</text:h><text:list><text:list-item><text:p>striped</text:p>'
        f"<text:p>with a {frame}</text:p></text:list-item></text:list></text:list-item></text:list>"
    )
    content = ODT_CONTENT.replace("<text:list>", f"{listed}<text:list>", 1)
    document = read_document(zipped({"content.xml": content}), "a.odt")
    assert [(one.headings, one.text) for one in document.sections][1:] == [
        (("One",), "One\n\na bcd\n\n- first"),
        (("One", "Zebra"), "Zebra\n\n- striped\n- with a \nbox\n\n- item"),
        (("One", "Two"), "Two\n\nx | y"),
    ]


def whole_files() -> dict[str, bytes]:
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[0]).shapes.title.text = "Title"
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["a", 1])
    return {
        "a.pdf": pdf(["Some text"]), "a.docx": word(), "a.pptx": saved(deck), "a.xlsx": saved(book),
        "a.epub": zipped(EPUB), "a.odt": zipped({"content.xml": ODT_CONTENT}),
    }  # fmt: skip


FILES = whole_files()


def test_damaged_files_are_read_errors_that_name_the_file(subtests: pytest.Subtests) -> None:
    for name in sorted(FILES):
        with subtests.test(name=name):
            data = FILES[name]
            assert read_document(data, name).sections
            hostile = [
                b"",
                b"garbage",
                b"PK\x03\x04garbage",
                data[: len(data) // 10],
                b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
            ]
            hostile += [zipped({"other.txt": "x"}), zipped({"content.xml": "<a"}), b"%PDF-1.7\n%%EOF"]
            for broken in hostile:
                with pytest.raises(ReadError) as caught:
                    read_document(broken, name)
                assert str(caught.value).startswith(f"{name}: ")


def test_no_flipped_byte_or_cut_raises_anything_but_read_error(subtests: pytest.Subtests) -> None:
    for name in sorted(FILES):
        with subtests.test(name=name):
            data = FILES[name]
            step = max(1, len(data) // 40)
            for at in range(0, len(data), step):
                for broken in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
                    try:
                        read_document(broken, name)
                    except ReadError as error:
                        assert str(error).startswith(f"{name}: ")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(subtests: pytest.Subtests) -> None:
    for name in ["a.docx", "a.pptx", "a.xlsx", "a.epub", "a.odt"]:
        with subtests.test(name=name), pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1_000_000)
            with pytest.raises(ReadError, match="unpacks to 3,"):
                read_document(zipped({"content.xml": b" " * 3_000_000}), name)


LAUGHS = f'<!ENTITY a "{"lol" * 1000}"><!ENTITY b "{"&a;" * 1000}"><!ENTITY e "{"&b;" * 1000}">'


def test_xml_entities_are_neither_expanded_nor_fetched(subtests: pytest.Subtests) -> None:
    for entity in [LAUGHS, f'<!ENTITY e SYSTEM "file://{__file__}">', '<!ENTITY e "lollol">']:
        for name in ["a.epub", "a.odt"]:
            with subtests.test(entity=entity, name=name):
                doctype = f"<!DOCTYPE x [{entity}]>"
                if name == "a.odt":
                    content = ODT_CONTENT.replace("<office:document-content", doctype + "<office:document-content", 1)
                    data = zipped({"content.xml": content.replace("Intro", "Intro &e;")})
                else:
                    data = zipped(
                        {**EPUB, "OEBPS/p.opf": doctype + str(EPUB["OEBPS/p.opf"]).replace("The Book", "The Book &e;")}
                    )
                try:
                    document = read_document(data, name)
                except ReadError:
                    continue
                shown = (document.title or "") + "".join(one.text for one in document.sections)
                assert "lollol" not in shown
                assert "neither_expanded" not in shown


def test_an_encrypted_office_file_is_named_as_such() -> None:
    data = bytearray(zipped({"word/document.xml": "x"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    with pytest.raises(ReadError, match="encrypted"):
        read_document(bytes(data), "a.docx")
