"""A run with the stage `distill` in all that shows a run: terminal, JSON, page and curve, each from a real one."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
source = "this test"
[mntp]
batch = 2
length = 16
[mntp.schedule]
steps = 2
learning_rate = 5e-2
[supervised.sources.pairs]
weight = 2.0
instruction = "Find <it>"
licence = "CC0-1.0"
[distill]
batch = 4
length = 32
start = "previous"
[distill.schedule]
steps = 2
warmup_steps = 1
learning_rate = 5e-2
"""
WORDS = ("wool", "iron", "bread", "river", "paper", "garden")


def test_report_and_curve_show_a_run_with_a_teacher(
    shell: Any, tiny_folder: Path, make_folder: Callable[..., Path]
) -> None:
    teacher = make_folder(seed=3, hidden_size=48)
    pairs = [{"query": f"what is {i}", "positive": f"{i} is {WORDS[i % 6]}"} for i in range(60)]
    texts = [{"text": f"Sentence {i} of 60 tells of {WORDS[i % 6]}."} for i in range(60)]
    shell.write("data/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in pairs))
    shell.write("data/texts.jsonl", "".join(json.dumps(row) + "\n" for row in texts))
    shell.write("recipe.toml", RECIPE)
    rows = [{"a": f"{a} is here", "b": f"{b} was there", "score": (7 * i + 3 * j) % 6} for i, a in enumerate(WORDS)
            for j, b in enumerate(WORDS)]  # fmt: skip
    shell.write("tasks/sts/near.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    ended = shell("train", "run", "--model", tiny_folder, "--stages", "mntp,distill", "--data", "data", "--recipe",
                  "recipe.toml", "--teacher", teacher, "-o", "out", "--precision", "fp32", "--save-every", "1",
                  "--keep-checkpoints")  # fmt: skip
    assert ended.code == 0, ended.err
    assert f"the report is {shell.folder / 'out' / 'report.html'}" in ended.err

    curve = shell("train", "curve", "out", "--stage", "distill", "--local", "tasks", "--precision", "fp32", "-f",
                  "json")  # fmt: skip
    assert curve.code == 0, curve.err
    points = {point["step"]: point["scores"]["near"] for point in curve.json["points"]}
    assert [0, 1, 2] == list(points)
    # The first step is at rate 0: its checkpoint is what the stage began with, which is all of mntp.
    assert points[1] == pytest.approx(points[0], abs=1e-6)
    assert points[2] != pytest.approx(points[0], abs=1e-6)

    shown = shell("train", "report", "out", "--html", "page.html", "--format", "json")
    assert shown.code == 0, shown.err
    assert [] == shown.json["notes"]
    (run,) = shown.json["runs"]
    mntp, distill = run["stages"]
    assert ("mntp", "distill", True, 2) == (mntp["stage"], distill["stage"], distill["finished"], distill["step"])
    log = [json.loads(line) for line in (shell.folder / "out/train.jsonl").read_text().splitlines()]
    looks = [line["held_out"]["spearman"] for line in log if line["stage"] == "distill" and line["held_out"]]
    agreement = distill["held_out"]["spearman"]
    assert (looks[0], max(looks), looks[-1]) == (agreement["start"], agreement["best"], agreement["end"])
    assert curve.json["points"] == run["curves"]["distill"]["points"]

    page = (shell.folder / "page.html").read_text()
    said = run["manifest"]["stages"]["distill"]["teacher"]
    told = f"{teacher} (revision local, licence not said, 48 dimensions, fp32, at most {said['max_tokens']:,} tokens, "
    assert f"<dt>teacher</dt><dd>{html.escape(told)}fingerprint {said['fingerprint']})</dd>" in page
    digests = {name: entry["blake3"] for name, entry in run["manifest"]["data"].items()}
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in page.split("<tr>")]
    assert ["pairs", "60", "CC0-1.0", "distill", "2.0", "Find &lt;it&gt;", digests["pairs"]] in cells
    assert ["texts", "60", "not said", "mntp", "-", "-", digests["texts"]] in cells
    terminal = shell("train", "report", "out").out
    assert "Distillation: 2 steps" in terminal
    assert "Score against steps: Distillation" in terminal
