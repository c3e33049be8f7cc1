"""Vectors to .npy and JSON lines, in blocks; a file appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, BinaryIO, Protocol
from uuid import uuid4

import numpy as np

from ...encoder.protocol import Vectors
from ..errors import AppError
from ..options import VectorFormat
from ..terminal.text_input import TextRow

_HEADER_BYTES = 128
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Stdout as a file: appended to or truncated by the shell, so that a rename over it would lose what is there."""


class Sink(Protocol):
    """Takes vectors, row i for rows[i]."""

    def write(self, rows: Sequence[TextRow], vectors: Vectors) -> None: ...


@contextmanager
def open_sink(out: Path | None, form: VectorFormat, dim: int) -> Iterator[Sink]:
    """Yield a sink. JSON lines go to stdout, a pipe or a device as they come; everything else when it is whole.

    Raises AppError for an `out` that is a folder or in a folder that cannot be written to.
    """
    if out is not None and out.is_dir():
        raise AppError(
            f"--output is {out}, a folder: expected a file", next_command=("embed", "--output", "vectors.npy")
        )
    with ExitStack() as stack:
        stream = None
        if out is None or str(out) in _STDOUT:
            stream = sys.stdout.buffer
        elif out.exists() and not out.is_file():
            stream = stack.enter_context(out.open("wb"))  # a pipe or a device is written to, never replaced
        if stream is not None and form is VectorFormat.JSONL:
            yield _JsonLines(stream)
            stream.flush()
            return
        # A link stays a link: what it points to is replaced.
        target = None if out is None or stream is not None else Path(os.path.realpath(out))
        stack.enter_context(_exit_on_sigterm())
        # The name is known before the file is there, so that no signal can come between the two.
        temporary = (Path(tempfile.gettempdir()) if target is None else target.parent) / f".searchctl-{uuid4().hex}"
        try:
            with _created(temporary, out, target) as file:
                sink = _Npy(file, dim) if form is VectorFormat.NPY else _JsonLines(file)
                yield sink
                if isinstance(sink, _Npy):
                    sink.finish()
                _deliver(file, temporary, stream, target)
        finally:
            with suppress(OSError):
                temporary.unlink()


def _created(temporary: Path, out: Path | None, target: Path | None) -> IO[bytes]:
    """Return a new file that its owner alone reads. Raises AppError where none can be made beside `target`."""
    try:
        return open(temporary, "xb+", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as error:
        if target is None:
            raise
        raise AppError(
            f"--output is {out}: {error.strerror or error}: expected a file in a folder that is there and "
            "can be written to"
        ) from error


def _deliver(file: IO[bytes], temporary: Path, stream: BinaryIO | None, target: Path | None) -> None:
    """Copy the whole temporary file to `stream`, or make it `target`."""
    file.flush()
    if target is None:
        assert stream is not None
        file.seek(0)
        shutil.copyfileobj(file, stream)
        stream.flush()
        return
    os.fsync(file.fileno())
    temporary.chmod(0o666 & ~_umask())
    temporary.replace(target)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as an exception does, so that temporary files go; its exit code is what a shell says.

    Outside of the main thread, and where the surroundings chose another handling, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would end the cleaning up
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Npy:
    """A float32 array of shape (n, dim), in format 1.0 of numpy.lib.format."""

    def __init__(self, file: IO[bytes], dim: int) -> None:
        self._file = file
        self._dim = dim
        self._rows = 0
        file.write(self._header())

    def write(self, rows: Sequence[TextRow], vectors: Vectors) -> None:
        self._file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        self._rows += len(rows)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, os.SEEK_END)

    def _header(self) -> bytes:
        described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self._rows}, {self._dim}), }}"
        length = _HEADER_BYTES - len(np.lib.format.magic(1, 0)) - 2
        text = described.ljust(length - 1) + "\n"
        assert len(text) == length
        return np.lib.format.magic(1, 0) + length.to_bytes(2, "little") + text.encode("latin-1")


class _JsonLines:
    """One object a line: the row's number, its id where it has one, and its vector."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._row = 0

    def write(self, rows: Sequence[TextRow], vectors: Vectors) -> None:
        for row, vector in zip(rows, vectors, strict=True):
            # str() of a float32 is the shortest text that reads back as the same float32.
            numbers = ", ".join(map(str, vector))
            id_ = "" if row.id is None else f', "id": {json.dumps(row.id, ensure_ascii=False)}'
            self._file.write(f'{{"row": {self._row}{id_}, "embedding": [{numbers}]}}\n'.encode())
            self._row += 1
        self._file.flush()
