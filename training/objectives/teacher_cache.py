"""Vectors of a teacher, computed once for each text and kept on disk in float16."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from tokenizers import Tokenizer

from ...encoder.models.identity import digest_of
from ...encoder.protocol import Encoder, EncoderInfo, ProgressCallback, Role, Vectors
from ..errors import TrainingError

_LOOKUP = 500
"""Keys of one SELECT."""


class CachedTeacher:
    """An encoder whose vectors are read back where they are known.

    All vectors have passed through float16, known or new, so that a run gives the same whatever was known before it.
    """

    def __init__(self, encoder: Encoder, folder: Path, *, mark: Mapping[str, Any], instructed: bool = True) -> None:
        """Keep the vectors in `folder`, in a file for `mark`, all that decides them.

        Not `instructed`: the encoder reads bare texts, whatever its student is told to do with them. Raises
        TrainingError.
        """
        self._encoder, self._instructed = encoder, instructed
        path = folder / f"{digest_of(dict(mark))[:32]}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=60)
            self._database.execute("PRAGMA journal_mode = WAL")
            # A cache: what a power cut takes is computed again.
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise TrainingError(f"{path}: vectors of the teacher cannot be kept there ({error})") from error
        self._path = path

    @property
    def info(self) -> EncoderInfo:
        return self._encoder.info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._encoder.tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim), of float16 precision. Raises as the encoder, and TrainingError for a full disk."""
        instruction = instruction if self._instructed else None
        keys = [_key(text, role, instruction) for text in texts]
        known = self._read(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            made = self._encoder.encode(list(missing.values()), role=role, instruction=instruction, progress=progress)
            fresh = {key: row.astype("<f2").tobytes() for key, row in zip(missing, made, strict=True)}
            self._write(fresh)
            known |= fresh
        found = [np.frombuffer(known[key], dtype="<f2") for key in keys]
        return np.stack(found).astype(np.float32) if found else np.empty((0, self.info.dim), dtype=np.float32)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for at in range(0, len(keys), _LOOKUP):
            part = keys[at : at + _LOOKUP]
            marks = ",".join("?" * len(part))
            try:
                found.update(self._database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part))
            except sqlite3.Error as error:
                raise TrainingError(
                    f"{self._path}: vectors of the teacher cannot be read ({error}): remove the file, and they are "
                    "computed again"
                ) from error
        return found

    def _write(self, fresh: dict[bytes, bytes]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", fresh.items())
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise TrainingError(
                f"{self._path}: vectors of the teacher cannot be written ({error}): free space"
            ) from error


def _key(text: str, role: Role, instruction: str | None) -> bytes:
    said = "\0".join([role.value, "-" if instruction is None else f"+{instruction}", text])
    return blake3(said.encode("utf-8", "surrogatepass")).digest(length=16)
