"""How `searchctl probe` runs: what it will need is checked first, then the model is loaded once and looked at."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import Attention, EncoderConfig, Precision, Runtime
from ..collection.encoder_choice import LazyEncoder, choice_of
from ..collection.talk import talk_to
from ..errors import AppError
from ..options import ReportFormat, cache_folder
from ..pages.files import check_target, write_whole
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.wording import duration

if TYPE_CHECKING:
    from ...encoder.transformer import TransformerEncoder
    from ...training.probing.probe import ProbeProgress
    from .report import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRequest:
    """Which model to probe, with what, and where the report goes."""

    model: str
    chain: int | None
    adapters: tuple[Path, ...]
    max_tokens: int | None
    precision: Precision
    device: str
    text: Path | None
    """None is the built-in paragraph."""
    html: Path | None
    png: Path | None
    form: ReportFormat


def run_probe(terminal: Terminal, request: ProbeRequest) -> None:
    """Probe the model and report. Raises AppError for what cannot be read or written, before anything is loaded."""
    for option, path in (("--html", request.html), ("--png", request.png)):
        if path is not None:
            check_target(option, path)
    text = None if request.text is None else _paragraph(request.text)
    # As the model was made: a model that fails the bidirectional proof must load to be looked at.
    subject = _probed(terminal, config_of(request, Attention.CAUSAL), text)
    tolerance = subject.probe.tolerance
    if tolerance.cut:
        terminal.notice(
            f"the text is {tolerance.cut:,} tokens longer than {len(tolerance.tokens):,} and was cut there: "
            "--max-tokens sets the limit"
        )
    _write_files(request, subject)
    if request.form is ReportFormat.JSON:
        from .report import probe_to_json

        terminal.write(probe_to_json(subject))
    else:
        from .table import show_probe

        show_probe(terminal, subject)


def config_of(request: ProbeRequest, attention: Attention) -> EncoderConfig:
    """Return the model to look into. Raises AppError for the encoder that is none."""
    choice = choice_of(
        model=request.model,
        adapter=list(request.adapters),
        pooling=None,
        attention=attention,
        method=None,
        dim=None,
        max_tokens=request.max_tokens,
        precision=request.precision,
        device=request.device,
        batch_tokens=None,
    )
    config = replace(choice.config(), chain=request.chain, runtime=Runtime.TORCH)
    if config.model == "hashing":
        raise AppError(
            "hashing has no layers to look into: expected a decoder model", next_command=("probe", "smollm2-135m")
        )
    return config


def _probed(terminal: Terminal, config: EncoderConfig, text: str | None) -> Subject:
    """Load the model and look into it; `text` None is the built-in paragraph."""
    encoder = open_probed(terminal, config)
    from ...encoder.models.resolve import resolve
    from ...training.probing.probe import probe_model
    from ...training.probing.tolerance import PARAGRAPH
    from ...training.recipe import adapter_name
    from .report import Subject

    adapters = resolve(config, cache=cache_folder()).adapters
    with terminal.progress("Probing") as update:
        probe = probe_model(
            encoder,
            text=PARAGRAPH if text is None else text,
            adapters=[adapter_name(folder) for folder in adapters],
            progress=ProbeWords(update).told,
        )
    has_own = len(adapters) > len(config.adapters)
    bare = f"searchctl probe {shlex.quote(config.model)}{' --chain 0' if has_own else ''}"
    return Subject(probe=probe, adapters=tuple(str(folder) for folder in adapters), bare=bare)


def open_probed(terminal: Terminal, config: EncoderConfig) -> TransformerEncoder:
    """Return the model of `config_of`, loaded, and pulled before where it is missing."""
    with pull_bar(terminal, config.model) as pulling:
        encoder = LazyEncoder(config, talk_to(terminal, pulling)).open()
    from ...encoder.transformer import TransformerEncoder

    assert isinstance(encoder, TransformerEncoder)
    return encoder


class ProbeWords:
    """What the bar says: which look it is, how many triples are done, and the time that the others take."""

    def __init__(self, update: Callable[[float, str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._update = update
        self._now = now
        self._began = now()

    def told(self, progress: ProbeProgress) -> None:
        from ...training.probing.probe import PARTS

        done, of = progress.triples_done, progress.triples_total
        words = f"{PARTS.index(progress.part) + 1} of {len(PARTS)}, {progress.part}"
        if done:
            left = (self._now() - self._began) * (of - done) / done
            words += f": {done:,} of {of:,} triples, {duration(left)} left"
        else:
            self._began = self._now()  # the proof and the tolerance take a time of their own
        self._update(progress.share, words)


def _paragraph(path: Path) -> str:
    """Return the text of a file, its line breaks as spaces: a paragraph is one run of text."""
    try:
        text = " ".join(path.expanduser().read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise AppError(f"--text is {path}, which is not UTF-8 (byte {error.start}): expected a text file") from error
    if not text:
        raise AppError(f"--text is {path}, which holds no text: expected a paragraph, better of 50 words or more")
    return text


def _write_files(request: ProbeRequest, subject: Subject) -> None:
    if request.png is not None:
        from .page import heat_map_png

        write_whole(request.png, heat_map_png(subject.probe.tolerance, title=subject.title))
    if request.html is not None:
        from .page import probe_page

        write_whole(request.html, probe_page(subject).encode("utf-8"))
