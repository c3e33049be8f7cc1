"""Ctrl-C that waits for the batch in flight: what is nearly done is kept, and a second one ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns SIGINT into KeyboardInterrupt, at once outside of `shield` and after its end inside."""

    def __init__(self, told: Callable[[], None]) -> None:
        """`told` is called when the first Ctrl-C has to wait; it must be quick and safe in a signal handler."""
        self._told = told
        self._shielded = False
        self._asked = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Handle SIGINT while inside; outside of the main thread Python has no say in it, and nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Let what happens inside come to its end before an interrupt counts."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._asked:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._shielded and not self._asked:
            self._asked = True
            self._told()
            return
        raise KeyboardInterrupt
