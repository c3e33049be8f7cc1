"""The encoder as ONNX Runtime runs it: texts of equally many tokens in a batch, without padding and without a mask.

Shape suffixes: B batch, L tokens, P components of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..batching import plan_equal_batches
from ..config import Pooling
from ..errors import EncoderError, NonFiniteError
from ..protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from ..tokenize import TextTokenizer, TokenRow

if TYPE_CHECKING:
    import onnxruntime

IDS, POOL = "ids", "pool"
"""Inputs of a graph, int64 and float32 (B, L): tokens, and how much of each one's state is in the pooled state. Its one
output is float32 (B, P), not normalised."""
BATCH_TOKENS = 2048
"""Tokens of a batch; more is no faster on a CPU once a matrix is larger than its caches."""


class CompiledEncoder:
    """Encodes texts with a proved graph; made by `open_compiled`. Not safe for use from several threads."""

    def __init__(
        self,
        *,
        session: onnxruntime.InferenceSession,
        texts: TextTokenizer,
        info: EncoderInfo,
        pooling: Pooling,
        known_tokens: int,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """`known_tokens` is the number of rows of the graph's token table."""
        self.texts = texts
        self._session = session
        self._info = info
        self._pooling = pooling
        self._known = known_tokens
        self._batch_tokens = batch_tokens

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self.texts.tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim) as the protocol says."""
        rows = self.texts(texts, role=role, instruction=instruction)
        lengths = [len(row.ids) for row in rows]
        out = np.empty((len(rows), self._info.dim), dtype=np.float32)
        done = EncodeProgress(
            texts_done=0,
            texts_total=len(rows),
            tokens_done=0,
            tokens_total=sum(lengths),
            texts_truncated=sum(row.truncated for row in rows),
        )
        for batch in plan_equal_batches(lengths, self._batch_tokens):
            if progress is not None:
                progress(done)
            out[batch] = self._vectors([rows[i] for i in batch], batch)
            done = done.further(texts=len(batch), tokens=len(batch) * lengths[batch[0]])
        if progress is not None:
            progress(done)
        return out

    def _vectors(self, rows: Sequence[TokenRow], positions: Sequence[int]) -> NDArray[np.float32]:
        """Return unit float32 (B, dim) of rows of one length; `positions` name the texts in an error."""
        ids_BL = np.stack([row.ids for row in rows]).astype(np.int64)
        highest = int(ids_BL.max())
        if highest >= self._known:
            raise EncoderError(
                f"{self._info.name}: a text holds token {highest} of its tokenizer, "
                f"{self.tokenizer.id_to_token(highest)!r}, and the model has embeddings for {self._known}: "
                "tokenizer.json and the weights are not of one model. Take the tokenizer that the weights came with."
            )
        pool_BL = np.stack([pool_weights(row, self._pooling) for row in rows])
        whole_BP = self._session.run(None, {IDS: ids_BL, POOL: pool_BL})[0]
        cut_BP = whole_BP[:, : self._info.dim]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            vectors: NDArray[np.float32] = cut_BP / np.linalg.norm(cut_BP, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise NonFiniteError(
                f"{self._info.name} returned NaN or Inf for text {positions[int(bad[0])]} "
                f"({len(bad)} of {len(rows)} in its batch): nothing was stored. Its weights are damaged."
            )
        return vectors


def pool_weights(row: TokenRow, pooling: Pooling) -> NDArray[np.float32]:
    """Return float32 (L,): how much of each token's state is in the pooled state, as `encoder.pooling.pool` has it."""
    weights = np.zeros(len(row.ids), dtype=np.float32)
    if pooling is Pooling.FIRST:
        weights[0] = 1
    elif pooling is Pooling.LAST:
        weights[row.end - 1] = 1
    else:
        count = row.end - row.start
        ramp = np.arange(1, count + 1) if pooling is Pooling.WEIGHTED_MEAN else np.ones(count)
        weights[row.start : row.end] = ramp / ramp.sum()
    return weights
