"""What `train run` tells of what nobody chose, and of processes that were started in the wrong way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from searchctl.app.errors import AppError
from searchctl.app.train.notices import CutTexts, tell_aside, tell_cost, tell_left_out, tell_sources, tell_unread
from searchctl.app.train.processes import command_words, joined_processes
from searchctl.training.chain.fitting import expected_tokens
from searchctl.training.data.training_data import Data, read_data
from searchctl.training.loop import Moment
from searchctl.training.recipe import MntpStage, Recipe, Schedule, SimcseStage, SourceSettings, Stage, SupervisedStage

FAST = Schedule(steps=10)
TABLES = {"faq": SourceSettings(instruction="Find"), "plain": SourceSettings(), "wiki": SourceSettings(weight=2)}
RECIPE = Recipe(
    name="mine",
    source="this test",
    mntp=MntpStage(schedule=FAST, batch=4, length=32),
    simcse=SimcseStage(schedule=FAST, batch=8, length=16),
    supervised=SupervisedStage(schedule=FAST, batch=8, length=16, start="previous", sources=TABLES),
)
ALL = (Stage.MNTP, Stage.SIMCSE, Stage.SUPERVISED)


class Words:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.notice = self.said.append


@pytest.fixture
def terminal() -> Any:
    return Words()


@pytest.fixture
def data(tmp_path: Path) -> Data:
    def write(name: str, rows: list[dict[str, str]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    # Of 5 tokens at 4 characters each and one more, and of 11.
    pairs = [{"query": f"what is {i:07}", "positive": f"{i:040}"} for i in range(40)]
    write("faq.jsonl", [{**pair, "negative": "n" * 400} for pair in pairs])
    write("notes.jsonl", pairs)
    write("plain.jsonl", [{"text": f"{i:040}"} for i in range(40)])
    return read_data([tmp_path], ALL)


def test_sources_that_do_not_match_are_told(terminal: Any, data: Data) -> None:
    tell_sources(terminal, RECIPE, data, ALL)
    assert terminal.said == [
        "recipe mine has no [supervised.sources.notes] for notes: no instruction, weight 1, not symmetric",
        "recipe mine has tables for sources that are not in --data: wiki",
    ]
    tell_sources(terminal, RECIPE, data, (Stage.MNTP, Stage.SIMCSE))
    assert len(terminal.said) == 2


def test_of_a_recipe_made_for_other_data_the_names_are_not_listed(terminal: Any, data: Data) -> None:
    recipe = replace(RECIPE, supervised=SupervisedStage(sources=dict.fromkeys(("nq", "squad"), SourceSettings())))
    tell_sources(terminal, recipe, data, ALL)
    assert terminal.said[1:] == ["recipe mine has tables for 2 sources: none of them is in --data"]


def test_fields_and_texts_that_are_not_read_are_told(terminal: Any, tmp_path: Path) -> None:
    rows = {
        "faq": [{"query": f"q{i}", "positive": f"p{i}", "negativ": "n", "negatives": ["m"]} for i in range(8)],
        "more": [{"query": f"q{i}", "positive": f"p{i}", "id": i, "negativ": "n"} for i in range(8)],
        "plain": [{"text": f"text {i % 6}", "\x1b[2Jtitle": "t"} for i in range(8)],
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    tell_unread(terminal, read_data([tmp_path], ALL))
    assert terminal.said == [
        "fields that are not read: \\x1b[2Jtitle in plain; negativ in faq, more; id in more",
        "2 texts are in the data more than once: read once",
    ]


def test_nothing_is_told_of_data_that_are_read_whole(terminal: Any, data: Data, tmp_path: Path) -> None:
    tell_unread(terminal, data)
    assert terminal.said == []
    # The texts of pairs repeat by their nature: one query has several answers.
    (tmp_path / "only").mkdir()
    pairs = [{"query": f"q{i % 4}", "positive": f"p{i}"} for i in range(8)]
    (tmp_path / "only" / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    tell_unread(terminal, read_data([tmp_path / "only"], ALL))
    assert terminal.said == []


def test_an_adapter_that_the_result_does_without_is_told(terminal: Any) -> None:
    def asked(start: Any, stages: tuple[Stage, ...]) -> list[str]:
        terminal.said.clear()
        recipe = Recipe(name="mine", source="this test", supervised=SupervisedStage(start=start))
        tell_aside(terminal, recipe, stages)
        return list(terminal.said)

    assert [line.split(":")[0] for line in asked("fresh", ALL)] == [
        "supervised starts afresh in recipe mine, as in the paper"
    ]
    assert asked("fresh", (Stage.MNTP, Stage.SUPERVISED)) == []
    assert asked("simcse", ALL) == asked("merged", ALL) == asked("previous", ALL) == []


def test_tokens_are_estimated_from_the_texts_themselves(data: Data) -> None:
    found = expected_tokens(RECIPE, ALL, data)
    # faq: "Find what is 0000000" and "0...", 6 and 11, and a negative that is cut at 16; notes without both: 5 and 11.
    assert found == {
        Stage.MNTP: 10 * 4 * 32,
        Stage.SIMCSE: 10 * 8 * 2 * 11,
        Stage.SUPERVISED: int(10 * 8 * ((6 + 11 + 16) + (5 + 11)) / 2),
    }


@pytest.mark.parametrize(
    ("device", "stages", "start", "said"),
    [
        ("cpu", ALL, "simcse", "For hours on a CPU: --recipe smollm2-135m-cpu"),
        ("cpu", (Stage.SUPERVISED,), "previous", "For hours on a CPU: --recipe smollm2-135m-cpu-further"),
        ("cpu", ALL[::2], "fresh", "--recipe smollm2-135m-cpu --stages mntp,simcse,supervised"),
        ("cuda", ALL, "simcse", None),
    ],
)
def test_what_a_recipe_costs_on_a_cpu(
    device: str, stages: tuple[Stage, ...], start: Any, said: str | None, *, terminal: Any, data: Data
) -> None:
    recipe = Recipe(name="m", source="t", supervised=SupervisedStage(start=start, batch=8))
    tell_cost(terminal, SimpleNamespace(device=torch.device(device), recipe=recipe, stages=stages), data)  # type: ignore[arg-type]
    assert len(terminal.said) == (said is not None)
    if said is not None:
        assert terminal.said[0].endswith(said)
        assert "tokens (" in terminal.said[0]


def moment(share: float | None) -> Moment:
    metrics = {} if share is None else {"cut": share}
    return Moment(
        step=1,
        steps=2,
        loss=1.0,
        rate=1.0,
        gradient_norm=1.0,
        tokens=1,
        tokens_per_s=1.0,
        seconds=1.0,
        metrics=metrics,
        held_out=None,
    )


def test_cut_texts_are_told_once_for_each_stage(terminal: Any) -> None:
    cut = CutTexts()
    for share in (None, 0.5, 0.0, 0.25, 0.25):
        cut.add(moment(share))
    cut.tell(terminal, RECIPE, Stage.SIMCSE)
    cut.tell(terminal, RECIPE, Stage.SUPERVISED)
    cut.add(moment(0.0001))
    cut.tell(terminal, RECIPE, Stage.SUPERVISED)
    assert terminal.said == [
        "simcse: 25.0% of the texts read were cut at 16 tokens (simcse.length)",
        "supervised: less than 0.1% of the texts read were cut at 16 tokens (supervised.length)",
    ]


def test_adapters_that_mntp_leaves_out_are_named(terminal: Any) -> None:
    whole: Any = SimpleNamespace(name="my-encoder", adapters=(Path("a/mntp"), Path("a/simcse")))
    tell_left_out(terminal, whole)
    tell_left_out(terminal, SimpleNamespace(name="plain", adapters=()))  # type: ignore[arg-type]
    assert len(terminal.said) == 1
    assert "my-encoder: its adapters are left out (mntp, simcse)" in terminal.said[0]


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}


def test_a_command_under_torchrun_is_one_of_torchrun(subtests: pytest.Subtests) -> None:
    for environment, before in [
        ({}, "searchctl"),
        ({"WORLD_SIZE": "4"}, "searchctl"),
        (TORCHRUN, "torchrun --nproc-per-node 4 -m searchctl"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "2"}, "torchrun --nnodes 2 --nproc-per-node 2 -m searchctl"),
    ]:
        with subtests.test(environment=environment, before=before):
            assert command_words(["train", "-o", "x"], environment) == [*before.split(), "train", "-o", "x"]


def test_processes_that_torchrun_did_not_start_are_an_error(subtests: pytest.Subtests) -> None:
    for environment, said in [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: several"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two' in the environment: expected a whole number"),
    ]:
        with subtests.test(environment=environment, said=said), pytest.MonkeyPatch.context() as monkeypatch:
            for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
                monkeypatch.delenv(name, raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            with pytest.raises(AppError, match=said), joined_processes():
                pass


SHORT = """
source = "this test"
[simcse]
batch = 4
length = 16
[simcse.lora]
rank = 2
[simcse.schedule]
steps = 60
"""


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_two_processes_of_torchrun_write_one_folder_and_go_on_exactly_after_ctrl_c(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(SHORT)
    rows = [{"text": f"Sentence {i} of many tells of wool and of iron."} for i in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--model", str(tiny_folder), "--recipe", "recipe.toml", "--data", "texts.jsonl", "--stages", "simcse"]
    words = ["train", "run", *given, "--precision", "fp32", "--device", "cpu"]
    processes = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "searchctl"]

    def start(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *processes, *words, *more],
            cwd=tmp_path,
            env={**os.environ, "SEARCHCTL_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    log = tmp_path / "out" / "train.jsonl"

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []

    broken_off = start("-o", "out", "--save-every", "50")
    until = time.monotonic() + 60
    while time.monotonic() < until and len(steps()) < 4:
        time.sleep(0.02)
    broken_off.send_signal(signal.SIGINT)
    _, said = broken_off.communicate(timeout=100)
    told = steps()
    assert 2 < told[-1] < 50, said[-3000:]
    assert [path.name for path in (tmp_path / "out" / "checkpoints" / "simcse").glob("step-*")] == [
        f"step-{told[-1]:06d}"
    ]
    running = start("-o", "out", "--save-every", "50", "--resume")
    out, said = running.communicate(timeout=100)
    assert running.returncode == 0, said[-3000:]
    assert out.count(str(tmp_path / "out")) == 1
    assert steps() == list(range(61))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["command"].startswith("torchrun --nproc-per-node 2 -m searchctl train run --model")
    assert manifest["stages"]["simcse"]["progress"]["parts"]["number of processes"] == 2
    unbroken = start("-o", "unbroken", "--save-every", "50")
    _, said = unbroken.communicate(timeout=100)
    assert unbroken.returncode == 0, said[-3000:]
    weights = "simcse/adapter_model.safetensors"
    assert (tmp_path / "unbroken" / weights).read_bytes() == (tmp_path / "out" / weights).read_bytes()
