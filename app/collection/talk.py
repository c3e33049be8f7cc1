"""What a run shows of its slow steps, and where models are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import cache_folder

if TYPE_CHECKING:
    from ...encoder.models.cache import PullProgress
    from ..terminal.console import Terminal

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What a run shows of slow steps, and where models are kept."""

    pulling: Callable[[PullProgress], None] | None = None
    loading: Callable[[str], AbstractContextManager[None]] | None = None
    """Entered with the encoder's name while it is loaded."""
    step: Step | None = None
    """Told each step of writing; crash tests end the process there."""
    cache: Path | None = None
    """Folder for models, None for the user's cache folder."""


def talk_to(terminal: Terminal, pulling: Callable[[PullProgress], None] | None = None) -> Talk:
    """Return the talk of a command that says in its terminal that a model is loaded."""
    return Talk(
        pulling=pulling,
        loading=lambda name: terminal.waiting(f"loading {name}"),
        cache=cache_folder(),
    )
