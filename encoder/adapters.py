"""LoRA adapters: a chain applied in order, each merged into the weights before the next (paper, section 2.1)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from peft.utils import load_peft_weights
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from .errors import ModelFilesError

Model = TypeVar("Model", bound=PreTrainedModel)

# How peft names the tensors of an adapter trained on a ...ForCausalLM, whose inner model is one level deeper.
CAUSAL_LM_PREFIX = "base_model.model.model."
INNER_PREFIX = "base_model.model."


def merge_adapters(model: Model, adapters: Sequence[Path]) -> Model:
    """Return `model` with the adapters merged in order.

    Each adapter must fit completely: peft itself only warns about tensors without a place, and a half-applied adapter
    is a silently different model. Raises ModelFilesError naming the folder and a tensor.
    """
    with warnings.catch_warnings():
        # peft asks transformers by names that are on their way out: nothing that a user can fix.
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        for folder in adapters:
            model = _merge(model, folder)
    return model


def _merge(model: Model, folder: Path) -> Model:
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights: dict[str, Tensor] = load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelFilesError(
            f"adapter {folder}: {error}. Expected a peft folder with adapter_config.json and adapter_model.safetensors."
        ) from error
    config.inference_mode = True
    try:
        wrapped = PeftModel(model, config)
    except ValueError as error:
        raise ModelFilesError(f"adapter {folder} does not fit {type(model).__name__}: {error}") from error
    weights = _for_inner_model(model, weights)
    try:
        result: Any = set_peft_model_state_dict(wrapped, weights)
    except RuntimeError as error:
        raise ModelFilesError(
            f"adapter {folder} was trained on another base than {type(model).__name__}: {error}"
        ) from error
    missing = [key for key in result.missing_keys if "lora_" in key]
    stray = [*result.unexpected_keys, *missing]
    if stray:
        raise ModelFilesError(
            f"adapter {folder} does not fit {type(model).__name__}: {len(stray)} of {len(weights)} tensors have no "
            f"partner, first {stray[0]}. Use the base model it was trained on."
        )
    try:
        merged: Model = wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        # peft's word for a merge that leaves NaN or infinite weights.
        raise ModelFilesError(f"adapter {folder} cannot be merged: {error}. Its weights are damaged.") from error
    return merged


def _for_inner_model(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights named for the inner model, whichever of inner model or causal LM they were trained on."""
    has_inner_name = any(name == "model" for name, _ in model.named_children())
    if has_inner_name or not weights or not all(key.startswith(CAUSAL_LM_PREFIX) for key in weights):
        return weights
    return {INNER_PREFIX + key.removeprefix(CAUSAL_LM_PREFIX): value for key, value in weights.items()}
