"""A decoder made ready for one training stage: earlier adapters merged, attention switched, a LoRA to train on top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ..encoder import proof
from ..encoder.adapters import merge_adapters
from ..encoder.bidirectional import decoder_layers, set_attention
from ..encoder.config import Attention
from ..encoder.resolve import ResolvedModel
from .errors import TrainingError
from .recipe import LoraSettings

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(slots=True)
class Trainable:
    """One model in training; `decoder` gives hidden states, `head` turns them into logits of the vocabulary."""

    decoder: PeftModel
    head: nn.Module
    device: torch.device
    dtype: torch.dtype
    base_name: str

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters by name, in a fixed order."""
        return ((name, value) for name, value in self.decoder.named_parameters() if value.requires_grad)

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
    attention_dropout: float | None = None,
    checkpointing: bool = False,
    start: Path | None = None,
    seed: int = 42,
) -> Trainable:
    """Return the base of `resolved` with `adapters` merged and a LoRA on every linear layer of the decoder.

    The LoRA is fresh (B = 0, so the first step starts from the merged model) or the one saved in `start`. Attention is
    bidirectional and proved. Raises NotBidirectionalError, ModelFilesError, TrainingError.
    """
    config = AutoConfig.from_pretrained(str(resolved.folder))
    text = config.get_text_config()
    text.is_causal = False
    if attention_dropout is not None:
        if not hasattr(text, "attention_dropout"):
            raise TrainingError(f"{resolved.name}: this architecture has no attention dropout, which SimCSE needs")
        text.attention_dropout = attention_dropout
    whole: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(resolved.folder), config=config, dtype=torch.float32
    )
    decoder, head = whole.get_decoder(), whole.get_output_embeddings()
    # Merged in fp32 and rounded once, as the encoder does that will load the result.
    decoder = set_attention(merge_adapters(decoder, adapters), Attention.BIDIRECTIONAL).to(dtype)
    head = head.to(dtype)
    for module in (decoder, head):
        module.requires_grad_(False)
    decoder.to(device).eval()
    proof.require(decoder, Attention.BIDIRECTIONAL, name=resolved.name)
    if checkpointing:
        decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(seed)
    wrapped = get_peft_model(decoder, lora_config(decoder, lora))
    trainable = Trainable(decoder=wrapped, head=head.to(device), device=device, dtype=dtype, base_name=resolved.name)
    if start is not None:
        load_lora(trainable, start)
    return trainable


def lora_config(decoder: PreTrainedModel, lora: LoraSettings) -> LoraConfig:
    """Return peft's settings for every linear layer inside the decoder's layers."""
    prefix = decoder_layers(decoder)[0][0].rsplit(".", 1)[0]
    targets = sorted(
        {
            name.rsplit(".", 1)[1]
            for name, module in decoder.named_modules()
            if isinstance(module, nn.Linear) and name.startswith(f"{prefix}.")
        }
    )
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", target_modules=targets
    )


def lora_weights(trainable: Trainable) -> dict[str, Tensor]:
    """Return the adapter's tensors under the names that peft saves them by, in fp32 on the CPU."""
    return {
        name.replace(".default.", "."): value.detach().float().cpu().contiguous()
        for name, value in trainable.parameters()
    }


def save_lora(trainable: Trainable, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a peft folder: adapter_config.json, naming the base by its registry name, and the tensors in `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = trainable.decoder.peft_config["default"]
    config.base_model_name_or_path = trainable.base_name
    config.inference_mode = True
    config.save_pretrained(str(folder))
    config.inference_mode = False
    tensors = {name: value.to(dtype) for name, value in lora_weights(trainable).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_lora(trainable: Trainable, folder: Path) -> None:
    """Put the tensors of a saved adapter in the place of the trained ones; every one must be there."""
    saved = load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name, value in trainable.parameters():
            tensor = saved.pop(name.replace(".default.", "."), None)
            if tensor is None or tensor.shape != value.shape:
                raise TrainingError(f"{folder}: {name} is missing or of another shape: made with other LoRA settings?")
            value.copy_(tensor)
    if saved:
        raise TrainingError(f"{folder}: {len(saved)} tensors have no place, first {next(iter(saved))}")
