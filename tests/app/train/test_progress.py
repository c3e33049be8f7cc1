"""What a terminal shows while `searchctl train` runs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.train.notices import TrainProgress
from searchctl.training.loop import Moment
from searchctl.training.recipe import MntpStage, Recipe, Schedule, SimcseStage, Stage

STAGES = (Stage.MNTP, Stage.SIMCSE)
SHORT = Schedule(steps=4)
RECIPE = Recipe(
    name="mine",
    source="this test",
    mntp=MntpStage(schedule=SHORT, batch=4, length=32),
    simcse=SimcseStage(schedule=SHORT, batch=8, length=16),
)


class Recorded:
    """What the terminal was given, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def say(self, message: str) -> None:
        self.seen.append(message)

    def notice(self, message: str) -> None:
        self.seen.append(f"note: {message}")

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        self.seen.append(f"<{what}>")
        try:
            yield
        finally:
            self.seen.append("</>")

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[float, str], None]]:
        self.seen.append(f"[{what}]")
        try:
            yield lambda share, words: self.seen.append(f"{share:.2f} {words}")
        finally:
            self.seen.append("[/]")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def moment(step: int, loss: float | None, *, cut: float = 0.0, held_out: dict[str, float] | None = None) -> Moment:
    return Moment(
        step=step,
        steps=4,
        loss=loss,
        rate=1e-3,
        gradient_norm=1.0,
        tokens=100 * step,
        tokens_per_s=1234.5,
        seconds=1.0,
        metrics={} if loss is None else {"cut": cut},
        held_out=held_out,
    )


@pytest.fixture
def terminal() -> Any:
    return Recorded()


def test_loss_speed_time_left_and_held_out_scores_of_each_stage(terminal: Any) -> None:
    clock = Clock()
    view = TrainProgress(terminal, RECIPE, STAGES, clock=clock)
    with view.live():
        view.told(Stage.MNTP, moment(0, None, held_out={"loss": 5.25, "accuracy": 0.125}))
        for step in range(1, 5):
            clock.now += 30
            view.told(Stage.MNTP, moment(step, 5 - step, held_out={"loss": 4.5} if step == 4 else None))
        clock.now += 1000  # What lies between two stages is no part of a step's time.
        view.told(Stage.SIMCSE, moment(0, None, held_out={"loss": 1.5}))
        clock.now += 2
        view.told(Stage.SIMCSE, moment(1, 1.25, cut=0.5))
        view.told(Stage.SIMCSE, moment(4, 1.0, cut=0.5))
    assert [
        "<loading the model, then a first look at the held-out data>",
        "</>",
        "[Training mntp]",
        "mntp     0/4  held out: loss 5.2500, accuracy 0.1250",
        "0.25 loss 4.000  1,234 tokens/s  1 min 30 s left",
        "0.50 loss 3.000  1,234 tokens/s  1 min 00 s left",
        "0.75 loss 2.000  1,234 tokens/s  30 s left",
        "mntp     4/4  held out: loss 4.5000",
        "1.00 loss 1.000  1,234 tokens/s  0.0 s left",
        "[/]",
        "<mntp is trained: saving it, then loading the model for simcse>",
        "</>",
        "[Training simcse]",
        "simcse     0/4  held out: loss 1.5000",
        "0.25 loss 1.250  1,234 tokens/s  6.0 s left",
        "1.00 loss 1.000  1,234 tokens/s  0.0 s left",
        "[/]",
        "<simcse is trained: saving it>",
        "</>",
        "note: simcse: 50.0% of the texts read were cut at 16 tokens (simcse.length)",
    ] == terminal.seen


def test_a_resumed_stage_reckons_from_where_it_went_on(terminal: Any) -> None:
    clock = Clock()
    view = TrainProgress(terminal, RECIPE, STAGES, clock=clock)
    with view.live():
        view.told(Stage.MNTP, moment(2, 3.0))
        clock.now += 40
        view.told(Stage.MNTP, moment(3, 2.0))
    assert ["0.50 loss 3.000  1,234 tokens/s", "0.75 loss 2.000  1,234 tokens/s  40 s left"] == terminal.seen[3:5]


def test_an_error_ends_the_line(terminal: Any) -> None:
    view = TrainProgress(terminal, RECIPE, STAGES)
    with pytest.raises(OSError, match="full"), view.live():
        view.told(Stage.MNTP, moment(1, 3.0))
        raise OSError("the disk is full")
    assert "[/]" == terminal.seen[-1]


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_real_terminal_shows_a_real_run(shell: Any, tiny_folder: Path) -> None:
    shell.write("texts.jsonl", "".join(json.dumps({"text": f"Sentence {i} tells of wool."}) + "\n" for i in range(60)))
    shell.write(
        "recipe.toml",
        'source = "this test"\n[mntp]\nbatch = 4\nlength = 32\n[mntp.schedule]\nsteps = 20\n',
    )
    near, far = pty.openpty()
    run = shell.start(
        *("train", "run", "--model", tiny_folder, "--stages", "mntp", "--data", "texts.jsonl"),
        *("--recipe", "recipe.toml", "-o", "out", "--precision", "fp32", "--device", "cpu"),
        stdout=subprocess.DEVNULL,
        stderr=far,
        env={**os.environ, "COLUMNS": "140", "TERM": "xterm-256color"},
    )
    os.close(far)
    screen = b""
    try:
        while piece := os.read(near, 65536):
            screen += piece
    except OSError:
        pass  # Linux tells the end of a terminal's other side as EIO.
    finally:
        os.close(near)
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())
    assert run.wait(timeout=60) == 0, seen
    assert "a first look at the held-out data" in seen
    assert re.search(r"mntp +0/20 +held out: loss \d", seen), seen
    assert re.search(r"Training mntp .*% loss \d+\.\d{3}  [\d,]+ tokens/s  \d.* left", seen), seen
    assert re.search(r"mntp +20/20 +held out: loss \d", seen), seen
    # The lines break where the terminal ends, which a long folder name decides.
    assert "".join(seen.split()).endswith("`searchctlmodelspromote" + str(shell.folder / "out") + "`"), seen[-500:]
