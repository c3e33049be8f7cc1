"""The sides that `training_speed.py` compares: a few optimiser steps each, of one stage, in this process."""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 42
ATTENTION_DROPOUT = 0.3
"""Of SimCSE (paper, appendix D.1.2)."""


@dataclass(frozen=True)
class Measured:
    """Seconds of each timed step, and the tokens that these steps read."""

    seconds: list[float]
    tokens: int


class Clock:
    """Times steps from the end of the one before: reading and tokenising a batch count wherever they are done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    def end(self) -> None:
        now = _now()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


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
    from searchctl.encoder.models.resolve import resolve
    from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
    from searchctl.training.recipe import LoraSettings, Schedule
    from searchctl.training.trainable import load_trainable

    base = resolve(EncoderConfig(model=args.model, chain=0))
    device, dtype = placed(args)
    dropout = ATTENTION_DROPOUT if side == "searchctl simcse" else None
    trainable = load_trainable(base, (), LoraSettings(), device=device, dtype=dtype, attention_dropout=dropout)
    texts_of = TextTokenizer(tokenizer=load_tokenizer(base.folder), prompt=base.sidecar.prompt, max_tokens=args.length)
    stages = {"searchctl mntp": mntp, "searchctl simcse": simcse, "searchctl distill": distillation}
    objective = stages.get(side, supervised)(args, side, trainable, texts_of, Schedule(steps=args.steps + 1))
    optimizer = torch.optim.AdamW([value for _, value in trainable.parameters()], lr=1e-4)
    clock, tokens = Clock(), 0
    trainable.decoder.train()
    for number in range(args.steps + 1):
        result = objective.step(number)
        torch.nn.utils.clip_grad_norm_([value for _, value in trainable.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.end()
        tokens += result.tokens if number else 0
    return Measured(clock.seconds, tokens)


def mntp(args: argparse.Namespace, _: str, trainable: Any, texts_of: Any, schedule: Any) -> Any:
    from searchctl.training.objectives.mntp import MntpTraining
    from searchctl.training.recipe import MntpStage

    texts = [row["text"] for row in rows_of(args.texts, args.rows * args.length // 20 * (args.steps + 2))]
    stage = MntpStage(schedule=schedule, batch=args.rows, length=args.length, chunk=args.mntp_chunk)
    return MntpTraining(trainable, stage, texts_of.tokenizer, texts=texts, held_out=texts[:2], seed=SEED)


def simcse(args: argparse.Namespace, _: str, trainable: Any, texts_of: Any, schedule: Any) -> Any:
    from searchctl.training.objectives.contrastive import SimcseTraining
    from searchctl.training.recipe import SimcseStage

    texts = [row["text"] for row in rows_of(args.texts, args.batch * (args.steps + 1))]
    stage = SimcseStage(
        schedule=schedule,
        batch=args.batch,
        length=args.length,
        chunk=args.chunk,
        attention_dropout=ATTENTION_DROPOUT,
        sentences=False,
        cached=False,
    )
    return SimcseTraining(trainable, stage, texts_of, texts=texts, held_out=texts[:2], seed=SEED)


def supervised(args: argparse.Namespace, side: str, trainable: Any, texts_of: Any, schedule: Any) -> Any:
    from searchctl.training.objectives.contrastive import SupervisedTraining
    from searchctl.training.recipe import SupervisedStage

    source = pairs_of(args)
    stage = SupervisedStage(
        schedule=schedule, batch=args.batch, length=args.length, chunk=args.chunk, cached=side.endswith("cached")
    )
    return SupervisedTraining(trainable, stage, texts_of, sources=[source], held_out=[source], seed=SEED)


def distillation(args: argparse.Namespace, _: str, trainable: Any, texts_of: Any, schedule: Any) -> Any:
    """Return searchctl's distill stage over the pairs, with the model as it is opened for embedding as teacher."""
    from searchctl.encoder.config import EncoderConfig
    from searchctl.encoder.open import open_encoder
    from searchctl.training.objectives.distill import DistillTraining, pair_lessons
    from searchctl.training.recipe import DistillStage

    lessons = pair_lessons([pairs_of(args)], {})
    return DistillTraining(
        trainable,
        DistillStage(schedule=schedule, batch=args.batch, length=args.length, chunk=args.chunk, cached=False),
        texts_of,
        open_encoder(EncoderConfig(model=args.model, max_tokens=args.length)),
        sources=lessons,
        held_out=lessons,
        seed=SEED,
    )


def pairs_of(args: argparse.Namespace) -> Any:
    """Return as many pairs as the steps read, as one source."""
    from searchctl.training.data.corpus import Pair, PairSource

    rows = rows_of(args.pairs, args.batch * (args.steps + 1))
    return PairSource(name="pairs", digest="", pairs=tuple(Pair(row["query"], row["positive"]) for row in rows))


def lora(model: Any) -> Any:
    """Return peft's settings for the LoRA that searchctl's stages have by default."""
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=targets)


def plain_base(args: argparse.Namespace) -> Path:
    from searchctl.encoder.config import EncoderConfig
    from searchctl.encoder.models.resolve import resolve

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
    assert len(ids) >= count * args.length, f"the texts have {len(ids)} tokens: expected {count * args.length}"
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
