"""What the config of a Llama-like model says about its graph, and which models have none.

Shape suffixes: C components of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import NotCompiledError

_FAMILIES = frozenset(["llama", "mistral", "qwen2", "qwen3"])
_NEEDED = (
    *("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size"),
    *("rms_norm_eps", "max_position_embeddings"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """What the config of a Llama-like model says about its graph."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    epsilon: float
    frequencies: tuple[float, ...]
    """Radians a position for each pair of components of a head."""
    context: int
    """Positions that the rotary table holds: the longest text."""


def decoder_shape(config: dict[str, Any], layers: int | None) -> DecoderShape:
    """Return the shape of a model with this config.json, cut to so many layers; None: all.

    Raises NotCompiledError for a family or setting that this graph does not compute.
    """
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        raise NotCompiledError(f"no graph is written for the family {kind}")
    if config.get("hidden_act", "silu") != "silu":
        raise NotCompiledError(f"its activation is {config['hidden_act']}")
    windows = config.get("sliding_window") is not None and config.get("use_sliding_window", True)
    if windows or "sliding_attention" in (config.get("layer_types") or ()):
        raise NotCompiledError("its attention slides over a window")
    missing = [key for key in _NEEDED if config.get(key) is None]
    if missing:
        raise NotCompiledError(f"its config.json has no {missing[0]}")
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return DecoderShape(
        layers=layers or config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        inner=config["intermediate_size"],
        epsilon=config["rms_norm_eps"],
        frequencies=tuple(_frequencies(config, head_dim).tolist()),
        context=config["max_position_embeddings"],
    )


def _frequencies(config: dict[str, Any], head_dim: int) -> NDArray[np.float64]:
    """Return the rotary frequencies (C / 2,), plain or scaled as Llama 3.1 does."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in {"default", "llama3"} or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise NotCompiledError(f"its rotary positions are scaled by {kind}")
    plain: NDArray[np.float64] = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if kind == "default":
        return plain
    # transformers, modeling_rope_utils.py, _compute_llama3_parameters.
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)
    scaled: NDArray[np.float64] = (1 - share) * plain / rope["factor"] + share * plain
    return scaled
