"""A model's download as one bar: its stages share it, so that it never goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .console import Terminal

if TYPE_CHECKING:
    from ...encoder.models.cache import PullProgress


_STAGES = {
    "wait": (0.0, 0.0, "another process is fetching it"),
    "download": (0.0, 0.7, "downloading"),
    "check": (0.7, 0.8, "checking"),
    "convert": (0.8, 1.0, "converting"),
    "compile": (0.0, 1.0, "compiling"),
}
"""Where each stage begins and ends on the bar, and what it is called."""


@contextmanager
def pull_bar(terminal: Terminal, name: str) -> Iterator[Callable[[PullProgress], None]]:
    """Yield a callback for pulls; the bar comes with its first event, so a model that is here shows none."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        update: Callable[[float, str], None] | None = None

        def told(progress: PullProgress) -> None:
            nonlocal update
            begin, end, words = _STAGES[progress.stage]
            if update is None:
                preparing = progress.stage == "compile"
                terminal.say(
                    f"preparing {name} for this machine: once, then it is kept"
                    if preparing
                    else f"fetching {name}: once, then it is kept on this machine"
                )
                update = stack.enter_context(terminal.progress(f"{'Preparing' if preparing else 'Fetching'} {name}"))
            share = progress.done / progress.total if progress.total else 0.0
            mebibytes = f" {progress.done / 2**20:.0f} MiB" if progress.stage == "download" else ""
            update(begin + (end - begin) * share, words + mebibytes)

        yield told
