"""`searchctl train report`: its numbers are those of the log, whatever state the run is in."""

from __future__ import annotations

import html
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.pages.line_plots import MOST_POINTS
from searchctl.app.train.view import STAGE_NAMES, provenance
from searchctl.training.chain.run_log import smoothed, smoothing_span, thinned
from searchctl.training.recipe import Stage

PNG = b"\x89PNG\r\n\x1a\n"
LOOKS = {
    0: {"loss": 3.5, "uniformity": -0.25, "alignment": 0.0625, "stsb-dev": 0.5},
    2: {"loss": 1.25, "uniformity": -2.0, "alignment": 0.03125, "stsb-dev": 0.75},
    4: {"loss": 1.5, "uniformity": -2.5, "alignment": 0.125, "stsb-dev": 0.625},
}
LOSSES = {1: 3.25, 2: 2.125, 3: 1.75, 4: 0.875}
SPEEDS = {1: 100.0, 2: 50.0, 3: 200.0, 4: 100.0}


def line(step: int, *, stage: str = "simcse", steps: int = 4, **changes: Any) -> dict[str, Any]:
    """Return a line as training writes it: each step reads 100 tokens."""
    return {
        "stage": stage,
        "step": step,
        "steps": steps,
        "loss": LOSSES.get(step),
        "rate": 0.001 * (4 - step) / 4,
        "gradient_norm": 2.0 if step else None,
        "tokens": 100 * step,
        "tokens_per_s": SPEEDS.get(step, 0.0),
        "seconds": 2.5 * step,
        "metrics": {"accuracy": 0.5} if step else {},
        "held_out": LOOKS.get(step),
    } | changes


def manifest(**changes: Any) -> dict[str, Any]:
    settings = {"batch": 8, "schedule": {"steps": 4, "learning_rate": 0.001}, "sentences": True, "pooling": "mean"}
    return {
        "base": "small-<model>",
        "base_revision": "1.2.3",
        "base_licence": "Apache-2.0",
        "base_adapters": [],
        "recipe": {"name": "mine", "source": "a test", "seed": 7, "supervised": {"sources": {}}, "simcse": settings},
        "stages": {
            "simcse": {
                "recipe": {"name": "mine", "simcse": settings},
                "data": {"texts": {}},
                "command": "searchctl train run --data texts.jsonl",
            }
        },
        "data": {"texts": {"blake3": "ab" * 32, "rows": 12345, "licence": "CC BY-SA"}},
        "precision": "float32",
        "device": "cpu",
        "versions": {"searchctl": "9.8.7", "torch": "2.13.0"},
        "command": "searchctl train run --data texts.jsonl",
    } | changes


def put(shell: Any, name: str = "out", *lines: Any, finished: bool = True) -> Path:
    """Write an output folder; a line may be an object, or text as it is."""
    given = lines or [line(step) for step in range(5)]
    text = "".join(entry if isinstance(entry, str) else json.dumps(entry) + "\n" for entry in given)
    path: Path = shell.write(f"{name}/train.jsonl", text)
    if finished:
        shell.write(f"{name}/manifest.json", json.dumps(manifest()))
        shell.write(f"{name}/simcse/stage.json", "{}")
    return path.parent


def stage_of(shell: Any, *args: str) -> dict[str, Any]:
    ended = shell("train", "report", *args, "--format", "json")
    assert ended.code == 0, ended.err
    (found,) = ended.json["runs"][0]["stages"]
    return found  # type: ignore[no-any-return]


