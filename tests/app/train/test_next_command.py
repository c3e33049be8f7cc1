"""The training commands that other commands print, run as they are printed: a tiny model and few pairs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.training.recipe import LoraSettings
from searchctl.training.trainable import load_trainable, save_lora

# Training runs of seconds each.
pytestmark = pytest.mark.slow

RECIPE = """
source = "this test"
[mntp]
batch = 2
length = 32
[mntp.lora]
rank = 4
[mntp.schedule]
steps = 1
[simcse]
batch = 4
length = 16
[simcse.schedule]
steps = 1
[supervised]
batch = 4
length = 64
start = "simcse"
[supervised.schedule]
steps = 1
warmup_steps = 0
"""
SYLLABLES = ("ba", "co", "di", "fu", "ge", "ho", "ki", "lu")
ANIMALS = ("heron", "badger", "otter", "kestrel", "salmon", "beaver", "weasel", "osprey")
PLACES = ("meadow", "estuary", "glacier", "orchard", "harbour", "canyon", "marsh", "forest")


@pytest.fixture
def work(shell: Any, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Any:
    """A shell whose model is an encoder of one adapter, with some texts and pairs."""
    texts = []
    for number in range(40):
        plant, stone, bird = (
            f"{word}{SYLLABLES[number % 8]}{SYLLABLES[number // 8]}" for word in ("per", "gra", "fal")
        )
        texts.append(
            f"Near the village {plant} grows beside {stone} where the {bird} sings. Old {stone} and young {bird} are "
            f"seen there by everyone who walks along the hill and the river, and {plant} is what they carry home."
        )
    shell.write("notes.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [{"query": f"where does {a} {b} live", "positive": f"the {a} in the {b}"} for a in ANIMALS for b in PLACES]
    shell.write("asked.jsonl", "".join(json.dumps(row) + "\n" for row in pairs))
    shell.write("recipe.toml", RECIPE)
    resolved, lora = resolve(EncoderConfig(model=str(tiny_folder))), LoraSettings(rank=4, alpha=32)
    made = load_trainable(resolved, (), lora, device=torch.device("cpu"), dtype=torch.float32)
    made.base_name = str(tiny_folder)
    save_lora(made, shell.folder / "encoder")
    monkeypatch.setenv("SEARCHCTL_MODEL", str(shell.folder / "encoder"))
    return shell


def printed(said: str) -> list[str]:
    commands = re.findall(r"`searchctl (train run [^`]+)`", said)
    assert len(commands) == 1, said
    return shlex.split(commands[0])


def steps(folder: Path) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"]) for line in lines]


def test_the_command_that_train_pairs_prints_takes_the_last_adapter_further(work: Any) -> None:
    made = work("train", "pairs", "notes.jsonl", "-o", "pairs.jsonl")
    assert made.code == 0, made.err
    command = printed(made.err)
    ended = work(*command, "-o", "out", "--precision", "fp32", "--max-minutes", "0.001")
    assert ended.code == 3, ended.err  # 1,000 steps: time was up after the first
    assert "note: recipe smollm2-135m starts supervised training from simcse" in ended.err
    assert 'encoder, is trained further instead (start = "previous"), with its rank 4 and alpha 32' in ended.err
    assert "to train on: batches of " in ended.err
    assert "note: recipe smollm2-135m has no [supervised.sources.pairs] for pairs: no instruction" in ended.err
    assert "note: recipe smollm2-135m has tables for " in ended.err
    assert " sources: none of them is in --data" in ended.err
    assert "note: recipe smollm2-135m reads about " in ended.err
    assert "For hours on a CPU: --recipe smollm2-135m-cpu-further" in ended.err
    assert steps(work.folder / "out")[-1][0] == "supervised" and steps(work.folder / "out")[-1][1] >= 1
    # The line to go on with goes on: the same recipe is made again.
    again = work(*command, "-o", "out", "--precision", "fp32", "--max-minutes", "0.001", "--resume")
    assert again.code == 3, again.err


def test_the_command_that_train_mine_prints_runs(work: Any) -> None:
    mined = work("train", "mine", "asked.jsonl", "-o", "mined.jsonl", "--model", "hashing")
    assert mined.code == 0, mined.err
    ended = work(*printed(mined.err), "-o", "out", "--precision", "fp32", "--max-minutes", "0.001")
    assert ended.code == 3, ended.err
    named = work("train", "mine", "asked.jsonl", "-o", "m.jsonl", "--model", "hashing", "--recipe", "recipe.toml")
    assert named.code == 0, named.err
    ended = work(*printed(named.err), "-o", "chain", "--precision", "fp32")
    assert ended.code == 0, ended.err
    assert "encoder: its adapters are left out (encoder)" in ended.err
    assert "reads about" not in ended.err  # a recipe that is named is meant
    assert "simcse: " in ended.err and "were cut at 16 tokens (simcse.length)" in ended.err
    assert [step for step in steps(work.folder / "chain") if step[1]] == [("mntp", 1), ("simcse", 1), ("supervised", 1)]


def test_a_recipe_that_is_named_is_refused_with_a_way_that_works(work: Any) -> None:
    given = ["train", "run", "--data", "asked.jsonl", "--recipe", "recipe.toml", "-o", "out", "--precision", "fp32"]
    ended = work(*given, "--stages", "supervised")
    assert ended.code == 2
    assert 'expected simcse before supervised in --stages; or "previous", the last adapter of' in ended.err
    work.write("recipe.toml", RECIPE.replace('start = "simcse"', 'start = "previous"\n[supervised.lora]\nrank = 4'))
    ended = work(*given, "--stages", "supervised")
    assert ended.code == 0, ended.err
