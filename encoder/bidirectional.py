"""Making a decoder attend in both directions: the first step of LLM2Vec (arXiv 2404.05961, section 2.1)."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from .config import Attention
from .errors import ModelFilesError

Model = TypeVar("Model", bound=PreTrainedModel)


def set_attention(model: Model, attention: Attention) -> Model:
    """Return `model` itself, switched to bidirectional or causal attention.

    The switch is transformers' own `config.is_causal` (5.2 and later): mask builders and attention kernels read it,
    and it is saved in config.json. It must be set on the config object: as a keyword of `from_pretrained` it is
    dropped or refused. The flag on modules serves models whose attention reads only that (stablelm under sdpa).
    """
    is_causal = attention is Attention.CAUSAL
    model.config.get_text_config().is_causal = is_causal
    for module in model.modules():
        if isinstance(getattr(module, "is_causal", None), bool):
            module.is_causal = is_causal  # type: ignore[assignment]
    return model


def decoder_layers(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Return the model's decoder layers with their dotted names, first layer first.

    Raises ModelFilesError when no stack of `num_hidden_layers` layers is found: then it is no decoder we know.
    """
    config = model.config.get_text_config()
    count = config.num_hidden_layers
    # The largest stack wins: of two equally long lists (say, per-layer norms) the layers hold the weights.
    stacks = [
        (sum(p.numel() for p in module.parameters()), name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not stacks:
        raise ModelFilesError(
            f"{type(model).__name__} has no stack of {count} decoder layers: expected a decoder language model",
            next_command=("models", "list"),
        )
    _, name, stack = max(stacks, key=lambda entry: entry[0])
    return [(f"{name}.{i}", layer) for i, layer in enumerate(stack)]
