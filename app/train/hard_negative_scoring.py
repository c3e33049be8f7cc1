"""What `searchctl train mine` scores texts by: an encoder whose vectors outlive a kill, or BM25."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...training.data.corpus import PairSource
from ...training.recipe import Recipe, SourceSettings
from ..collection.encoder_choice import EncoderChoice, LazyEncoder
from ..collection.talk import talk_to
from ..terminal.console import Terminal
from ..terminal.wording import duration

if TYPE_CHECKING:
    from ...encoder.models.cache import PullProgress
    from ...encoder.protocol import EncodeProgress, EncoderInfo
    from ...training.data.mining import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How the queries of one file are scored."""

    scores: Scores
    least: float | None
    """At or below it a text has nothing in common with the query; None where a score does not say so."""
    details: dict[str, Any]
    """For the manifest."""


class Scoring(Protocol):
    def of(self, source: PairSource, corpus: Sequence[str], workspace: Path) -> Scored:
        """Return how the queries of `source` are scored with a corpus of distinct texts.

        `workspace` is a folder for what should outlive a kill.
        """
        ...


class LexicalScoring:
    """BM25."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def of(self, source: PairSource, corpus: Sequence[str], workspace: Path) -> Scored:
        from ...training.data.bm25_index import SETTINGS
        from ...training.data.hard_negatives import lexical_scores
        from ...training.evaluation.bm25 import LABEL

        with self._terminal.waiting(f"indexing {len(corpus):,} texts"):
            scores = lexical_scores(source.pairs, corpus)
        return Scored(scores=scores, least=0.0, details={"kind": LABEL, **SETTINGS})


class EncoderScoring:
    """Cosines of an encoder's vectors; the model is loaded at the first file and kept."""

    def __init__(
        self,
        terminal: Terminal,
        choice: EncoderChoice,
        pulling: Callable[[PullProgress], None],
        instruction: str | None,
        recipe: Recipe | None,
    ) -> None:
        self._terminal = terminal
        self._instruction = instruction
        self._recipe = recipe
        self._lazy = LazyEncoder(choice.config(), talk_to(terminal, pulling))

    def of(self, source: PairSource, corpus: Sequence[str], workspace: Path) -> Scored:
        import torch

        from ...training.data.hard_negatives import dense_scores
        from ...training.evaluation.encoder_model import GPU_BLOCK_CHARS, device_type, used_precision
        from ...training.evaluation.vector_cache import BLOCK_CHARS, CachedEncoder

        settings = self._told(source.name)
        encoder = self._lazy.open()
        info, precision, place = encoder.info, used_precision(encoder), device_type(encoder)
        # One file for each kind of vector: another model or precision begins again, and nothing is mixed.
        vectors = workspace / f"{info.fingerprint[:16]}-{precision}-{info.max_tokens}.sqlite"
        cached = CachedEncoder(
            encoder,
            vectors,
            kind=f"{precision} {info.max_tokens}",
            block_chars=GPU_BLOCK_CHARS if place == "cuda" else BLOCK_CHARS,
        )
        with closing(cached), self._terminal.progress("Encoding") as update:
            scores, cut = dense_scores(
                source.pairs,
                corpus,
                cached,
                workspace,
                instruction=settings.instruction,
                symmetric=settings.symmetric,
                device=torch.device(place),
                told=_Words(update).told,
            )
        if cut:
            self._terminal.notice(
                f"{cut:,} texts were longer than {info.max_tokens:,} tokens and were cut there: --max-tokens sets the "
                "limit"
            )
        details = {**_details(info, precision, settings), "texts_cut": cut}
        return Scored(scores=scores, least=None, details=details)

    def _told(self, name: str) -> SourceSettings:
        """Return what queries of a source are told; said aloud, for it decides what is near."""
        settings = SourceSettings(instruction=self._instruction)
        if self._recipe is not None:
            sources = self._recipe.supervised.sources
            settings = sources.get(name, settings)
            if name not in sources:
                known = ", ".join(sources) or "none"
                self._terminal.notice(
                    f"recipe {self._recipe.name} has no [supervised.sources.{name}] (it has {known}): queries are told "
                    "nothing of their own"
                )
        if settings.instruction is not None:
            both = ", documents too" if settings.symmetric else ""
            self._terminal.say(f"{name}: queries are told {settings.instruction!r}{both}")
        return settings


def _details(info: EncoderInfo, precision: str, settings: SourceSettings) -> dict[str, Any]:
    return {
        "kind": "encoder",
        "name": info.name,
        "revision": info.revision,
        "fingerprint": info.fingerprint,
        "max_tokens": info.max_tokens,
        "precision": precision,
        "instruction": settings.instruction,
        "symmetric": settings.symmetric,
    }


class _Words:
    """What the bar says while texts are encoded."""

    def __init__(self, update: Callable[[float, str], None]) -> None:
        self._update = update
        self._began: tuple[float, float] | None = None

    def told(self, done: int, of: int, progress: EncodeProgress) -> None:
        share = (done + progress.share * progress.texts_total) / max(of, 1)
        now = time.monotonic()
        if self._began is None:
            # What an earlier run left behind took no time now.
            self._began = (now, share)
        began, first = self._began
        left = f", {duration((now - began) * (1 - share) / (share - first))} left" if share > first else ""
        self._update(share, f"{done + progress.texts_done:,} of {of:,} texts{left}")
