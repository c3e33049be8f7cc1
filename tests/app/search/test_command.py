"""`searchctl query`: ranking, pages, filters, freshness and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from searchctl.index.collection import FolderCollection

MODES = ("hybrid", "dense", "lexical")


@pytest.fixture
def shelf(shell: Any, words: Any) -> Any:
    """A shell with 60 small documents of two types in two folders."""
    for number in range(60):
        folder = "even" if number % 2 == 0 else "odd"
        kind = "md" if number % 3 == 0 else "txt"
        shell.write(f"{folder}/{number:02}.{kind}", f"heron {words(number, 30)} fish {'heron ' * (number % 7)}\n")
    shell.index("even", "odd")
    return shell


def brief(hits: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(hit["path"], hit["score"]) for hit in hits]


def test_the_right_document_comes_first(library: Any, subtests: pytest.Subtests) -> None:
    for mode in MODES:
        with subtests.test(mode=mode):
            hit = library.hits("heron waits for fish", "--mode", mode, "-k", "3")[0]
            assert hit["path"] == "docs/animals/birds.txt"
            assert hit["rank"] == 1
            assert hit["freshness"] == "fresh"
            assert hit["lines"] == [1, 1]
            text = hit["snippet"]["text"]
            assert "heron" in [text[start:end].lower() for start, end in hit["snippet"]["matches"]]


def test_pages_concatenated_equal_one_big_page(shelf: Any, subtests: pytest.Subtests) -> None:
    for mode in MODES:
        with subtests.test(mode=mode):
            whole = shelf.hits("heron fish word7919", "--mode", mode, "-k", "60")
            pages = [
                hit
                for offset in range(0, 60, 7)
                for hit in shelf.hits("heron fish word7919", "--mode", mode, "-k", "7", "--offset", str(offset))
            ]
            assert len(whole) == 60
            assert pages[:60] == whole
            assert [hit["rank"] for hit in whole] == list(range(1, 61))
            assert [hit["score"] for hit in whole] == sorted((hit["score"] for hit in whole), reverse=True)


def test_filters_come_before_top_k(shelf: Any, subtests: pytest.Subtests) -> None:
    """A filtered search gives k hits although better ones elsewhere would fill all places."""
    for mode in MODES:
        with subtests.test(mode=mode):
            everything = shelf.hits("heron fish", "--mode", mode, "-k", "60")
            chosen = shelf.hits("heron fish", "--mode", mode, "-k", "10", "--path", "odd/", "--type", "md")
            assert len(chosen) == 10
            assert all(hit["path"].startswith("odd/") and hit["path"].endswith(".md") for hit in chosen)
            if mode != "hybrid":  # hybrid scores are relative to what takes part
                qualified = [hit for hit in brief(everything) if hit[0].startswith("odd/") and hit[0].endswith(".md")]
                assert brief(chosen) == qualified[:10]


def test_filters_by_type_exclude_and_date(shelf: Any) -> None:
    os.utime(shelf.folder / "odd/01.txt", (1_500_000_000, 1_500_000_000))
    shelf.index("odd")
    old = shelf.hits("heron", "-k", "60", "--before", "2018")
    assert [hit["path"] for hit in old] == ["odd/01.txt"]
    assert len(shelf.hits("heron", "-k", "60", "--after", "7d")) == 59
    assert len(shelf.hits("heron", "-k", "60", "--exclude", "even/")) == 30
    assert len(shelf.hits("heron", "-k", "60", "-t", "md")) == 20
    assert len(shelf.hits("heron", "-k", "60", "-t", "md", "-t", "txt")) == 60


def test_several_words_are_one_query(library: Any) -> None:
    assert library.hits("heron", "waits") == library.hits("heron waits")


def test_exit_1_without_a_hit_and_nothing_on_stdout(library: Any) -> None:
    ended = library("query", "heron", "--path", "nowhere/")
    assert (ended.code, ended.out) == (1, "")
    assert "no hit that passes the filters" in ended.err
    assert library("query", "zzzz", "--mode", "lexical", "-q").err == ""


def test_min_score_drops_hits(library: Any) -> None:
    everything = library.hits("heron fish", "-k", "50")
    assert 0 < len(library.hits("heron fish", "-k", "50", "--min-score", "0.9")) < len(everything)


@pytest.mark.parametrize("query", ["", "   "])
def test_empty_query_is_a_usage_error(library: Any, query: str) -> None:
    ended = library("query", query)
    assert ended.code == 2
    assert "query is empty" in ended.err


def test_punctuation_is_never_syntax(library: Any, subtests: pytest.Subtests) -> None:
    for query in [
        "a.b-c_d", '"', "AND OR NOT (", "C++ *", "'; DROP TABLE chunks; --", "鷺 魚", "-x",
    ]:  # fmt: skip
        with subtests.test(query=query):
            assert library("query", "--", query).code in (0, 1)
            assert library("query", "--mode", "lexical", "--", query).code in (0, 1)


def test_absent_collection_is_a_clear_error(shell: Any) -> None:
    ended = shell("query", "anything")
    assert ended.code == 2
    assert "searchctl index PATH" in ended.err


def test_parts_add_up_to_the_score(library: Any) -> None:
    for hit in library.hits("catalogue survives power", "-k", "10"):
        assert hit["parts"]["lexical_part"] + hit["parts"]["dense_part"] == pytest.approx(hit["score"], abs=1e-12)
    assert "by words" in library("query", "catalogue survives", "--explain").out


@pytest.mark.parametrize(("weight", "mode"), [("0", "lexical"), ("1", "dense")])
def test_dense_weight_at_its_ends_is_one_side_alone(shelf: Any, weight: str, mode: str) -> None:
    mixed = [hit["path"] for hit in shelf.hits("heron word7919 fish", "--dense-weight", weight, "-k", "40")]
    assert mixed == [hit["path"] for hit in shelf.hits("heron word7919 fish", "--mode", mode, "-k", "40")]


def test_other_encoder_is_refused(library: Any) -> None:
    """Bug 6: a model of the same width, or any other, gives silent nonsense."""
    (library.folder / "other").mkdir()
    ended = library("query", "heron", "--model", "other")
    assert ended.code == 2
    assert library("query", "heron", "--model", "hashing").code == 0


def test_other_encoder_of_the_same_name_is_refused(library: Any) -> None:
    connection = sqlite3.connect(library.folder / ".searchctl" / "catalogue.db")
    (settings,) = connection.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
    changed = {**json.loads(settings), "encoder_fingerprint": "0" * 64}
    connection.execute("UPDATE meta SET value = ? WHERE key = 'settings'", [json.dumps(changed)])
    connection.commit()
    connection.close()
    ended = library("query", "heron")
    assert ended.code == 2
    assert "000000000000" in ended.err
    assert ended.err.endswith("hint: searchctl models promote hashing\n")
    assert library("query", "heron", "--mode", "lexical").code == 0  # words need no encoder


def test_freshness_of_hits(library: Any) -> None:
    def label() -> str:
        return str(library.hits("heron fish", "-k", "1")[0]["freshness"])

    file = library.folder / "docs/animals/birds.txt"
    assert label() == "fresh"
    os.utime(file, (1, 1))
    assert label() == "fresh"  # another time, the same bytes
    file.write_text("The egret stands in shallow water and waits for frog.\n"[: file.stat().st_size])
    assert label() == "changed"
    assert library("query", "heron fish", "-k", "1").code == 0
    assert library("query", "heron fish", "-k", "1", "--strict").code == 3
    assert "changed since indexed" in library("query", "heron fish", "-k", "1").out
    file.unlink()
    assert label() == "missing"


def test_queries_from_stdin_one_a_line(library: Any) -> None:
    ended = library("query", "-", "--format", "json", "-k", "1", stdin="heron fish\n\nbees dance\n")
    results = ended.json["results"]
    assert [result["query"] for result in results] == ["heron fish", "bees dance"]
    assert [result["hits"][0]["path"] for result in results] == ["docs/animals/birds.txt", "docs/animals/bees.txt"]
    assert library("query", "-", stdin="\n").code == 2


def test_queries_from_a_file_keep_their_ids(library: Any) -> None:
    file = library.write(
        "queries.jsonl", '{"id": 7, "query": "heron"}\n{"_id": "b", "text": "bees", "instruction": "x"}\n'
    )
    ended = library("query", "--queries", file, "--format", "jsonl", "-k", "1")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [(row["id"], row["path"]) for row in rows] == [
        (7, "docs/animals/birds.txt"),
        ("b", "docs/animals/bees.txt"),
    ]


def test_bad_line_in_a_query_file_is_named(library: Any, subtests: pytest.Subtests) -> None:
    for line in ["no json", '{"q": "x"}', '{"query": ""}', "[1]"]:
        with subtests.test(line=line):
            file = library.write("queries.jsonl", '{"query": "heron"}\n' + line + "\n")
            ended = library("query", "--queries", file)
            assert ended.code == 2
            assert "queries.jsonl:2" in ended.err


def test_snippet_picks_the_passage_and_the_line(shell: Any) -> None:
    text = "# Guide\n\nOne thing first.\nAnother thing then.\n\nThe heron eats a fish here.\n\nThe end of it all.\n"
    shell.write("guide.md", text)
    shell.index("guide.md")
    hit = shell.hits("heron fish", "-k", "1")[0]
    snippet = hit["snippet"]
    start, end = snippet["passage"]
    assert snippet["text"][start:end] == "The heron eats a fish here."
    assert snippet["line"] == 6
    assert shell("query", "heron fish", "-l").out == "guide.md\n"


def test_full_and_no_snippet(library: Any) -> None:
    hit = library.hits("heron fish", "-k", "1", "--full", "--no-snippet")[0]
    assert hit["text"].startswith("The heron stands")
    assert hit["snippet"] is None


def test_lexical_mode_loads_no_torch_and_no_faiss(library: Any) -> None:
    script = (
        "import sys; from searchctl.app.cli import run; code = run(['query', 'heron', '--mode', 'lexical', '-q']);"
        "loaded = [m for m in ('torch', 'transformers', 'faiss', 'tokenizers') if m in sys.modules];"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=library.folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_query_during_an_unfinished_run_says_so(library: Any) -> None:
    collection = FolderCollection.open(library.folder / ".searchctl")
    with collection.writer():
        ended = library("query", "heron")
        assert ended.code == 0
        assert "incomplete" in ended.err
        assert library("query", "heron", "--strict").code == 3


def test_files_are_usable_from_the_working_directory(library: Any) -> None:
    library.folder = library.folder / "code"
    names = library("query", "heron fish", "-l").out.splitlines()
    assert "../docs/animals/birds.txt" in names
    assert all((library.folder / name).exists() for name in names)
    assert len(names) == len(set(names))


def test_bad_date_names_the_option(library: Any) -> None:
    ended = library("query", "heron", "--after", "yesterdayish")
    assert ended.code == 2
    assert "--after" in ended.err


WOMBAT = os.fsdecode(b"\xff wombat")


def test_words_that_are_not_utf8_are_refused(library: Any) -> None:
    """They ended in "This is a bug in searchctl"."""
    for args in ((WOMBAT,), ("heron", "--instruction", WOMBAT)):
        ended = library("query", *args)
        assert ended.code == 2
        assert "not UTF-8, with byte 0xff" in ended.err


def test_stdin_that_is_not_utf8_names_its_line(library: Any) -> None:
    ended = library("query", "-", "-l", stdin=b"heron\n\xff wombat\n")
    assert ended.code == 2
    assert "stdin:2: not UTF-8" in ended.err


def test_query_file_with_what_is_no_text_names_its_line(library: Any, subtests: pytest.Subtests) -> None:
    for line in [b'{"query": "\\ud800 wombat"}', b'{"query": "x", "id": "\\udfff"}', b"\xff", b"[" * 99_999]:
        with subtests.test(line=line):
            file = library.write("queries.jsonl", b'{"query": "heron"}\n' + line + b"\n")
            ended = library("query", "--queries", file)
            assert ended.code == 2
            assert "queries.jsonl:2" in ended.err
            assert "bug" not in ended.err


def test_missing_query_file_says_what_was_expected(library: Any) -> None:
    ended = library("query", "--queries", "/nonexist", "--format", "json")
    assert ended.code == 2
    told = json.loads(ended.err)
    assert "expected a file of JSON lines" in told["error"]
    assert told["hint"] == "searchctl query --queries FILE.jsonl"


def test_stdin_and_words_at_once_are_refused(library: Any) -> None:
    ended = library("query", "-", "extra", stdin="heron\n")
    assert ended.code == 2
    assert "'extra'" in ended.err


def test_nan_is_no_score_to_compare_with(library: Any) -> None:
    ended = library("query", "heron", "--min-score", "nan")
    assert ended.code == 2
    assert "--min-score is nan" in ended.err


def found(shell: Any, *args: str) -> set[str]:
    return {str(hit["path"]) for hit in shell.hits("heron bees query tide power", "-k", "50", "--no-snippet", *args)}


ANIMALS = {"docs/animals/birds.txt", "docs/animals/bees.txt"}


def test_path_means_what_it_means_in_the_working_directory(library: Any, subtests: pytest.Subtests) -> None:
    """From a subfolder `.`, `..` and a path the program itself had printed found nothing."""
    library.folder = library.folder / "docs/animals"
    for path in [".", "./", "..//animals", "ABSOLUTE", "birds.txt,bees.txt", "../animals/b*", "animals/"]:
        with subtests.test(path=path):
            paths = path.replace("ABSOLUTE", str(library.folder)).split(",")
            assert found(library, *(word for name in paths for word in ("--path", name))) == ANIMALS


def test_path_of_the_collections_folder_or_above_is_no_filter(library: Any) -> None:
    everything = found(library)
    root = library.folder
    for path in (".", str(root), "..", "/"):
        assert found(library, "--path", path) == everything
    library.folder = root / "code"
    assert found(library, "--path", "..") == everything
    assert found(library, "--path", ".") == {"code/tide.py"}
    assert found(library, "--path", "../docs") == everything - {"code/tide.py"}
    assert found(library, "--path", "docs/animals/") == ANIMALS  # not here: a pattern


def test_every_printed_path_finds_itself(library: Any) -> None:
    library.write("docs/odd [1]*.txt", "heron \n")
    library.write("docs/odd 1.txt", "heron \n")
    outside = library.write("../outside/far.txt", "heron \n")
    library.index("docs", outside)
    library.folder = library.folder / "code"
    printed = library("query", "heron", "-l", "-k", "50").out.splitlines()
    assert "../docs/odd [1]*.txt" in printed
    assert len(printed) > 4
    for name in printed:
        assert library("query", "heron", "-l", "-k", "50", "--path", name).out.splitlines() == [name]


def test_brackets_of_the_working_directory_are_no_pattern(new_shell: Any, subtests: pytest.Subtests) -> None:
    for given, names in [
        ("../*.md", "a.md"),
        ("ABSOLUTE/*.md", "a.md"),
        ("../s*/", "sub/b.md"),
        ("../[ac].md", "a.md"),
    ]:
        with subtests.test(given=given, names=names):
            shell = new_shell()
            for name in ("notes [2024]/a.md", "notes [2024]/sub/b.md", "notes 2/a.md", "../far [1]/c.md"):
                shell.write(name, "heron\n")
            shell.index("notes [2024]", "notes 2", "../far [1]")
            root = shell.folder
            shell.folder = root / "notes [2024]/sub"
            path = given.replace("ABSOLUTE", str(root / "notes [2024]"))
            assert found(shell, "--path", path) == {f"notes [2024]/{name}" for name in names.split()}
            far = str(root.parent / "far [1]")
            assert found(shell, "--path", f"{far}/*.md") == {f"{far}/c.md"}


def test_an_absolute_pattern_that_is_not_there_starts_at_the_collections_folder(library: Any) -> None:
    library.folder = library.folder / "code"
    assert found(library, "--path", "/docs/animals/*") == found(library, "--path", "/docs/animals/") == ANIMALS


@pytest.mark.parametrize("option", ["--path", "--exclude"])
def test_a_range_that_runs_backwards_is_no_bug(library: Any, option: str) -> None:
    ended = library("query", "heron", option, "[2024-06]*")
    assert ended.code == 2
    assert "the glob '[2024-06]*' cannot be understood" in ended.err
    assert "bug" not in ended.err


def test_more_hits_than_any_collection_has_are_refused(library: Any, subtests: pytest.Subtests) -> None:
    """SQLite and FAISS count in 64 bits: "This is a bug in searchctl"."""
    for mode in MODES:
        with subtests.test(mode=mode):
            for option in ("-k", "--offset"):
                ended = library("query", "heron", "--mode", mode, option, "99999999999999999999")
                assert ended.code == 2
                assert f"{option} is 99999999999999999999" in ended.err
                assert "bug" not in ended.err
            for offset, code in ((0, 0), (2**30, 1)):
                ended = library("query", "heron", "--mode", mode, "-k", str(2**30), "--offset", str(offset))
                assert ended.code == code, ended.err


def test_cut_queries_are_told(shell: Any) -> None:
    """`docs/concepts.md`: the number of cut texts is counted and told."""
    shell.write("a.txt", "heron fish\n")
    assert shell("index", "a.txt", "--model", "hashing", "--max-tokens", "32", "--chunk-tokens", "16").code == 0
    long = "heron " * 40
    told = "was cut for the search by meaning"
    assert f"note: the query was longer than 32 tokens and {told}" in shell("query", long).err
    assert told not in shell("query", long, "--mode", "lexical").err
    assert "cut" not in shell("query", "heron").err
    lines = [{"query": long, "instruction": "x"}, {"query": "heron"}, {"query": long}]
    file = shell.write("queries.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    for mode in ("hybrid", "dense"):
        err = shell("query", "--queries", file, "--mode", mode).err
        assert "note: 2 of 3 queries were longer than 32 tokens and were cut for the search by meaning" in err


def test_a_hybrid_ranking_says_that_it_ends_only_where_there_could_be_more(shell: Any) -> None:
    told = "a hybrid ranking goes as far as the 1000 best"
    shell.write("few.jsonl", '{"text": "heron"}\n' * 6)
    shell.index("few.jsonl")
    assert told not in shell("query", "heron", "-k", "2000").err
    shell.write("many.jsonl", '{"text": "heron fish"}\n' * 1100)
    shell.index("many.jsonl")
    assert told in shell("query", "fish", "-k", "2000", "--no-snippet").err
    assert told not in shell("query", "fish", "-k", "2000", "--no-snippet", "--path", "few.jsonl").err
    assert told not in shell("query", "fish", "-k", "2000", "--no-snippet", "--mode", "dense").err
    assert told not in shell("query", "fish", "-k", "10", "--offset", "980", "--no-snippet").err
    assert told in shell("query", "fish", "-k", "10", "--offset", "2000", "--no-snippet").err


def test_types_with_commas_are_several(shelf: Any) -> None:
    assert len(shelf.hits("heron", "-k", "60", "-t", "md, txt")) == 60
    assert len(shelf.hits("heron", "-k", "60", "-t", "md,py")) == 20


def test_empty_values_are_refused(library: Any, subtests: pytest.Subtests) -> None:
    """An unset shell variable leaves them; `index ''` took the working directory."""
    for args, said in [
        (("query", "heron", "--path", ""), "the glob '' is empty"),
        (("query", "heron", "--type", ""), "--type is ''"),
        (("query", "heron", "--type", "md,"), "--type is 'md,'"),
        (("query", "heron", "--model", ""), "the model is ''"),
        (("index", ""), "the path is ''"),
        (("index", "docs", "--type", ""), "--type is ''"),
        (("index", "docs", "--model", ""), "the model is ''"),
    ]:
        with subtests.test(args=args, said=said):
            ended = library(*args)
            assert ended.code == 2
            assert said in ended.err


def test_index_takes_types_with_commas(shell: Any) -> None:
    for name in ("a.md", "b.txt", "c.py"):
        shell.write(f"docs/{name}", "heron\n")
    assert shell.index("docs", "--type", "md,txt")["added"] == 2


def test_mismatch_names_a_command_that_makes_this_very_encoder(library: Any) -> None:
    """It named the model alone, so that the command made another encoder, of another collection."""
    library.folder.rename(library.folder.parent / "a work")
    library.folder = library.folder.parent / "a work"
    folder = str(library.folder / ".searchctl")
    args = ("--dim", "64", "--max-tokens", "100", "--collection", folder, "--format", "json")
    ended = library("index", "docs", "--model", "hashing", *args)
    assert ended.code == 2
    hint = json.loads(ended.err)["hint"]
    words = shlex.split(hint)
    assert words[:4] == ["searchctl", "models", "promote", "hashing"]
    assert words[4:] == ["--max-tokens", "100", "--dim", "64", "--collection", folder]
    assert library(*words[1:]).code == 0
    assert library("index", "docs", "--model", "hashing", *args).code == 0


def test_unread_file_is_named_once(shell: Any) -> None:
    shell.write("e/t.csv", 'a,b\n"' + "x" * 200_000 + '",2\n')
    shell.write("e/bad.pdf", b"%PDF-1.4 nothing\n")
    ended = shell("index", "e", "--model", "hashing")
    assert ended.code == 3
    lines = [line for line in ended.err.splitlines() if "could not read" in line]
    assert lines
    for line in lines + [line for line in shell("status").out.splitlines() if line.startswith("not read")]:
        name = "t.csv" if "t.csv" in line else "bad.pdf"
        assert line.count(name) == 1


def test_check_ready_and_quiet_print_nothing(library: Any) -> None:
    ended = library("status", "--check-ready", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    library.write("docs/new.md", "heron\n")
    ended = library("status", "--check-ready", "-q")
    assert (ended.code, ended.out, ended.err) == (3, "", "")
    assert library("status", "-q").out
    assert library("status", "--check-ready", "-q", "--format", "json").json["ready"] is False


def test_a_filter_that_no_indexed_file_passes_is_said_with_what_there_is(library: Any) -> None:
    ended = library("query", "heron", "--type", "word", "--path", "wrk/")
    assert ended.code == 1
    types, folders = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert ("of type word" in types, "markdown (" in types) == (True, True)
    assert ("--path" in folders, "docs/" in folders) == (True, True)
    passed = library("query", "zzzzzz", "--mode", "lexical", "--type", "md")
    assert (passed.code, "note: " in passed.err) == (1, False)
