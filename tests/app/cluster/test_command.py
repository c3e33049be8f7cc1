"""`searchctl cluster`: themes of real files through the index, lasting ids, and every form of output."""

from __future__ import annotations

import csv
import io
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

THEMES = {
    "garden": ["tomato", "soil", "seeds", "compost", "watering", "pruning", "roses", "hedge", "spade", "greenhouse"],
    "sea": ["tide", "harbour", "sail", "anchor", "lighthouse", "gull", "wave", "captain", "rope", "deck"],
    "code": ["compiler", "function", "pointer", "stack", "variable", "loop", "parser", "token", "memory", "thread"],
}


def text(theme: str, seed: int) -> str:
    return " ".join(random.Random(f"{theme}{seed}").choices(THEMES[theme], k=40))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {f"{theme}/{number:02}.txt": text(theme, number) for theme in THEMES for number in range(12)}


@pytest.fixture
def themes(shell: Any, texts: dict[str, str]) -> Any:
    """A shell with twelve texts on each of three themes."""
    for path, said in texts.items():
        shell.write(path, said + "\n")
    shell.index(*THEMES)
    return shell


def report(shell: Any, *args: str) -> Any:
    ended = shell("cluster", *args, "--format", "json")
    assert ended.code == 0, ended.err
    return ended.json


def members(found: Any) -> dict[int, set[str]]:
    """Return the folders that each cluster's items are in."""
    got: dict[int, set[str]] = {}
    for item in found["assignments"]:
        if item["cluster"] is not None:
            got.setdefault(item["cluster"], set()).add(item["path"].split("/")[0])
    return got


def test_each_method_finds_the_three_themes(themes: Any, subtests: pytest.Subtests) -> None:
    for options in [
        ("--method", "kmeans"),
        ("--method", "kmeans", "-n", "3"),
        ("--method", "agglomerative"),
        ("--method", "hdbscan", "--min-size", "4"),
        ("--method", "leiden", "--resolution", "0.8"),
    ]:
        for level in ["chunk", "document"]:
            with subtests.test(options=options, level=level):
                found = report(themes, *options, "--level", level)
                assert [{"code"}, {"garden"}, {"sea"}] == sorted(members(found).values(), key=sorted)
                for cluster in found["clusters"]:
                    (theme,) = members(found)[cluster["id"]]
                    assert {word for keyword, _ in cluster["keywords"] for word in keyword.split()} <= set(
                        THEMES[theme]
                    )
                    assert cluster["medoid"]["path"].startswith(f"{theme}/")
                    assert cluster["representatives"][0] == cluster["medoid"]
                    near = [one["to_center"] for one in found["assignments"] if one["cluster"] == cluster["id"]]
                    assert cluster["size"] == len(near)
                    assert cluster["cohesion"] == pytest.approx(sum(near) / len(near), abs=1e-6)
                noise = sum(one["cluster"] is None for one in found["assignments"])
                assert found["noise"] == ({"size": noise} if noise else None)


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_indexing(shell: Any, texts: dict[str, str]) -> None:
    for path, said in texts.items():
        shell.write(path, said)
    outputs = []
    for seed in (1, 2):
        for path in random.Random(seed).sample(list(texts), len(texts)):
            shell.index(path, "--collection", f"c{seed}")
        found = [
            shell("cluster", "--method", method, "--collection", f"c{seed}", "--format", "json").out
            for method in ("kmeans", "leiden", "hdbscan", "agglomerative")
        ]
        outputs.append([one.replace(f"/c{seed}", "/c") for one in found])
        again = shell("cluster", "--method", "agglomerative", "--collection", f"c{seed}", "--format", "json").json
        assert all(cluster["known"] for cluster in again["clusters"])
    assert outputs[0] == outputs[1]


def test_ids_last_when_texts_come_and_go(themes: Any) -> None:
    before = report(themes, "--method", "kmeans", "-n", "3")
    theme_of = {id_: next(iter(names)) for id_, names in members(before).items()}
    assert [1, 2, 3] == sorted(theme_of)
    assert not any(cluster["known"] for cluster in before["clusters"])
    for number in range(12, 30):
        themes.write(f"sea/{number}.txt", text("sea", number))
    for number in range(5):
        (themes.folder / f"garden/{number:02}.txt").unlink()
    for number in range(12):
        themes.write(
            f"bread/{number:02}.txt", " ".join(random.Random(number).choices(["dough", "yeast", "oven", "rye"], k=40))
        )
    themes.index(*THEMES, "bread", "--prune")
    after = report(themes, "--method", "kmeans", "-n", "4")
    now = {id_: next(iter(names)) for id_, names in members(after).items()}
    assert theme_of.items() <= now.items()
    assert "bread" == now[4]
    assert {1: True, 2: True, 3: True, 4: False} == {cluster["id"]: cluster["known"] for cluster in after["clusters"]}


