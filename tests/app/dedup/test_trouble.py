"""What may happen around `searchctl dedup apply` and `undo`: no file and no last copy of one is ever lost by it."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from searchctl.app.collection.talk import Talk
from searchctl.app.dedup.apply import Application, Applied, targets_of
from searchctl.app.dedup.plan import Action, Kept, Plan, write_plan
from searchctl.app.dedup.trash import State, Trash
from searchctl.app.dedup.undo import Undoing, Undone
from searchctl.app.errors import AppError
from searchctl.index.collection import FolderCollection
from searchctl.index.errors import CollectionLockedError
from searchctl.index.file_names import OWNER_FILE
from searchctl.index.lock import write_lock, writers_kept_out

HERON = "The heron stands in shallow water and waits for fish.\n"
BEES = "Bees dance to tell others where flowers bloom.\n"

other_disk = pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK) or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="needs a second file system",
)


class Killed(BaseException):
    """Ends a run at a step, as a kill does: nothing but `finally` runs."""


class House:
    """A shell's folder with a file that is there three times, indexed."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.root: Path = shell.folder
        self.collection = self.root / ".searchctl"
        for path, text in {"docs/a.md": HERON, "docs/c.md": HERON, "keep/b.md": HERON, "bees.md": BEES}.items():
            shell.write(path, text)
        shell.index("docs", "keep", "bees.md")

    def plan(self, *goes: str | Path, kept: str | Path = "keep/b.md", against: Path | None = None) -> Plan:
        def digest(path: str | Path) -> str:
            return blake3((self.root / path).read_bytes()).hexdigest()

        keeps = Kept(path=str(kept), content_hash=digest(kept))
        actions = tuple(
            Action(path=str(path), content_hash=digest(path), bytes=54, kept=keeps, tier="exact", score=1.0)
            for path in goes
        )
        return Plan(
            collection=str(self.collection), against=None if against is None else str(against), threshold=0.95,
            near_threshold=0.7, keep="longest", actions=actions,
        )  # fmt: skip

    def apply(self, plan: Plan, step: Callable[[str], None] | None = None) -> Applied:
        return Application(self.collection, plan, Talk(step=step)).apply()

    def undo(self, id_: str | None = None, step: Callable[[str], None] | None = None) -> Undone:
        return Undoing(self.collection, Talk(step=step)).undo(id_)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def indexed(self) -> set[str]:
        collection = FolderCollection.open(self.collection)
        try:
            assert [] == collection.verify()
            return set(collection.files())
        finally:
            collection.close()


@pytest.fixture
def house(shell: Any) -> House:
    return House(shell)


def at(name: str, do: Callable[[], object]) -> Callable[[str], None]:
    """Return a step that does this at the first step of this name."""
    done: list[str] = []

    def step(told: str) -> None:
        if told == name and not done:
            done.append(told)
            do()

    return step


def kill() -> None:
    raise Killed


def test_a_place_that_leads_to_the_trash_is_left(house: House) -> None:
    folder = house.apply(house.plan("docs/a.md", "docs/c.md")).folder
    (house.root / "docs").rmdir()
    (house.root / "docs").symlink_to(folder / "files/docs")
    (house.root / "keep/b.md").unlink()
    undone = house.undo()
    assert {"docs/a.md", "docs/c.md"} == set(undone.conflicts)
    assert "symlink" in undone.conflicts["docs/a.md"]
    assert State.PARTLY is undone.manifest.state
    assert HERON == (folder / "files/docs/a.md").read_text()
    # The same bytes behind a link are no second copy either.
    (house.root / "docs").unlink()
    house.shell.write("keep/a.md", HERON)
    (house.root / "docs").symlink_to("keep")
    assert "symlink" in house.undo().conflicts["docs/a.md"]
    (house.root / "docs").unlink()
    (house.root / "docs").mkdir()
    (house.root / "keep/a.md").rename(house.root / "keep/b.md")
    (house.root / "docs/a.md").hardlink_to(house.root / "keep/b.md")
    undone = house.undo()
    assert "the kept file itself" in undone.conflicts["docs/a.md"]
    assert (1, HERON) == ((house.root / "docs/c.md").stat().st_nlink, (folder / "files/docs/a.md").read_text())
    (house.root / "docs/a.md").unlink()
    assert house.undo().whole
    assert not (folder / "files").exists()


