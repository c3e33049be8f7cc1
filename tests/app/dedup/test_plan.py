"""The plan's file: what is written is read back, and whatever a hand may have done to it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.dedup.plan import Action, Kept, Plan, plan_to_json, read_plan, write_plan
from searchctl.app.errors import AppError

A, B = "a" * 64, "b" * 64
PLAN = Plan(
    collection="/home/me/.searchctl", against=None, threshold=0.95, near_threshold=0.7, keep="longest",
    actions=(
        Action(path="notes/old.md", content_hash=A, bytes=5, kept=Kept(path="notes/new.md", content_hash=B),
               tier="near", score=0.8),
        Action(path="/else/where\n é.md", content_hash=B, bytes=7, kept=Kept(path="notes/new.md", content_hash=B),
               tier="exact", score=1.0),
    ),
)  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", PLAN)
    assert PLAN == read_plan(tmp_path / "plan.json")
    document = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert (1, 12) == (document["schema"], document["bytes"])
    assert ["schema", "collection", "against", "threshold", "near_threshold", "keep", "bytes", "actions"] == list(
        document
    )
    assert ["path", "content_hash", "bytes", "kept", "tier", "score"] == list(document["actions"][0])


def test_actions_may_be_taken_out_by_hand(tmp_path: Path) -> None:
    document = json.loads(plan_to_json(PLAN))
    del document["actions"][0]
    (tmp_path / "plan.json").write_text(json.dumps(document), encoding="utf-8")
    plan = read_plan(tmp_path / "plan.json")
    assert (PLAN.actions[1:], 7) == (plan.actions, plan.bytes)


def changed(**changes: Any) -> dict[str, Any]:
    return json.loads(plan_to_json(PLAN)) | changes


def first(**changes: Any) -> dict[str, Any]:
    document = changed()
    document["actions"][0] |= changes
    return document


def without(key: str) -> dict[str, Any]:
    document = changed()
    del document[key]
    return document


def test_what_is_wrong_is_named(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for document, said in [
        ([], r"the plan is \[\]: expected an object"),
        (changed(schema=2), "schema is 2: expected 1"),
        (changed(schema=True), "schema is true: expected 1"),
        (without("keep"), "the plan has no 'keep'"),
        (changed(extra=1), "the plan has the unknown key 'extra'"),
        (changed(collection=".searchctl"), "collection is \"\\.searchctl\": expected the absolute path"),
        (changed(against=3), "against is 3"),
        (changed(threshold="0.9"), "threshold is \"0.9\": expected a number"),
        (changed(threshold=True), "threshold is true: expected a number"),
        (changed(threshold=95), "threshold is 95: expected a similarity from -1 to 1"),
        (changed(near_threshold=float("nan")), "near_threshold is NaN: expected a number"),
        (changed(bytes=-1), "bytes is -1: expected a number of bytes"),
        (changed(actions={}), r"actions is \{\}: expected a list"),
        (changed(actions=["a.md"]), r"actions\[0\] is \"a.md\": expected an object"),
        (first(path=""), r"actions\[0\]\.path is \"\": expected a text"),
        (first(path="../out.md"), r"actions\[0\]\.path is \"../out.md\": expected a path as the collection stores it"),
        (first(path="a/./b.md"), r"actions\[0\]\.path"),
        (first(path="a//b.md"), r"actions\[0\]\.path"),
        (first(path="."), r"actions\[0\]\.path"),
        (first(path="a\0b"), r"actions\[0\]\.path"),
        (first(content_hash="A" * 64), r"actions\[0\]\.content_hash .* expected the blake3 hash"),
        (first(bytes=1.5), r"actions\[0\]\.bytes is 1.5"),
        (first(tier="similar"), r"actions\[0\]\.tier is \"similar\": expected one of exact, near, semantic"),
        (first(score=None), r"actions\[0\]\.score is null"),
        (first(note="x"), r"actions\[0\] has the unknown key 'note'"),
        (first(kept={"path": "notes/new.md"}), r"actions\[0\]\.kept has no 'content_hash'"),
        (first(kept={"path": "notes/new.md", "content_hash": B, "x": 1}), r"\.kept has the unknown key 'x'"),
        (first(kept={"path": "/else/where\n é.md", "content_hash": B}), r"actions\[0\]\.kept\.path .* goes itself in"),
        (first(kept={"path": "/home/me/notes/old.md", "content_hash": B}), r"goes itself in actions\[0\]"),
        (changed(against="/other/.searchctl"), r"\.kept\.path is 'notes/new\.md': expected an absolute path"),
        (changed(actions=changed()["actions"] * 2), r"actions\[2\]\.path is 'notes/old\.md', as in actions\[0\]"),
    ]:  # fmt: skip
        with subtests.test(document=document, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            path = tmp_path / "plan.json"
            path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
            with pytest.raises(AppError, match=said) as raised:
                read_plan(path)
            assert str(path) in str(raised.value)


def test_what_is_no_json_is_named(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for content, said in [
        (b'{"schema": 1', "no valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"schema": 1, "schema": 1}', "the key 'schema' twice"),
        (b'"\\ud800"', "half a surrogate pair"),
    ]:
        with subtests.test(content=content, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            (tmp_path / "plan.json").write_bytes(content)
            with pytest.raises(AppError, match=said):
                read_plan(tmp_path / "plan.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"the plan .*none\.json cannot be read \(No such file") as caught:
        read_plan(tmp_path / "none.json")
    assert caught.value.next_command == ("dedup", "plan")
