"""What a GGUF file holds: its fields, and its tensors dequantised one by one.

The gguf package has a reader too, which makes an array of each of the hundred thousand strings of a vocabulary: that
takes seconds, this a tenth of one. Format: ggml/docs/gguf.md of llama.cpp, versions 2 and 3, little-endian.

Shape suffixes: O outputs, I inputs.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFilesError

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
# The format's number of each plain type, and how struct reads it.
PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor, where it lies."""

    name: str
    shape: tuple[int, ...]
    """As numpy has it: (O, I) of a linear layer."""
    kind: int
    """The format's number of its quantisation."""
    offset: int
    """Bytes from the beginning of the file."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class GgufFile:
    """An open file; `fields` by the names of the format, `tensors` by name."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFilesError for a file that is no GGUF or ends early."""
        self.path = path
        self._at = 0
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.fields, self.tensors = self._header()
        except (struct.error, UnicodeDecodeError, KeyError, IndexError, ValueError, MemoryError) as error:
            raise ModelFilesError(f"{path}: no GGUF file, or one that ends early ({error}). Fetch it again.") from error

    def field(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    def read(self, tensor: GgufTensor) -> NDArray[np.float32]:
        """Return the numbers of a tensor. Raises ModelFilesError for a quantisation that the gguf package has not."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        try:
            kind = GGMLQuantizationType(tensor.kind)
            block, size = GGML_QUANT_SIZES[kind]
            rows, width = math.prod(tensor.shape[:-1]), tensor.shape[-1] // block * size
            packed = np.frombuffer(self._bytes, np.uint8, rows * width, tensor.offset)
            packed = packed.reshape(*tensor.shape[:-1], width)
            return np.asarray(dequantize(packed, kind), dtype=np.float32).reshape(tensor.shape)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise ModelFilesError(f"{self.path}: {tensor.name} cannot be read ({error})") from error

    def _header(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        magic, version = self._bytes[:4], self._skip(4)._number("I")
        if magic != MAGIC or version not in VERSIONS:
            raise ModelFilesError(f"{self.path}: no GGUF file of version 2 or 3. Fetch it again.")
        tensor_count, field_count = self._number("Q"), self._number("Q")
        fields = {self._string(): self._value(self._number("I")) for _ in range(field_count)}
        infos = []
        for _ in range(tensor_count):
            name = self._string()
            sizes = tuple(self._number("Q") for _ in range(self._number("I")))
            infos.append((name, sizes[::-1], self._number("I"), self._number("Q")))
        alignment = int(fields.get("general.alignment", 32))
        start = -(-self._at // alignment) * alignment
        return fields, {
            name: GgufTensor(name=name, shape=shape, kind=kind, offset=start + offset)
            for name, shape, kind, offset in infos
        }

    def _skip(self, count: int) -> GgufFile:
        self._at += count
        return self

    def _number(self, kind: str) -> Any:
        size = struct.calcsize(kind)
        (value,) = struct.unpack_from(f"<{kind}", self._bytes, self._at)
        self._at += size
        return value

    def _string(self) -> str:
        length = self._number("Q")
        end = self._at + length
        if end > len(self._bytes):
            raise IndexError(f"a string of {length:,} bytes at {self._at:,}")
        text = self._bytes[self._at : end].decode("utf-8")
        self._at = end
        return text

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._number(PLAIN[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner in PLAIN:
            values = struct.unpack_from(f"<{count}{PLAIN[inner]}", self._bytes, self._at)
            self._at += struct.calcsize(f"<{count}{PLAIN[inner]}")
            return list(values)
        read: Callable[[], Any] = self._string if inner == STRING else lambda: self._value(inner)
        return [read() for _ in range(count)]