@pytest.mark.parametrize("name", ["apply:checked", "apply:move"])
def test_the_kept_file_is_looked_at_before_each_move(house: House, name: str) -> None:
    applied = house.apply(house.plan("docs/a.md", "docs/c.md"), at(name, (house.root / "keep/b.md").unlink))
    assert {"docs/a.md", "docs/c.md"} == set(applied.left)
    assert "kept file keep/b.md cannot be read" in applied.left["docs/a.md"]
    assert (HERON, HERON) == (house.read("docs/a.md"), house.read("docs/c.md"))
    assert {"docs/a.md", "docs/c.md"} <= house.indexed()
    assert [State.UNDONE] == [manifest.state for manifest in Trash(house.collection).manifests()], "nothing was taken"


def test_a_kept_file_that_becomes_a_link_to_what_goes(house: House) -> None:
    def relink() -> None:
        (house.root / "keep/b.md").unlink()
        (house.root / "keep/b.md").symlink_to("../docs/a.md")

    applied = house.apply(house.plan("docs/a.md"), at("apply:move", relink))
    assert "is the same file now" in applied.left["docs/a.md"]
    assert HERON == house.read("docs/a.md")


@pytest.mark.parametrize("change", ["gone", "other bytes"])
def test_a_kept_file_that_changed_between_a_kill_and_the_next_run(house: House, change: str) -> None:
    plan = house.plan("docs/a.md", "docs/c.md")
    with pytest.raises(Killed):
        house.apply(plan, at("apply:moved", kill))  # one is moved, one is not
    (house.root / "keep/b.md").unlink()
    if change == "other bytes":
        house.shell.write("keep/b.md", HERON.upper())
    write_plan(house.root / "plan.json", plan)
    ended = house.shell("dedup", "apply", "plan.json", "--yes", "--format", "json")
    assert 3 == ended.code
    assert "docs/c.md stays: the kept file keep/b.md" in ended.err
    assert [None, True] == [action["reason"] and "kept file" in action["reason"] for action in ended.json["actions"]]
    assert HERON == house.read("docs/c.md")
    assert house.undo().whole
    assert HERON == house.read("docs/a.md")
    assert {"docs/a.md", "docs/c.md"} <= house.indexed()


def test_what_is_left_is_named_and_done_by_the_same_command_later(house: House) -> None:
    plan = house.plan("docs/a.md", "docs/c.md")
    first = house.apply(plan, at("apply:checked", lambda: house.shell.write("docs/c.md", "my new text\n")))
    assert (("docs/a.md",), {"docs/c.md": "it changed meanwhile"}) == (first.moved, first.left)
    write_plan(house.root / "plan.json", plan)
    again = house.shell("dedup", "apply", "plan.json", "--yes")
    assert (3, True) == (again.code, "docs/c.md: it has changed" in again.err)
    house.shell.write("docs/c.md", HERON)
    shown = house.shell("dedup", "apply", "plan.json")
    assert (0, True, True) == (shown.code, "1 of the plan's 2 actions" in shown.err, "1 file," in shown.out)
    second = house.apply(plan)
    assert (("docs/c.md",), {}, {"docs/a.md"}) == (second.moved, second.left, second.before)
    assert house.apply(plan).repeated
    # Each is taken back by its own undo, and what was never taken is no matter of the first.
    house.shell.write("docs/c.md", "once more my own\n")
    assert house.undo(first.manifest.id).whole
    assert {"docs/c.md"} == set(house.undo(second.manifest.id).conflicts)
    assert "once more my own\n" == house.read("docs/c.md")


