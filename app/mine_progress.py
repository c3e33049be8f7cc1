"""What the bars of `searchctl eval init` and `eval mine` say: passages and queries done of how many, and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..encoder.protocol import EncodeProgress
from ..training.evaluation.own_collection import MakingStep
from .fill_progress import FillProgress
from .index_run import duration

_FILLING = 0.8
"""Share of the bar that stands for encoding passages; queries are the rest."""


class InitWords:
    """What the bar says while a test set is made; the time left is that of the step, for steps are of all lengths."""

    def __init__(self, update: Callable[[float, str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._update = update
        self._now = now
        self._step: MakingStep | None = None
        self._began = now()

    def told(self, step: MakingStep, done: int, of: int) -> None:
        if step is not self._step:
            self._step, self._began = step, self._now()
        number, steps = list(MakingStep).index(step), len(MakingStep)
        words = f"{number + 1} of {steps}, {step}: {done:,} of {of:,} {step.counts}"
        if 0 < done < of:
            words += f", {duration((self._now() - self._began) * (of - done) / done)} left in it"
        self._update((number + done / max(of, 1)) / steps, words)


class MineWords:
    """What the bar says."""

    def __init__(self) -> None:
        self.update: Callable[[float, str], None] = lambda share, words: None

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        self.update(0.0, f"loading {name}")
        yield

    def filling(self, progress: FillProgress, total: int) -> None:
        speed = _speed(progress.tokens_done, progress.tokens_expected(total), progress.encode_s)
        self.update(_FILLING * progress.share(total), f"{progress.passages:,} of {total:,} passages{speed}")

    def filled(self, queries: int) -> None:
        self.update(_FILLING, f"{queries:,} queries")

    def asking(self, progress: EncodeProgress, began: float) -> None:
        """Say how far the queries are encoded; `began` is of `time.perf_counter`."""
        share = progress.tokens_done / progress.tokens_total if progress.tokens_total else 1.0
        speed = _speed(progress.tokens_done, progress.tokens_total, time.perf_counter() - began)
        words = f"{progress.texts_done:,} of {progress.texts_total:,} queries{speed}"
        self.update(_FILLING + (1 - _FILLING) * share, words)


def _speed(tokens: int, expected: float, seconds: float) -> str:
    """Return ", 1,200 tokens/s, 10 s left"; "" before anything was encoded."""
    if not tokens or seconds <= 0:
        return ""
    per_s = tokens / seconds
    return f", {per_s:,.0f} tokens/s, {duration(max(0.0, expected - tokens) / per_s)} left"
