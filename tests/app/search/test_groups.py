"""`searchctl query --cluster` and `--collapse duplicates`, and the stored groups they go by."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchctl.app.collection.stored_groups import (
    CLUSTERS_FILE,
    DUPLICATES_FILE,
    Level,
    StoredCluster,
    StoredClusters,
    StoredDuplicates,
    read_clusters,
    read_duplicates,
    write_clusters,
    write_duplicates,
)
from searchctl.app.errors import AppError, ResultNotStoredError
from searchctl.app.search.collapse import Sameness
from searchctl.index.collection import FolderCollection
from searchctl.index.protocol import ChunkKey

MODES = ("hybrid", "dense", "lexical")

DUPLICATES = StoredDuplicates(
    level="chunk", threshold=0.95, near_threshold=0.7, changes=4, groups=(("a", "b"), ("c", "d", "\u00e9"))
)
CLUSTERS = StoredClusters(
    level="document",
    method="kmeans",
    settings={"n": 2, "seed": 0, "instruction": None},
    changes=4,
    next_id=9,
    clusters=(
        StoredCluster(id=3, title="garden, tomato", medoid="b", members=("a", "b")),
        StoredCluster(id=8, title="", medoid="c", members=("c",)),
    ),
    noise=("d",),
)


def test_stored_groups_come_back_as_they_were(tmp_path: Path) -> None:
    assert read_duplicates(tmp_path) is None
    assert read_clusters(tmp_path) is None
    write_duplicates(tmp_path, replace(DUPLICATES, groups=()))
    write_duplicates(tmp_path, DUPLICATES)
    write_clusters(tmp_path, CLUSTERS)
    assert DUPLICATES == read_duplicates(tmp_path)
    assert CLUSTERS == read_clusters(tmp_path)
    assert {DUPLICATES_FILE, CLUSTERS_FILE} == {path.name for path in tmp_path.iterdir()}
    data = json.loads((tmp_path / DUPLICATES_FILE).read_bytes())
    assert {
        "schema": 1, "level": "chunk", "threshold": 0.95, "near_threshold": 0.7, "changes": 4,
        "groups": [["a", "b"], ["c", "d", "\u00e9"]], "contents": {},
    } == data  # fmt: skip
    data = json.loads((tmp_path / CLUSTERS_FILE).read_bytes())
    assert {"id": 3, "title": "garden, tomato", "medoid": "b", "members": ["a", "b"]} == data["clusters"][0]
    assert ["schema", "level", "method", "settings", "changes", "next_id", "clusters", "noise"] == list(data)


def test_damaged_duplicates_are_said_with_the_way_out(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for change, said in [
        (None, "damaged"),
        ({"schema": 2}, r"newer searchctl \(schema 2, this one knows 1\)"),
        ({"schema": "1"}, "schema is '1', expected int"),
        ({"level": "page"}, "level is 'page'"),
        ({"threshold": "x"}, "threshold is 'x'"),
        ({"changes": True}, "changes is 'True'"),
        ({"groups": {}}, "groups is '{}'"),
        ({"groups": [["a"]]}, "fewer than two"),
        ({"groups": [["a", 1]]}, "no list of names"),
        ({"groups": [["a", "b"], ["b", "c"]]}, "b is there twice"),
        ({"more": 1}, "'more' is not known"),
    ]:
        with subtests.test(change=change, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            write_duplicates(tmp_path, DUPLICATES)
            file = tmp_path / DUPLICATES_FILE
            whole = file.read_text(encoding="utf-8")
            file.write_text(
                whole[:-9] if change is None else json.dumps({**json.loads(whole), **change}), encoding="utf-8"
            )
            with pytest.raises(AppError, match=said) as caught:
                read_duplicates(tmp_path)
            assert caught.value.next_command == ("dedup",)
            assert DUPLICATES_FILE in str(caught.value)


def test_damaged_clusters_are_said_with_the_way_out(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for change, said in [
        ({"next_id": 8}, "has id 8, next_id is 8"),
        ({"noise": ["a"]}, "a is there twice"),
        ({"noise": None}, "noise is 'None'"),
        ({"clusters": [7]}, "a cluster is '7'"),
        ({"clusters": [{"id": 1, "title": "", "medoid": "x", "members": ["a"]}]}, "medoid of cluster 1"),
        ({"clusters": [{"id": 1, "title": "", "members": ["a"]}]}, "has no 'medoid'"),
        ({"clusters": [{"id": -1, "title": "", "medoid": "a", "members": ["a"]}]}, "has id -1"),
        ({"clusters": [{"id": 1, "title": "", "medoid": m, "members": [m]} for m in "ab"]}, "the same id"),
    ]:
        with subtests.test(change=change, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            write_clusters(tmp_path, CLUSTERS)
            file = tmp_path / CLUSTERS_FILE
            file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}), encoding="utf-8")
            with pytest.raises(AppError, match=said) as caught:
                read_clusters(tmp_path)
            assert caught.value.next_command == ("cluster",)


def test_what_cannot_be_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        write_duplicates(tmp_path, replace(DUPLICATES, groups=(("a",),)))
    with pytest.raises(ValueError, match="next_id is 3"):
        write_clusters(tmp_path, replace(CLUSTERS, next_id=3))
    assert [] == list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_to_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A missing folder, as permissions do not stop root."""
    with pytest.raises(ResultNotStoredError, match=r"cannot write .*duplicates\.json") as caught:
        write_duplicates(tmp_path / "none", DUPLICATES)
    assert caught.value.next_command == ("dedup",)


