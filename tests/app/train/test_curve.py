"""`searchctl train curve`: the points are the right encoders, their scores those of the evaluation, and kept."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from searchctl.app.train.commands import StageName
from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.resolve import resolve
from searchctl.training.chain.request import TrainRequest
from searchctl.training.chain.run import train
from searchctl.training.data.training_data import read_data
from searchctl.training.evaluation.step_curve import CurvePoint, curve_steps, read_curves
from searchctl.training.recipe import Stage, load_recipe

# Training runs of seconds each.
pytestmark = pytest.mark.slow

RECIPE = """
source = "this test"
[mntp]
batch = 2
length = 16
[mntp.schedule]
steps = 2
[simcse]
batch = 4
length = 16
[simcse.schedule]
steps = 2
[supervised]
batch = 4
length = 16
start = "{start}"
[supervised.schedule]
steps = 5
warmup_steps = 1
learning_rate = 5e-2
"""
WORDS = ("wool", "iron", "bread", "river", "paper", "garden")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with two trained encoders, "fresh" and "simcse" by what supervised training started from."""
    folder = tmp_path_factory.mktemp("trained")
    texts = [{"text": f"Sentence {number} of 60 tells of {WORDS[number % 6]}."} for number in range(60)]
    pairs = [{"query": f"what is {number}", "positive": f"{number} is {WORDS[number % 6]}"} for number in range(60)]
    (folder / "data").mkdir()
    (folder / "data/texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    (folder / "data/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    stages = (Stage.MNTP, Stage.SIMCSE, Stage.SUPERVISED)
    for start in ("fresh", "simcse"):
        path = folder / f"{start}.toml"
        path.write_text(RECIPE.format(start=start))
        recipe = load_recipe(path)
        request = TrainRequest(
            base=resolve(EncoderConfig(model=str(tiny_folder), chain=0)),
            stages=stages,
            data=(folder / "data",),
            recipe=recipe,
            output=folder / start,
            device=torch.device("cpu"),
            dtype=torch.float32,
            save_every=1,
            keep_all=True,
            cache=folder / "cache",
        )
        data = read_data(request.data, stages)
        assert train(request, data, told=lambda stage, moment: None, stop=lambda: False).complete
    return folder


@pytest.fixture
def work(shell: Any, trained: Path) -> Any:
    """A shell with both encoders and two tasks."""
    for name in ("fresh", "simcse"):
        shutil.copytree(trained / name, shell.folder / name)
    rows = [(f"{a} is here", f"{b} was there", (7 * i + 3 * j) % 6) for i, a in enumerate(WORDS) for j, b in
            enumerate(WORDS)]  # fmt: skip
    for name, part in (("near", rows[:18]), ("far", rows[18:])):
        lines = (json.dumps({"a": a, "b": b, "score": score}) + "\n" for a, b, score in part)
        shell.write(f"tasks/sts/{name}.jsonl", "".join(lines))
    return shell


def curve(shell: Any, folder: str, *args: str) -> Any:
    return shell("train", "curve", folder, *args, "--local", "tasks", "--precision", "fp32")


def fingerprint(model: Path, **more: Any) -> str:
    return identify(EncoderConfig(model=str(model), **more)).fingerprint


def test_the_points_are_start_checkpoints_and_end_with_all_that_is_below_them(work: Any) -> None:
    for name, below in (("fresh", ["mntp"]), ("simcse", ["mntp"])):
        folder = work.folder / name
        steps = curve_steps(folder, Stage.SUPERVISED, EncoderConfig())
        assert [(0, "start"), *((n, "checkpoint") for n in (1, 2, 3, 4)), (5, "end")] == [
            (step.step, step.place) for step in steps
        ]
        start, *kept, end = steps
        for step in kept:
            adapters = resolve(step.config).adapters
            assert [*below, f"step-{step.step:06d}"] == [path.name for path in adapters]
        # What the stage began with is what the stages before it made.
        begun = folder / ("mntp" if name == "fresh" else "simcse")
        assert fingerprint(begun, pooling=end.config.pooling) == identify(start.config).fingerprint
        assert fingerprint(folder) == identify(end.config).fingerprint
        assert len({identify(step.config).fingerprint for step in steps}) == len(steps)


def test_the_first_stage_starts_from_the_plain_base(work: Any, tiny_folder: Path) -> None:
    start, _, end = curve_steps(work.folder / "fresh", Stage.MNTP, EncoderConfig())
    assert () == resolve(start.config).adapters
    assert fingerprint(tiny_folder) == identify(start.config).fingerprint
    assert (2, "end") == (end.step, end.place)


def test_scores_are_those_of_the_evaluation_and_kept(work: Any) -> None:
    ended = curve(work, "fresh", "--every", "2", "--format", "json")
    assert ended.code == 0, ended.err
    assert "8 computed, 0 reused" in ended.err
    assert [0, 2, 4, 5] == [point["step"] for point in ended.json["points"]]
    written = json.loads((work.folder / "fresh/curve.json").read_text())
    assert written["stages"]["supervised"]["points"] == ended.json["points"]
    checkpoint = "fresh/checkpoints/supervised/step-000004"
    direct = work("eval", "run", "--local", "tasks", "--model", checkpoint, "--precision", "fp32", "--format", "json")
    assert direct.code == 0, direct.err
    expected = {score["task"]: score["score"] for score in direct.json["scores"]}
    point = ended.json["points"][2]
    assert expected == point["scores"]
    assert sum(expected.values()) / 2 == pytest.approx(point["mean"])
    # Scores that are there are read, those that are not are computed; of the same content, wherever they lie.
    results = sorted((work.folder / "fresh/curve-results").glob("*/*.json"))
    assert 8 == len(results)
    results[0].unlink()
    again = curve(work, "fresh", "--every", "2", "--format", "json")
    assert "1 computed, 7 reused" in again.err
    assert again.json["points"] == ended.json["points"]
    finer = curve(work, "fresh", "--results", "fresh/curve-results")
    assert "4 computed, 8 reused" in finer.err


class Titles(HTMLParser):
    """The texts over the marks of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.found.append(data)
        self._in_title = False


def test_the_report_draws_one_line_a_run_with_the_numbers_of_curve_json(work: Any) -> None:
    for name in ("fresh", "simcse"):
        assert 0 == curve(work, name, "--every", "4").code
        log = work.folder / name / "train.jsonl"  # fewer plots are drawn sooner
        log.write_text("".join(line for line in log.read_text().splitlines(True) if '"supervised"' in line))
    ended = work("train", "report", "fresh", "simcse", "--html", "page.html", "--png", "pictures")
    assert ended.code == 0, ended.err
    assert {"supervised-curve.png", "supervised-curve-tasks.png"} <= {
        path.name for path in (work.folder / "pictures").iterdir()
    }
    titles = Titles((work.folder / "page.html").read_text()).found
    means: dict[int, list[str]] = {}
    for name in ("fresh", "simcse"):
        stages = json.loads((work.folder / name / "curve.json").read_text())["stages"]
        for point in stages["supervised"]["points"]:
            shown = f"{100 * point['mean']:.1f}"
            means.setdefault(point["step"], []).append(shown)
            assert f"{name} at step {point['step']}: {shown}" in titles
            for task, score in point["scores"].items():
                assert f"{name} at step {point['step']}: {100 * score:.1f}" in titles, task
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "step fresh simcse" in lines
    for step, cells in means.items():
        assert f"{step} {' '.join(cells)}" in lines


def test_only_what_all_runs_were_measured_on_is_compared(work: Any) -> None:
    assert 0 == curve(work, "fresh", "near", "far", "--every", "4").code
    assert 0 == curve(work, "simcse", "near", "--every", "4").code
    ended = work("train", "report", "fresh", "simcse", "--format", "json")
    assert ["supervised: not all runs were measured on far: left out of the curve"] == ended.json["notes"]
    shown = work("train", "report", "fresh", "simcse").out
    near = json.loads((work.folder / "fresh/curve.json").read_text())["stages"]["supervised"]["points"][0]["scores"]
    assert f"0 {100 * near['near']:.1f}" in " ".join(shown.split())
    work.write("tasks/sts/near.jsonl", '{"a": "x y", "b": "z", "score": 1}\n{"a": "x", "b": "x", "score": 5}\n')
    assert 0 == curve(work, "simcse", "near", "--every", "4").code
    notes = work("train", "report", "fresh", "simcse", "--format", "json").json["notes"]
    assert ["supervised: the curves of fresh, simcse share no task on the same data: not compared"] == notes


def test_curves_of_other_stages_stay(work: Any) -> None:
    assert 0 == curve(work, "fresh", "near", "--every", "4").code
    before = read_curves(work.folder / "fresh")[Stage.SUPERVISED]
    ended = curve(work, "fresh", "near", "--stage", "simcse")
    assert ended.code == 0, ended.err
    found = read_curves(work.folder / "fresh")
    assert [Stage.SIMCSE, Stage.SUPERVISED] == list(found)
    assert before == found[Stage.SUPERVISED]
    assert [0, 1, 2] == [point.step for point in found[Stage.SIMCSE].points]


def test_an_unfinished_stage_has_its_checkpoints(work: Any) -> None:
    shutil.rmtree(work.folder / "simcse/supervised")
    steps = curve_steps(work.folder / "simcse", Stage.SUPERVISED, EncoderConfig())
    assert [0, 1, 2, 3, 4, 5] == [step.step for step in steps]
    assert "checkpoint" == steps[-1].place
    assert fingerprint(work.folder / "simcse/simcse") == identify(steps[0].config).fingerprint


def test_every_stage_can_be_asked_for() -> None:
    assert set(Stage) == {stage.value for stage in StageName}


def test_a_mean_needs_all_its_tasks() -> None:
    point = CurvePoint(step=1, place="checkpoint", fingerprint="f", scores={"a": 0.25, "b": 0.75})
    assert 0.5 == point.mean(["a", "b"])
    assert point.mean(["a", "c"]) is None
    assert point.mean([]) is None


def test_mistakes_are_told_before_anything_is_measured(work: Any, subtests: pytest.Subtests) -> None:
    for args, said in [
        (["nowhere"], "nowhere: no such folder"),
        (["tasks"], "tasks holds no checkpoint and no finished stage"),
        (["fresh", "--instructions", "x.toml", "--no-instructions"], "contradict each other"),
    ]:
        with subtests.test(args=args, said=said):
            ended = curve(work, args[0], *args[1:])
            assert 2 == ended.code
            assert said in ended.err
            assert not (work.folder / "fresh/curve.json").exists()
            assert not (work.folder / "fresh/curve-results").exists()


def test_a_damaged_curve_is_told_and_not_overwritten(work: Any) -> None:
    for text in ("{", '{"schema": 2, "stages": {}}', '{"schema": 1, "stages": {"supervised": {"points": [{}]}}}'):
        path = work.write("fresh/curve.json", text)
        ended = curve(work, "fresh", "near")
        assert 2 == ended.code
        assert "curve.json: cannot be read" in ended.err
        assert text == path.read_text()
        report = work("train", "report", "fresh")
        assert 0 == report.code
        assert "curve.json: cannot be read" in report.err


def test_a_stage_that_was_not_trained_and_steps_that_were_not_kept(work: Any) -> None:
    ended = curve(work, "simcse", "near", "--every", "9")
    assert 0 == ended.code, ended.err
    assert "--every is 9: no checkpoint is at a multiple of it" in ended.err
    (work.folder / "simcse/supervised/adapter_model.safetensors").unlink()
    ended = curve(work, "simcse", "near")
    assert 2 == ended.code
    assert "supervised: no adapter_model.safetensors" in ended.err
    shutil.rmtree(work.folder / "fresh/supervised")
    ended = curve(work, "fresh", "near", "--every", "9")
    assert 2 == ended.code
    assert "--every is 9: no checkpoint of supervised is at a multiple of it, but at 1, 2, 3, 4, 5" in ended.err
    shutil.rmtree(work.folder / "fresh/checkpoints/supervised")
    ended = curve(work, "fresh", "near", "--stage", "supervised")
    assert 2 == ended.code
    assert "holds no checkpoint of supervised and no finished supervised" in ended.err
