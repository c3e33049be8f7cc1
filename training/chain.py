"""The LLM2Vec chain: MNTP, SimCSE, supervised training, each a LoRA on top of what the stages before it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..encoder.config import Pooling
from ..encoder.resolve import ResolvedModel
from ..encoder.tokenize import TextTokenizer, load_tokenizer
from .contrastive_objective import SimcseTraining, SupervisedTraining
from .dev_pairs import DevPairs, WatchedObjective
from .distributed import Ranks, average_gradients, barrier
from .errors import TrainingError
from .loop import LoopSettings, Moment, Objective, Outcome, run_stage
from .mntp_objective import MntpTraining
from .recipe import MntpStage, Recipe, SimcseStage, Stage, SupervisedStage, stage_settings
from .trainable import Trainable, load_trainable, save_lora
from .trained_folder import LOG, append, describe, finished, settings_digest, write_json
from .training_data import Data


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train, on what, and where to."""

    base: ResolvedModel
    """Without adapters when the first stage is MNTP; else with those that the stages build on."""
    stages: tuple[Stage, ...]
    data: tuple[Path, ...]
    recipe: Recipe
    output: Path
    device: torch.device
    dtype: torch.dtype
    dev: tuple[DevPairs, ...] = ()
    save_every: int = 100
    evaluate_every: int = 100
    keep_all: bool = False
    checkpointing: bool = False
    max_seconds: float | None = None
    command: str = ""
    versions: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        ranked = [stage for stage in Stage if stage in self.stages]
        if not self.stages or list(self.stages) != ranked:
            raise TrainingError(
                f"stages are {', '.join(self.stages) or 'none'}: expected some of {', '.join(Stage)}, each once, in "
                "this order"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutcome:
    """How one stage ended."""

    stage: Stage
    outcome: Outcome
    folder: Path | None
    """The finished adapter; None when the stage goes on with the next run."""


def train(
    request: TrainRequest,
    data: Data,
    *,
    told: Callable[[Stage, Moment], None],
    stop: Callable[[], bool],
) -> list[StageOutcome]:
    """Run the stages, going on where an earlier run of the same output folder ended.

    After each finished stage the output folder is a model that `--model FOLDER` opens. Raises TrainingError,
    NotBidirectionalError.
    """
    outcomes: list[StageOutcome] = []
    spent = 0.0
    done: dict[Stage, Path] = {}
    for stage in request.stages:
        folder = request.output / stage.value
        mark = settings_digest(request, data, stage, done)
        if finished(folder) == mark:
            done[stage] = folder
            continue
        left = None if request.max_seconds is None else request.max_seconds - spent
        if left is not None and left <= 0:
            break
        outcome, trainable, moments = _run(request, data, stage, done, mark=mark, left=left, told=told, stop=stop)
        spent += sum(moment.seconds for moment in moments[-1:]) - sum(moment.seconds for moment in moments[:1])
        if not outcome.finished:
            outcomes.append(StageOutcome(stage=stage, outcome=outcome, folder=None))
            break
        done[stage] = folder
        if Ranks.current().is_main:
            save_lora(trainable, folder, dtype=torch.bfloat16)
            write_json(folder / "stage.json", {"settings": mark, "progress": asdict(outcome.progress)})
            describe(request, data, done)
        barrier()
        outcomes.append(StageOutcome(stage=stage, outcome=outcome, folder=folder))
    return outcomes


def _run(
    request: TrainRequest,
    data: Data,
    stage: Stage,
    done: Mapping[Stage, Path],
    *,
    mark: str,
    left: float | None,
    told: Callable[[Stage, Moment], None],
    stop: Callable[[], bool],
) -> tuple[Outcome, Trainable, list[Moment]]:
    settings = stage_settings(request.recipe, stage)
    start = None
    below = [folder for earlier, folder in done.items() if not (earlier is Stage.SIMCSE and stage is Stage.SUPERVISED)]
    if stage is Stage.SUPERVISED and Stage.SIMCSE in done:
        if request.recipe.supervised.start == "merged":
            below = list(done.values())
        elif request.recipe.supervised.start == "simcse":
            start = done[Stage.SIMCSE]
    trainable = load_trainable(
        request.base,
        [*request.base.adapters, *below],
        settings.lora,
        device=request.device,
        dtype=request.dtype,
        attention_dropout=settings.attention_dropout if isinstance(settings, SimcseStage) else None,
        checkpointing=request.checkpointing,
        start=start,
        seed=request.recipe.seed,
    )
    objective = _objective(request, data, trainable, settings)
    log, ranks = request.output / LOG, Ranks.current()
    moments: list[Moment] = []

    def record(moment: Moment) -> None:
        moments.append(moment)
        if ranks.is_main:
            append(log, {"stage": stage.value, **asdict(moment)})
        told(stage, moment)

    request.output.mkdir(parents=True, exist_ok=True)
    outcome = run_stage(
        trainable,
        objective,
        settings.schedule,
        LoopSettings(
            folder=request.output / "checkpoints" / stage.value,
            settings=mark,
            save_every=request.save_every,
            evaluate_every=request.evaluate_every,
            keep_all=request.keep_all,
            max_seconds=left,
            is_main=ranks.is_main,
        ),
        told=record,
        stop=stop,
        average_gradients=lambda model: average_gradients(model, ranks),
    )
    return outcome, trainable, moments


def _objective(
    request: TrainRequest, data: Data, trainable: Trainable, settings: MntpStage | SimcseStage | SupervisedStage
) -> Objective:
    tokenizer = load_tokenizer(request.base.folder)
    seed, ranks = request.recipe.seed, Ranks.current()
    if isinstance(settings, MntpStage):
        return MntpTraining(
            trainable, settings, tokenizer, texts=data.texts, held_out=data.unseen_texts, seed=seed, ranks=ranks
        )
    texts = TextTokenizer(
        tokenizer=tokenizer,
        prompt=request.base.sidecar.prompt,
        max_tokens=settings.length,
        eos=trainable.decoder.config.eos_token_id if settings.pooling is Pooling.LAST else None,
    )
    inner: SimcseTraining | SupervisedTraining
    if isinstance(settings, SimcseStage):
        inner = SimcseTraining(
            trainable, settings, texts, texts=data.texts, held_out=data.unseen_texts, seed=seed, ranks=ranks
        )
    else:
        inner = SupervisedTraining(
            trainable, settings, texts, sources=data.pairs, held_out=data.unseen_pairs, seed=seed, ranks=ranks
        )
    return WatchedObjective(inner, trainable, texts, settings.pooling, request.dev)