@other_disk
@pytest.mark.parametrize("when", ["while copied", "after a kill"])
def test_an_edit_during_a_copy_to_another_disk(house: House, when: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        outside = Path(folder) / "a.md"
        outside.write_text(HERON)
        info = outside.stat()
        house.shell.index(folder)
        plan = house.plan(outside)

        def edit() -> None:
            outside.write_text(HERON.upper())  # as long as before
            if when == "after a kill":
                os.utime(outside, ns=(info.st_atime_ns, info.st_mtime_ns))

        if when == "while copied":
            applied = house.apply(plan, at("copy:copied", edit))
            assert {str(outside): "it changed while it was copied"} == applied.left
            assert [] == list((house.root / ".searchctl-trash").rglob("a.md"))
        else:
            with pytest.raises(Killed):
                house.apply(plan, at("copy:named", kill))
            edit()
            house.apply(plan)
        assert HERON.upper() == outside.read_text()


@other_disk
def test_a_copy_is_given_up_when_the_kept_file_went_after_a_kill(house: House) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        outside = Path(folder) / "a.md"
        outside.write_text(HERON)
        house.shell.index(folder)
        plan = house.plan(outside)
        with pytest.raises(Killed):
            house.apply(plan, at("copy:named", kill))
        (house.root / "keep/b.md").unlink()
        assert [str(outside)] == list(house.apply(plan).left)
        assert HERON == outside.read_text()
        assert [] == list((house.root / ".searchctl-trash").rglob("a.md"))


def test_places_in_the_trash_differ_without_case_and_accents() -> None:
    paths = ["docs/A.md", "docs/a.md", "docs/e\u0301.md", "docs/\u00c9.md", "/x/a", "/X/A", "b.md"]
    targets = targets_of(paths)
    assert ("files/docs/A.md", "files-2/docs/a.md") == (targets["docs/A.md"], targets["docs/a.md"])
    assert ("files/docs/e\u0301.md", "files-2/docs/\u00c9.md") == (targets[paths[2]], targets[paths[3]])
    assert ("outside/x/a", "outside-2/X/A", "files/b.md") == (targets["/x/a"], targets["/X/A"], targets["b.md"])


def test_the_collection_of_the_kept_files_is_locked_meanwhile(house: House, caplog: pytest.LogCaptureFixture) -> None:
    other = house.root / "other" / ".searchctl"
    other.mkdir(parents=True)
    (other / OWNER_FILE).write_text('{"pid": 1, "host": "elsewhere", "started": "then"}')  # of a killed writer
    kept = house.shell.write("other/b.md", HERON)
    plan = house.plan("docs/a.md", kept=kept, against=other)
    with write_lock(other), pytest.raises(CollectionLockedError):
        house.apply(plan)
    (other / OWNER_FILE).write_text('{"pid": 1, "host": "elsewhere", "started": "then"}')

    def try_lock() -> None:
        with pytest.raises(CollectionLockedError), writers_kept_out(other):
            pass

    assert ("docs/a.md",) == house.apply(plan, at("apply:move", try_lock)).moved
    assert "elsewhere" in (other / OWNER_FILE).read_text(), "the next writer still learns of the killed one"
    house.undo()
    (other / "lock").unlink()
    (other / "lock").mkdir()  # cannot be locked
    house.apply(plan)
    assert "cannot be locked" in caplog.messages[0]


def test_two_collections_share_a_trash(house: House) -> None:
    """A manifest on its way in is one collection's own."""
    with pytest.raises(Killed):
        house.apply(house.plan("docs/a.md"), at("trash:manifest", kill))
    house.collection.rename(house.root / "second")
    house.collection = house.root / "second"
    house.apply(house.plan("docs/a.md"))
    trash = house.root / ".searchctl-trash"
    assert [".new-.searchctl"] == [path.name for path in trash.glob(".new*")], "not taken for that of the second"


def test_the_trash_is_no_root_and_nothing_in_it_counts(house: House) -> None:
    folder = house.apply(house.plan("docs/a.md")).folder
    (house.root / "link").symlink_to(".searchctl-trash")
    for path in (".searchctl-trash", folder / "files/docs/a.md", "link"):
        refused = house.shell("index", path, "--hidden", "--model", "hashing")
        assert (2, True) == (refused.code, "trash folder" in refused.err)
    house.shell.index()  # what was refused is not remembered
    kept = str((folder / "files/docs/a.md").relative_to(house.root))
    plan = replace(house.plan("docs/c.md", kept=kept), against=str(house.root / "nowhere"))
    with pytest.raises(AppError, match="lies in the trash folder"):
        house.apply(plan)


def test_part_files_of_a_person_stay(house: House) -> None:
    mine = house.shell.write("docs/.searchctl-part", "mine\n")
    house.apply(house.plan("docs/a.md"))
    assert house.undo().whole
    assert "mine\n" == mine.read_text()


@pytest.mark.parametrize("content", [None, b"x" * 5000])
def test_rows_that_are_damaged_or_gone_are_indexed_again(house: House, content: bytes | None) -> None:
    plan = house.plan("docs/a.md")
    rows = house.apply(plan).folder / "rows.db"
    rows.unlink()
    if content is not None:
        rows.write_bytes(content)
    ended = house.shell("dedup", "undo", "--format", "json")
    assert (3, ["docs/a.md"], "undone") == (ended.code, ended.json["to_index"], ended.json["state"])
    assert "rows.db is" in ended.err
    assert "`searchctl index`" in ended.err
    assert HERON == house.read("docs/a.md")
    assert 1 == house.shell.index()["added"]
    assert ("docs/a.md",) == house.apply(plan).moved, "nothing is in the way of the next"


def test_an_apply_that_was_ended_before_its_rows_is_undone_whole(house: House) -> None:
    with pytest.raises(Killed):
        house.apply(house.plan("docs/a.md"), at("trash:begun", kill))
    with pytest.raises(Killed):
        house.undo(step=at("undo:begun", kill))
    assert house.undo().whole


def test_a_file_that_is_nowhere_keeps_the_apply_and_its_rows(house: House) -> None:
    folder = house.apply(house.plan("docs/a.md")).folder
    away = (folder / "files/docs").rename(house.root / "away")
    ended = house.shell("dedup", "undo", "--format", "json")
    assert (3, "partly undone") == (ended.code, ended.json["state"])
    assert "neither at its place" in ended.err
    assert f"searchctl dedup undo {folder.name}" in ended.err
    away.rename(folder / "files/docs")
    assert house.undo().whole
    assert "docs/a.md" in house.indexed()


def test_one_file_that_cannot_be_moved_stops_no_other(house: House) -> None:
    house.apply(house.plan("docs/a.md", "docs/c.md"))
    (folder,) = (house.root / ".searchctl-trash").glob("*-*")
    in_the_way = house.root / "docs" / f".searchctl-{folder.name}.part"
    in_the_way.mkdir()  # cannot be unlinked

    undone = house.undo()
    assert {"docs/a.md", "docs/c.md"} == set(undone.conflicts)
    assert "cannot be moved back" in undone.conflicts["docs/a.md"]
    assert (State.PARTLY, True) == (undone.manifest.state, in_the_way.is_dir())
    in_the_way.rmdir()
    assert house.undo().whole

    def fail() -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    applied = house.apply(house.plan("docs/a.md", "docs/c.md"), at("apply:move", fail))
    assert {"docs/a.md": "it cannot be moved (operation not permitted)"} == applied.left
    assert ("docs/c.md",) == applied.moved


def test_a_file_that_was_edited_in_the_trash_comes_back_and_is_named(house: House) -> None:
    folder = house.apply(house.plan("docs/a.md", "docs/c.md")).folder
    (folder / "files/docs/a.md").write_text("edited\n")
    ended = house.shell("dedup", "undo", "--format", "json")
    assert (3, ["docs/a.md"], "undone") == (ended.code, ended.json["to_index"], ended.json["state"])
    assert "`searchctl index`" in ended.err
    assert "edited\n" == house.read("docs/a.md")
    assert ({"docs/c.md"}, False) == (house.indexed() & {"docs/c.md"}, "docs/a.md" in house.indexed())


def test_the_latest_of_two_applies_in_one_instant(house: House) -> None:
    first, second = house.apply(house.plan("docs/a.md")), house.apply(house.plan("docs/c.md"))
    manifest = second.folder / "manifest.json"
    later = json.loads(manifest.read_text()) | {"made": "2999-01-01T00:00:00+00:00"}
    manifest.write_text(json.dumps(later))  # the clock was put back since
    house.undo(first.manifest.id)
    third = house.apply(house.plan("docs/a.md"))
    assert third.manifest.made.microsecond == 1
    assert [third.manifest.id, second.manifest.id] == [house.undo().manifest.id, house.undo().manifest.id]


def test_commands_in_messages_name_the_collection(house: House) -> None:
    named = ("--collection", str(house.collection))
    ended = house.shell("dedup", "undo", *named)
    assert ended.err.endswith(f"hint: searchctl dedup undo --list --collection {house.collection}\n")
    with pytest.raises(Killed):
        house.apply(house.plan("docs/a.md"), at("apply:kept", kill))
    write_plan(house.root / "plan.json", house.plan("docs/c.md"))
    refused = house.shell("dedup", "apply", "plan.json", *named)
    assert f"--collection {house.collection}\n" in refused.err
    (manifest,) = (house.root / ".searchctl-trash").glob("*/manifest.json")
    manifest.write_text("{}")
    damaged = house.shell("dedup", "undo", *named)
    assert (3, True) == (damaged.code, f"Move the folder {manifest.parent} out of the trash" in damaged.err)
