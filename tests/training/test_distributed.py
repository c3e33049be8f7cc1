"""Two processes give the weights of one: shared batches, candidates of both, gradients averaged (gloo, on the CPU)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.open import open_encoder
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
from searchctl.training.objectives.contrastive import SimcseTraining, SupervisedTraining
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.objectives.distill import DistillTraining, pair_lessons
from searchctl.training.distributed import Ranks, average_gradients
from searchctl.training.errors import TrainingError
from searchctl.training.loop import LoopSettings, StepResult, run_stage
from searchctl.training.objectives.mntp import MntpTraining
from searchctl.training.recipe import DistillStage, LoraSettings, Masking, MntpStage, Schedule, SimcseStage
from searchctl.training.recipe import SupervisedStage
from searchctl.training.trainable import load_trainable

rank, count, port, base, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *map(Path, sys.argv[4:])
if count > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
ranks = Ranks.current()
resolved = resolve(EncoderConfig(model=str(base)))
lora = LoraSettings(rank=4, alpha=8, dropout=0.0)
# Of unequal lengths, so that the processes have unequal numbers of tokens to predict.
texts = [" ".join([f"Sentence {i:03} tells of wool."] * (1 + i % 4)) for i in range(60)]
pairs = tuple(
    # One in three has no hard negative, so that the processes have unequal numbers of them.
    Pair(f"what is thing {i:03}", f"thing {i:03} is wool", (f"thing {i + 1:03} is not",) if i % 3 else ())
    for i in range(40)
)
source = PairSource(name="pairs", digest="", pairs=pairs)
tokenizer = load_tokenizer(base)
tokens = TextTokenizer(tokenizer=tokenizer, prompt=resolved.sidecar.prompt, max_tokens=32)
# All tokens hidden: which ones is sampled by each process for itself, and must not matter here.
mntp = MntpStage(lora=lora, batch=4, length=24, mask_probability=1.0, masking=Masking.ALL)
teacher = open_encoder(EncoderConfig(model=str(base)))
lessons = pair_lessons([source], {})
found = {}
for name, make in {
    "mntp": lambda m: MntpTraining(m, mntp, tokenizer, texts=texts, held_out=texts, seed=1, ranks=ranks),
    "simcse": lambda m: SimcseTraining(
        m, SimcseStage(batch=8, chunk=3, attention_dropout=0.0), tokens, texts=texts, held_out=texts, seed=1,
        ranks=ranks,
    ),
    "supervised": lambda m: SupervisedTraining(
        m, SupervisedStage(batch=8, chunk=3), tokens, sources=[source], held_out=[source], seed=1, ranks=ranks
    ),
    "distill": lambda m: DistillTraining(
        m, DistillStage(batch=8, chunk=3), tokens, teacher, sources=lessons, held_out=lessons, seed=1, ranks=ranks
    ),
}.items():
    model = load_trainable(resolved, (), lora, device=torch.device("cpu"), dtype=torch.float32)
    torch.manual_seed(5)
    with torch.no_grad():
        for key, value in model.parameters():
            if "lora_B" in key:
                value.normal_(std=0.05)
    make(model).step(0)
    average_gradients(model, ranks)
    found |= {f"{name} {key}": value.grad for key, value in model.parameters()}
    # Some whole steps: what the log says must be of all processes.
    told = []
    run_stage(
        model, make(model), Schedule(steps=3, learning_rate=1e-3),
        LoopSettings(folder=output.with_name(f"{count}-{name}"), settings="s", is_main=ranks.is_main),
        told=told.append, stop=lambda: False, average_gradients=lambda model: average_gradients(model, ranks),
    )
    found[f"{name} losses"] = torch.tensor([moment.loss for moment in told[1:]])
    found[f"{name} tokens"] = torch.tensor([moment.tokens for moment in told])
    found[f"{name} cut"] = torch.tensor([moment.metrics.get("cut", 0.0) for moment in told[1:]])
if rank == 0:
    torch.save(found, output)
if count > 1:
    # A loss that is no number in one process stops both, and only the first writes.
    class Bad:
        def step(self, number):
            return StepResult(loss=float("nan") if rank == 1 else 1.0, tokens=1)

        def held_out(self):
            return {"loss": 0.0}

        def describe(self, number):
            return [{"text": f"written by {rank}"}]

    work = output.with_name(f"work-{rank}")
    try:
        run_stage(
            model, Bad(), Schedule(steps=2), LoopSettings(folder=work, settings="s", is_main=ranks.is_main),
            told=lambda _: None, stop=lambda: False,
        )
        raise SystemExit("went on")
    except TrainingError as error:
        assert "step 0" in str(error), error
    assert work.exists() == ranks.is_main
    if ranks.is_main:
        assert (work / "bad-batch-step-000000.jsonl").read_text() == '{"text": "written by 0"}\\n'
if count > 1:
    dist.destroy_process_group()
"""


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def gradients(count: int, base: Path, output: Path) -> dict[str, torch.Tensor]:
    words = [str(count), str(free_port()), str(base), str(output)]
    running = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), *words], stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    for process in running:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    found: dict[str, torch.Tensor] = torch.load(output, weights_only=True)
    return found


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    one, two = (gradients(count, tiny_folder, tmp_path / f"{count}.pt") for count in (1, 2))
    assert one.keys() == two.keys()
    for stage in ("mntp", "simcse", "supervised", "distill"):
        assert max(float(value.abs().max()) for name, value in one.items() if name.startswith(stage)) > 1e-3
        assert one[f"{stage} losses"].isfinite().all() and int(one[f"{stage} tokens"][-1]) > 100
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, atol=2e-6, rtol=1e-4, msg=lambda said, name=name: f"{name}: {said}"
        )
