"""Ctrl-C waits for the end of a batch, a second one does not."""

from __future__ import annotations

import os
import signal

import pytest

from searchctl.app.terminal.interrupts import Interrupts


def press() -> None:
    """Send SIGINT to this process, as Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupt_inside_a_batch_counts_after_its_end() -> None:
    told: list[str] = []
    done: list[str] = []
    interrupts = Interrupts(lambda: told.append("waits"))
    with pytest.raises(KeyboardInterrupt), interrupts.active():
        with interrupts.shield():
            press()
            done.append("committed")
        done.append("never")
    assert (told, done) == (["waits"], ["committed"])


def test_second_interrupt_ends_the_batch_at_once() -> None:
    done: list[str] = []
    interrupts = Interrupts(lambda: None)
    with pytest.raises(KeyboardInterrupt), interrupts.active(), interrupts.shield():
        press()
        done.append("first")
        press()
        done.append("never")
    assert done == ["first"]


def test_interrupt_outside_of_a_batch_counts_at_once() -> None:
    interrupts = Interrupts(lambda: None)
    with pytest.raises(KeyboardInterrupt), interrupts.active():
        press()
        pytest.fail("went on")


def test_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(lambda: None).active():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
