"""The LLM2Vec encoder: a decoder with its attention switched, its states pooled over the text, projected and
normalised.

Shape suffixes: B batch, L tokens (right-padded), D hidden width, P components of a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from .batching import plan_batches, run_halving
from .config import Pooling
from .errors import EncoderError, NonFiniteError
from .models.folder import config_width
from .pooling import pool
from .protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from .tokenize import TextTokenizer, TokenRow

_log = logging.getLogger(__name__)


class TransformerEncoder:
    """Encodes texts with one resident model; made by `load_transformer`. Not safe for use from several threads."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        texts: TextTokenizer,
        info: EncoderInfo,
        pooling: Pooling,
        projection: nn.Linear | None = None,
        batch_tokens: int,
    ) -> None:
        self.model = model
        self.texts = texts
        self.batch_tokens = batch_tokens
        self._info = info
        self._pooling = pooling
        self.projection = projection

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self.texts.tokenizer

    @property
    def state_width(self) -> int:
        """Components of a token's state, which a projection or `dim` may make fewer in a vector."""
        found = config_width(self.model.config.to_dict())
        assert found is not None, "identify read it from the same config"
        return found

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        """Return float32 (n, dim) as the protocol says. Batches are cut by tokens and halved when memory runs out."""
        rows = self.texts(texts, role=role, instruction=instruction)
        out = np.empty((len(rows), self._info.dim), dtype=np.float32)
        lengths = [len(row.ids) for row in rows]
        done = EncodeProgress(
            texts_done=0,
            texts_total=len(rows),
            tokens_done=0,
            tokens_total=sum(lengths),
            texts_truncated=sum(row.truncated for row in rows),
        )
        if progress is not None:
            progress(done)

        def forward(batch: list[int]) -> None:
            nonlocal done
            out[batch] = self._vectors([rows[i] for i in batch], batch)
            done = done.further(texts=len(batch), tokens=sum(lengths[i] for i in batch))
            if progress is not None:
                progress(done)

        def halved(count: int) -> None:
            self.batch_tokens = max(1, self.batch_tokens // 2)
            _log.warning(
                "out of memory: going on with %d texts, then %s tokens a batch", count, f"{self.batch_tokens:,}"
            )

        # Planned again after each halving: the budget that failed once would fail at each batch of that size.
        left = list(range(len(rows)))
        while left:
            budget = self.batch_tokens
            encoded: set[int] = set()
            for batch in plan_batches([lengths[i] for i in left], budget):
                run_halving([left[i] for i in batch], forward, halved=halved)
                encoded.update(left[i] for i in batch)
                if self.batch_tokens != budget:
                    break
            left = [i for i in left if i not in encoded]
        return out

    def _vectors(self, rows: Sequence[TokenRow], positions: Sequence[int]) -> NDArray[np.float32]:
        """Return unit float32 (B, dim); `positions` name the texts in an error."""
        with torch.inference_mode():
            states_BLD, spans_B2 = self.states(rows)
            pooled_BD = pool(states_BLD, spans_B2, self._pooling)
            whole_BP = pooled_BD if self.projection is None else self.projection(pooled_BD)
            cut_BP = whole_BP[:, : self._info.dim]
            vectors = (cut_BP / cut_BP.norm(dim=1, keepdim=True)).cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise NonFiniteError(
                f"{self._info.name} returned NaN or Inf for text {positions[int(bad[0])]} "
                f"({len(bad)} of {len(rows)} in its batch): nothing was stored. Try --precision fp32."
            )
        return np.asarray(vectors, dtype=np.float32)

    def states(self, rows: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
        """Return the final hidden states (B, L, D), right-padded, and the pooled spans int64 (B, 2)."""
        lengths = [len(row.ids) for row in rows]
        longest = max(lengths)
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = row.ids
        embeddings: Any = self.model.get_input_embeddings()
        known, highest = len(embeddings.weight), int(ids.max())
        if highest >= known:
            raise EncoderError(
                f"{self._info.name}: a text holds token {highest} of its tokenizer, "
                f"{self.tokenizer.id_to_token(highest)!r}, and the model has embeddings for {known}: tokenizer.json "
                "and the weights are not of one model. Take the tokenizer that the weights came with."
            )
        device = self.model.device
        mask = None
        if min(lengths) < longest:
            # Without padding no mask is passed: the same result (proved at load) from a faster kernel.
            mask = (torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]).long().to(device)
        ids_BL = torch.from_numpy(ids).to(device)
        states_BLD = self.model(input_ids=ids_BL, attention_mask=mask, use_cache=False).last_hidden_state
        spans_B2 = torch.tensor([(row.start, row.end) for row in rows], dtype=torch.long, device=device)
        return states_BLD, spans_B2
