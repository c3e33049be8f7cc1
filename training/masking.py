"""Which tokens are hidden in masked next-token prediction, and what stands in their place.

Shape suffixes: B rows, L tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .recipe import Masking

# Devlin et al. 2019, section 3.1: of the chosen tokens 80 % are masked, 10 % replaced, 10 % kept.
BERT_MASKED, BERT_RANDOM = 0.8, 0.1


def mask_tokens(
    ids_BL: Tensor,
    maskable_BL: Tensor,
    *,
    probability: float,
    masking: Masking,
    mask_id: int,
    vocabulary: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the input ids with tokens hidden, and the boolean places (B, L) whose original tokens are to be predicted.

    `maskable_BL` is False for padding, special tokens and the first token of each document, which has no state before
    it. Each maskable token is chosen with `probability`, independently.
    """
    chosen_BL = (torch.rand(ids_BL.shape, generator=generator) < probability) & maskable_BL
    hidden_BL = ids_BL.clone()
    if masking is Masking.ALL:
        hidden_BL[chosen_BL] = mask_id
        return hidden_BL, chosen_BL
    fate_BL = torch.rand(ids_BL.shape, generator=generator)
    hidden_BL[chosen_BL & (fate_BL < BERT_MASKED)] = mask_id
    random_BL = chosen_BL & (fate_BL >= BERT_MASKED) & (fate_BL < BERT_MASKED + BERT_RANDOM)
    others_BL = torch.randint(vocabulary, ids_BL.shape, generator=generator, dtype=ids_BL.dtype)
    hidden_BL[random_BL] = others_BL[random_BL]
    return hidden_BL, chosen_BL