class Page(HTMLParser):
    """The words of a page: table rows, texts over marks, and addresses it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tips: list[str] = []
        self.loads: list[str] = []
        self._into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self._into = self.rows[-1] if tag in ("td", "th") else self.tips if tag == "title" else self._into
        if tag in ("td", "th", "title") and self._into is not None:
            self._into.append("")
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href") and value[:1] != "#"]  # type: ignore[index]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "title"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


def test_json_has_the_numbers_of_the_log(shell: Any) -> None:
    put(shell)
    found = stage_of(shell, "out")
    assert ("simcse", True, 4, 4) == (found["stage"], found["finished"], found["step"], found["steps"])
    assert (400, 10.0) == (found["tokens"], found["seconds"])
    # 100 tokens each in 1, 2, 0.5 and 1 s; the look at held-out data in between is not training.
    assert 400 / 4.5 == pytest.approx(found["tokens_per_s"])
    assert (3.25, 0.875) == (found["first_loss"], found["last_loss"])
    spans = {name: tuple(score[key] for key in ("start", "best", "best_step", "end", "end_step"))
             for name, score in found["held_out"].items()}  # fmt: skip
    assert spans == {
        "loss": (3.5, 1.25, 2, 1.5, 4),
        "uniformity": (-0.25, -2.5, 4, -2.5, 4),
        "alignment": (0.0625, 0.03125, 2, 0.125, 4),
        "stsb-dev": (0.5, 0.75, 2, 0.625, 4),
    }


def test_terminal_and_page_show_the_numbers_of_the_json(shell: Any) -> None:
    put(shell)
    ended = shell("train", "report", "out", "--html", "page.html")
    assert (0, "wrote page.html\n") == (ended.code, ended.err)
    found = stage_of(shell, "out")
    rows = [
        ["training loss", f"{found['first_loss']:.4f}", "-", "-", f"{found['last_loss']:.4f}"],
        *(
            [f"held-out {name}", f"{s['start']:.4f}", f"{s['best']:.4f}", str(s["best_step"]), f"{s['end']:.4f}"]
            for name, s in found["held_out"].items()
        ),
    ]
    terminal = [line.rstrip() for line in ended.out.splitlines()]
    for row in rows:
        assert " ".join(row) in [" ".join(line.split()) for line in terminal]
    assert "400 tokens, 10 s, 89 tokens/s" in terminal
    page = Page((shell.folder / "page.html").read_text())
    for row in rows:
        assert row in page.rows
    for step, look in LOOKS.items():
        assert f"out, held-out loss at step {step}: {look['loss']:.4f}" in page.tips
        for name in ("uniformity", "alignment", "stsb-dev"):
            assert f"out, {name} at step {step}: {look[name]:.4f}" in page.tips


def test_the_page_stands_alone_and_says_what_the_run_was_made_from(shell: Any) -> None:
    put(shell)
    assert shell("train", "report", "out", "--html", "page.html").code == 0
    text = (shell.folder / "page.html").read_text()
    assert [] == Page(text).loads
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "prefers-color-scheme:dark" in text
    for said in ("small-<model> (1.2.3, Apache-2.0)", "mine (a test)", "searchctl 9.8.7, torch 2.13.0"):
        assert html.escape(said) in text
    assert "small-<model>" not in text
    rows = Page(text).rows
    assert ["texts", "12,345", "CC BY-SA", "simcse", "-", "-", "ab" * 32] in rows
    assert ["schedule.learning_rate", "0.001"] in rows
    assert ["sentences", "yes"] in rows
    assert "searchctl train run --data texts.jsonl" in text


def test_every_stage_has_a_name() -> None:
    assert set(Stage) == set(STAGE_NAMES)


def used(stage: str, *names: str, **sources: Any) -> dict[str, Any]:
    """Return what a stage says of itself that read these files."""
    return {
        "recipe": {stage: {"batch": 8, "sources": sources}},
        "data": {name: {} for name in names},
        "command": "searchctl train run",
        "teacher": None,
    }


def test_commands_and_data_of_the_adapters_of_the_base_are_told() -> None:
    assert "trained by" not in provenance(manifest(base_manifest=None)).facts
    oldest = {"stages": {"mntp": {"command": "train one"}}}
    before = {"stages": {"simcse": {"command": "train two"}}, "base_manifest": oldest}
    data = {name: {"blake3": name, "rows": 5, "licence": None, "kind": "texts"} for name in ("plain", "texts")}
    told = provenance(manifest(base_manifest=before, data=data))
    assert told.facts["trained by"] == "train one; train two"
    assert [(row[0], row[3]) for row in told.data] == [("plain", "base"), ("texts", "simcse")]


def test_weight_and_instruction_are_those_of_the_stage_that_read_the_pairs() -> None:
    def rows(kinds: dict[str, str | None], **stages: Any) -> list[tuple[str, ...]]:
        data = {
            name: {"blake3": name, "rows": 5, "licence": None} | ({} if kind is None else {"kind": kind})
            for name, kind in kinds.items()
        }
        return [row[3:6] for row in provenance(manifest(stages=stages, data=data)).data]

    find, plain = {"weight": 2.0, "instruction": "Find it"}, {"weight": 2.0, "instruction": None}
    distilled = used("distill", "asked", "other", asked=find)
    assert [("distill", "2.0", "Find it"), ("distill", "1.0", "none")] == rows(
        {"asked": "pairs", "other": "pairs"}, distill=distilled
    )
    # The recipe may change between two stages.
    both = rows({"asked": "pairs"}, supervised=used("supervised", "asked", asked=plain), distill=distilled)
    assert [("supervised, distill", "2.0", "supervised: none; distill: Find it")] == both
    # Of texts a table says the licence alone, and nobody is told an instruction.
    assert [("distill", "-", "-")] == rows({"asked": "texts"}, distill=used("distill", "asked", asked=find))
    simcse = {**used("simcse", "other"), "recipe": {"simcse": {}}}
    assert [("simcse", "-", "-")] == rows({"other": "pairs"}, simcse=simcse)
    # Manifests without the kind are older ones.
    older = rows({"asked": None, "other": None}, supervised=used("supervised", "asked", "other", asked=find))
    assert [("supervised", "2.0", "Find it"), ("supervised", "1.0", "none")] == older


def test_the_teacher_is_told_with_all_that_decides_its_vectors() -> None:
    teacher = {"name": "large", "revision": "1.2", "licence": "MIT", "dim": 1024, "precision": "bf16",
               "max_tokens": 8192, "fingerprint": "cd" * 32}  # fmt: skip
    stage = used("distill", "texts")
    data = {"texts": {"blake3": "ab", "rows": 5, "licence": None, "kind": "texts"}}
    for changes, said in (({}, "revision 1.2, licence MIT"), ({"licence": None}, "revision 1.2, licence not said")):
        facts = provenance(manifest(stages={"distill": {**stage, "teacher": teacher | changes}}, data=data)).facts
        rest = f"1,024 dimensions, bf16, at most 8,192 tokens, fingerprint {'cd' * 32}"
        assert f"large ({said}, {rest})" == facts["teacher"]
    assert "teacher" not in provenance(manifest()).facts


def test_the_smooth_line_starts_at_the_first_loss_and_forgets_it() -> None:
    curve = [(step, 1.0 if step == 1 else 0.0) for step in range(1, 101)]
    span = smoothing_span(100)
    weight = 2 / (span + 1)
    smooth = smoothed(curve)
    assert (1, 1.0) == smooth[0]
    # The weights of all values seen so far add up to 1.
    assert smooth[1][1] == pytest.approx((1 - weight) / ((1 - weight) + 1))
    assert smooth[-1][1] < 1e-8
    assert [2.0] * 9 == pytest.approx([value for _, value in smoothed([(step, 2.0) for step in range(9)])])


def test_a_thinned_curve_keeps_every_spike() -> None:
    curve = [(step, math.sin(step / 300)) for step in range(10_000)]
    curve[1234], curve[8765] = (1234, 99.0), (8765, -99.0)
    drawn = thinned(curve, MOST_POINTS)
    assert len(drawn) <= MOST_POINTS
    assert {(1234, 99.0), (8765, -99.0)} <= set(drawn)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(curve)
    assert curve[:50] == thinned(curve[:50], MOST_POINTS)


def test_damaged_lines_are_left_out_and_told(shell: Any) -> None:
    whole = [line(step) for step in range(5)]
    damaged = [{**whole[2], "loss": "low"}, {**whole[2], "stage": "fourth"}]
    torn = ["\x00\x01 no json\n", '["a", "list"]\n', json.dumps(whole[2])[:40] + "\n"]
    put(shell, "out", whole[0], *torn, whole[1], *damaged, *whole[2:], '{"stage": "si')
    ended = shell("train", "report", "out", "--format", "json")
    assert ended.code == 0, ended.err
    damage, cut = ended.json["notes"]
    assert re.search(r"train\.jsonl: 5 of 10 lines are, first line 2, no step of a training run", damage)
    assert "the last line has no end" in cut
    shell.write("clean/train.jsonl", "".join(json.dumps(entry) + "\n" for entry in whole))
    found, expected = stage_of(shell, "out"), stage_of(shell, "clean")
    assert {**expected, "finished": True} == found
    said = shell("train", "report", "out").err
    assert "5 of 10 lines are" in said


def test_the_later_line_of_a_step_counts(shell: Any) -> None:
    put(shell, "out", *(line(step) for step in range(5)), line(4, loss=0.25))
    assert 0.25 == stage_of(shell, "out")["last_loss"]


def test_a_folder_without_a_step_is_an_error_that_says_why(new_shell: Any, subtests: pytest.Subtests) -> None:
    for text, said in [
        (None, "holds no training run"),
        ("", "holds no step yet"),
        ("nonsense\n", "line 1 is no step of a training run"),
        (json.dumps(line(1)), "the last line has no end"),
        (json.dumps(line(1, steps=0)) + "\n", "step is 1 of 0 steps"),
        (json.dumps({k: v for k, v in line(1).items() if k != "tokens"}) + "\n", "tokens is missing"),
    ]:
        with subtests.test(text=text, said=said):
            shell = new_shell()
            (shell.folder / "out").mkdir()
            if text is not None:
                shell.write("out/train.jsonl", text)
            ended = shell("train", "report", "out", "--html", "page.html")
            assert 2 == ended.code
            assert said in ended.err
            assert "bug" not in ended.err
            assert not (shell.folder / "page.html").exists()


def test_a_run_that_still_loads_its_model_is_one_without_a_step(shell: Any) -> None:
    (shell.folder / "out/checkpoints").mkdir(parents=True)
    ended = shell("train", "report", "out")
    assert 2 == ended.code
    assert "holds no step yet" in ended.err


def test_what_was_no_number_is_a_gap_and_told(shell: Any) -> None:
    look = {"loss": 1.0, "stsb-dev": math.nan}
    put(shell, "out", line(0, held_out={"loss": 2.0, "stsb-dev": 0.5}), line(1, loss=math.inf), line(2, held_out=look),
        line(3, gradient_norm=None), line(4, held_out={"loss": 1.5, "stsb-dev": None}))  # fmt: skip
    ended = shell("train", "report", "out", "--html", "page.html", "--format", "json")
    assert ended.code == 0, ended.err
    assert "NaN" not in ended.out
    (found,) = ended.json["runs"][0]["stages"]
    assert (2.125, 0.875) == (found["first_loss"], found["last_loss"])
    dev = found["held_out"]["stsb-dev"]
    assert (0.5, 0.5, 0, None, 2) == tuple(dev[key] for key in ("start", "best", "best_step", "end", "missing"))
    assert ["simcse: stsb-dev was no number at 2 looks at held-out data"] == ended.json["notes"]
    text = (shell.folder / "page.html").read_text()
    assert not re.search(r"\bnan\b|\binf\b", text)
    assert ["held-out stsb-dev", "0.5000", "0.5000", "0", "-"] in Page(text).rows


def test_a_run_without_a_finished_stage_is_shown_as_far_as_it_is(shell: Any) -> None:
    put(shell, "out", *(line(step, steps=60) for step in range(3)), finished=False)
    ended = shell("train", "report", "out", "--html", "page.html")
    assert ended.code == 0, ended.err
    assert "SimCSE: 2 of 60 steps, not finished" in ended.out
    assert "no stage is finished yet" in ended.err
    text = (shell.folder / "page.html").read_text()
    assert "2 of 60 steps, not finished" in text
    assert "no stage is finished yet" in text


def test_a_run_before_its_first_step_has_its_first_look(shell: Any) -> None:
    put(shell, "out", line(0), finished=False)
    ended = shell("train", "report", "out", "--html", "page.html")
    assert ended.code == 0, ended.err
    assert "0 of 4 steps" in ended.out
    assert ["training loss", "-", "-", "-", "-"] in Page((shell.folder / "page.html").read_text()).rows


def test_a_manifest_that_is_none_is_told_and_the_curves_are_there(new_shell: Any, subtests: pytest.Subtests) -> None:
    for text in ["{", "[]", '{"base": "x"}', json.dumps(manifest(stages={"simcse": {}}))]:
        with subtests.test(text=text):
            shell = new_shell()
            put(shell)
            shell.write("out/manifest.json", text)
            ended = shell("train", "report", "out", "--html", "page.html")
            assert ended.code == 0, ended.err
            assert "manifest.json" in ended.err
            assert "SimCSE: 4 steps" in ended.out


def test_several_runs_are_told_apart_and_their_equal_lines_are_said(shell: Any) -> None:
    put(shell, "a/out")
    put(shell, "b/out", *(line(step, loss=LOSSES.get(step, 0) / 2 or None) for step in range(5)))
    put(shell, "c", *(line(step) for step in range(5)))
    ended = shell("train", "report", "a/out", "b/out", "c", "--html", "page.html", "--png", "new/pictures")
    assert ended.code == 0, ended.err
    text = (shell.folder / "page.html").read_text()
    first, second = str(shell.folder / "a/out"), str(shell.folder / "b/out")
    assert f"{first} and c are the same here" in text
    assert f"{second} and" not in text.partition("<nav>")[2]
    names = {path.name: path.read_bytes() for path in (shell.folder / "new/pictures").iterdir()}
    assert {"simcse-loss.png", "simcse-training.png", "simcse-held-out.png"} == set(names)
    for name, content in names.items():
        assert content.startswith(PNG), name
        assert name in ended.err


def test_without_matplotlib_the_extra_is_named(new_shell: Any, subtests: pytest.Subtests) -> None:
    for option in [("--html", "page.html"), ("--png", "pictures")]:
        with subtests.test(option=option), pytest.MonkeyPatch.context() as monkeypatch:
            shell = new_shell()
            put(shell)
            monkeypatch.setitem(sys.modules, "matplotlib", None)
            ended = shell("train", "report", "out", *option)
            assert 2 == ended.code
            assert f"{option[0]} needs the extra eval: `pip install 'searchctl[eval]'`" in ended.err
            assert "SimCSE: 4 steps" in shell("train", "report", "out").out


def test_places_that_cannot_be_written_are_told_first(shell: Any) -> None:
    put(shell)
    shell.write("file", "")
    assert "--png is file, a file: expected a folder" in shell("train", "report", "out", "--png", "file").err
    assert "--html is out, a folder: expected a file" in shell("train", "report", "out", "--html", "out").err


def test_training_leaves_a_report_and_survives_without(shell: Any, tiny_folder: Path) -> None:
    texts = [{"text": f"Sentence {number} of 60 tells of wool and iron and bread."} for number in range(60)]
    shell.write("texts.jsonl", "".join(json.dumps(row) + "\n" for row in texts))
    shell.write(
        "recipe.toml",
        'source = "this test"\n[mntp]\nbatch = 2\nlength = 16\n[mntp.schedule]\nsteps = 3\n'
        "[simcse]\nbatch = 4\nlength = 16\n[simcse.schedule]\nsteps = 2\n",
    )
    given = ["--model", tiny_folder, "--data", "texts.jsonl", "--recipe", "recipe.toml", "-o", "out"]
    given += ["--precision", "fp32"]
    stopped = shell("train", *given, "--max-minutes", "1e-12")
    assert 3 == stopped.code, stopped.err
    assert "no report was written" in stopped.err  # no step was made
    log, report = shell.folder / "out" / "train.jsonl", shell.folder / "out" / "report.html"
    report.mkdir()
    ended = shell("train", *given, "--resume")
    assert 0 == ended.code, ended.err
    assert f"{shell.folder / 'out'}\n" == ended.out
    assert "no report was written: the report is" in ended.err
    assert "a folder: expected a file" in ended.err
    report.rmdir()
    again = shell("train", *given, "--resume")
    assert 0 == again.code, again.err
    assert f"the report is {report}" in again.err
    rows = Page(report.read_text()).rows
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for stage in ("mntp", "simcse"):
        own = [entry for entry in lines if entry["stage"] == stage]
        first, last = own[1]["loss"], own[-1]["loss"]
        assert ["training loss", f"{first:.4f}", "-", "-", f"{last:.4f}"] in rows
        looks = [entry["held_out"] for entry in own if entry["held_out"]]
        best = min(look["loss"] for look in looks)
        at = next(entry["step"] for entry in own if entry["held_out"] and entry["held_out"]["loss"] == best)
        expected = [f"{looks[0]['loss']:.4f}", f"{best:.4f}", str(at), f"{looks[-1]['loss']:.4f}"]
        assert ["held-out loss", *expected] in rows