# Which chunk stands for which.

KEYS = st.lists(st.tuples(st.sampled_from("pqrstu"), st.sampled_from("PQRS")), max_size=25)
PARTITIONS = st.lists(st.integers(0, 3), min_size=6, max_size=6)


def sameness(level: Level, names: str, numbers: list[int]) -> Sameness:
    """Group names by number; 0 means in no group."""
    groups = [tuple(n for n, at in zip(names, numbers, strict=False) if at == number) for number in (1, 2, 3)]
    stored = replace(DUPLICATES, level=level, groups=tuple(group for group in groups if len(group) > 1))
    return Sameness(stored)


def keys_of(rows: list[tuple[str, str]]) -> list[ChunkKey]:
    return [ChunkKey(id=at, hash=hash_, path=path, ordinal=0, lines=None) for at, (hash_, path) in enumerate(rows)]


@given(rows=KEYS, numbers=PARTITIONS)
def test_chunks_that_say_the_same_are_shown_once(rows: list[tuple[str, str]], numbers: list[int]) -> None:
    group = {
        hash_: number if number and numbers.count(number) > 1 else hash_
        for hash_, number in zip("pqrstu", numbers, strict=True)
    }
    expected: dict[object, list[int]] = {}
    for at, (hash_, _) in enumerate(rows):
        expected.setdefault(group[hash_], []).append(at)
    shown = sameness("chunk", "pqrstu", numbers).collapse(keys_of(rows))
    assert [(ids[0], ids[1:]) for ids in expected.values()] == list(shown.items())


@given(rows=KEYS, numbers=PARTITIONS, levels=st.sampled_from(["chunk", "document"]), cut=st.integers(0, 25))
def test_what_is_shown_does_not_depend_on_what_comes_after(
    rows: list[tuple[str, str]], numbers: list[int], levels: Level, cut: int
) -> None:
    same = sameness(levels, "pqrstu" if levels == "chunk" else "PQRS", numbers)
    whole, part = same.collapse(keys_of(rows)), same.collapse(keys_of(rows[:cut]))
    assert list(part) == list(whole)[: len(part)]
    assert sorted([*whole, *(id_ for others in whole.values() for id_ in others)]) == list(range(len(rows)))


@given(rows=KEYS, numbers=PARTITIONS)
def test_of_documents_that_say_the_same_the_best_is_shown(rows: list[tuple[str, str]], numbers: list[int]) -> None:
    same = sameness("document", "PQRS", numbers)
    group = {path: number for path, number in zip("PQRS", numbers, strict=False) if numbers[:4].count(number) > 1}
    best: dict[int, str] = {}
    for _, path in rows:
        if group.get(path):
            best.setdefault(group[path], path)
    shown = same.collapse(keys_of(rows))
    hashes = [rows[id_][0] for id_ in shown]
    assert len(set(hashes)) == len(hashes)
    for id_ in shown:
        path = rows[id_][1]
        assert not group.get(path) or best[group[path]] == path


# The command.


def keyed(shell: Any) -> tuple[FolderCollection, dict[str, str]]:
    """Return the collection and the hash of the first chunk of each document."""
    collection = FolderCollection.open(shell.folder / ".searchctl")
    keys = collection.keys(collection.find_chunks(paths=sorted(collection.files())).tolist())
    return collection, {key.path: key.hash for key in reversed(keys)}


