"""Vectors to .npy and JSON lines, in blocks; a file appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..encoder.protocol import Vectors
from .settings import VectorFormat
from .texts import TextRow

_HEADER_BYTES = 128


class Sink(Protocol):
    """Takes vectors, row i for rows[i]."""

    def write(self, rows: Sequence[TextRow], vectors: Vectors) -> None: ...


@contextmanager
def open_sink(out: Path | None, form: VectorFormat, dim: int) -> Iterator[Sink]:
    """Yield a sink. JSON lines go to stdout as they come; everything else when it is whole."""
    if out is None and form is VectorFormat.JSONL:
        yield _JsonLines(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    folder = None if out is None else out.absolute().parent
    # The header of a .npy states the number of rows, which is known only at the end: a pipe cannot go back to it.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".searchctl-", delete=False) as file:
        try:
            sink = _Npy(file, dim) if form is VectorFormat.NPY else _JsonLines(file)  # type: ignore[arg-type]
            yield sink
            if isinstance(sink, _Npy):
                sink.finish()
            file.flush()
            if out is None:
                file.seek(0)
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
                Path(file.name).unlink()
            else:
                os.fsync(file.fileno())
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(out)
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Npy:
    """A float32 array of shape (n, dim), in format 1.0 of numpy.lib.format."""

    def __init__(self, file: BinaryIO, dim: int) -> None:
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

    def __init__(self, file: BinaryIO) -> None:
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
