"""How an evaluation looks while it runs: a line for each score, and below it what is under way with its time left."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import TextIOBase
from typing import TYPE_CHECKING

from rich.text import Text

from ...training.evaluation.comparison import encoding_speed
from ...training.evaluation.measurement import Pulse
from ...training.evaluation.runner import (
    Begun,
    Encoding,
    EvalEvent,
    Failed,
    NotApplicable,
    Pair,
    Planned,
    Remark,
    Scored,
    Waiting,
)
from ..errors import explain
from ..terminal.console import Terminal, printable
from ..terminal.wording import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class EvalView:
    """Takes the events of an evaluation, shows them, and remembers what the summary needs."""

    def __init__(self, terminal: Terminal, *, labels: Sequence[str], tasks: Sequence[str], debug: bool) -> None:
        """`labels` and `tasks` are all that will come: lines are set in columns. `debug` shows tracebacks."""
        self._terminal = terminal
        self._debug = debug
        self._label_width = max(map(len, labels))
        self._task_width = max(map(len, tasks))
        self._bars: _Bars | None = None
        self._remarks: set[str] = set()
        self._left = TimeLeft()
        self.computed: set[tuple[str, str]] = set()
        """Label and task of the pairs that this run measured; the other scores were there."""
        self.not_applicable: list[Pair] = []
        self.failed: list[Failed] = []
        self.under_way: Pair | None = None

    @property
    def messages(self) -> int:
        """How many different things libraries warned of or printed."""
        return len(self._remarks)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show bars on a terminal while inside, and keep what libraries print off both streams."""
        bars = None if self._terminal.quiet or not sys.stderr.isatty() else _Bars(self._terminal)
        with bars.shown() if bars else _nothing(), hushed(self._remark):
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None

    def told(self, event: EvalEvent) -> None:
        """Take one event."""
        match event:
            case Planned():
                self._left.plan(event)
            case Begun(pair=pair):
                self.under_way = pair
                self._show(pair, 0.0, "reading the data and loading")
            case Waiting(pair=pair):
                self._say(pair, Text("waits: another process is at work for it in the same folder", style="yellow"))
            case Encoding(pair=pair, pulse=pulse):
                self._left.read_back(pair, pulse)
                self._show(pair, pulse.share, _speed(pulse))
            case NotApplicable(pair=pair):
                self.not_applicable.append(pair)
            case Failed(pair=pair):
                self.failed.append(event)
                self._left.done(pair)
                self._terminal.fail(f"{pair.task}, {pair.label}: {explain(event.error).error}")
                if self._debug:
                    self._terminal.say("".join(traceback.format_exception(event.error)).rstrip())
            case Scored():
                self._scored(event)
            case Remark(message=message):
                self._remark(message)

    def _scored(self, event: Scored) -> None:
        self._left.done(event.pair)
        if event.reused:
            self._terminal.detail(f"{event.pair.label}, {event.pair.task}: there already")
            return
        self.under_way = None
        self.computed.add((event.pair.label, event.pair.task))
        cost = event.score.cost
        words = f"{duration(cost.total_s)}"
        speed = encoding_speed(event.score.who.kind, cost.tokens, cost.encode_s)
        if speed is not None:
            words += f", {speed:,.0f} tokens/s"
        if cost.truncated:
            words += f", {cost.truncated:,} of {cost.texts:,} texts cut"
        number = f"{event.score.score * 100:5.1f}"
        self._say(event.pair, Text.assemble((number, "bold"), f" {event.score.metric}  ", (words, "dim")))

    def _say(self, pair: Pair, what: Text) -> None:
        task, label = printable(pair.task), printable(pair.label)
        where = Text(f"{task:<{self._task_width}}  {label:<{self._label_width}}  ")
        self._terminal.say(where + what)

    def _show(self, pair: Pair, share: float, words: str) -> None:
        if self._bars is not None:
            self._bars.update(pair, share, words, self._left.of_all())

    def _remark(self, message: str) -> None:
        if message not in self._remarks:
            self._remarks.add(message)
            self._terminal.detail(message)


