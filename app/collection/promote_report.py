"""How `searchctl models promote` looks: one bar while it runs, then what the encoder is and how to go back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from ...index.protocol import CollectionSettings
from ..options import ReportFormat, cache_folder
from ..terminal.console import Terminal
from ..terminal.interrupts import Interrupts
from ..terminal.progress import pull_bar
from ..terminal.wording import duration, size
from .encoder_choice import EncoderChoice
from .generations import Switched, described
from .index_report import BarWords
from .indexing import IndexHooks
from .paths import existing_collection, shown_path
from .promotion import Promotion
from .rollback import roll_back
from .swap import SWAP_DECIDED, is_swap_begun, previous_folder
from .talk import Step, Talk

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What both directions need."""

    path: Path
    talk: Talk
    hooks: IndexHooks


def run_promotion(
    terminal: Terminal,
    choice: EncoderChoice,
    given: Path | None,
    *,
    confirmed: bool,
    form: ReportFormat,
    step: Step | None = None,
) -> None:
    """Run `models promote MODEL` and print what it did; `step` is told each step of writing."""
    began = time.monotonic()
    model = choice.model or "the model"
    words = _Interrupted(
        before="everything embedded so far is kept, and the collection answers with the encoder it had: run the same "
        "command again to go on",
        after=f"the interrupt came after the switch: {model} is the collection's encoder now, and "
        f"{terminal.command('models', 'promote', '--rollback')} goes back",
    )
    with _run(terminal, given, "Embedding", model, interrupted=words, step=step) as run:
        promotion = Promotion(run.path, run.talk)
        switched = promotion.promote(choice, run.hooks, drop_unfinished=confirmed)
    _report(terminal, switched, run, time.monotonic() - began, form)


def run_rollback(
    terminal: Terminal, given: Path | None, *, confirmed: bool, form: ReportFormat, step: Step | None = None
) -> None:
    """Run `models promote --rollback` and print what it did; `step` is told each step of writing."""
    began = time.monotonic()
    words = _Interrupted(
        before="nothing was changed: the collection answers with the encoder it had",
        after="the interrupt came after the switch: the collection has gone back to the encoder before, and the same "
        "command goes forth again",
    )
    with _run(terminal, given, "Going back", "the model", interrupted=words, step=step) as run:
        switched = roll_back(run.path, run.talk, run.hooks, confirmed=confirmed)
    _report(terminal, switched, run, time.monotonic() - began, form)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interrupted:
    """What is true after Ctrl-C."""

    before: str
    """While the old generation is still in place."""
    after: str
    """Once the switch is decided: what it lacks, the next command completes."""


@contextmanager
def _run(
    terminal: Terminal, given: Path | None, what: str, model: str, *, interrupted: _Interrupted, step: Step | None
) -> Iterator[_Run]:
    """Show one bar and mind Ctrl-C while inside."""
    path = existing_collection(given)
    words = BarWords("documents")
    interrupts = Interrupts(words.stopping)
    steps: set[str] = set()

    def told(name: str) -> None:
        steps.add(name)
        if step is not None:
            step(name)

    try:
        with (
            pull_bar(terminal, model) as pulling,
            interrupts.active(),
            terminal.progress(what) as update,
        ):
            words.update = update
            yield _Run(
                path=path,
                talk=Talk(
                    pulling=pulling,
                    loading=words.loading,
                    step=told,
                    cache=cache_folder(),
                ),
                hooks=IndexHooks(progress=words.progress, shield=interrupts.shield),
            )
    except KeyboardInterrupt:
        # A second Ctrl-C may fall between the first rename and its step.
        decided = SWAP_DECIDED in steps or is_swap_begun(path)
        terminal.say(interrupted.after if decided else interrupted.before)
        raise


def switched_to_json(switched: Switched, path: Path, seconds: float) -> dict[str, Any]:
    """Return the JSON document of `models promote`."""
    filled = switched.filled
    kept = switched.kept_bytes > 0
    return {
        "schema": SCHEMA,
        "collection": str(path),
        "changed": switched.changed,
        "encoder": _identity(switched.settings),
        "before": _identity(switched.before),
        "chunks_embedded": filled.chunks_embedded,
        "vectors_reused": filled.vectors_reused,
        "tokens_embedded": filled.tokens_embedded,
        "texts_truncated": filled.texts_truncated,
        "tokens_per_s": round(filled.tokens_embedded / filled.encode_s, 1) if filled.encode_s > 0 else None,
        "kept": {"folder": str(previous_folder(path)), "bytes": switched.kept_bytes} if kept else None,
        "dropped": switched.dropped,
        "seconds": round(seconds, 3),
    }


def _identity(settings: CollectionSettings) -> dict[str, Any]:
    return {
        "name": settings.encoder_name,
        "revision": settings.encoder_revision,
        "fingerprint": settings.encoder_fingerprint,
        "dim": settings.dim,
    }


def _report(terminal: Terminal, switched: Switched, run: _Run, seconds: float, form: ReportFormat) -> None:
    if form is ReportFormat.JSON:
        document = switched_to_json(switched, run.path, seconds)
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    name = described(switched.settings)
    if not switched.changed:
        terminal.say(f"{name} is the encoder of {shown_path(run.path)} already: nothing to do")
        return
    terminal.say(Text.assemble(("encoder: ", "dim"), (name, "green"), f", before {described(switched.before)}"))
    if switched.filled != type(switched.filled)():
        terminal.say(Text(_work(switched, seconds), style="dim"))
    _cut(terminal, switched, run)
    terminal.say(
        f"kept: the generation of {described(switched.before)} in {shown_path(previous_folder(run.path))}, "
        f"{size(switched.kept_bytes)}. {terminal.command('models', 'promote', '--rollback')} goes back to it without "
        "embedding; delete the folder to free the space"
    )
    if switched.dropped is not None:
        terminal.say(f"deleted: the generation of {switched.dropped} that was kept until now")


def _work(switched: Switched, seconds: float) -> str:
    filled = switched.filled
    words = f"vectors: {filled.chunks_embedded:,} embedded, {filled.vectors_reused:,} reused"
    if filled.encode_s > 0:
        words += f", {filled.tokens_embedded / filled.encode_s:,.0f} tokens/s"
    return f"{words}. {duration(seconds)}"


def _cut(terminal: Terminal, switched: Switched, run: _Run) -> None:
    """Say how many chunks the encoder could not take in whole, and what fixes it."""
    count, embedded = switched.filled.texts_truncated, switched.filled.chunks_embedded
    if not count:
        return
    fits = switched.max_tokens >= switched.settings.chunk_tokens
    sizes = () if fits else ("--chunk-tokens", str(switched.max_tokens))
    terminal.notice(
        f"{count:,} of {embedded:,} chunks embedded now were cut at the encoder's longest input, "
        f"{switched.max_tokens} tokens: their ends are in no vector. {terminal.command('index', '--rebuild', *sizes)} "
        "reads the files again and makes chunks that fit"
    )
