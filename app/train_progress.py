"""What a person sees while training runs: loss, speed and time left in one line, held-out scores as lines that stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..training.recipe import Recipe, Stage
from .console import Terminal
from .index_run import duration
from .train_notices import CutTexts

if TYPE_CHECKING:
    from ..training.loop import Moment


class TrainProgress:
    """Shows each moment of the training; off a terminal the held-out scores alone."""

    def __init__(
        self,
        terminal: Terminal,
        recipe: Recipe,
        stages: Sequence[Stage],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stages` are those of the run, in order."""
        self._terminal = terminal
        self._recipe = recipe
        self._stages = stages
        self._clock = clock
        self._stack = ExitStack()
        self._stage: Stage | None = None
        self._update: Callable[[float, str], None] | None = None
        self._began = (0, 0.0)
        """Step and time from which the time left is reckoned."""
        self._cut = CutTexts()
        self.asked = False
        """Whether training shall stop after the step under way."""

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show what goes on while inside."""
        with self._stack:
            self._wait("loading the model, then a first look at the held-out data")
            yield
        self._tell_cut()

    def stopping(self) -> None:
        """Take note of the first Ctrl-C."""
        self.asked = True
        self._terminal.say("stopping after this step; press Ctrl-C again to end at once")

    def told(self, stage: Stage, moment: Moment) -> None:
        """Show a moment of `stage`."""
        if stage is not self._stage:
            self._stack.close()
            self._tell_cut()
            self._stage = stage
            self._update = self._stack.enter_context(self._terminal.progress(f"Training {stage.value}"))
            self._began = (moment.step, self._clock())
        self._cut.add(moment)
        if moment.held_out is not None:
            scores = ", ".join(f"{name} {value:.4f}" for name, value in moment.held_out.items())
            self._terminal.say(f"{stage.value} {moment.step:>5}/{moment.steps}  held out: {scores}")
        if moment.loss is not None and self._update is not None:
            self._update(moment.step / moment.steps, self._words(moment))
        if moment.step == moment.steps:
            following = self._stages[self._stages.index(stage) + 1 :]
            then = f", then loading the model for {following[0].value}" if following else ""
            self._wait(f"{stage.value} is trained: saving it{then}")

    def _wait(self, what: str) -> None:
        self._stack.close()
        self._stack.enter_context(self._terminal.waiting(what))

    def _tell_cut(self) -> None:
        if self._stage is not None:
            self._cut.tell(self._terminal, self._recipe, self._stage)

    def _words(self, moment: Moment) -> str:
        words = f"loss {moment.loss:.3f}  {moment.tokens_per_s:,.0f} tokens/s"
        first, began = self._began
        if moment.step == first:
            return words  # A run that was resumed tells its first step when that is over: nothing to reckon from yet.
        each = (self._clock() - began) / (moment.step - first)
        return f"{words}  {duration(each * (moment.steps - moment.step))} left"
