"""Training throughput and memory beside the tools a user would take instead, on the same model and data.

    python benchmarks/training_speed.py --texts texts.jsonl.gz --pairs pairs.jsonl.gz --rounds 3

Contrastive sides, one optimiser step over a batch of pairs: searchctl with cached gradients and with the whole batch
in memory; sentence-transformers' trainer with CachedMultipleNegativesRankingLoss and MultipleNegativesRankingLoss.
SimCSE sides, one step over a batch of texts in two dropout views, attention dropout 0.3: searchctl's stage;
sentence-transformers' MultipleNegativesRankingLoss on pairs (x, x). Distillation, searchctl alone: pairs of a batch,
the model itself with its adapters as teacher, whose forward pass is part of the time and whose tokens are not
counted. MNTP sides, one step over rows of tokens: searchctl's stage; Hugging Face's Trainer on the causal LM with its
own shifted loss, which makes logits for every token. All have the same base with attention switched, the same LoRA
(rank 16, every linear layer), AdamW, number format and threads. Each measurement is a process of its own: its first
step warms up, and its peak is that of the whole process on a CPU (base, data and libraries included), of the
allocator on a GPU. The sides take turns from round to round. Prints the median of tokens a second, and of the ratios
to searchctl's first side.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTRASTIVE = ("searchctl cached", "searchctl direct", "sentence-transformers cached", "sentence-transformers direct")
SIMCSE = ("searchctl simcse", "sentence-transformers simcse")
DISTILL = ("searchctl distill",)
MNTP = ("searchctl mntp", "transformers Trainer")
SEED = 42
ATTENTION_DROPOUT = 0.3
"""Of SimCSE (paper, appendix D.1.2)."""


@dataclass(frozen=True)
class Measured:
    """Seconds of each step, tokens read by them, and the peak in MiB."""

    seconds: list[float]
    tokens: int


class Clock:
    """Times the steps after the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began: float | None = None
        self._count = 0

    def begin(self) -> None:
        self._began = _now()

    def end(self) -> None:
        assert self._began is not None
        self._count += 1
        if self._count > 1:
            self.seconds.append(_now() - self._began)


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def rows_of(path: Path, count: int) -> list[dict[str, str]]:
    """Return the first `count` objects of JSON lines."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    rows = []
    with opener(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            rows.append(json.loads(line))
            if len(rows) == count:
                break
    return rows


def ours(args: argparse.Namespace, side: str) -> Measured:
    """Run searchctl's own stages, as `searchctl train` calls them."""
    import torch

    from searchctl.encoder.config import EncoderConfig
    from searchctl.encoder.resolve import resolve
    from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
    from searchctl.training.contrastive_objective import SimcseTraining, SupervisedTraining
    from searchctl.training.corpus import Pair, PairSource
    from searchctl.training.mntp_objective import MntpTraining
    from searchctl.training.recipe import LoraSettings, MntpStage, Schedule, SimcseStage, SupervisedStage
    from searchctl.training.trainable import load_trainable

    base = resolve(EncoderConfig(model=args.model, chain=0))
    device, dtype = placed(args)
    dropout = ATTENTION_DROPOUT if side == "searchctl simcse" else None
    trainable = load_trainable(base, (), LoraSettings(), device=device, dtype=dtype, attention_dropout=dropout)
    tokenizer = load_tokenizer(base.folder)
    schedule = Schedule(steps=args.steps + 1)
    objective: Any
    if side == "searchctl mntp":
        texts = [row["text"] for row in rows_of(args.texts, args.rows * args.length // 20 * (args.steps + 2))]
        mntp = MntpStage(schedule=schedule, batch=args.rows, length=args.length, chunk=args.mntp_chunk)
        objective = MntpTraining(trainable, mntp, tokenizer, texts=texts, held_out=texts[:2], seed=SEED)
    elif side == "searchctl simcse":
        texts = [row["text"] for row in rows_of(args.texts, args.batch * (args.steps + 1))]
        simcse = SimcseStage(
            schedule=schedule,
            batch=args.batch,
            length=args.length,
            chunk=args.chunk,
            attention_dropout=ATTENTION_DROPOUT,
            sentences=False,
            cached=False,
        )
        texts_of = TextTokenizer(tokenizer=tokenizer, prompt=base.sidecar.prompt, max_tokens=args.length)
        objective = SimcseTraining(trainable, simcse, texts_of, texts=texts, held_out=texts[:2], seed=SEED)
    elif side == "searchctl distill":
        objective = distillation(args, trainable, schedule)
    else:
        pairs = [Pair(row["query"], row["positive"]) for row in rows_of(args.pairs, args.batch * (args.steps + 1))]
        stage = SupervisedStage(
            schedule=schedule, batch=args.batch, length=args.length, chunk=args.chunk, cached=side.endswith("cached")
        )
        source = PairSource(name="pairs", digest="", pairs=tuple(pairs))
        texts_of = TextTokenizer(tokenizer=tokenizer, prompt=base.sidecar.prompt, max_tokens=args.length)
        objective = SupervisedTraining(trainable, stage, texts_of, sources=[source], held_out=[source], seed=SEED)
    optimizer = torch.optim.AdamW([value for _, value in trainable.parameters()], lr=1e-4)
    clock, tokens = Clock(), 0
    trainable.decoder.train()
    for number in range(args.steps + 1):
        clock.begin()
        result = objective.step(number)
        torch.nn.utils.clip_grad_norm_([value for _, value in trainable.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.end()
        tokens += result.tokens if number else 0
    return Measured(clock.seconds, tokens)


def distillation(args: argparse.Namespace, trainable: Any, schedule: Any) -> Any:
    """Return searchctl's distill stage over the pairs, with the model as it is opened for embedding as teacher."""
    from searchctl.encoder.config import EncoderConfig
    from searchctl.encoder.open import open_encoder
    from searchctl.encoder.resolve import resolve
    from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
    from searchctl.training.corpus import Pair, PairSource
    from searchctl.training.distill_objective import DistillTraining, pair_lessons
    from searchctl.training.recipe import DistillStage

    base = resolve(EncoderConfig(model=args.model, chain=0))
    rows = rows_of(args.pairs, args.batch * (args.steps + 1))
    source = PairSource(name="pairs", digest="", pairs=tuple(Pair(row["query"], row["positive"]) for row in rows))
    lessons = pair_lessons([source], {})
    return DistillTraining(
        trainable,
        DistillStage(schedule=schedule, batch=args.batch, length=args.length, chunk=args.chunk, cached=False),
        TextTokenizer(tokenizer=load_tokenizer(base.folder), prompt=base.sidecar.prompt, max_tokens=args.length),
        open_encoder(EncoderConfig(model=args.model, max_tokens=args.length), notice=lambda _: None),
        sources=lessons,
        held_out=lessons,
        seed=SEED,
    )


def lora(model: Any) -> Any:
    """Return peft's settings for the LoRA that searchctl's stages have by default."""
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=targets)


def plain_base(args: argparse.Namespace) -> Path:
    from searchctl.encoder.config import EncoderConfig
    from searchctl.encoder.resolve import resolve

    return resolve(EncoderConfig(model=args.model, chain=0)).folder


def placed(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the device and the number format of all sides."""
    from searchctl.encoder.load import choose_device, choose_dtype

    device = choose_device("auto")
    return device, choose_dtype(args.precision, device)[0]


def timed(clock: Clock) -> Any:
    """Return a callback of transformers' trainers that times their steps."""
    from transformers import TrainerCallback

    class Timed(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

    return Timed()


def trainer_settings(args: argparse.Namespace, batch: int, folder: str) -> dict[str, Any]:
    import torch

    device, dtype = placed(args)
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "max_steps": args.steps + 1,
        "learning_rate": 1e-4,
        "max_grad_norm": 1.0,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
        "use_cpu": device.type == "cpu",
        "bf16": dtype is torch.bfloat16,
    }


def sentence_transformers(args: argparse.Namespace, side: str) -> Measured:
    """Run the trainer of sentence-transformers with mean pooling over the same pairs, or texts twice."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses, models
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

    # Named, or the weights come in bf16 as they are stored, which a CPU without it computes many times slower.
    dtype = placed(args)[1]
    simcse = side.endswith("simcse")
    transformer = models.Transformer(
        str(plain_base(args)),
        max_seq_length=args.length,
        model_args={"dtype": dtype},
        config_args={"attention_dropout": ATTENTION_DROPOUT} if simcse else {},
    )
    transformer.auto_model.config.is_causal = False
    if transformer.tokenizer.pad_token is None:
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[transformer, pooling])
    model.add_adapter(lora(model))
    rows = rows_of(args.texts if simcse else args.pairs, args.batch * (args.steps + 1))
    first, second = ("text", "text") if simcse else ("query", "positive")
    data = Dataset.from_dict({"anchor": [r[first] for r in rows], "positive": [r[second] for r in rows]})
    loss: Any = losses.MultipleNegativesRankingLoss(model)
    if side.endswith("cached"):
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=args.chunk)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=Arguments(**trainer_settings(args, args.batch, folder)),
            train_dataset=data,
            loss=loss,
            callbacks=[timed(clock)],
        )
        trainer.train()
    lengths = transformer.tokenizer(
        [text for row in rows for text in (row[first], row[second])], truncation=True, max_length=args.length
    )
    # Each row is read once: all but one of the steps are timed.
    tokens = sum(map(len, lengths["input_ids"])) * args.steps // (args.steps + 1)
    return Measured(clock.seconds, tokens)


def hugging_face(args: argparse.Namespace, _: str) -> Measured:
    """Run Hugging Face's Trainer: documents joined and cut into rows, as its language modelling scripts do."""
    import torch
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    folder = plain_base(args)
    config = AutoConfig.from_pretrained(str(folder))
    config.is_causal = False
    model = AutoModelForCausalLM.from_pretrained(str(folder), config=config, dtype=placed(args)[1])
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    texts = [row["text"] for row in rows_of(args.texts, args.rows * args.length // 20 * (args.steps + 2))]
    ids = [token for text in texts for token in tokenizer(text)["input_ids"]]
    count = args.rows * (args.steps + 1)
    data = Dataset.from_dict({"input_ids": [ids[i * args.length : (i + 1) * args.length] for i in range(count)]})
    mask_id = tokenizer.convert_tokens_to_ids("_")

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([row["input_ids"] for row in rows])
        hidden = labels.clone()
        chosen = torch.rand(labels.shape) < 0.2
        hidden[chosen & (torch.rand(labels.shape) < 0.8)] = mask_id
        labels[~chosen] = -100
        return {"input_ids": hidden, "attention_mask": torch.ones_like(hidden), "labels": labels}

    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(
            model=get_peft_model(model, lora(model)),
            args=TrainingArguments(**trainer_settings(args, args.rows, place), remove_unused_columns=False),
            train_dataset=data,
            data_collator=collate,
            callbacks=[timed(clock)],
        )
        trainer.train()
    return Measured(clock.seconds, args.rows * args.length * args.steps)


def side_of(name: str) -> Callable[[argparse.Namespace, str], Measured]:
    if name.startswith("searchctl"):
        return ours
    return sentence_transformers if name.startswith("sentence") else hugging_face


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
    """Measure the sides by turns and print a row of a Markdown table for each."""
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