def store(shell: Any, *, groups: list[list[str]] | None = None, clusters: dict[int, list[str]] | None = None,
          noise: tuple[str, ...] = (), level: Level = "chunk") -> None:  # fmt: skip
    """Store groups of documents, each of one chunk where the level is chunk."""
    collection, hashes = keyed(shell)

    def named(paths: Any) -> tuple[str, ...]:
        return tuple(hashes[path] if level == "chunk" else path for path in paths)

    if groups is not None:
        made = tuple(named(group) for group in groups)
        files = collection.files()
        contents = {path: files[path].content_hash for group in groups for path in group if level == "document"}
        write_duplicates(
            collection.path,
            replace(DUPLICATES, level=level, changes=collection.changes, groups=made, contents=contents),
        )
    if clusters is not None:
        found = tuple(
            StoredCluster(id=id_, title=f"about {id_}", medoid=named(paths)[0], members=named(paths))
            for id_, paths in clusters.items()
        )
        write_clusters(
            collection.path,
            replace(CLUSTERS, level=level, changes=collection.changes, clusters=found, noise=named(noise)),
        )
    collection.close()


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shelf is kept once it is indexed."""
    return tmp_path_factory.mktemp("shelf") / "work"


@pytest.fixture
def shelf(shell: Any, words: Any, indexed: Path) -> Any:
    """48 documents of one chunk each: 0 to 39 differ, 40 to 47 are copies of 0 to 7."""
    if indexed.exists():
        shutil.copytree(indexed, shell.folder, dirs_exist_ok=True)
        return shell
    for number in range(48):
        at = number % 40
        text = f"heron {words(at, 12)} fish {'heron ' * (at % 7)}\n"
        shell.write(f"{'even' if number % 2 == 0 else 'odd'}/{number:02}.{'md' if at % 3 else 'txt'}", text)
    shell.index("even", "odd")
    shutil.copytree(shell.folder, indexed)
    return shell


def paths(hits: list[dict[str, Any]]) -> list[str]:
    return [hit["path"] for hit in hits]


def named(*numbers: int) -> list[str]:
    return [f"{'odd' if n % 2 else 'even'}/{n:02}.{'md' if n % 40 % 3 else 'txt'}" for n in numbers]


@pytest.mark.parametrize("level", ["chunk", "document"])
def test_cluster_restricts_before_the_best_are_chosen(shelf: Any, level: Level) -> None:
    store(shelf, clusters={2: named(1, 2, 3), 5: named(4, 20, 21)}, noise=tuple(named(7, 8)), level=level)
    copies = {1: 41, 2: 42, 3: 43, 4: 44, 7: 47} if level == "chunk" else {}  # word for word the same
    for mode in MODES:
        hits = shelf.hits("heron fish", "--mode", mode, "-k", "60", "--cluster", "2")
        assert sorted(named(1, 2, 3, *(copies[n] for n in (1, 2, 3) if copies))) == sorted(paths(hits))
        if mode != "hybrid":
            whole = shelf.hits("heron fish", "--mode", mode, "-k", "60")
            score = {hit["path"]: hit["score"] for hit in whole}
            assert [score[hit["path"]] for hit in hits] == [hit["score"] for hit in hits]
            assert paths(hits) == [path for path in paths(whole) if path in paths(hits)]
    two = paths(shelf.hits("heron", "-k", "60", "--cluster", "5", "--cluster", "noise"))
    assert two == paths(shelf.hits("heron", "-k", "60", "--cluster", " 5,noise"))
    assert set(named(4, 20, 21, 7, 8)) <= set(two)
    assert len(two) == (7 if copies else 5)


def test_cluster_goes_with_the_other_filters_and_pages(shelf: Any) -> None:
    store(shelf, clusters={0: named(*range(30)), 1: named(*range(30, 40))})
    ask = ("heron word7919", "--cluster", "0", "--path", "odd/", "--type", "md")
    for mode in MODES:
        whole = shelf.hits(*ask, "--mode", mode, "-k", "60")
        assert sorted(named(*(n for n in (*range(1, 30, 2), 41, 43, 45, 47) if n % 40 % 3))) == sorted(paths(whole))
        pages = [hit for at in (0, 5, 10) for hit in shelf.hits(*ask, "--mode", mode, "-k", "5", "--offset", str(at))]
        assert pages == whole[:15]


def test_cluster_that_is_not_there(shelf: Any) -> None:
    ended = shelf("query", "heron", "--cluster", "2", "--format", "json")
    told = json.loads(ended.err)
    assert (ended.code, told["hint"]) == (2, "searchctl cluster")
    assert "no clusters" in told["error"]
    store(shelf, clusters={4: named(1), 7: named(2, 3, 4)})
    for value in ("5", "x", "", "4,", "-4", "\u0664"):
        ended = shelf("query", "heron", f"--cluster={value}")
        assert ended.code == 2
        assert "There are 7 (about 7), 4 (about 4)" in ended.err
    ended = shelf("query", "heron", "--cluster", "noise")
    assert ended.code == 1
    assert "no passage is noise" in ended.err
    assert "no hit that passes the filters" in ended.err
    (shelf.folder / ".searchctl" / CLUSTERS_FILE).write_text("{")
    ended = shelf("query", "heron", "--cluster", "4")
    assert ended.code == 2
    assert "damaged" in ended.err


def test_what_came_after_the_clusters_is_counted(shelf: Any) -> None:
    store(shelf, clusters={0: named(*range(40))})
    assert shelf("query", "heron", "--cluster", "0").err == ""
    shelf.write("even/new.md", "An egret came later.\n")
    shelf.write("even/00.txt", "All of this was written again.\n")
    shelf.index("even")
    ended = shelf("query", "heron egret", "--cluster", "0", "-k", "60", "-l")
    assert "2 chunks are in no cluster yet" in ended.err
    assert "`searchctl cluster`" in ended.err
    assert "even/new.md" not in ended.out
    assert "even/00.txt" not in ended.out
    assert len(ended.out.splitlines()) == 47


def test_collapsed_pages_add_up_with_the_same_duplicates(shelf: Any, subtests: pytest.Subtests) -> None:
    for mode in MODES:
        with subtests.test(mode=mode):
            groups = [named(0, 9, 18), named(1, 30), named(10, 11, 12, 13, 14, 15)]
            store(shelf, groups=groups)
            ask = ("heron fish word7919", "--mode", mode, "--no-snippet", "--collapse", "duplicates")
            whole = shelf.hits(*ask, "-k", "60")
            pages = [h for at in range(0, 40, 7) for h in shelf.hits(*ask, "-k", "7", "--offset", str(at))]
            assert pages == whole
            assert [hit["rank"] for hit in whole] == list(range(1, 33))
            plain = {h["path"]: h for h in shelf.hits(*ask[:-2], "-k", "60")}
            order = list(plain)
            alike = [{*named(n, n + 40)} for n in range(8)]
            for group in groups:
                joined = {path for path in group for same in [{path}, *alike] if path in same for path in same}
                alike = [same for same in alike if not same & joined] + [joined]
            for hit in whole:
                expected = next((same for same in alike if hit["path"] in same), {hit["path"]})
                ranked = [path for path in order if path in expected]
                assert [hit["path"], *paths(hit["duplicates"])] == ranked
                assert [other["score"] for other in hit["duplicates"]] == [plain[path]["score"] for path in ranked[1:]]
                assert hit["score"] == plain[hit["path"]]["score"]
            assert paths(whole) == [path for path in order if path in paths(whole)]


def test_collapse_goes_with_filters_and_a_least_score(shelf: Any, subtests: pytest.Subtests) -> None:
    for mode in MODES:
        with subtests.test(mode=mode):
            store(shelf, groups=[named(1, 2, 3), named(5, 6)], clusters={1: named(1, 2, 5, 20)})
            ask = ("heron fish", "--mode", mode, "--collapse", "duplicates", "--path", "odd/", "--cluster", "1")
            hits = shelf.hits(*ask, "-k", "1") + shelf.hits(*ask, "-k", "9", "--offset", "1")
            shown = {frozenset([hit["path"], *paths(hit["duplicates"])]) for hit in hits}
            assert {frozenset(named(1, 41)), frozenset(named(5, 45))} == shown
            everything = shelf.hits("heron fish", "--mode", mode, "-k", "60")
            least = everything[20]["score"]
            some = shelf.hits(
                "heron fish", "--mode", mode, "-k", "2", "--collapse", "duplicates", "--min-score", str(least)
            )
            scores = [score for hit in some for score in (hit["score"], *(h["score"] for h in hit["duplicates"]))]
            assert min(scores) >= least


def test_duplicates_that_fill_the_first_places_are_passed_over(new_shell: Any, subtests: pytest.Subtests) -> None:
    for mode in ["dense", "lexical"]:
        with subtests.test(mode=mode):
            shell = new_shell()
            for number in range(60):
                shell.write(f"copies/{number:02}.txt", "heron heron heron fish\n")
            for number in range(3):
                shell.write(f"others/{number}.txt", f"heron {'word ' * (number + 3)}\n")
            shell.index("copies", "others")
            store(shell, groups=[])
            first = shell(
                "query", "heron fish", "-k", "2", "--mode", mode, "--collapse", "duplicates", "--format", "json"
            )
            answer = first.json["results"][0]
            assert [59, 0] == [len(hit["duplicates"]) for hit in answer["hits"]]
            assert answer["more"] is True
            rest = shell("query", "heron fish", "-k", "2", "--offset", "2", "--mode", mode, "--collapse", "duplicates",
                         "--format", "json").json["results"][0]  # fmt: skip
            assert (2, False) == (len(rest["hits"]), rest["more"])


def test_documents_in_one_group_are_shown_by_the_best(shell: Any, words: Any) -> None:
    text = "# Part {1}\n\nThe {0} heron stands in water {1}.\n\n"
    part = {name: "".join(text.format(name, n) for n in range(3)) for name in "ab"}
    shell.write("a.md", part["a"])
    shell.write("b.md", part["b"] + text.format("a", 0) + f"# Far\n\nOne heron, {words(3, 60)}.\n")
    shell.write("c.md", text.format("a", 0))
    for number in range(12):
        shell.write(f"d{number}.md", f"# Part\n\nA heron by the water, {words(number + 5, 12)}.\n")
    shell.index(".")
    store(shell, groups=[["a.md", "b.md"]], level="document")
    for mode in MODES:
        ask = ("heron water", "--mode", mode, "--collapse", "duplicates")
        whole = shell.hits(*ask, "-k", "60")
        assert 1 == len({hit["path"] for hit in whole} & {"a.md", "b.md"})
        assert any(len(hit["duplicates"]) > 2 for hit in whole)
        assert [hit for at in (0, 2, 4) for hit in shell.hits(*ask, "-k", "2", "--offset", str(at))] == whole[:6]
        at = next(hit["rank"] - 1 for hit in whole if len(hit["duplicates"]) > 2)
        assert whole[at] == shell.hits(*ask, "-k", "1", "--offset", str(at))[0]  # the others are further down
        everything = shell.hits("heron water", "--mode", mode, "-k", "60")
        assert len(everything) == sum(1 + len(hit["duplicates"]) for hit in whole)


def test_copies_that_came_after_dedup_are_duplicates_and_the_rest_is_said(shelf: Any) -> None:
    store(shelf, groups=[named(10, 11)])
    assert shelf("query", "heron", "--collapse", "duplicates").err == ""
    shelf.write("even/late.md", (shelf.folder / named(10)[0]).read_text())
    shelf.index("even")
    ended = shelf("query", "heron", "-k", "60", "--collapse", "duplicates", "--format", "json")
    assert "`searchctl dedup`" in ended.err
    hits = ended.json["results"][0]["hits"]
    (group,) = [hit for hit in hits if {hit["path"], *paths(hit["duplicates"])} & {"even/late.md"}]
    assert {*named(10, 11), "even/late.md"} == {group["path"], *paths(group["duplicates"])}


def test_collapse_before_dedup_names_the_command(shelf: Any) -> None:
    ended = shelf("query", "heron", "--collapse", "duplicates", "--format", "json")
    assert (2, "searchctl dedup") == (ended.code, json.loads(ended.err)["hint"])
    folder = shelf.folder / ".searchctl"
    shelf.folder = shelf.folder.parent
    ended = shelf("query", "heron", "--collapse", "duplicates", "--collection", folder, "--format", "json")
    assert f"searchctl dedup --collection {folder}" == json.loads(ended.err)["hint"]


def test_every_format_shows_what_hangs_on_a_hit(shelf: Any) -> None:
    store(shelf, groups=[])
    ask = ("query", "heron fish", "-k", "48", "--mode", "lexical", "--collapse", "duplicates", "--format")
    hits = shelf(*ask, "json").json["results"][0]["hits"]
    hit = next(hit for hit in hits if hit["duplicates"])
    (other,) = hit["duplicates"]
    assert {"path", "file", "lines", "chunk", "score"} == set(other)
    assert ([1, 1], 0) == (other["lines"], other["chunk"])
    assert Path(other["file"]) == shelf.folder / other["path"]
    assert hits == [
        {k: v for k, v in json.loads(line).items() if k in hit} for line in shelf(*ask, "jsonl").out.splitlines()
    ]
    rows = list(csv.DictReader(io.StringIO(shelf(*ask, "csv").out)))
    assert [str(len(hit["duplicates"])) for hit in hits] == [row["duplicates"] for row in rows]
    assert f"    +1 duplicate: {other['path']}:1\n" in shelf(*ask, "table").out
    assert f"\n   +1 duplicate: {other['path']}:1\n" in shelf(*ask, "md").out
    assert paths(hits) == shelf(*ask, "files").out.splitlines()
    assert all(hit["duplicates"] == [] for hit in shelf.hits("heron fish", "-k", "48"))


def test_written_form_is_that_of_the_dataclass() -> None:
    """A field that is added must be read too."""
    assert {"level", "threshold", "near_threshold", "changes", "groups", "contents"} == set(asdict(DUPLICATES))
