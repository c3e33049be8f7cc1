"""Every format of `searchctl query` parses, keeps its columns when empty, and carries the same hits."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest

FORMATS = ("table", "json", "jsonl", "csv", "md", "files")
HIT_KEYS = {
    *("rank", "score", "parts", "path", "file", "format", "title", "headings", "anchor", "lines", "chars"),
    *("docid", "chunk", "date", "freshness", "snippet", "text", "duplicates"),
}


def parse(form: str, out: str) -> list[str]:
    """Return the paths of the hits in any format."""
    if form == "json":
        document = json.loads(out)
        assert document["schema"] == 1
        return [hit["path"] for result in document["results"] for hit in result["hits"]]
    if form == "jsonl":
        return [json.loads(line)["path"] for line in out.splitlines()]
    if form == "csv":
        return [row["path"] for row in csv.DictReader(io.StringIO(out))]
    if form == "md":
        return [line.split("](")[1].split(")")[0] for line in out.splitlines() if "](" in line and line[0].isdigit()]
    if form == "files":
        return out.splitlines()
    return [line.split()[1].partition(":")[0] for line in out.splitlines() if line[:2].strip().isdigit()]


def test_every_format_carries_the_same_hits(library: Any, subtests: pytest.Subtests) -> None:
    for form in FORMATS:
        with subtests.test(form=form):
            expected = [hit["path"] for hit in library.hits("heron fish power", "-k", "3")]
            ended = library("query", "heron fish power", "-k", "3", "--format", form)
            assert ended.code == 0
            assert parse(form, ended.out) == (list(dict.fromkeys(expected)) if form == "files" else expected)
            assert "\x1b" not in ended.out + ended.err


def test_every_format_without_a_hit(library: Any, subtests: pytest.Subtests) -> None:
    for form in FORMATS:
        with subtests.test(form=form):
            ended = library("query", "heron", "--path", "none/", "--format", form)
            assert ended.code == 1
            assert parse(form, ended.out) == []
            if form == "csv":
                assert len(ended.out.strip().split(",")) == 24
            if form == "json":
                assert ended.json["results"] == [
                    {"query": "heron", "id": None, "dense_weight": 0.05, "more": False, "hits": []}
                ]


def test_json_keys_are_stable(library: Any) -> None:
    for args in ([], ["--mode", "lexical"], ["--no-snippet"], ["--full"]):
        for hit in library.hits("heron fish", *args):
            assert set(hit) == HIT_KEYS


def test_spans_of_a_hit_cut_its_text_out_of_the_file(library: Any) -> None:
    for hit in library.hits("power", "-k", "9", "--full", "--type", "md"):
        text = (library.folder / hit["path"]).read_text()
        start, end = hit["chars"]
        assert text[start:end] == hit["text"]
        assert hit["lines"] == [text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1]


def test_piped_table_is_not_wrapped_or_cut(shell: Any) -> None:
    name = "a-rather-long-file-name-that-goes-on-and-on-" * 3
    shell.write(f"docs/{name}.txt", "heron " + "word " * 40 + "\n")
    shell.index("docs")
    lines = shell("query", "heron").out.splitlines()
    assert any(f"docs/{name}.txt:1" in line for line in lines)
    assert max(map(len, lines)) > 150
    assert all(line == line.rstrip() for line in lines)


def test_control_characters_do_not_reach_the_terminal(shell: Any) -> None:
    shell.write("docs/evil\x1b[31m.txt", "heron \x1b[2Jfish\n")
    shell.index("docs")
    ended = shell("query", "heron")
    assert "\x1b" not in ended.out
    assert "evil\\x1b[31m.txt" in ended.out


def test_control_characters_in_text_keep_the_highlights_in_place(shell: Any) -> None:
    """Rich drops some control characters, which would move every highlight after them."""
    shell.write("docs/a.txt", "one\x08\x0c two \u202e three heron four\n")
    shell.index("docs")
    ended = shell("query", "heron", "--color", "always")
    assert "\u202e" not in ended.out
    assert re.search(r"\x1b\[[\d;]*mheron\x1b", ended.out)


def test_joined_emoji_stay_whole(shell: Any) -> None:
    shell.write("docs/a.md", "# A family \U0001f468\u200d\U0001f469\u200d\U0001f467\n\nheron\n")
    shell.index("docs")
    assert "A family \U0001f468\u200d\U0001f469\u200d\U0001f467" in shell("query", "heron").out


def test_square_brackets_are_not_markup(shell: Any) -> None:
    shell.write("docs/[bold]x[/bold].txt", "heron [red]fish[/red] [/]\n")
    shell.index("docs")
    out = shell("query", "heron").out
    assert "docs/[bold]x[/bold].txt" in out
    assert "[red]fish[/red] [/]" in out


def test_explained_parts_add_up_as_they_are_printed(library: Any) -> None:
    for query in ("heron fish power", "query finds passages", "bees tide catalogue", "heron stays"):
        for words in ("0.05", "0.33", "0.5", "0.77"):
            out = library("query", query, "--explain", "--dense-weight", words).out
            sums = re.findall(r"(\d\.\d{3}) = (\d\.\d{3}) by words .*? \+ (\d\.\d{3}) by meaning", out)
            assert sums
            for total, first, second in sums:
                assert Decimal(total) == Decimal(first) + Decimal(second)


def test_a_lone_carriage_return_keeps_its_row_whole_in_csv(library: Any) -> None:
    """Python 3.11 leaves it bare, and every reader of CSV takes a bare one for the end of a row."""
    ended = library("query", "heron\rfish", "--format", "csv", "-k", "2")
    rows = list(csv.reader(io.StringIO(ended.out, newline="")))
    assert [len(row) for row in rows] == [24, 24, 24]
    assert {row[1] for row in rows[1:]} == {"heron\rfish"}
    assert ended.out.startswith("query_id,query,rank,")
    assert "\r\n" not in ended.out
    for name in ("a\rb.txt", "c\rd.txt"):
        library.write(
            f"docs/{name}", "Bees dance to tell the others in the dark of the hive where the flowers bloom.\n"
        )
    library.index("docs")
    for command, width in (("dedup", 14), ("cluster", 8)):
        ended = library(command, "--format", "csv")
        rows = list(csv.reader(io.StringIO(ended.out, newline="")))
        assert {len(row) for row in rows} == {width}, ended
        assert any("a\rb.txt" in cell for row in rows for cell in row)


def test_the_whole_chunk_is_in_csv_too(library: Any) -> None:
    expected = [hit["text"] for hit in library.hits("heron fish", "--full")]
    ended = library("query", "heron fish", "--full", "--format", "csv")
    assert [row["text"] for row in csv.DictReader(io.StringIO(ended.out, newline=""))] == expected
    assert all(expected)
    ended = library("query", "heron fish", "--format", "csv")
    assert {row["text"] for row in csv.DictReader(io.StringIO(ended.out, newline=""))} == {""}


def test_markdown_explains_scores_as_the_table_does(library: Any) -> None:
    table = library("query", "heron fish", "--explain").out
    told = re.findall(r"\d\.\d{3} = .* by meaning \(.*\)", library("query", "heron fish", "--explain", "-f", "md").out)
    assert len(told) == len(library.hits("heron fish"))
    assert all(line.split(" by words")[0] in table for line in told)
    assert " by words (" not in library("query", "heron fish", "-f", "md").out


def test_a_markdown_link_leads_to_the_file_whatever_it_is_called(new_shell: Any, subtests: pytest.Subtests) -> None:
    for name in ["50% of #1 [draft (old)?].md", "Re: x & y.md", "__init__ `a` ``b.md", "R&copy; ü.md"]:
        with subtests.test(name=name):
            shell = new_shell()
            shell.write(f"docs/{name}", "# Birds\n\nheron\n")
            shell.index("docs")
            (line,) = (line for line in shell("query", "heron", "-f", "md").out.splitlines() if "](" in line)
            fence, words, target = re.fullmatch(r"1\. \[(`+) ?(.*?) ?\1\]\((\S+)\) \(score .*", line).groups()  # type: ignore[union-attr]
            assert unquote(target) == f"docs/{name}"
            assert re.fullmatch(r"[\w./%-]+", target)
            assert words == f"docs/{name}:3"
            assert fence not in words


def test_what_belongs_to_a_hit_is_indented_as_far_as_its_text(shell: Any) -> None:
    for number in range(12):
        shell.write(f"docs/{number}.md", f"# Bird {number}\n\nheron number {number}\n")
    shell.index("docs")
    lines = shell("query", "heron", "-k", "12", "-f", "md").out.splitlines()
    marks = [len(line) - len(line.lstrip("0123456789. ")) for line in lines if "](" in line]
    assert marks == [3] * 9 + [4] * 3
    assert [len(line) - len(line.lstrip()) for line in lines if line.lstrip().startswith(">")] == marks


def test_an_id_that_is_no_name_is_refused(library: Any, subtests: pytest.Subtests) -> None:
    for id_ in ["NaN", "1e400", "[1]", "{}"]:
        with subtests.test(id_=id_):
            library.write("q.jsonl", f'{{"query": "heron", "id": {id_}}}\n')
            ended = library("query", "--queries", "q.jsonl", "--format", "json")
            assert (2, "") == (ended.code, ended.out)
            assert "q.jsonl:1: id is " in ended.err
            assert "expected a string or a number" in ended.err


def test_the_id_of_a_query_stays_a_number(library: Any) -> None:
    library.write("q.jsonl", '{"query": "heron", "id": 7}\n{"query": "fish", "id": "07"}\n')
    ended = library("query", "--queries", "q.jsonl", "--format", "json")
    assert [result["id"] for result in ended.json["results"]] == [7, "07"]
