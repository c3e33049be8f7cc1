"""How `searchctl embed` runs: texts in blocks through the encoder, rows in order to a file or stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...encoder.protocol import EncodeProgress, Role
from ..collection.encoder_choice import EncoderChoice, LazyEncoder
from ..collection.talk import talk_to
from ..errors import AppError
from ..options import InputFormat, RoleName, VectorFormat
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.text_input import TextRow, read_rows, require_unicode, total_bytes
from ..terminal.wording import duration
from .vector_files import open_sink

BLOCK_TEXTS = 2048
"""Texts in memory at a time: enough to sort by length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What to embed and where to."""

    files: tuple[Path, ...]
    """() is stdin."""
    out: Path | None
    """None is stdout."""
    form: VectorFormat | None
    input: InputFormat
    field: str | None
    role: RoleName
    instruction: str | None


def run_embed(terminal: Terminal, request: EmbedRequest, choice: EncoderChoice) -> None:
    """Embed all texts of the request. Raises AppError for an empty text, naming its file and line."""
    if request.instruction is not None:
        require_unicode(request.instruction, "--instruction")
    form = _form(request)
    if request.out is None and form is VectorFormat.NPY and sys.stdout.isatty():
        raise AppError(
            "a .npy array is no sight for a terminal: expected --output FILE, a pipe, or --format jsonl",
            next_command=("embed", "FILE", "--output", "vectors.npy"),
        )
    _require_other_file(request)
    began = time.monotonic()
    rows = read_rows(request.files, request.input, request.field)
    progress = _Progress(total_bytes(request.files))
    with ExitStack() as stack:
        pulling = stack.enter_context(pull_bar(terminal, choice.model or "the model"))
        encoder = LazyEncoder(choice.config(), talk_to(terminal, pulling))
        # The first block is read before the model is loaded: a mistake in the input shows at once.
        block = list(islice(rows, BLOCK_TEXTS))
        sink = stack.enter_context(open_sink(request.out, form, encoder.info().dim))
        if block:
            encoder.open()
        update = stack.enter_context(terminal.progress("Embedding"))
        while block:
            vectors = encoder.open().encode(
                [row.text for row in block],
                role=Role(request.role.value),
                instruction=request.instruction,
                progress=lambda p, block=block: update(*progress.during(p, block)),  # type: ignore[misc]
            )
            sink.write(block, vectors)
            progress.finish(block)
            block = list(islice(rows, BLOCK_TEXTS))
    if progress.truncated:
        terminal.notice(
            f"{progress.truncated:,} of {progress.texts:,} texts were longer than {encoder.info().max_tokens:,} tokens "
            "and were cut there: --max-tokens sets the limit"
        )
    seconds = time.monotonic() - began
    terminal.detail(f"{progress.texts:,} texts, {progress.tokens:,} tokens, {duration(seconds)}")


def _require_other_file(request: EmbedRequest) -> None:
    """Raise AppError naming it unless the vectors go to no file that the texts come from."""
    if request.out is None or not request.out.exists():
        return
    for path in request.files:
        if path.exists() and path.samefile(request.out):
            raise AppError(f"--output is {request.out}, which the texts are read from: expected another file")


def _form(request: EmbedRequest) -> VectorFormat:
    """Return the output format: what was said, else by the file's name, else npy."""
    suffix = "" if request.out is None else request.out.suffix.lower()
    by_name = {".npy": VectorFormat.NPY, ".jsonl": VectorFormat.JSONL, ".ndjson": VectorFormat.JSONL}.get(suffix)
    if request.form is not None and by_name is not None and request.form is not by_name:
        raise AppError(f"--output is {request.out} and --format is {request.form.value}: expected them to agree")
    if request.out is not None and by_name is None and request.form is None:
        raise AppError(f"--output is {request.out}: expected a name ending in .npy or .jsonl, or --format npy|jsonl")
    return request.form or by_name or VectorFormat.NPY


class _Progress:
    """Counts texts and tokens; the share is by bytes of input, whose total is known beforehand for files."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._bytes = 0
        self._tokens_before = 0
        self._truncated_before = 0
        self.texts = 0
        self.tokens = 0
        self.truncated = 0
        self._began = time.monotonic()

    def during(self, progress: EncodeProgress, block: Sequence[TextRow]) -> tuple[float, str]:
        self.tokens = self._tokens_before + progress.tokens_done
        self.truncated = self._truncated_before + progress.texts_truncated
        rate = self.tokens / max(time.monotonic() - self._began, 1e-9)
        words = f"{self.texts + progress.texts_done:,} texts, {rate:,.0f} tokens/s"
        if self._total is None:
            return 0.0, words
        share = progress.tokens_done / progress.tokens_total if progress.tokens_total else 1.0
        return (self._bytes + share * sum(row.size for row in block)) / max(self._total, 1), words

    def finish(self, block: Sequence[TextRow]) -> None:
        self.texts += len(block)
        self._bytes += sum(row.size for row in block)
        self._tokens_before = self.tokens
        self._truncated_before = self.truncated
