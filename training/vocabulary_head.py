"""From hidden states to the logits that the model itself would give: some scale or cap what the last layer gives.

Shape suffixes: B rows, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .errors import TrainingError

PROBE_TOKENS = 8
TOLERANCE = 1e-3
"""Relative L2 error in fp32 between two ways to the same logits: rounding."""


class VocabularyHead(nn.Module):
    """The output layer with what follows it: a factor (granite, cohere) and a soft cap (gemma2)."""

    def __init__(self, linear: nn.Module, *, scale: float = 1.0, cap: float | None = None) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.cap = cap

    @classmethod
    def of(cls, whole: PreTrainedModel, name: str) -> VocabularyHead:
        """Return the head of a causal LM. Raises TrainingError when it has none."""
        linear = whole.get_output_embeddings()
        if linear is None:
            raise TrainingError(f"{name}: {type(whole).__name__} has no output layer, so it predicts no tokens")
        config = whole.config.get_text_config()
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        return cls(linear, scale=scale, cap=getattr(config, "final_logit_softcapping", None))

    def forward(self, states: Tensor) -> Tensor:
        """Return fp32 logits (..., V) of states (..., D)."""
        logits: Tensor = self.linear(states).float() * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def require_own_logits(whole: PreTrainedModel, decoder: PreTrainedModel, head: nn.Module, *, name: str) -> None:
    """Return when `head` on the decoder's states gives the logits of the whole model. Raises TrainingError if not."""
    vocabulary = whole.config.get_text_config().vocab_size
    step = max(1, (vocabulary - 8) // PROBE_TOKENS)
    ids_BL = (torch.arange(PROBE_TOKENS) * step + 5).clamp(max=vocabulary - 1)[None].to(whole.device)
    was_training = whole.training
    whole.eval()
    with torch.no_grad():
        own_BLV = whole(input_ids=ids_BL, use_cache=False).logits.float()
        ours_BLV = head(decoder(input_ids=ids_BL, use_cache=False).last_hidden_state)
    whole.train(was_training)
    error = float((ours_BLV - own_BLV).norm() / own_BLV.norm().clamp_min(1e-30))
    if not error <= TOLERANCE:
        raise TrainingError(
            f"{name}: {type(whole).__name__} makes its logits in a way that training does not know (relative "
            f"difference {error:.1e}, expected at most {TOLERANCE:.0e}): choose another model (`searchctl models list`)"
        )
