"""A decoder made ready for one training stage: earlier adapters merged, attention switched, a LoRA to train on top.

Shape suffixes: B rows, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from ..encoder import proof
from ..encoder.adapters import merge_adapters
from ..encoder.bidirectional import decoder_layers, set_attention
from ..encoder.config import Attention
from ..encoder.depth import keep_layers
from ..encoder.load import cast_weights, quiet_loading, require_complete
from ..encoder.models.folder import width
from ..encoder.models.projection import FILE_NAME as PROJECTION
from ..encoder.models.projection import load_projection, save_projection
from ..encoder.models.resolve import ResolvedModel
from ..encoder.models.sidecar import Sidecar, write_sidecar
from .errors import TrainingError
from .lora_linear import fuse_lora
from .recipe import LoraSettings

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
    """Raise TrainingError unless `head` on the decoder's states gives the logits of the whole model."""
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
            f"difference {error:.1e}, expected at most {TOLERANCE:.0e}): choose another model",
            next_command=("models", "list"),
        )


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(slots=True)
class Trainable:
    """One model in training; `decoder` gives hidden states, `head` turns them into logits of the vocabulary."""

    decoder: PeftModel
    head: nn.Module
    device: torch.device
    dtype: torch.dtype
    base_name: str
    """The plain weights, by a name or a folder that `--model` takes."""
    sidecar: Sidecar
    """How the adapter is to be used when it is opened by itself."""
    below: Path | None = None
    """The last of the adapters merged into `decoder`; it names the one before it."""
    state_width: int = 0
    """Components of a token's state."""
    projection: nn.Linear | None = None
    """From pooled states to vectors, trained with the adapter; None: they are the vectors."""
    fresh_projection: bool = False
    """Nothing has fitted or trained it yet."""

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters by name, in a fixed order."""
        yield from self.lora()
        if self.projection is not None:
            for name, value in self.projection.named_parameters():
                yield f"projection.{name}", value

    def lora(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the adapter's parameters by name."""
        return ((name, value) for name, value in self.decoder.named_parameters() if value.requires_grad)

    @property
    def width(self) -> int:
        """Components of a vector."""
        if self.projection is not None:
            return self.projection.out_features
        return self.state_width

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass: matrix products in bf16 where the weights are, fp32 otherwise."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def states(self, ids_BL: Tensor, mask: Tensor | None, positions_BL: Tensor | None = None) -> Tensor:
        """Return the last hidden states (B, L, D) after the final norm."""
        out: Tensor = self.decoder(
            input_ids=ids_BL, attention_mask=mask, position_ids=positions_BL, use_cache=False
        ).last_hidden_state
        return out


def load_trainable(
    resolved: ResolvedModel,
    adapters: Sequence[Path],
    lora: LoraSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str | None = None,
    attention_dropout: float | None = None,
    checkpointing: bool = False,
    start: Path | None = None,
    projection: int | None = None,
    seed: int = 42,
) -> Trainable:
    """Return the base of `resolved` with `adapters` merged and a LoRA on every linear layer of the decoder.

    The LoRA is fresh (B = 0, so the first step starts from the merged model) or the one saved in `start`. Attention is
    bidirectional and proved; `attention` is its implementation as transformers calls it, where the architecture has it;
    None is transformers' own choice. The projection is the one that the model has, else a new one to `projection`
    components, else none. Raises NotBidirectionalError, ModelFilesError, TrainingError.
    """
    whole = _load(resolved, attention, attention_dropout)
    decoder = _decoder(whole, resolved)
    if resolved.sidecar.layers is not None:
        keep_layers(decoder, resolved.sidecar.layers)
    head = VocabularyHead.of(whole, resolved.name)
    # Merged in fp32 and rounded once, as the encoder does that will load the result.
    require_own_logits(whole, decoder, head, name=resolved.name)
    decoder = cast_weights(set_attention(merge_adapters(decoder, adapters), Attention.BIDIRECTIONAL), dtype)
    head = head.to(dtype)
    for module in (decoder, head):
        module.requires_grad_(False)
    decoder.to(device).eval()  # type: ignore[arg-type]
    proof.require(decoder, Attention.BIDIRECTIONAL, name=resolved.name)
    if checkpointing:
        decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(seed)
    wrapped = get_peft_model(decoder, lora_config(decoder, lora))
    if dtype is not torch.float32:
        _leave_casts_to_autocast(wrapped)
    else:
        fuse_lora(wrapped)
    linear, fresh = _projection(resolved, projection)
    trainable = Trainable(
        decoder=wrapped,
        head=head.to(device),
        device=device,
        dtype=dtype,
        base_name=resolved.name,
        sidecar=replace(
            resolved.sidecar,
            adapters=(),
            base=None,
            dense_weight=None,
            projection=None if linear is None else PROJECTION,
        ),
        below=adapters[-1] if adapters else None,
        state_width=width(resolved.folder),
        projection=None if linear is None else linear.to(device),
        fresh_projection=fresh,
    )
    if start is not None:
        load_lora(trainable, start)
    return trainable


def _projection(resolved: ResolvedModel, components: int | None) -> tuple[nn.Linear | None, bool]:
    """Return the projection to train, and whether it is new."""
    if resolved.projection is not None:
        return load_projection(resolved.projection).requires_grad_(True), False
    if components is None:
        return None, False
    return nn.Linear(width(resolved.folder), components), True


