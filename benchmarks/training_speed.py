"""Training throughput and memory beside the tools a user would take instead, on the same model and data.

    python benchmarks/training_speed.py --texts texts.jsonl.gz --pairs pairs.jsonl.gz --rounds 3

Contrastive sides, one optimiser step over a batch of pairs: searchctl with cached gradients and with the whole batch
in memory; sentence-transformers' trainer with CachedMultipleNegativesRankingLoss and MultipleNegativesRankingLoss.
SimCSE sides, one step over a batch of texts in two dropout views, attention dropout 0.3: searchctl's stage; sentence-
transformers' MultipleNegativesRankingLoss on pairs (x, x). Distillation, searchctl alone: pairs of a batch, the model
itself with its adapters as teacher, whose forward pass is part of the time and whose tokens are not counted. MNTP
sides, one step over rows of tokens: searchctl's stage; Hugging Face's Trainer on the causal LM with its own shifted
loss, which makes logits for every token. All have the same base with attention switched, the same LoRA (rank 16, every
linear layer), AdamW, number format and threads. Each measurement is a process of its own: its first step warms up, the
others are timed from the end of the one before, batches read and tokenised within; its peak is that of the whole
process on a CPU (base, data and libraries included), of the allocator on a GPU. The sides take turns from round to
round. Prints the median of tokens a second, and of the ratios to searchctl's first side.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from training_sides import side_of

CONTRASTIVE = ("searchctl cached", "searchctl direct", "sentence-transformers cached", "sentence-transformers direct")
SIMCSE = ("searchctl simcse", "sentence-transformers simcse")
DISTILL = ("searchctl distill",)
MNTP = ("searchctl mntp", "transformers Trainer")


def measure_here(args: argparse.Namespace, side: str) -> None:
    """Measure one side in this process and print its numbers as JSON."""
    import torch

    found = side_of(side)(args, side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"tokens_per_s": found.tokens / sum(found.seconds), "tokens": found.tokens, "peak_mib": peak}))


def measure(side: str) -> dict[str, float]:
    """Measure one side in a process of its own. Raises RuntimeError with what it said when it fails."""
    done = subprocess.run([sys.executable, *sys.argv, "--side", side], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def compare(sides: tuple[str, ...], rounds: int) -> None:
    """Measure the sides alternately and print a row of a Markdown table for each."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else tuple(reversed(sides)):
            numbers = measure(side)
            found[side].append(numbers)
            print(f"round {number + 1}, {side}: {numbers['tokens_per_s']:.0f} tokens/s", file=sys.stderr, flush=True)
    print(
        f"\n| side | tokens/s, median of {rounds} | ratio to {sides[0]} | tokens | peak, MiB |\n|---|---|---|---|---|"
    )
    first = [numbers["tokens_per_s"] for numbers in found[sides[0]]]
    for side, rows in found.items():
        ratio = statistics.median(row["tokens_per_s"] / mine for row, mine in zip(rows, first, strict=True))
        speed = statistics.median(row["tokens_per_s"] for row in rows)
        peak = max(row["peak_mib"] for row in rows)
        print(f"| {side} | {speed:.0f} | {ratio:.2f} | {rows[0]['tokens']:.0f} | {peak:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help='JSON lines with "text"')
    parser.add_argument("--pairs", type=Path, required=True, help='JSON lines with "query" and "positive"')
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each measurement")
    parser.add_argument("--batch", type=int, default=32, help="pairs a step")
    parser.add_argument("--chunk", type=int, default=16, help="texts at once, of the cached sides and ours")
    parser.add_argument("--rows", type=int, default=8, help="rows of a step of MNTP")
    parser.add_argument("--mntp-chunk", type=int, default=4, help="rows at once, of our MNTP")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text or row")
    parser.add_argument("--only", choices=("contrastive", "simcse", "mntp", "distill"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure_here(args, args.side)
        return
    for name, sides in (("contrastive", CONTRASTIVE), ("simcse", SIMCSE), ("mntp", MNTP), ("distill", DISTILL)):
        if args.only in (None, name):
            compare(sides, args.rounds)


if __name__ == "__main__":
    main()
