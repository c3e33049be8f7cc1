"""`searchctl dedup apply` and `searchctl dedup undo`, as a person meets them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from searchctl.app.collection.talk import Talk
from searchctl.app.dedup.apply import Application
from searchctl.app.dedup.plan import Action, Kept, Plan, read_plan, write_plan
from searchctl.index.collection import FolderCollection
from searchctl.index.errors import StorageError
from searchctl.index.lock import write_lock

HERON = "The heron stands in shallow water and waits for fish.\n"
BEES = "Bees dance to tell others where flowers bloom.\n"
NAMES = {
    "docs/heron copy.txt": "docs/heron.txt",
    "docs/-dash.txt": "docs/heron.txt",
    "docs/deep/er/[1] *?#!\\ é.txt": "docs/bees.txt",
    "docs/deep/trailing ": "docs/bees.txt",
}


def digest(file: Path) -> str:
    return blake3(file.read_bytes()).hexdigest()


def plan_of(shell: Any, goes: dict[str, str], **changes: Any) -> Path:
    """Write a plan for files of the shell's folder as they are now, and return its path."""
    actions = tuple(
        Action(
            path=path, content_hash=digest(shell.folder / path), bytes=(shell.folder / path).stat().st_size,
            kept=Kept(path=kept, content_hash=digest(shell.folder / kept)), tier="exact", score=1.0,
        )
        for path, kept in goes.items()
    )  # fmt: skip
    values: dict[str, Any] = {"collection": str(shell.folder / ".searchctl"), "against": None, "threshold": 0.95}
    values |= {"near_threshold": 0.7, "keep": "longest", "actions": actions} | changes
    write_plan(shell.folder / "plan.json", Plan(**values))
    return shell.folder / "plan.json"


