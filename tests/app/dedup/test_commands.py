"""`searchctl dedup`: what is found, kept and printed, from real files through the index."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LINES = (
    "The heron stands in shallow water and waits for the small fish that come by in the evening light of the pond.",
    "Bees dance in the dark of the hive to tell the others how far away and in which direction the flowers bloom.",
    "A catalogue on disk survives a power cut because each commit is written ahead to a log that is played back.",
)


@pytest.fixture
def twice(shell: Any) -> Any:
    """A shell with texts that are said once, twice in the same words, and twice in nearly the same."""
    shell.write("a/heron.txt", LINES[0] + "\n")
    shell.write("b/copy.txt", LINES[0].upper().replace(" ", "  ") + "\n")
    shell.write("b/near.txt", LINES[0].replace("pond", "lake") + " It is grey.\n")
    shell.write("c/bees.txt", LINES[1] + "\n")
    shell.write("c/log.txt", LINES[2] + "\n")
    shell.index("a", "b", "c")
    return shell


def report(shell: Any, *args: str | Path) -> Any:
    ended = shell("dedup", *args, "--format", "json")
    assert ended.code == 0, ended.err
    return ended.json


def grouped(found: Any) -> dict[str, dict[str, str]]:
    return {
        group["kept"]["path"]: {gone["path"]: gone["tier"] for gone in group["dropped"]} for group in found["groups"]
    }


def test_exact_and_near_copies_are_found_and_the_longest_is_kept(twice: Any) -> None:
    found = report(twice, "--level", "document")
    assert {"b/near.txt": {"a/heron.txt": "near", "b/copy.txt": "near"}} == grouped(found)
    assert (5, 3, 2) == (found["items"], found["summary"]["kept"], found["summary"]["dropped"])
    sizes = [(twice.folder / path).stat().st_size for path in ("a/heron.txt", "b/copy.txt")]
    assert sum(sizes) == found["summary"]["bytes_saved"] == found["groups"][0]["bytes_saved"]
    assert {"exact": 1, "near": 2, "semantic": 0} == {
        tier: numbers["pairs"] for tier, numbers in found["summary"]["tiers"].items()
    }


def test_what_is_kept_is_chosen(twice: Any) -> None:
    for path, when in (("a/heron.txt", 3), ("b/copy.txt", 1), ("b/near.txt", 2)):
        os.utime(twice.folder / path, (1_700_000_000 + when, 1_700_000_000 + when))
    twice.index("a", "b", "c")
    kept = {keep: next(iter(grouped(report(twice, "--keep", keep)))) for keep in ("newest", "oldest", "shortest-path")}
    assert {"newest": "a/heron.txt", "oldest": "b/copy.txt", "shortest-path": "b/copy.txt"} == kept


def test_the_near_threshold_decides(twice: Any) -> None:
    found = report(twice, "--near-threshold", "0.95", "--threshold", "1")
    assert {"a/heron.txt": {"b/copy.txt": "exact"}} == grouped(found)


def test_any_threshold_is_answered_from_one_scan_and_equals_a_scan_of_its_own(twice: Any) -> None:
    loose, strict = report(twice, "--threshold", "0.75"), report(twice, "--threshold", "0.99")
    (file,) = (twice.folder / ".searchctl/pairs").iterdir()
    written = file.stat().st_mtime_ns
    assert loose == report(twice, "--threshold", "0.75")
    assert written == file.stat().st_mtime_ns
    for threshold, expected in (("0.99", strict), ("0.75", loose)):
        file.unlink()
        assert expected == report(twice, "--threshold", threshold)


def test_a_lower_threshold_than_was_scanned_for_scans_again(twice: Any) -> None:
    assert 0.7 == report(twice)["floor"]
    (file,) = (twice.folder / ".searchctl/pairs").iterdir()
    size = file.stat().st_size
    assert 0.2 == report(twice, "--threshold", "0.2")["floor"]
    assert size < file.stat().st_size
    assert 0.7 == report(twice)["floor"]


def test_a_damaged_file_of_pairs_costs_another_scan_only(twice: Any) -> None:
    expected = report(twice)
    (file,) = (twice.folder / ".searchctl/pairs").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert expected == report(twice)
    file.write_bytes(b"")
    assert expected == report(twice)


def test_pairs_of_other_texts_are_not_taken_for_these(twice: Any) -> None:
    report(twice)
    twice.write("c/bees2.txt", LINES[1] + "\n")
    twice.index("c")
    assert {"c/bees.txt": {"c/bees2.txt": "exact"}}.items() <= grouped(report(twice)).items()


def test_pairs_of_another_encoder_are_not_taken_for_these(twice: Any) -> None:
    wide = report(twice)
    for folder in "abc":
        (twice.folder / folder).rename(twice.folder / f"{folder}.away")
    twice.index("--prune")
    for folder in "abc":
        (twice.folder / f"{folder}.away").rename(twice.folder / folder)
    ended = twice("index", "a", "b", "c", "--model", "hashing", "--dim", "32")
    assert 0 == ended.code, ended.err
    assert wide["histogram"] != report(twice)["histogram"]


def test_the_curve_agrees_with_a_run_at_each_of_its_thresholds(twice: Any) -> None:
    found = report(twice, "--threshold", "0.7")
    assert [round(0.7 + step / 100, 2) for step in range(31)] == [point["threshold"] for point in found["curve"]]
    for point in found["curve"][::6]:
        at = report(twice, "--threshold", str(point["threshold"]))["summary"]
        assert (at["groups"], at["dropped"], at["bytes_saved"]) == (
            point["groups"], point["dropped"], point["bytes_saved"],
        )  # fmt: skip
        assert sum(numbers["pairs"] for numbers in at["tiers"].values()) == point["pairs"]


def test_indexing_in_another_order_gives_the_same_bytes(shell: Any) -> None:
    names = [f"n{number}.txt" for number in range(30)]
    for number, name in enumerate(names):
        said = " ".join(f"group{number // 3}word{at}" for at in range(40))
        shell.write(f"d/{name}", said + (" more" if number % 3 == 2 else ""))
    outputs = []
    for seed in (1, 2):
        for name in random.Random(seed).sample(names, len(names)):
            shell.index(f"d/{name}", "--collection", f"c{seed}")
        text = shell("dedup", "--collection", f"c{seed}", "--format", "json").out
        outputs.append(text.replace(f"/c{seed}/", "/c/").replace(f'/c{seed}"', '/c"').replace(f"c{seed}/", "c/"))
    assert json.loads(outputs[0])["summary"]["dropped"] == 20
    assert outputs[0] == outputs[1]


def test_leaks_are_what_another_collection_has_too(twice: Any) -> None:
    twice.write("other/test.txt", LINES[0] + "\n")
    twice.write("other/else.txt", "Of something else that nobody says here at all, ever.\n")
    twice.index("other", "--collection", "test")
    found = report(twice, "--against", "test")
    ((kept, dropped),) = grouped(found).items()
    assert kept.endswith("other/test.txt")
    assert {"a/heron.txt": "exact", "b/copy.txt": "exact", "b/near.txt": "near"} == dropped
    assert 2 == found["against_items"]
    assert found["against"].endswith("test")
    assert "3 of 5 chunks are in" in twice("dedup", "--against", "test").out


def test_a_filter_narrows_what_is_compared(twice: Any) -> None:
    assert {} == grouped(report(twice, "--exclude", "b/"))
    assert {"b/near.txt": {"b/copy.txt": "near"}} == grouped(report(twice, "--path", "b/"))


def test_jsonl_has_a_group_and_csv_an_item_a_line(twice: Any) -> None:
    expected = report(twice)["groups"]
    lines = [json.loads(line) for line in twice("dedup", "-f", "jsonl").out.splitlines()]
    assert [{"schema": 1, **group} for group in expected] == lines
    rows = list(csv.DictReader(io.StringIO(twice("dedup", "-f", "csv").out)))
    assert ["kept", "dropped", "dropped"] == [row["role"] for row in rows]
    assert ["b/near.txt", "a/heron.txt", "b/copy.txt"] == [row["path"] for row in rows]


def test_the_table_names_the_kept_and_the_dropped(twice: Any) -> None:
    out = twice("dedup").out
    assert "2 of 5 chunks are said elsewhere too, in 1 group: " in out
    assert "b/near.txt:1  kept" in out
    assert "near     0." in out
    assert "a/heron.txt:1" in out
    curve = twice("dedup", "--curve").out
    assert "chosen" in curve
    assert " 1.00 " in curve.replace("1.00", " 1.00 ")


def test_nothing_said_twice_is_said(library: Any) -> None:
    ended = library("dedup", "--level", "document")
    assert 0 == ended.code
    assert "no document of 5 is repeated" in ended.out


def test_mistakes_are_explained(twice: Any, subtests: pytest.Subtests) -> None:
    for args, message in [
        (("--threshold", "1.5"), "--threshold is 1.5: expected a cosine above 0 and up to 1"),
        (("--threshold", "nan"), "--threshold is nan"),
        (("--near-threshold", "0.3"), "--near-threshold is 0.3: expected a share of common words from 0.5 to 1"),
        (("--against", "."), "the collection itself"),
        (("--against", "nowhere"), "there is no collection in"),
        (("--keep", "best"), "'best' is not one of"),
        (("aply", "plan.json"), "No such command 'aply'"),
        (("--html", "/dev/full"), "/dev/full: No space left on device"),
    ]:
        with subtests.test(args=args, message=message):
            ended = twice("dedup", *args)
            assert 2 == ended.code
            assert message in " ".join(ended.err.split())


def test_two_encoders_cannot_be_compared(twice: Any) -> None:
    twice.write("other/x.txt", "another text\n")
    ended = twice("index", "other", "--collection", "narrow", "--model", "hashing", "--dim", "64")
    assert 0 == ended.code, ended.err
    ended = twice("dedup", "--against", "narrow")
    assert 2 == ended.code
    assert "cannot be compared" in ended.err
    assert "searchctl index --rebuild" in ended.err


def test_a_folder_that_cannot_be_written_is_said_and_answered(twice: Any) -> None:
    expected = report(twice)
    pairs = twice.folder / ".searchctl/pairs"
    for file in pairs.iterdir():
        file.unlink()
    pairs.rmdir()
    pairs.write_text("in the way")
    ended = twice("dedup", "--format", "json")
    assert expected == ended.json
    assert "the pairs are not kept for the next run" in ended.err


def test_pairs_of_a_few_scans_stay(twice: Any) -> None:
    for exclude in "abcd":
        for level in ("chunk", "document"):
            report(twice, "--exclude", f"{exclude}/", "--level", level)
    assert 4 == len(list((twice.folder / ".searchctl/pairs").glob("*.npz")))


def test_what_is_kept_of_a_scan_is_what_numpy_wrote(twice: Any) -> None:
    report(twice)
    (file,) = (twice.folder / ".searchctl/pairs").iterdir()
    with np.load(file, allow_pickle=False) as held:
        assert (held["first"] < held["second"]).all()
        assert 10 - 0 == held["histogram"].sum()  # five chunks that are embedded in five ways


def test_a_query_shows_once_what_was_found_to_say_the_same(twice: Any) -> None:
    asked = ("heron shallow", "--mode", "lexical")
    assert {"a/heron.txt", "b/copy.txt", "b/near.txt"} == {hit["path"] for hit in twice.hits(*asked)}
    report(twice)
    (hit,) = twice.hits(*asked, "--collapse", "duplicates")
    assert {"a/heron.txt", "b/copy.txt", "b/near.txt"} == {hit["path"], *(one["path"] for one in hit["duplicates"])}


def test_a_document_that_changed_since_is_no_duplicate(twice: Any) -> None:
    report(twice, "--level", "document")
    twice.write("b/near.txt", "A steam engine turns heat into motion, which is of another kind altogether.\n")
    twice.index("b")
    (hit,) = twice.hits("steam engine", "--mode", "lexical", "--collapse", "duplicates")
    assert ("b/near.txt", []) == (hit["path"], hit["duplicates"])
    (hit,) = twice.hits("heron shallow", "--mode", "lexical", "--collapse", "duplicates")
    assert {"a/heron.txt", "b/copy.txt"} == {hit["path"], *(one["path"] for one in hit["duplicates"])}


def test_a_plan_or_a_curve_does_not_change_what_queries_know(twice: Any) -> None:
    report(twice)
    stored = (twice.folder / ".searchctl/duplicates.json").read_bytes()
    assert 0 == twice("dedup", "plan", "-o", "plan.json").code
    assert 0 == twice("dedup", "--curve", "--threshold", "0.75").code
    assert stored == (twice.folder / ".searchctl/duplicates.json").read_bytes()


def test_a_part_or_another_collection_does_not_change_what_queries_know(twice: Any) -> None:
    report(twice)
    stored = (twice.folder / ".searchctl/duplicates.json").read_bytes()
    twice.write("other/test.txt", LINES[0] + "\n")
    twice.index("other", "--collection", "test")
    report(twice, "--path", "c/")
    report(twice, "--against", "test")
    assert stored == (twice.folder / ".searchctl/duplicates.json").read_bytes()


def test_a_plan_takes_away_and_undo_brings_back(twice: Any) -> None:
    before = report(twice, "--level", "document")
    assert 0 == twice("dedup", "plan", "-o", "plan.json").code
    plan = json.loads((twice.folder / "plan.json").read_text())
    assert ["a/heron.txt", "b/copy.txt"] == [action["path"] for action in plan["actions"]]
    assert {"b/near.txt"} == {action["kept"]["path"] for action in plan["actions"]}
    assert 0 == twice("dedup", "apply", "plan.json").code
    assert (twice.folder / "a/heron.txt").exists()
    ended = twice("dedup", "apply", "plan.json", "--yes")
    assert 0 == ended.code, ended.err
    assert not (twice.folder / "a/heron.txt").exists()
    assert {} == grouped(report(twice, "--level", "document"))
    assert 0 == twice("dedup", "undo").code
    assert before == report(twice, "--level", "document")


def test_a_plan_against_another_collection_names_its_files(twice: Any) -> None:
    twice.write("other/test.txt", LINES[0] + "\n")
    twice.index("other", "--collection", "test")
    assert 0 == twice("dedup", "plan", "--against", "test", "-o", "plan.json").code
    plan = json.loads((twice.folder / "plan.json").read_text())
    assert {str(twice.folder / "other/test.txt")} == {action["kept"]["path"] for action in plan["actions"]}
    ended = twice("dedup", "apply", "plan.json", "--yes")
    assert 0 == ended.code, ended.err
    assert (twice.folder / "other/test.txt").exists()
    assert not (twice.folder / "b/near.txt").exists()


def test_the_page_has_the_numbers_of_the_report(twice: Any) -> None:
    ended = twice("dedup", "--html", "duplicates.html", "--format", "json")
    page = (twice.folder / "duplicates.html").read_text(encoding="utf-8")
    assert f'value="{ended.json["summary"]["bytes_saved"]}"' in page
    assert "a/heron.txt" in page


def test_a_section_that_stands_there_more_often_makes_another_text(shell: Any) -> None:
    part = "<h2>Status</h2><p>Total: 0 of all the runs that were ever made by anybody here.</p>"
    for name, times in (("three", 3), ("five", 5)):
        shell.write(f"{name}.html", f"<html><body><h1>Log</h1>{part * times}</body></html>")
    shell.index(".")
    found = report(shell, "--level", "document", "--near-threshold", "1", "--threshold", "1")
    assert 0 == found["summary"]["tiers"]["exact"]["dropped"]


def test_what_was_run_before_does_not_change_a_byte(twice: Any) -> None:
    first = twice("dedup", "--format", "json").out
    report(twice, "--threshold", "0.2")
    assert first == twice("dedup", "--format", "json").out


def test_no_score_is_below_its_threshold(shell: Any) -> None:
    words = [f"w{number}" for number in range(21)]
    shell.write("a.txt", " ".join(words))  # 17 runs of five
    shell.write("b.txt", " ".join([*words[:-3], "x", "y", "z"]))  # 14 of them, and 3 others: 14 of 20
    shell.index(".")
    (group,) = report(shell, "--threshold", "1")["groups"]
    assert ("near", 0.7) == (group["dropped"][0]["tier"], group["dropped"][0]["score"])


def test_no_option_is_ignored(twice: Any, subtests: pytest.Subtests) -> None:
    for args, message in [
        (("--curve", "-f", "csv"), "--curve is for the table"),
        (("-k", "3", "-f", "json"), "--limit is for the table"),
        (("-k", "3", "--curve"), "--curve shows none"),
        (("--device", "gpu"), "--device is 'gpu'"),
        (("--path", "nowhere/"), "holds no chunk that passes the filters"),
    ]:
        with subtests.test(args=args, message=message):
            ended = twice("dedup", *args)
            assert 2 == ended.code
            assert message in " ".join(ended.err.split())