def _load(resolved: ResolvedModel, attention: str | None, attention_dropout: float | None) -> PreTrainedModel:
    """Return the causal LM in fp32; `attention` None means sdpa where it has that, else eager."""
    try:
        config = AutoConfig.from_pretrained(str(resolved.folder), trust_remote_code=False)
        _require_text_only(config, resolved.name)
        config.is_causal = False
        if attention_dropout is not None:
            if not hasattr(config, "attention_dropout"):
                raise TrainingError(f"{resolved.name}: this architecture has no attention dropout, which SimCSE needs")
            config.attention_dropout = attention_dropout
        with quiet_loading():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(resolved.folder),
                config=config,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation=attention if _has(config, attention) else None,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{resolved.name}: {first}. Expected a decoder language model in transformers' format in {resolved.folder}"
        ) from error
    whole: PreTrainedModel = loaded[0]
    require_complete(resolved, loaded[1])
    return whole


def _has(config: PretrainedConfig, attention: str | None) -> bool:
    """Return whether the architecture has this attention; transformers refuses a model that has no FlashAttention."""
    made: Any = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return attention != "flash_attention_2" or bool(getattr(made, "_supports_flash_attn", False))


def _require_text_only(config: PretrainedConfig, name: str) -> None:
    if config.get_text_config() is not config:
        raise TrainingError(
            f"{name} ({config.model_type}) reads more than text: an adapter of its language model alone could not be "
            "opened again. Expected a model of text only",
            next_command=("models", "list"),
        )


def _decoder(whole: PreTrainedModel, resolved: ResolvedModel) -> PreTrainedModel:
    """Return the part that the encoder will load, since an adapter's tensors are named by their place in it."""
    decoder: PreTrainedModel = whole.base_model  # type: ignore[assignment]
    opened: Any = AutoModel._model_mapping.get(type(whole.config), None)
    if decoder is whole or type(decoder) is not opened:
        raise TrainingError(
            f"{resolved.name}: {type(whole).__name__} holds a {type(decoder).__name__}, but as an encoder this model "
            f"is opened as {getattr(opened, '__name__', 'nothing')}, on which its adapters would not fit. "
            "Choose another model",
            next_command=("models", "list"),
        )
    return decoder


def _leave_casts_to_autocast(wrapped: PeftModel) -> None:
    """Stop peft from making an fp32 copy of each layer's input, which autocast then makes bf16 again."""
    for module in wrapped.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]


def lora_config(decoder: PreTrainedModel, lora: LoraSettings) -> LoraConfig:
    """Return peft's settings for every linear layer inside the decoder's layers. Raises TrainingError without any."""
    prefix = decoder_layers(decoder)[0][0].rsplit(".", 1)[0]
    targets = sorted(
        {
            name.rsplit(".", 1)[1]
            for name, module in decoder.named_modules()
            if isinstance(module, nn.Linear) and name.startswith(f"{prefix}.")
        }
    )
    if not targets:
        raise TrainingError(
            f"{type(decoder).__name__} has no linear layers (torch.nn.Linear) in {prefix}: there is nothing to put a "
            "LoRA on. Choose another model",
            next_command=("models", "list"),
        )
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", target_modules=targets
    )


def lora_weights(trainable: Trainable) -> dict[str, Tensor]:
    """Return the adapter's tensors under the names that peft saves them by, in fp32 on the CPU."""
    return {
        name.replace(".default.", "."): value.detach().float().cpu().contiguous() for name, value in trainable.lora()
    }


def save_lora(trainable: Trainable, folder: Path, *, dtype: torch.dtype = torch.float32, share: float = 1.0) -> None:
    """Write a peft folder that `--model FOLDER` opens with all that is below it, its tensors in `dtype`.

    `share` weighs the adapter against what it was trained on: W + share * B A, by scaling B.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = trainable.decoder.peft_config["default"]
    first = trainable.below is None
    config.base_model_name_or_path = (
        trainable.base_name if trainable.below is None else os.path.relpath(trainable.below, folder)
    )
    config.inference_mode = True
    config.save_pretrained(str(folder))
    config.inference_mode = False
    write_sidecar(folder, replace(trainable.sidecar, base=trainable.base_name if first else None))
    tensors = {
        name: (value * share if "lora_B" in name else value).to(dtype)
        for name, value in lora_weights(trainable).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    if trainable.projection is not None:
        save_projection(folder / PROJECTION, trainable.projection)


def load_lora(trainable: Trainable, folder: Path) -> None:
    """Put the tensors of a saved adapter in the place of the trained ones; every one must be there."""
    saved = load_file(folder / WEIGHTS)
    if trainable.projection is not None and (folder / PROJECTION).is_file():
        linear = load_projection(folder / PROJECTION)
        if linear.weight.shape != trainable.projection.weight.shape:
            raise TrainingError(
                f"{folder / PROJECTION}: gives {linear.out_features} components, expected "
                f"{trainable.projection.out_features}"
            )
        trainable.projection.load_state_dict(linear.state_dict())
        trainable.fresh_projection = False
    with torch.no_grad():
        for name, value in trainable.lora():
            tensor = saved.pop(name.replace(".default.", "."), None)
            if tensor is None or tensor.shape != value.shape:
                raise TrainingError(f"{folder}: {name} is missing or of another shape: made with other LoRA settings?")
            value.copy_(tensor)
    if saved:
        raise TrainingError(f"{folder}: {len(saved)} tensors have no place, first {next(iter(saved))}")
