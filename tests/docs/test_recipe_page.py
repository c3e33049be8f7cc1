"""The page on training has every key of a recipe with its default."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from searchctl.training import recipe
from searchctl.training.recipe import Recipe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
TABLES = {
    "[model]": recipe.ModelSettings(),
    "[mntp]": recipe.MntpStage(),
    "[simcse]": recipe.SimcseStage(),
    "[supervised]": recipe.SupervisedStage(),
    "[supervised.sources.NAME]": recipe.SourceSettings(),
    "[distill]": recipe.DistillStage(),
    "[dev.NAME]": recipe.DevSettings(),
    "[STAGE.lora]": recipe.LoraSettings(),
    "[STAGE.schedule]": recipe.Schedule(),
}
STAGES = [stage.value for stage in recipe.Stage]


def rows(title: str) -> dict[str, str]:
    """Return the defaults of the section's table by key."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", text, flags=re.M | re.S)
    assert section, f"docs/training.md has no section {title}"
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section[1], flags=re.M))


def written(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def test_each_table_has_all_keys_with_their_defaults(subtests: pytest.Subtests) -> None:
    for title, settings in TABLES.items():
        with subtests.test(title=title):
            found = rows(f"`{title}`")
            own = [field.name for field in fields(settings) if field.name not in ("lora", "schedule")]
            assert list(found) and sorted(found) == sorted(own)
            for name in own:
                if title != "[STAGE.schedule]":
                    assert found[name] == written(getattr(settings, name)), name


def test_the_schedule_of_every_stage_has_its_defaults(subtests: pytest.Subtests) -> None:
    for stage in STAGES:
        with subtests.test(stage=stage):
            schedule = getattr(Recipe(name="", source=""), stage).schedule
            for name, said in rows("`[STAGE.schedule]`").items():
                parts = re.split(r"[;,] ", said)
                of_stage = [part for part in parts if stage in part] or [
                    part for part in parts if part.startswith(("`", "none"))
                ]
                assert of_stage[0].endswith(written(getattr(schedule, name))), (name, stage)


def test_lora_and_adapters_are_the_same_in_every_stage() -> None:
    made = Recipe(name="", source="")
    assert all(getattr(made, stage).lora == recipe.LoraSettings() for stage in STAGES)


def test_what_stands_before_the_tables() -> None:
    found = rows("Before the tables")
    plain = [field.name for field in fields(Recipe) if field.name not in (*STAGES, "dev", "model")]
    assert sorted(found) == sorted(plain)
    assert found["source"] == "required"
    assert found["seed"] == written(Recipe(name="", source="").seed)
