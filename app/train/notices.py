"""What a person sees before and while training runs: choices that nobody made, the cost, loss, speed and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ...training.recipe import Recipe, Stage, stage_settings
from ..terminal.console import Terminal, printable
from ..terminal.wording import duration

if TYPE_CHECKING:
    from ...encoder.models.resolve import ResolvedModel
    from ...training.chain.request import TrainRequest
    from ...training.data.training_data import Data
    from ...training.loop import Moment


def tell_left_out(terminal: Terminal, whole: ResolvedModel) -> None:
    """Say which adapters of a model the stages from mntp on are trained without."""
    if whole.adapters:
        names = ", ".join(folder.name for folder in whole.adapters)
        terminal.notice(
            f"mntp starts from the weights below {whole.name}: its adapters are left out ({names}). To train on top of "
            "them, leave mntp out of --stages"
        )


def tell_unread(terminal: Terminal, data: Data) -> None:
    """Say what of the data is not read: fields of their lines by name, and texts that were there before."""
    files: dict[str, list[str]] = {}
    for name, fields in data.unread.items():
        for field in fields:
            files.setdefault(printable(field), []).append(name)
    if files:
        listed = "; ".join(f"{field} in {', '.join(names)}" for field, names in files.items())
        terminal.notice(f"fields that are not read: {listed}")
    if data.repeated:
        one = data.repeated == 1
        terminal.notice(f"{data.repeated:,} {'text is' if one else 'texts are'} in the data more than once: read once")


def tell_sources(terminal: Terminal, recipe: Recipe, data: Data, stages: Sequence[Stage]) -> None:
    """Say which files of pairs have no table in the recipe, and which tables have no file."""
    if not data.pairs or not {Stage.SUPERVISED, Stage.DISTILL} & set(stages):
        return
    tables = recipe.supervised.sources
    without = [source.name for source in data.pairs if source.name not in tables]
    if without:
        table = f"[supervised.sources.{without[0] if len(without) == 1 else 'NAME'}]"
        terminal.notice(
            f"recipe {recipe.name} has no {table} for {', '.join(without)}: no instruction, weight 1, not symmetric"
        )
    unused = [name for name in tables if name not in data.digests]
    if len(unused) > 1 and len(unused) == len(tables):
        # A recipe of the paper used with data of one's own: the names of the paper's would say nothing.
        terminal.notice(f"recipe {recipe.name} has tables for {len(unused)} sources: none of them is in --data")
    elif unused:
        terminal.notice(f"recipe {recipe.name} has tables for sources that are not in --data: {', '.join(unused)}")


def tell_aside(terminal: Terminal, recipe: Recipe, stages: Sequence[Stage]) -> None:
    """Say that SimCSE's adapter is trained in this run and is no part of what supervised training makes."""
    if {Stage.SIMCSE, Stage.SUPERVISED} <= set(stages) and recipe.supervised.start == "fresh":
        terminal.notice(
            f"supervised starts afresh in recipe {recipe.name}, as in the paper: the result is without SimCSE's "
            'adapter, which stays usable by itself. start = "simcse" in [supervised] goes on with it'
        )


def tell_cost(terminal: Terminal, request: TrainRequest, data: Data) -> None:
    """Say how long a recipe that nobody named takes on a CPU, and which one is made for it."""
    if request.device.type != "cpu":
        return
    from ...training.chain.fitting import CPU_TOKENS_PER_S, expected_tokens

    recipe, stages = request.recipe, request.stages
    tokens = expected_tokens(recipe, stages, data)
    each = ", ".join(f"{stage} {_amount(count)}" for stage, count in tokens.items())
    total = sum(tokens.values())
    terminal.notice(
        f"recipe {recipe.name} reads about {_amount(total)} tokens ({each}): {_time(total / CPU_TOKENS_PER_S)} on a "
        f"CPU core at {CPU_TOKENS_PER_S} tokens/s, as with 135 million parameters. {_for_a_cpu(recipe, stages)}"
    )


def _for_a_cpu(recipe: Recipe, stages: Sequence[Stage]) -> str:
    """Return the recipe for a CPU that starts with these stages."""
    if Stage.SUPERVISED in stages and Stage.SIMCSE not in stages:
        if recipe.supervised.start == "previous":
            return "For hours on a CPU: --recipe smollm2-135m-cpu-further"
        return "For hours on a CPU: --recipe smollm2-135m-cpu --stages mntp,simcse,supervised"
    return "For hours on a CPU: --recipe smollm2-135m-cpu"


def _time(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds > 2 * 86_400 else duration(seconds)


def _amount(tokens: int) -> str:
    return f"{tokens / 1e6:,.1f} million" if tokens >= 100_000 else f"{tokens:,}"


class CutTexts:
    """Adds up over the steps of a stage how many of its texts were cut at the stage's length."""

    def __init__(self) -> None:
        self._steps, self._shares = 0, 0.0

    def add(self, moment: Moment) -> None:
        if "cut" in moment.metrics:
            self._steps += 1
            self._shares += moment.metrics["cut"]

    def tell(self, terminal: Terminal, recipe: Recipe, stage: Stage) -> None:
        """Say the share of cut texts, where there are any, and begin again."""
        share = self._shares / max(1, self._steps)
        self._steps, self._shares = 0, 0.0
        if share > 0:
            length = stage_settings(recipe, stage).length
            percent = f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
            terminal.notice(f"{stage}: {percent} of the texts read were cut at {length} tokens ({stage}.length)")


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
