"""From token states to one vector per text.

Shape suffixes: B batch, L tokens (right-padded), D hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import Pooling


def span_mask(spans_B2: Tensor, length: int) -> Tensor:
    """Return float32 (B, length) with 1 inside each row's span [start, end) of pooled tokens."""
    position_L = torch.arange(length, device=spans_B2.device)
    return ((position_L >= spans_B2[:, :1]) & (position_L < spans_B2[:, 1:])).float()


def pool(states_BLD: Tensor, spans_B2: Tensor, pooling: Pooling) -> Tensor:
    """Return float32 (B, D): each row's states in its span pooled; not normalised.

    `spans_B2` holds int64 [start, end) of the tokens that are pooled: those of the text alone, instruction, markup
    and padding excluded. FIRST takes position 0 of the row and LAST the position `end` - 1, which the tokeniser
    extends over the appended EOS. Paper, section 2.2 and table 5.
    """
    rows = torch.arange(states_BLD.shape[0], device=states_BLD.device)
    if pooling is Pooling.FIRST:
        return states_BLD[:, 0].float()
    if pooling is Pooling.LAST:
        return states_BLD[rows, spans_B2[:, 1] - 1].float()
    weight_BL = span_mask(spans_B2, states_BLD.shape[1])
    if pooling is Pooling.WEIGHTED_MEAN:
        weight_BL = weight_BL * weight_BL.cumsum(dim=1)
    weight_BL = weight_BL / weight_BL.sum(dim=1, keepdim=True)
    # where, not multiplication alone: 0 * NaN of a padding position would poison the row.
    states = torch.where(weight_BL.unsqueeze(-1) > 0, states_BLD.float(), 0.0)
    return torch.einsum("bl,bld->bd", weight_BL, states)
