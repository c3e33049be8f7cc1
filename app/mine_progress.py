"""What the bar of `searchctl eval mine` says while passages and then queries are encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..encoder.protocol import EncodeProgress
from .corpus_index import FillProgress
from .index_run import duration

_FILLING = 0.8
"""Share of the bar that stands for encoding passages; queries are the rest."""


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