def _speed(pulse: Pulse) -> str:
    words = [f"{pulse.tokens_per_s:,.0f} tokens/s"] if pulse.tokens_done else []
    if pulse.remaining_s is not None and pulse.elapsed_s > 2:
        words.append(f"{duration(pulse.remaining_s)} left")
    return ", ".join(words)


class TimeLeft:
    """Guesses the time that the rest takes, from the time that the data of the pairs done so far took."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sizes: dict[int, int | None] = {}
        self._done: set[int] = set()
        self._read_back: dict[int, tuple[int, float]] = {}
        self._began = self._last = now()

    def plan(self, plan: Planned) -> None:
        self._sizes = dict(plan.todo)
        self._began = self._last = self._now()

    def read_back(self, pair: Pair, pulse: Pulse) -> None:
        """Note how much of a pair an interrupted run left: of its encodings, that of the most texts tells."""
        if pulse.texts_total >= self._read_back.get(pair.number, (0, 0.0))[0]:
            self._read_back[pair.number] = (pulse.texts_total, pulse.share_known)

    def done(self, pair: Pair) -> None:
        if pair.number in self._sizes:
            self._done.add(pair.number)
            self._last = self._now()

    def of_all(self) -> tuple[float, str]:
        """Return the share of pairs that is done, and "3 of 14" with the time left.

        That comes once a pair is done, and where the size of every task is known: those of the hub have none before.
        """
        words = f"{len(self._done) + 1} of {len(self._sizes)}"
        sizes = [size for size in self._sizes.values() if size is not None]
        worked = sum(map(self._to_compute, self._done))
        if not worked or len(sizes) < len(self._sizes):
            return len(self._done) / len(self._sizes), words
        rest = sum(map(self._to_compute, self._sizes.keys() - self._done))
        rest_s = (self._last - self._began) * rest / worked - (self._now() - self._last)
        share = sum(self._sizes[number] or 0 for number in self._done) / sum(sizes)
        return share, f"{words}, about {duration(max(rest_s, 1.0))} left"

    def _to_compute(self, number: int) -> float:
        """Return the size of what an interrupted run did not leave of a pair."""
        return (self._sizes[number] or 0) * (1 - self._read_back.get(number, (0, 0.0))[1])


class _Bars:
    """Two rows: the pair under way, and the whole."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

        self._progress: Progress = Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16, complete_style="cyan", finished_style="green"),
            TaskProgressColumn(),
            TextColumn("{task.fields[words]}", style="dim", markup=False),
            console=terminal.err,
            transient=True,
        )
        self._pair: TaskID = self._progress.add_task("", total=1.0, words="")
        self._highest = 0.0
        self._whole: TaskID = self._progress.add_task("all", total=1.0, words="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._progress:
            yield

    def update(self, pair: Pair, share: float, words: str, whole: tuple[float, str]) -> None:
        """Show how far `pair` is, where a task that encodes several times starts its bar again, and all of them."""
        said = f"{printable(pair.task)}  {printable(pair.label)}"
        if share < self._highest:
            self._progress.reset(self._pair)
        self._highest = share
        self._progress.update(self._pair, description=said, completed=share, words=words)
        self._progress.update(self._whole, completed=whole[0], words=whole[1])


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def hushed(said: Callable[[str], None]) -> Iterator[None]:
    """Hand what is printed to stdout and stderr to `said`, line by line; Rich keeps the streams it was made with."""
    sink = _Sink(said, sys.stderr.isatty())
    with redirect_stdout(sink), redirect_stderr(sink):
        yield


class _Sink(TextIOBase):
    """Takes lines; bars, which come as one line written over and over, are dropped."""

    def __init__(self, said: Callable[[str], None], is_terminal: bool) -> None:
        super().__init__()
        self._said = said
        self._is_terminal = is_terminal
        self._rest = ""

    def isatty(self) -> bool:
        return self._is_terminal

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip() and "\r" not in line:
                self._said(line)
        return len(text)
