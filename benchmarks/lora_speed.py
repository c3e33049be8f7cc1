"""Tokens a second of a training step: peft's LoRA layers beside the fused ones of searchctl, interleaved.

python benchmarks/lora_speed.py [--layers 8] [--rank 64] [--texts 64] [--length 32] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel

from searchctl.encoder.bidirectional import set_attention
from searchctl.encoder.config import Attention, EncoderConfig
from searchctl.encoder.depth import keep_layers
from searchctl.encoder.models.resolve import resolve
from searchctl.training.lora_linear import fuse_lora

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def made(model: str, layers: int, rank: int) -> PeftModel:
    base = AutoModel.from_pretrained(resolve(EncoderConfig(model=model)).folder, dtype=torch.float32)
    set_attention(keep_layers(base, tuple(range(layers))), Attention.BIDIRECTIONAL).requires_grad_(False)
    return get_peft_model(base, LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))


def seconds(model: PeftModel, ids: torch.Tensor) -> float:
    began = time.perf_counter()
    model(input_ids=ids, use_cache=False).last_hidden_state.mean(dim=1).pow(2).mean().backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    for name, default in {"layers": 8, "rank": 64, "texts": 64, "length": 32, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    wish = parser.parse_args()
    sides = {name: made(wish.model, wish.layers, wish.rank) for name in ("peft", "fused")}
    fuse_lora(sides["fused"])
    ids = torch.randint(5, 40_000, (wish.texts, wish.length))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(wish.rounds + 1):
        for name, model in sides.items():
            taken = seconds(model, ids)
            if turn:  # the first is a warm-up
                times[name].append(taken)
    tokens = ids.numel()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:6} {tokens / median:8,.0f} tokens/s")
    print(f"fused / peft: {medians['peft'] / medians['fused']:.2f} ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