def tree(folder: Path) -> dict[str, Any]:
    """Everything but the collection and the trash: bytes, inode, time and mode of each name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.parts[0] in (".searchctl", ".searchctl-trash", ".searchctl.previous", "plan.json", "other"):
            continue
        info = path.lstat()
        is_file = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if is_file else b""
        found[str(relative)] = (content, info.st_ino, info.st_mtime_ns if is_file else 0, oct(info.st_mode))
    return found


def indexed(shell: Any) -> set[str]:
    collection = FolderCollection.open(shell.folder / ".searchctl")
    try:
        assert [] == collection.verify()
        assert collection.status().complete
        return set(collection.files())
    finally:
        collection.close()


@pytest.fixture
def twice(shell: Any) -> Any:
    """A shell with some documents that are there twice, indexed."""
    shell.write("docs/heron.txt", HERON)
    shell.write("docs/bees.txt", BEES)
    for path, kept in NAMES.items():
        shell.write(path, (shell.folder / kept).read_bytes())
    shell.index("docs")
    return shell


def test_dry_run_shows_and_changes_nothing(twice: Any) -> None:
    before = tree(twice.folder)
    plan = plan_of(twice, NAMES)
    ended = twice("dedup", "apply", plan)
    assert 0 == ended.code, ended.err
    assert "4 files" in ended.out
    assert "would go to the trash" in ended.out
    assert all(path in ended.out for path in NAMES)
    assert "add --yes" in ended.err
    found = twice("dedup", "apply", plan, "--format", "json").json
    assert (False, 4, None) == (found["applied"], found["files"], found["id"])
    assert [None] * 4 == [action["reason"] for action in found["actions"]]
    assert before == tree(twice.folder)
    assert not (twice.folder / ".searchctl-trash").exists()


def test_apply_moves_files_and_undo_brings_them_back(twice: Any) -> None:
    before, known = tree(twice.folder), indexed(twice)
    plan = plan_of(twice, NAMES)
    applied = twice("dedup", "apply", plan, "--yes", "--format", "json").json
    assert (True, 4, "applied") == (applied["applied"], applied["files"], applied["state"])
    folder = Path(applied["folder"])
    assert folder.parent == twice.folder / ".searchctl-trash"
    assert "*\n" == (folder.parent / ".gitignore").read_text()
    for path in NAMES:
        assert before[path] == tree(folder / "files")[path]
    assert known - NAMES.keys() == indexed(twice)
    assert (twice.folder / "docs/deep/er").is_dir(), "folders that are empty now stay"
    # The trash is not walked, not even with --hidden, and nothing is taken in again.
    summary = twice.index(".", "--hidden")
    assert not any(".searchctl-trash" in path for path in indexed(twice))
    assert 0 == summary["removed"]

    again = twice("dedup", "apply", plan, "--yes")
    assert 0 == again.code
    assert "applied on" in again.err
    assert applied["id"] in again.err
    (listed,) = twice("dedup", "undo", "--list", "--format", "json").json["applies"]
    assert (applied["id"], 4, "applied") == (listed["id"], listed["files"], listed["state"])

    undone = twice("dedup", "undo", "--format", "json").json
    assert ("undone", set(NAMES), set(NAMES)) == (
        undone["state"],
        set(undone["moved_back"]),
        set(undone["indexed_again"]),
    )
    assert before == tree(twice.folder)
    assert known | {"plan.json"} == indexed(twice)
    assert ["manifest.json"] == [path.name for path in folder.iterdir()]
    assert "undone already" in twice("dedup", "undo", applied["id"]).err
    assert 2 == twice("dedup", "undo").code
    assert "undone" in twice("dedup", "undo", "--list").out
    # Applied once more, under an id of its own; the embeddings come back from where they were kept.
    second = twice("dedup", "apply", plan, "--yes", "--format", "json").json
    assert second["id"] != applied["id"]
    twice("dedup", "undo")
    assert 0 == twice.index("docs")["chunks_embedded"]
    assert before == tree(twice.folder)


def test_folders_that_are_gone_are_made_anew(twice: Any) -> None:
    before = tree(twice.folder)
    twice("dedup", "apply", plan_of(twice, NAMES), "--yes")
    (twice.folder / "docs/deep/er").rmdir()
    (twice.folder / "docs/deep").rmdir()
    assert 0 == twice("dedup", "undo").code
    files = {path: values for path, values in before.items() if not path.startswith("docs/deep") or "." in path}
    assert files.items() <= tree(twice.folder).items()


def test_a_plan_that_does_not_fit_changes_nothing(twice: Any) -> None:
    twice.write("docs/link target.txt", HERON)
    (twice.folder / "docs/link.txt").symlink_to("heron copy.txt")
    (twice.folder / "docs/hard.txt").hardlink_to(twice.folder / "docs/heron.txt")
    twice.write("docs/new.txt", "not indexed\n")
    goes = {
        "docs/heron copy.txt": "docs/heron.txt",
        "docs/-dash.txt": "docs/heron.txt",
        "docs/deep/trailing ": "docs/bees.txt",
        "docs/hard.txt": "docs/heron.txt",
        "docs/new.txt": "docs/heron.txt",
        "docs/deep/er/[1] *?#!\\ é.txt": "docs/bees.txt",
    }
    plan = plan_of(twice, goes)
    twice.index("docs/hard.txt")
    twice.write("docs/-dash.txt", "changed\n")
    (twice.folder / "docs/deep/trailing ").unlink()
    (twice.folder / "docs/deep/trailing ").symlink_to("../bees.txt")
    twice.write("docs/bees.txt", "changed\n")
    before = tree(twice.folder)
    shown = twice("dedup", "apply", plan, "--format", "json")
    assert 3 == shown.code
    reasons = {action["path"]: action["reason"] for action in shown.json["actions"]}
    assert reasons["docs/heron copy.txt"] is None
    assert "has changed since it was indexed" in reasons["docs/-dash.txt"]
    assert "is a symlink to ../bees.txt" in reasons["docs/deep/trailing "]
    assert "same file as the kept one, docs/heron.txt" in reasons["docs/hard.txt"]
    assert "not in the index" in reasons["docs/new.txt"]
    assert "the kept file docs/bees.txt has changed" in reasons["docs/deep/er/[1] *?#!\\ é.txt"]
    refused = twice("dedup", "apply", plan, "--yes")
    assert 3 == refused.code
    assert "5 of 6 actions do not fit" in refused.err
    assert all(path in refused.err for path, reason in reasons.items() if reason)
    assert before == tree(twice.folder)
    assert not (twice.folder / ".searchctl-trash").exists()

    done = twice("dedup", "apply", plan, "--yes", "--skip-changed")
    assert 0 == done.code, done.err
    assert "left out" in done.err
    assert {"docs/heron copy.txt"} == before.keys() - tree(twice.folder).keys()
    assert 0 == twice("dedup", "undo").code
    assert before == tree(twice.folder)


def test_a_hard_link_of_the_kept_file_is_refused(twice: Any) -> None:
    (twice.folder / "docs/hard.txt").hardlink_to(twice.folder / "docs/heron.txt")
    twice.index("docs")
    plan = plan_of(twice, {"docs/hard.txt": "docs/heron.txt"})
    refused = twice("dedup", "apply", plan, "--yes")
    assert (3, True) == (refused.code, "moving it frees nothing\n" in refused.err)
    assert "docs/hard.txt" in indexed(twice)


def test_hard_links_of_each_other_go_and_come_back_as_such(twice: Any) -> None:
    (twice.folder / "docs/hard.txt").hardlink_to(twice.folder / "docs/heron copy.txt")
    twice.index("docs")
    before = tree(twice.folder)
    plan = plan_of(twice, {"docs/hard.txt": "docs/heron.txt", "docs/heron copy.txt": "docs/heron.txt"})
    assert 0 == twice("dedup", "apply", plan, "--yes").code
    assert 0 == twice("dedup", "undo").code
    assert before == tree(twice.folder)


def test_a_kept_file_that_is_a_link_to_one_that_goes_is_refused(twice: Any) -> None:
    other = twice.folder / "other"
    other.mkdir()
    (other / "kept.txt").symlink_to(twice.folder / "docs/-dash.txt")
    plan = plan_of(twice, {"docs/-dash.txt": str(other / "kept.txt")}, against=str(other / ".searchctl"))
    refused = twice("dedup", "apply", plan, "--yes")
    assert 3 == refused.code
    assert "same file" in refused.err
    # Of two actions, one keeps what the other takes away.
    twice.write("docs/twin.txt", HERON)
    twice.index("docs")
    goes = {"docs/heron copy.txt": str(other / "kept.txt"), "docs/-dash.txt": "docs/twin.txt"}
    goes["docs/-dash.txt"] = str(twice.folder / "docs/twin.txt")
    plan = plan_of(twice, goes, against=str(other / ".searchctl"))
    assert "which another action keeps" in twice("dedup", "apply", plan, "--yes").err


def test_against_another_collection(twice: Any) -> None:
    kept = twice.write("other/train.txt", HERON)
    before = tree(twice.folder)
    plan = plan_of(twice, {"docs/-dash.txt": str(kept)}, against=str(kept.parent / ".searchctl"))
    assert 0 == twice("dedup", "apply", plan, "--yes").code
    assert "docs/-dash.txt" not in tree(twice.folder)
    assert 0 == twice("dedup", "undo").code
    assert before == tree(twice.folder)
    kept.unlink()
    assert "cannot be read" in twice("dedup", "apply", plan, "--yes").err


def test_files_from_anywhere_and_of_any_name_are_moved(twice: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "twin.txt").write_text(HERON)
    twice.write("docs/line\nbreak.txt", HERON)
    twice.write("forced/f.txt", HERON)
    twice.write("docs/sub/.ignore", "!deep.txt\n")
    twice.write("docs/sub/deep.txt", HERON)
    twice.write("single.txt", HERON)
    twice.index("docs", outside)
    twice.index("forced", "--no-ignore")
    twice.index("single.txt")
    goes = [str(outside / "twin.txt"), "docs/line\nbreak.txt", "forced/f.txt", "docs/sub/deep.txt", "single.txt"]
    plan = plan_of(twice, dict.fromkeys(goes, "docs/heron.txt"))
    before = tree(twice.folder)
    info = (outside / "twin.txt").stat()
    done = twice("dedup", "apply", plan, "--yes")
    assert 0 == done.code, done.err
    assert not (outside / "twin.txt").exists()
    assert 0 == twice("dedup", "undo").code
    assert before == tree(twice.folder)
    back = (outside / "twin.txt").stat()
    assert (info.st_ino, info.st_mtime_ns) == (back.st_ino, back.st_mtime_ns)
    assert set(goes) <= indexed(twice)


def test_undo_keeps_what_came_to_the_place_meanwhile(twice: Any) -> None:
    plan = plan_of(twice, NAMES)
    folder = Path(twice("dedup", "apply", plan, "--yes", "-f", "json").json["folder"])
    twice.write("docs/-dash.txt", "somebody else's\n")
    twice.write("docs/heron copy.txt", HERON)  # the same content: back already
    (twice.folder / "docs/deep/er").rmdir()
    (twice.folder / "docs/deep/er").symlink_to(twice.folder.parent)
    twice.index("docs")
    ended = twice("dedup", "undo", "--format", "json")
    assert 3 == ended.code
    lost = {"docs/-dash.txt", "docs/deep/er/[1] *?#!\\ é.txt"}
    assert lost == set(ended.json["conflicts"])
    assert "another file is at its place" in ended.err
    assert "symlink" in ended.err
    assert "somebody else's\n" == (twice.folder / "docs/-dash.txt").read_text()
    assert HERON == (folder / "files/docs/-dash.txt").read_text()
    assert BEES == (twice.folder / "docs/deep/trailing ").read_text()
    assert not (twice.folder.parent / "[1] *?#!\\ é.txt").exists(), "nothing follows a link out"
    assert "partly undone" in twice("dedup", "undo", "--list").out
    # Once the places are free, the same command brings the rest.
    (twice.folder / "docs/-dash.txt").unlink()
    (twice.folder / "docs/deep/er").unlink()
    twice.index("docs")
    assert 0 == twice("dedup", "undo").code
    assert set(NAMES) <= indexed(twice)
    assert HERON == (twice.folder / "docs/-dash.txt").read_text()


def test_after_another_encoder_the_files_come_back_and_the_index_is_named(twice: Any) -> None:
    before = tree(twice.folder)
    twice("dedup", "apply", plan_of(twice, NAMES), "--yes")
    assert 0 == twice("models", "promote", "hashing", "--dim", "64").code
    ended = twice("dedup", "undo", "--format", "json")
    assert 3 == ended.code
    assert "searchctl index" in ended.err
    assert set(NAMES) == set(ended.json["to_index"])
    assert before == tree(twice.folder)
    assert len(NAMES) == twice.index("docs")["added"]


def test_mistakes_are_said(twice: Any, tmp_path: Path) -> None:
    plan = plan_of(twice, NAMES, collection=str(tmp_path / "elsewhere"))
    refused = twice("dedup", "apply", plan, "--yes")
    assert 2 == refused.code
    assert "the plan is for the collection" in refused.err
    plan = plan_of(twice, {})
    assert "no action that can be done" in twice("dedup", "apply", plan).err
    assert 0 == twice("dedup", "apply", plan, "--yes").code, "a script that finds nothing has not failed"
    nothing = twice("dedup", "undo")
    assert (2, True) == (nothing.code, "nothing was applied" in nothing.err)
    assert "nothing was applied" in twice("dedup", "undo", "--list").err
    assert "expected one of them" in twice("dedup", "undo", "some", "--list").err
    lacking = twice("dedup", "apply")
    assert (2, True) == (lacking.code, "Missing argument 'PLAN'" in lacking.err)
    (twice.folder / ".searchctl-trash").symlink_to(tmp_path)
    assert "is a symlink" in twice("dedup", "apply", plan_of(twice, NAMES), "--yes").err
    (twice.folder / ".searchctl-trash").unlink()
    twice("dedup", "apply", plan_of(twice, NAMES), "--yes")
    unknown = twice("dedup", "undo", "2001-01-01-000000-abcdef")
    assert (2, True) == (unknown.code, "the latest being" in unknown.err)


def test_locked_collection(twice: Any) -> None:
    plan = plan_of(twice, NAMES)
    before = tree(twice.folder)
    with write_lock(twice.folder / ".searchctl"):
        assert 4 == twice("dedup", "apply", plan, "--yes").code
        assert 0 == twice("dedup", "apply", plan).code, "looking needs no lock"
    assert before == tree(twice.folder)
    twice("dedup", "apply", plan, "--yes")
    with write_lock(twice.folder / ".searchctl"):
        assert 4 == twice("dedup", "undo").code
    assert 0 == twice("dedup", "undo").code


@pytest.mark.skipif(not hasattr(os, "setuid") or os.geteuid() != 0, reason="changes its user, which only root may")
@pytest.mark.usefixtures("reachable")
def test_read_only_folder_is_said_before_anything_moves(twice: Any) -> None:
    plan = plan_of(twice, NAMES)
    for path in (twice.folder, *twice.folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))
    (twice.folder / "docs/deep").chmod(0o555)
    (twice.folder / "docs/deep/er").chmod(0o555)
    before = tree(twice.folder)
    # Looked at as root first, which imports all that the command needs: the other user may not be able to read it.
    code = (
        "import os, sys, searchctl.app.cli as cli; os.chdir(sys.argv[1]); cli.run(sys.argv[2:]);"
        "os.setuid(65534); sys.exit(cli.run([*sys.argv[2:], '--yes']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, twice.folder, "dedup", "apply", plan],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 3 == ended.returncode, ended.stderr
    assert "2 of 4 actions do not fit" in ended.stderr
    assert "docs/deep is read-only" in ended.stderr
    assert before == tree(twice.folder)


def test_an_unfinished_apply_of_another_plan_is_in_the_way(twice: Any) -> None:
    other = plan_of(twice, {"docs/-dash.txt": "docs/heron.txt"}).rename(twice.folder / "other.json")
    plan = plan_of(twice, NAMES)
    twice("dedup", "apply", plan, "--yes")
    (manifest,) = (twice.folder / ".searchctl-trash").glob("*/manifest.json")
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"state": "applying"}))
    begun = twice("dedup", "apply", plan)
    assert (3, True) == (begun.code, "--yes goes on with it" in begun.err)
    refused = twice("dedup", "apply", other, "--yes")
    assert (3, True) == (refused.code, f"searchctl dedup undo {document['id']}" in refused.err)
    assert "finished what was begun" in twice("dedup", "apply", plan, "--yes").err
    manifest.write_text("{}")
    damaged = twice("dedup", "undo")
    assert (3, True) == (damaged.code, "moved back by hand" in damaged.err)


def test_full_disk_at_any_step_can_be_taken_back_or_gone_on_with(twice: Any) -> None:
    """What a full disk does differently from a kill: what cleans up after an error runs."""
    (twice.folder / ".searchctlignore").write_text("# mine")
    before, known = tree(twice.folder), indexed(twice)
    plan = read_plan(plan_of(twice, NAMES))
    steps: list[str] = []
    Application(twice.folder / ".searchctl", plan, Talk(step=steps.append)).apply()
    twice("dedup", "undo")

    def failing_at(name: str) -> Talk:
        def step(told: str) -> None:
            if told == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Talk(step=step)

    for number, name in enumerate(dict.fromkeys(steps)):
        with pytest.raises((OSError, StorageError), match="No space left"):
            Application(twice.folder / ".searchctl", plan, failing_at(name)).apply()
        if number % 2:
            Application(twice.folder / ".searchctl", plan, Talk()).apply()
        twice("dedup", "undo")
        assert before == tree(twice.folder), name
        assert known == indexed(twice), name


def test_undo_in_a_renamed_collection_says_what_the_trash_holds(twice: Any) -> None:
    plan = plan_of(twice, NAMES)
    assert 0 == twice("dedup", "apply", plan, "--yes").code
    before = tree(twice.folder / "docs")
    (twice.folder / ".searchctl").rename(twice.folder / "kb")
    ended = twice("dedup", "undo", "--collection", "kb")
    assert (2, True) == (ended.code, "taken out of a collection called .searchctl, which is not here" in ended.err)
    assert before == tree(twice.folder / "docs")
    (twice.folder / "kb").rename(twice.folder / ".searchctl")
    assert 0 == twice("dedup", "undo").code


@pytest.mark.parametrize("name", ["p.json", "-p.json"])
@pytest.mark.parametrize("given", [(), ("--collection", "kb")])
def test_the_command_that_a_plan_suggests_names_the_collection(twice: Any, given: tuple[str, ...], name: str) -> None:
    if given:
        (twice.folder / ".searchctl").rename(twice.folder / "kb")
    said = twice("dedup", "plan", "-o", name, *given).err
    suggested = said.split("see what would happen: `searchctl ")[1].split("`")[0]
    assert ("--collection kb" in suggested) is bool(given)
    assert 0 == twice(*suggested.split()).code
