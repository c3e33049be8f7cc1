"""Several documents in one row of tokens, kept apart by the attention mask.

transformers' bidirectional masks ignore position ids, so documents packed without a mask of our own would read each
other. Shape suffixes: B rows, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...encoder.config import Attention
from ..errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Rows of whole documents, padded on the right."""

    ids: Tensor
    """int64 (B, L); padding is 0."""
    documents: Tensor
    """int64 (B, L); the number of the document a token belongs to, counted from 1 in each row; 0 is padding."""
    positions: Tensor
    """int64 (B, L); position within the document."""

    def rows(self, start: int, end: int) -> PackedRows:
        """Return some of the rows, as wide as all of them."""
        return PackedRows(
            ids=self.ids[start:end], documents=self.documents[start:end], positions=self.positions[start:end]
        )


Slice = tuple[int, int, int]
"""Number of a document, first token, end."""


def pack(lengths: Iterable[tuple[int, int]], length: int) -> list[list[Slice]]:
    """Return rows of slices of at most `length` tokens together, from (document, its tokens) in the order they come.

    A longer document is cut into pieces of `length`; a piece of one token, in which nothing could be predicted, is left
    out.
    """
    rows: list[list[Slice]] = []
    used = length
    for document, tokens in lengths:
        for start in range(0, tokens, length):
            end = min(tokens, start + length)
            if end - start < 2:
                continue
            if used + end - start > length:
                rows.append([])
                used = 0
            rows[-1].append((document, start, end))
            used += end - start
    return rows


def join(rows: Sequence[Sequence[Sequence[int] | NDArray[np.int32]]]) -> PackedRows:
    """Return rows of documents' token ids as tensors, as wide as the longest row."""
    width = max(sum(len(document) for document in row) for row in rows)
    ids_BL = torch.zeros(len(rows), width, dtype=torch.long)
    documents_BL, positions_BL = torch.zeros_like(ids_BL), torch.zeros_like(ids_BL)
    for i, row in enumerate(rows):
        at = 0
        for number, document in enumerate(row, start=1):
            end = at + len(document)
            ids_BL[i, at:end] = torch.as_tensor(document)
            documents_BL[i, at:end] = number
            positions_BL[i, at:end] = torch.arange(len(document))
            at = end
    return PackedRows(ids=ids_BL, documents=documents_BL, positions=positions_BL)


def block_mask(documents_BL: Tensor, *, attention: Attention = Attention.BIDIRECTIONAL) -> Tensor:
    """Return bool (B, 1, L, L): token i may attend to j when both are of one document.

    Padding attends to itself, since a row of a softmax without any key is NaN.
    """
    same_BLL = documents_BL[:, :, None] == documents_BL[:, None, :]
    if attention is Attention.CAUSAL:
        same_BLL = same_BLL & torch.ones_like(same_BLL[0]).tril()
    return same_BLL[:, None]


def attention_mask(documents_BL: Tensor, implementation: str | None, dtype: torch.dtype) -> Tensor:
    """Return the mask (B, 1, L, L) that keeps documents apart, in the form that the attention implementation takes.

    sdpa reads bool; eager adds the mask to the scores, where a bool would be 0 and 1 and keep nothing apart. Raises
    TrainingError for any other, which takes no such mask.
    """
    same_B1LL = block_mask(documents_BL)
    if implementation == "sdpa":
        return same_B1LL
    if implementation == "eager":
        apart_B1LL = torch.zeros(same_B1LL.shape, dtype=dtype, device=documents_BL.device)
        return apart_B1LL.masked_fill_(~same_B1LL, torch.finfo(dtype).min)
    raise TrainingError(
        f"attention is {implementation}: MNTP packs documents with a mask and needs sdpa or eager attention"
    )


def annealed_mask(documents_BL: Tensor, share: float, dtype: torch.dtype) -> Tensor:
    """Return the additive mask (B, 1, L, L) between causal (`share` 0) and bidirectional (1).

    The future takes part with weight `share`: its scores get ln(share) before the softmax (soft mask of
    Conan-embedding-v2, arXiv 2509.12892, section 3.2).
    """
    same_B1LL = block_mask(documents_BL)
    lowest = torch.finfo(dtype).min
    bias_B1LL = torch.zeros(same_B1LL.shape, dtype=dtype, device=documents_BL.device)
    future_LL = torch.ones_like(same_B1LL[0, 0]).triu(1)
    ahead = lowest if share <= 0 else float(torch.log(torch.tensor(share)))
    bias_B1LL.masked_fill_(future_LL, ahead)
    return bias_B1LL.masked_fill(~same_B1LL, lowest)