def test_an_id_is_never_used_twice(themes: Any) -> None:
    report(themes, "--method", "kmeans", "-n", "3")
    gone = {cluster["id"] for cluster in report(themes, "--method", "kmeans", "-n", "1")["clusters"]}
    ids = {cluster["id"] for cluster in report(themes, "--method", "kmeans", "-n", "6")["clusters"]}
    assert not (ids - gone) & {1, 2, 3} - gone
    assert len(ids) == 6


def test_a_query_searches_in_one_cluster(themes: Any) -> None:
    found = report(themes, "--method", "kmeans", "-n", "3")
    (sea,) = (id_ for id_, names in members(found).items() if names == {"sea"})
    hits = themes.hits("tomato tide", "--cluster", str(sea), "-k", "40")
    assert 12 == len(hits)
    assert all(hit["path"].startswith("sea/") for hit in hits)


def test_an_instruction_changes_the_vectors(shell: Any, texts: dict[str, str], tiny_folder: Path) -> None:
    for path in list(texts)[::6]:
        shell.write(path, texts[path])
    ended = shell("index", *THEMES, "--model", tiny_folder, "--precision", "fp32")
    assert 0 == ended.code, ended.err
    plain, told = (
        report(shell, "--method", "kmeans", "-n", "2", *said) for said in ((), ("--instruction", "Identify the theme"))
    )
    assert [None, "Identify the theme"] == [found["settings"]["instruction"] for found in (plain, told)]
    assert [one["to_center"] for one in plain["assignments"]] != [one["to_center"] for one in told["assignments"]]


def test_an_instruction_embeds_the_texts_once(themes: Any) -> None:
    report(themes, "--method", "kmeans", "-n", "3", "--instruction", "Identify the theme")
    file = themes.folder / ".searchctl/instructed.sqlite"

    def kept() -> int:
        with sqlite3.connect(file) as connection:
            return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])

    assert 36 == kept()
    themes.write("sea/new.txt", text("sea", 99))
    themes.index("sea")
    again = report(themes, "--method", "kmeans", "-n", "3", "--instruction", "Identify the theme")
    assert 37 == kept() == again["items"]
    report(themes, "--method", "kmeans", "-n", "3", "--instruction", "Identify the mood")
    assert 74 == kept()


def test_a_part_is_clustered_without_touching_what_queries_know(themes: Any) -> None:
    report(themes, "--method", "kmeans", "-n", "3")
    stored = (themes.folder / ".searchctl/clusters.json").read_bytes()
    ended = themes("cluster", "--path", "sea/", "--method", "kmeans", "-n", "2", "--format", "json")
    assert {"sea"} == set().union(*members(ended.json).values())
    assert "only a part was clustered" in ended.err
    assert stored == (themes.folder / ".searchctl/clusters.json").read_bytes()


def test_a_damaged_file_of_clusters_is_said_and_made_anew(themes: Any) -> None:
    report(themes, "--method", "kmeans", "-n", "3")
    (themes.folder / ".searchctl/clusters.json").write_text("{")
    ended = themes("cluster", "--method", "kmeans", "-n", "3", "--format", "json")
    assert 0 == ended.code
    assert "numbered from 1 again" in ended.err
    assert all(cluster["known"] for cluster in report(themes, "--method", "kmeans", "-n", "3")["clusters"])


def test_lines_and_rows_are_the_assignments(themes: Any) -> None:
    found = report(themes, "--method", "kmeans", "-n", "3")
    lines = [
        json.loads(line) for line in themes("cluster", "--method", "kmeans", "-n", "3", "-f", "jsonl").out.splitlines()
    ]
    assert [{"schema": 1, **one} for one in found["assignments"]] == lines
    rows = list(csv.DictReader(io.StringIO(themes("cluster", "--method", "kmeans", "-n", "3", "-f", "csv").out)))
    titles = {cluster["id"]: cluster["title"] for cluster in found["clusters"]}
    assert [(str(one["cluster"]), titles[one["cluster"]], one["path"]) for one in found["assignments"]] == [
        (row["cluster"], row["title"], row["path"]) for row in rows
    ]


