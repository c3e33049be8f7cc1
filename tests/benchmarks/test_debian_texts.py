"""Pairs out of Debian packages: what is read from pages, manuals and dictionaries, which licences pass, same bytes."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "debian_texts.py"
SENTENCE = "The server removes the old rows of a table when it has the time to do this."

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is not there, which packs .deb files"
)
needs_mandoc = pytest.mark.skipif(
    shutil.which("mandoc") is None, reason="mandoc is not there, which reads manual pages"
)


@pytest.fixture(scope="module")
def texts() -> Any:
    spec = importlib.util.spec_from_file_location("debian_texts", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def page(body: str) -> bytes:
    return f"<html lang='en'><head><title>no</title></head><body>{body}</body></html>".encode()


def documents(texts: Any, body: str) -> list[tuple[str, str]]:
    return list(texts.document_pairs("Base", {"a.html": page(body)}))


def test_a_section_has_the_path_of_its_headings_without_numbers(texts: Any) -> None:
    body = f"<h1>Chapter 3. Upkeep</h1><h2>3.1. Vacuum<a class='headerlink'>\u00b6</a></h2><p>{SENTENCE}</p>"
    assert [("Base: Upkeep: Vacuum", SENTENCE)] == documents(texts, body)


def test_a_heading_that_asks_is_the_query_by_itself(texts: Any) -> None:
    body = f"<h1>Upkeep</h1><h2>How do I remove old rows?</h2><p>{SENTENCE}</p>"
    assert [("How do I remove old rows?", SENTENCE)] == documents(texts, body)


def test_navigation_code_and_tables_are_left_out(texts: Any, subtests: pytest.Subtests) -> None:
    for silent in [
        "<nav>Next page</nav>", "<div class='navfooter'><p>Next page</p></div>",
        "<div role='navigation'>Next page</div>", "<pre>VACUUM t;</pre>", "<table><tr><td>1</td></tr></table>",
        "<script>go()</script>", "<p><sup><a href='#f'>1</a></sup></p>",
    ]:  # fmt: skip
        with subtests.test(silent=silent):
            assert [("Base: Upkeep", SENTENCE)] == documents(texts, f"<h1>Upkeep</h1>{silent}<p>{SENTENCE}</p>{silent}")


def test_terms_go_before_what_is_said_of_them_and_entries_end_in_a_full_stop(texts: Any) -> None:
    body = f"<h1>Upkeep</h1><p>{SENTENCE}</p><dl><dt>-a</dt><dt>--all</dt><dd>do it for all of them</dd></dl>"
    assert [("Base: Upkeep", f"{SENTENCE} -a, --all: do it for all of them.")] == documents(texts, body)


def test_a_sentence_that_led_to_code_is_left_out_with_it(texts: Any) -> None:
    body = f"<h1>Upkeep</h1><p>{SENTENCE} You do it like this:</p><pre>VACUUM t;</pre>"
    assert [("Base: Upkeep", SENTENCE)] == documents(texts, body)


def test_a_signature_is_a_section_of_its_own_that_ends_with_its_list(texts: Any) -> None:
    other = SENTENCE.replace("old", "new")
    body = (
        "<h1>Upkeep</h1><h2>Functions</h2><dl><dt class='sig' id='base.vacuum'>base.vacuum(table)</dt>"
        f"<dd><p>{SENTENCE}</p></dd></dl><p>{other}</p>"
    )
    assert [("Base: Upkeep: base.vacuum", SENTENCE), ("Base: Upkeep: Functions", other)] == documents(texts, body)


def test_what_is_no_prose_or_a_manual_page_gives_no_pair(texts: Any, subtests: pytest.Subtests) -> None:
    for body in [
        "<h1>Upkeep</h1><p>Too short.</p>",
        "<h1>Upkeep</h1><p>foo_bar(1, 2); x = y[3] + z[4]; return {5: 6}; baz(7, 8); qux();</p>",
        "<h1>Upkeep</h1><p>Der Server entfernt alte Zeilen einer Tabelle, sobald er dazu die Zeit findet.</p>",
        f"<h1>See also</h1><p>{SENTENCE}</p>",
        f"<h1>vacuum</h1><h2>NAME</h2><p>vacuum - remove</p><h2>DESCRIPTION</h2><p>{SENTENCE}</p>",
        f"<h1>GNU General Public License</h1><h2>Preamble</h2><p>{SENTENCE}</p>",
        "",
    ]:
        with subtests.test(body=body):
            assert [] == documents(texts, body)


def test_pages_in_another_language_are_not_read(texts: Any) -> None:
    assert [] == list(
        texts.document_pairs("Base", {"a.html": page(f"<h1>A</h1><p>{SENTENCE}</p>").replace(b"en", b"de", 1)})
    )
    kept = ("usr/share/doc/x/html/en/a.html", "usr/share/doc/x/ch08.en.html", "usr/share/help/C/x/a.page")
    left = ("usr/share/doc/x/html/de/a.html", "usr/share/doc/x/ch08.pt-br.html", "usr/share/help/de/x/a.page")
    assert ([True] * 3, [False] * 3) == ([texts.wanted(path) for path in kept], [texts.wanted(path) for path in left])


def test_a_help_page_gives_its_sections_and_none_with_a_link_to_an_unknown_title(texts: Any) -> None:
    source = (
        "<page xmlns='http://projectmallard.org/1.0/'><info><desc>no</desc></info><title>Print</title>"
        f"<p>{SENTENCE}</p><p>See <link xref='other'/> for more of it.</p>"
        f"<section><title>In <gui>colour</gui></title><p>{SENTENCE.replace('old', 'new')}</p></section></page>"
    )
    pairs = list(texts.document_pairs("Desk", {"a.page": source.encode()}))
    assert [("Desk: Print", SENTENCE), ("Desk: Print: In colour", SENTENCE.replace("old", "new"))] == pairs


def test_a_long_text_ends_with_a_whole_sentence(texts: Any) -> None:
    found = texts.cut(" ".join([SENTENCE] * 30))
    assert " ".join([SENTENCE] * (texts.LONGEST // (len(SENTENCE) + 1))) == found
    assert "" == texts.cut("word " * 300)


def test_a_manual_page_gives_what_it_is_for_and_its_sections(texts: Any) -> None:
    rendered = (
        "<section><h1>NAME</h1><p>cp - copy files and directories</p></section>"
        "<section><h1>SYNOPSIS</h1><p>cp A B</p></section>"
        f"<section><h1>DESCRIPTION</h1><p>{SENTENCE}</p><dl><dt>-a</dt><dd>all of it</dd></dl></section>"
        f"<section><h1>EXIT STATUS</h1><p>{SENTENCE.replace('old', 'new')}</p></section>"
        f"<section><h1>AUTHOR</h1><p>{SENTENCE}</p></section>"
    )
    described, others = texts.manual_pairs("cp", rendered.encode())
    assert [("copy files and directories", SENTENCE)] == described
    assert [("cp: Exit status", SENTENCE.replace("old", "new"))] == others


def test_a_dictionary_gives_headwords_and_meanings_without_marks(texts: Any) -> None:
    first = (
        "deadlock\ndeadly embrace\n\n   <parallel> A state in which two {processes} wait for\n   each other, and none"
        " of them goes on.\n\n       x = wait(y);\n\n   [Details?]\n\n   (1996-05-10)\n\n"
    )
    second = "foo\n /foo/, n.\n\n    [MIT] A word that is used for any of the things that have no name yet.\n\n"
    third = "bar\n\n   See {foo}.\n\n"
    text = first + second + third
    index = f"deadly embrace\tA\t{digits(len(first))}\ndeadlock\tA\t{digits(len(first))}\n"
    index += f"foo\t{digits(len(first))}\t{digits(len(second))}\n"
    index += f"bar\t{digits(len(first + second))}\t{digits(len(third))}\n00-database-info\tA\tB\n"
    files = {"d/x.index": index.encode(), "d/x.dict.dz": gzip.compress(text.encode())}
    assert [
        ("deadlock", "A state in which two processes wait for each other, and none of them goes on."),
        ("foo", "A word that is used for any of the things that have no name yet."),
    ] == list(texts.dictionary_pairs(files))


def digits(value: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return (digits(value // 64) if value >= 64 else "") + letters[value % 64]


def test_licence_names_are_taken_out_of_a_line_and_known(texts: Any, subtests: pytest.Subtests) -> None:
    for line, names in [
        ("GPL-2+ or Artistic, and Expat", ["Artistic", "Expat", "GPL-2+"]),
        ("GPL-3+ with Bison exception", ["GPL-3+"]),
        ("GPL-2+-with-bison-exception", ["GPL-2+"]),
        ("BSD-3-clause and/or LGPL-2.1-or-later", ["BSD-3-clause", "LGPL-2.1-or-later"]),
        ("Apache-2.0+MIT", ["Apache-2.0", "MIT"]),
    ]:
        with subtests.test(line=line, names=names):
            assert names == texts.licences_in(f"Format: 1.0\n\nFiles: *\nLicense: {line}\n text\n")
            assert all(texts.is_free(name, "x") for name in names)


def test_other_licences_are_not_free(texts: Any, subtests: pytest.Subtests) -> None:
    for name in [
        "CC-BY-NC-4.0", "CC-BY-ND-3.0", "GFDL-1.3+", "other", "sendmail", "BSD-3-clause-no-nuclear",
    ]:  # fmt: skip
        with subtests.test(name=name):
            assert not texts.is_free(name, "x")


def test_a_name_that_was_read_for_one_package_is_free_there_only(texts: Any) -> None:
    assert (True, False) == (texts.is_free("other", "libreoffice"), texts.is_free("other", "x"))


def test_pairs_are_taken_once_and_not_with_a_run_of_words_to_be_avoided(texts: Any, tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "corpus.jsonl").write_text(json.dumps({"_id": 1, "text": f"so: {SENTENCE}"}) + "\n")
    distinct = texts.Distinct(texts.runs_in([tmp_path]))
    other = SENTENCE.replace("table", "file")
    pairs = [("a query", SENTENCE), ("one", other), ("ONE", other + " Yes."), ("two", other.upper())]
    assert [("one", other)] == distinct.take(pairs)
    assert 1 == distinct.overlapping


def packed(folder: Path, name: str, licence: str, files: dict[str, bytes]) -> Path:
    """Return a .deb file with a copyright file and `files`."""
    tree = folder / name
    control = f"Package: {name}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    notice = f"Format: 1.0\n\nFiles: *\nLicense: {licence}\n text\n"
    every = {"DEBIAN/control": control.encode(), f"usr/share/doc/{name}/copyright": notice.encode(), **files}
    for path, data in every.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(folder / f"{name}_1.0-1_all.deb")]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return folder / f"{name}_1.0-1_all.deb"


MANUAL = (
    b".TH CP 1\n.SH NAME\ncp \\- copy files\n.SH DESCRIPTION\nIt makes a copy of each of the files that you name.\n"
)


@needs_dpkg
@needs_mandoc
def test_packages_are_read_or_refused_and_the_same_ones_give_the_same_bytes(texts: Any, tmp_path: Path) -> None:
    manual = io.BytesIO()
    with gzip.GzipFile(fileobj=manual, mode="wb", mtime=0) as stream:
        stream.write(MANUAL)
    packed(tmp_path, "tools", "GPL-3+", {"usr/share/man/man1/cp.1.gz": manual.getvalue()})
    packed(tmp_path, "base-doc", "Expat", {"usr/share/doc/base/a.html": page(f"<h1>Upkeep</h1><p>{SENTENCE}</p>")})
    packed(tmp_path, "shut", "CC-BY-NC-4.0", {"usr/share/doc/shut/a.html": page(f"<h1>No</h1><p>{SENTENCE}</p>")})
    packages = texts.find_packages([str(tmp_path)], tmp_path)
    manifests = []
    for out in (tmp_path / "one", tmp_path / "two"):
        out.mkdir()
        manifests.append(texts.build(out, packages, set()))
    assert [path.read_bytes() for path in sorted((tmp_path / "one").iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "two").iterdir())
    ]
    assert manifests[0] == json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert {"shut": "not on the list of free licences: CC-BY-NC-4.0"} == manifests[0]["refused"]
    assert [("base-doc", "1.0-1", ["Expat"]), ("tools", "1.0-1", ["GPL-3+"])] == [
        (package["name"], package["version"], package["licences"]) for package in manifests[0]["packages"]
    ]
    found = {
        name: [json.loads(line) for line in gzip.decompress((tmp_path / "one" / name).read_bytes()).splitlines()]
        for name in manifests[0]["files"]
    }
    assert {
        "debian-documents.jsonl.gz": [{"query": "base: Upkeep", "positive": SENTENCE}],
        "debian-manual.jsonl.gz": [
            {"query": "copy files", "positive": "It makes a copy of each of the files that you name."}
        ],
    } == found
