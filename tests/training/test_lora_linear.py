"""The fused LoRA product: peft's own states and gradients, and left alone where it would compute something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModel

from searchctl.training.lora_linear import fuse_lora

Make = Callable[..., Path]
IDS = torch.tensor([[5, 9, 30, 7], [8, 41, 42, 3]])


def wrapped(folder: Path, *, dropout: float = 0.0) -> PeftModel:
    torch.manual_seed(0)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)
    targets = ["c_attn", "c_proj", "c_fc"] if "gpt2" in folder.name else ["q_proj", "o_proj", "down_proj"]
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout, target_modules=targets))
    for name, value in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return peft


def result(model: PeftModel) -> tuple[Tensor, dict[str, Tensor]]:
    states = model(input_ids=IDS, use_cache=False).last_hidden_state
    states.pow(2).mean().backward()
    return states.detach(), {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def fused(model: PeftModel) -> int:
    return sum("forward" in vars(module) for module in model.modules())


def test_states_and_gradients_are_those_of_peft(make_folder: Make, subtests: pytest.Subtests) -> None:
    for kind in ["llama", "qwen3"]:
        with subtests.test(kind=kind):
            folder = make_folder(kind, seed=1)
            plain, ours = wrapped(folder), wrapped(folder)
            fuse_lora(ours)
            assert fused(ours) == 9 and fused(plain) == 0
            (states, gradients), (mine, my_gradients) = result(plain), result(ours)
            torch.testing.assert_close(mine, states, atol=1e-6, rtol=1e-5)
            assert my_gradients.keys() == gradients.keys() and len(gradients) == 18
            for name, value in gradients.items():
                torch.testing.assert_close(my_gradients[name], value, atol=1e-6, rtol=1e-4)
                assert float(value.abs().max()) > 0


def test_dropout_biases_and_other_layers_are_left_to_peft(make_folder: Make) -> None:
    with_dropout = wrapped(make_folder(seed=1), dropout=0.1)
    fuse_lora(with_dropout)
    assert fused(with_dropout) == 0
    conv = wrapped(make_folder("gpt2", seed=1))  # Conv1D, with biases
    fuse_lora(conv)
    assert fused(conv) == 0
    biased = wrapped(make_folder(seed=1, mlp_bias=True))
    fuse_lora(biased)
    assert fused(biased) == 6