def test_the_table_shows_sizes_words_and_a_passage(themes: Any) -> None:
    ended = themes("cluster", "--method", "kmeans")
    assert "3 clusters of 36 chunks by kmeans, the number chosen by silhouette among" in ended.out
    assert "searchctl query TEXT --cluster" in ended.err
    for theme, words in THEMES.items():
        (line,) = (line for line in ended.out.splitlines() if any(word in line for word in words) and ", " in line)
        assert " 12 " in line, theme


def test_the_page_has_a_map_that_is_drawn_once(themes: Any) -> None:
    ended = themes("cluster", "--method", "kmeans", "-n", "3", "--html", "topics.html", "--format", "json")
    page = (themes.folder / "topics.html").read_text(encoding="utf-8")
    assert "<canvas" in page
    assert all(-1 <= one[axis] <= 1 for one in ended.json["assignments"] for axis in "xy")
    (file,) = (themes.folder / ".searchctl/maps").iterdir()
    written = file.stat().st_mtime_ns
    again = themes("cluster", "--method", "kmeans", "-n", "3", "--html", "topics.html", "--format", "json")
    assert written == file.stat().st_mtime_ns
    assert ended.json["assignments"] == again.json["assignments"]


def test_mistakes_are_explained(themes: Any, subtests: pytest.Subtests) -> None:
    for args, message in [
        (("--method", "hdbscan", "-n", "3"), "hdbscan finds the number itself"),
        (("--method", "kmeans", "--resolution", "2"), "kmeans does not use it"),
        (("--method", "kmeans", "-n", "400"), "n is 400, but 36 different vectors are there"),
        (("--path", "nowhere/"), "holds no chunk that passes the filters"),
        (("--html", "no/where.html"), "is no folder to write to"),
        (("--html", "x.html", "--map", "umap"), "report"),
        (("--resolution", "-1"), "resolution is -1"),
    ]:
        with subtests.test(args=args, message=message):
            ended = themes("cluster", *args)
            assert 2 == ended.code, ended.out
            assert message in " ".join(ended.err.split())
            assert "bug" not in ended.err


def test_what_is_said_hundreds_of_times_stays_together_and_counts_once(themes: Any, subtests: pytest.Subtests) -> None:
    for method in ["leiden", "kmeans", "hdbscan"]:
        with subtests.test(method=method):
            copies = [
                "sea/00.txt",
                *(f"copies/{number:03}.txt" for number in random.Random(3).sample(range(1000), 300)),
            ]
            for path in copies[1:]:
                themes.write(path, text("sea", 0) + "\n")
            themes.index("copies")
            found = report(themes, "--method", method)
            homes = {one["cluster"] for one in found["assignments"] if one["path"] in copies}
            assert 1 == len(homes)
            assert found["clusters"] == sorted(found["clusters"], key=lambda one: -one["size"])
            assert sum(one["size"] for one in found["clusters"]) + (found["noise"] or {"size": 0})["size"] == 336


def test_no_option_is_ignored(themes: Any, subtests: pytest.Subtests) -> None:
    for args, message in [
        (("-f", "csv", "-k", "3"), "--limit is for the table"),
        (("--map", "umap"), "--html FILE"),
        (("--precision", "fp32"), "--precision is for encoding"),
        (("-n", "3"), "searchctl cluster --method kmeans -n 3"),
    ]:
        with subtests.test(args=args, message=message):
            ended = themes("cluster", *args)
            assert 2 == ended.code
            assert message in " ".join(ended.err.split())


def test_an_instruction_is_not_embedded_for_what_cannot_be_clustered(themes: Any) -> None:
    ended = themes("cluster", "--method", "kmeans", "-n", "99", "--instruction", "Identify the theme")
    assert 2 == ended.code
    assert not (themes.folder / ".searchctl/instructed.sqlite").exists()


def test_the_query_that_is_suggested_names_the_collection(themes: Any) -> None:
    assert "--collection" not in themes("cluster").err
    (themes.folder / ".searchctl").rename(themes.folder / "kb")
    said = themes("cluster", "--collection", "kb").err
    suggested = said.split("search in one: `searchctl ")[1].split("`")[0].split()
    assert suggested[-2:] == ["--collection", "kb"]
