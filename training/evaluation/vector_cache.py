"""Vectors of an unfinished evaluation, kept on disk so that a killed one goes on where it was."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from ...encoder.protocol import EncodeProgress, Encoder, EncoderInfo, ProgressCallback, Role, Vectors
from ...encoder.tokenize import check_texts
from ..errors import EvaluationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


BLOCK_CHARS = 64_000
"""Characters encoded between two commits: some 20 seconds of the default model on a laptop, a blink on a GPU."""
_READ_ROWS = 500


class CachedEncoder:
    """An encoder that writes each block of vectors to a file as soon as it has it, and reads back what is there.

    The file is one encoder's, in one precision and with one length limit: the caller names it accordingly, and a file
    with vectors of another kind is refused. Equal texts of one call are encoded once. Whether a text was cut is kept
    with its vector. Close it after use.
    """

    def __init__(self, encoder: Encoder, path: Path, *, kind: str, block_chars: int = BLOCK_CHARS) -> None:
        """`kind` names what the fingerprint leaves out (precision, length limit). Raises EvaluationError.

        After a kill the blocks left are those that an unbroken run would have had, so the vectors are too.
        """
        self._encoder = encoder
        self._path = path
        self._block_chars = block_chars
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = f"{encoder.info.fingerprint} {kind}"
        with self._told():
            self._db = sqlite3.connect(path, isolation_level=None)
        try:
            with self._told():
                found = self._open(mark)
            if found != mark:
                raise EvaluationError(f"{path} holds vectors of another encoder ({found[:12]}...): remove the file")
        except BaseException:
            self._db.close()
            raise

    def _open(self, mark: str) -> str:
        """Return the mark of the file, which is `mark` when it was new."""
        # Rows of kilobytes with random keys: WITHOUT ROWID or with small pages writing them takes ten times as long.
        self._db.execute("PRAGMA page_size=32768")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB, truncated INTEGER)")
        if "truncated" not in [row[1] for row in self._db.execute("PRAGMA table_info(vectors)")]:
            # Of an older searchctl: nobody knows whether its texts were cut (NULL), so they are encoded again.
            self._db.execute("ALTER TABLE vectors ADD COLUMN truncated INTEGER")
        self._db.execute("CREATE TABLE IF NOT EXISTS mark (mark TEXT)")
        found = self._db.execute("SELECT mark FROM mark").fetchone()
        if found is None:
            self._db.execute("INSERT INTO mark VALUES (?)", (mark,))
            return mark
        return str(found[0])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have what goes wrong with the file told with its name."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise EvaluationError(
                f"{self._path}: {error}. Is the disk full, or another process at work here?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise EvaluationError(f"{self._path}: {error}. Remove the file; its vectors are computed again.") from error

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
        """Return float32 (n, dim) as the protocol says. In the progress, texts read back are done from the start.

        How many tokens there will be is reckoned from the characters: blocks are tokenised one by one. In the last
        event `texts_truncated` counts every text of `texts`, also equal ones and those read back.
        """
        check_texts(texts)
        keys = [_key(text, role, instruction) for text in texts]
        counts = Counter(keys)
        known, cut = self._read(list(counts))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        track = _Track(
            texts_total=len(texts),
            read_back=sum(counts[key] for key in known),
            truncated=sum(counts[key] for key in cut),
            chars_total=sum(map(len, missing.values())),
            progress=progress,
        )
        for block in _blocks(missing, self._block_chars):
            part = [missing[key] for key in block]
            track.block_begins(sum(map(len, part)))
            vectors = self._encoder.encode(part, role=role, instruction=instruction, progress=track.relay)
            cut = {block[row] for row in self._cut(part, track.truncated_in_block)}
            self._write(block, vectors, cut)
            known.update(zip(block, vectors, strict=True))
            track.block_done(truncated=sum(counts[key] for key in cut))
        track.finish()
        out = np.empty((len(texts), self.info.dim), dtype=np.float32)
        for row, key in enumerate(keys):
            out[row] = known[key]
        return out

    def _cut(self, texts: Sequence[str], count: int) -> list[int]:
        """Return the rows of the `count` texts that the encoder says it cut: those of the most tokens."""
        if count in (0, len(texts)):
            return list(range(count))
        lengths = [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]
        return sorted(range(len(texts)), key=lambda row: lengths[row], reverse=True)[:count]

    def _read(self, keys: Sequence[bytes]) -> tuple[dict[bytes, Vectors], set[bytes]]:
        """Return the vectors that are there, and the keys of those whose texts were cut."""
        found: dict[bytes, Vectors] = {}
        cut: set[bytes] = set()
        with self._told():
            for at in range(0, len(keys), _READ_ROWS):
                part = keys[at : at + _READ_ROWS]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(
                    f"SELECT key, vector, truncated FROM vectors WHERE truncated IS NOT NULL AND key IN ({marks})", part
                )
                for key, blob, truncated in rows:
                    found[key] = np.frombuffer(blob, dtype=np.float32)
                    if truncated:
                        cut.add(key)
        return found, cut

    def _write(self, keys: Sequence[bytes], vectors: Vectors, cut: set[bytes]) -> None:
        rows = [(key, vector.tobytes(), key in cut) for key, vector in zip(keys, vectors, strict=True)]
        with self._told():
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO vectors (key, vector, truncated) VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def close(self, *, discard: bool = False) -> None:
        """Close the file, and remove it when its evaluation is finished."""
        self._db.close()
        if discard:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


class _Track:
    """Joins the progress of blocks into that of the whole call."""

    def __init__(
        self, *, texts_total: int, read_back: int, truncated: int, chars_total: int, progress: ProgressCallback | None
    ) -> None:
        """`truncated` is of the texts read back, `chars_total` of those that are encoded now."""
        self._total = texts_total
        self._texts = self._read_back = read_back
        self._chars_total = chars_total
        self._chars = 0
        self._tokens = 0
        self._truncated = truncated
        self._last: EncodeProgress | None = None
        self._progress = progress

    def block_begins(self, chars: int) -> None:
        self._chars += chars

    def relay(self, event: EncodeProgress) -> None:
        self._last = event
        self._tell(event.texts_done, event.tokens_done, event.texts_truncated, tokens_total=event.tokens_total)

    @property
    def truncated_in_block(self) -> int:
        """How many different texts of the block were cut."""
        return 0 if self._last is None else self._last.texts_truncated

    def block_done(self, *, truncated: int) -> None:
        """`truncated` counts equal texts too."""
        self._truncated += truncated
        if self._last is not None:
            self._texts += self._last.texts_total
            self._tokens += self._last.tokens_total
            self._last = None

    def finish(self) -> None:
        self._texts = self._total
        self._tell(0, 0, 0, tokens_total=0)

    def _tell(self, texts: int, tokens: int, truncated: int, *, tokens_total: int) -> None:
        if self._progress is None:
            return
        done, tokens_done = self._texts + texts, self._tokens + tokens
        self._progress(
            EncodeProgress(
                texts_done=done,
                texts_total=self._total,
                tokens_done=tokens_done,
                # By characters and not by texts: the longest go first.
                tokens_total=(self._tokens + tokens_total) * self._chars_total // max(self._chars, 1),
                texts_truncated=self._truncated + truncated,
                texts_known=self._read_back,
            )
        )


def _key(text: str, role: Role, instruction: str | None) -> bytes:
    # None is the model's own default and "" is none: two different things.
    mark = "default" if instruction is None else f"given {instruction}"
    return blake3(f"{role.value}\0{mark}\0{text}".encode()).digest()


def _blocks(missing: dict[bytes, str], block_chars: int) -> list[list[bytes]]:
    """Return the keys in blocks of similar text length, longest first: padding stays small, and memory ends early."""
    blocks: list[list[bytes]] = []
    room = 0
    for key in sorted(missing, key=lambda key: len(missing[key]), reverse=True):
        if room <= 0:
            blocks.append([])
            room = block_chars
        blocks[-1].append(key)
        room -= len(missing[key])
    return blocks
