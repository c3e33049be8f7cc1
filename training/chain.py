"""The LLM2Vec chain, and distillation after it: each stage a LoRA on top of what the stages before it made."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..encoder.batching import is_out_of_memory
from ..encoder.config import Pooling
from ..encoder.depth import Layers
from ..encoder.identity import digest_of
from ..encoder.load import choose_attention, eos_token
from ..encoder.projection import FILE_NAME as PROJECTION
from ..encoder.resolve import ResolvedModel
from ..encoder.tokenize import TextTokenizer, load_tokenizer
from .checkpoints import newest_step, writing
from .contrastive_objective import SimcseTraining, SupervisedTraining
from .dev_pairs import DevPairs, WatchedObjective, require_own_names
from .distill_objective import DistillTraining
from .distributed import Ranks, agree, average_gradients, barrier
from .errors import TrainingError
from .loop import LoopSettings, Moment, Objective, Outcome, run_stage
from .mntp_objective import MntpTraining
from .needs import check_needs, kinds_of, lessons_of
from .out_of_memory import out_of_memory
from .recipe import DistillStage, MntpStage, Recipe, SimcseStage, Stage, StageSettings, stage_settings, uses_teacher
from .resuming import based, finished
from .settings_parts import decisive_settings, settings_parts
from .stacking import adapters_below
from .teacher import Teacher, require_teacher
from .trainable import Trainable, load_trainable, save_lora
from .trained_folder import (
    CHECKPOINTS,
    LOG,
    append,
    describe,
    plain_base,
    trim_log,
    write_stage,
)
from .training_data import Data
from .vector_objective import VectorTraining
from .whole_files import sync, sync_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train, on what, and where to."""

    base: ResolvedModel
    """With the adapters to train on top of, which are copied; where `output` holds a finished stage, the adapters that
    it was trained on stand in their place."""
    cut: Layers | None = None
    """Of the layers that the base had when its adapters were trained, those that it keeps; `base.sidecar.layers` says
    them as layers of the plain weights."""
    stages: tuple[Stage, ...]
    data: tuple[Path, ...]
    recipe: Recipe
    output: Path
    device: torch.device
    dtype: torch.dtype
    dev: tuple[DevPairs, ...] = ()
    teacher: Teacher | None = None
    """Of the distill stage, and of supervised training with a teacher_weight."""
    save_every: int = 100
    evaluate_every: int = 100
    keep_all: bool = False
    checkpointing: bool = False
    max_seconds: float | None = None
    """For the whole call, loading and evaluation included."""
    command: str = ""
    versions: Mapping[str, str] | None = None
    choose_attention: Callable[[torch.dtype, torch.device], str | None] = choose_attention
    """Attention of the stages but MNTP, as transformers calls it, for a number format and a device."""
    cache: Path | None = None
    """Where hashes of large files are kept; None: the usual place."""

    def __post_init__(self) -> None:
        ranked = [stage for stage in Stage if stage in self.stages]
        if not self.stages or list(self.stages) != ranked:
            raise TrainingError(
                f"stages are {', '.join(self.stages) or 'none'}: expected some of {', '.join(Stage)}, each once, in "
                "this order"
            )
        require_own_names(self.dev)
        for stage in self.stages:
            if uses_teacher(self.recipe, stage):
                require_teacher(self.teacher, self.recipe.distill, stage, self.base, self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutcome:
    """How one stage ended."""

    stage: Stage
    outcome: Outcome
    folder: Path | None
    """The finished adapter; None when the stage goes on with the next run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """How a whole call ended."""

    stages: tuple[StageOutcome, ...]
    """Those that this call ran; one that was finished before is not among them."""
    complete: bool
    """Whether every stage that was asked for is finished, by this call or an earlier one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call of `train`."""

    request: TrainRequest
    data: Data
    ranks: Ranks
    deadline: float | None
    told: Callable[[Stage, Moment], None]
    stop: Callable[[], bool]

    def ends(self) -> bool:
        """Return whether no further stage is to be started, the same in all processes."""
        over = self.deadline is not None and time.monotonic() >= self.deadline
        return agree(over or self.stop(), self.ranks)


def train(
    request: TrainRequest,
    data: Data,
    *,
    told: Callable[[Stage, Moment], None],
    stop: Callable[[], bool],
) -> TrainOutcome:
    """Run the stages, going on where an earlier run of the same output folder ended.

    A stage builds on those that `output` holds finished, whether or not this call names them. After each finished stage
    the output folder is a model that `--model FOLDER` opens. Raises TrainingError, NotBidirectionalError.
    """
    deadline = None if request.max_seconds is None else time.monotonic() + request.max_seconds
    ranks = Ranks.current()
    check_needs(request, data, ranks)
    request = based(request, ranks)
    run = _Run(request=request, data=data, ranks=ranks, deadline=deadline, told=told, stop=stop)
    done = finished(request, data, ranks)
    if done and ranks.is_main:
        # Again, for a run that was killed between the end of a stage and this.
        describe(request)
    outcomes: list[StageOutcome] = []
    for stage in (stage for stage in request.stages if stage not in done):
        if run.ends():
            break
        outcome = _run_stage(run, stage, done)
        _free_memory(request.device)
        outcomes.append(outcome)
        if outcome.folder is None:
            break
        done[stage] = outcome.folder
    return TrainOutcome(stages=tuple(outcomes), complete=all(stage in done for stage in request.stages))


def _run_stage(run: _Run, stage: Stage, done: Mapping[Stage, Path]) -> StageOutcome:
    """Train one stage to its end, or as far as time goes, and make its adapter a part of the output folder."""
    request = run.request
    decisive = decisive_settings(request, run.data, stage, done, run.ranks.count)
    mark, parts = digest_of(decisive), settings_parts(decisive, stage)
    below, start = adapters_below(request, stage, done)
    try:
        trainable = _load(request, stage, below, start)
        outcome = _train_stage(run, stage, trainable, mark, parts)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, request, stage) from error
    folder = request.output / stage.value
    if outcome.finished and run.ranks.is_main:
        settings = stage_settings(request.recipe, stage)
        share = settings.merge_share if isinstance(settings, MntpStage) else 1.0
        with writing(folder, checkpoints_in=request.output / CHECKPOINTS / stage.value):
            save_lora(trainable, folder, dtype=torch.bfloat16, share=share)
            sync_tree(folder)
        # Last, when the adapter is whole and on the disk: this file says that the stage is finished.
        write_stage(request, run.data, stage, below, mark=mark, progress=outcome.progress)
        describe(request)
    barrier()
    return StageOutcome(stage=stage, outcome=outcome, folder=folder if outcome.finished else None)


def _load(request: TrainRequest, stage: Stage, below: tuple[Path, ...], start: Path | None) -> Trainable:
    settings = stage_settings(request.recipe, stage)
    last = below[-1] if below else None
    trained = None if last is None else last / PROJECTION
    base = request.base
    if trained is not None and trained.is_file():
        # A stage before this one trained the projection further.
        base = replace(base, projection=trained)
    if isinstance(settings, MntpStage):
        base = replace(base, projection=None)
    trainable = load_trainable(
        base,
        below,
        settings.lora,
        device=request.device,
        dtype=request.dtype,
        # MNTP's packing needs a mask of its own, which FlashAttention does not take.
        attention=None if isinstance(settings, MntpStage) else request.choose_attention(request.dtype, request.device),
        attention_dropout=settings.attention_dropout if isinstance(settings, SimcseStage) else None,
        checkpointing=request.checkpointing,
        start=start,
        projection=settings.projection if isinstance(settings, DistillStage) else None,
        seed=request.recipe.seed,
    )
    trainable.base_name = plain_base(request.base)
    if not isinstance(settings, MntpStage):
        trainable.sidecar = replace(trainable.sidecar, pooling=settings.pooling)
    return trainable


def _train_stage(run: _Run, stage: Stage, trainable: Trainable, mark: str, parts: Mapping[str, Any]) -> Outcome:
    request, ranks = run.request, run.ranks
    settings = stage_settings(request.recipe, stage)
    objective = _objective(run, trainable, settings)
    log, checkpoints = request.output / LOG, request.output / CHECKPOINTS / stage.value
    if ranks.is_main:
        trim_log(log, stage, newest_step(checkpoints))

    def record(moment: Moment) -> None:
        if ranks.is_main:
            append(log, {"stage": stage.value, **asdict(moment)})
        run.told(stage, moment)

    return run_stage(
        trainable,
        objective,
        settings.schedule,
        LoopSettings(
            folder=checkpoints,
            settings=mark,
            parts=parts,
            save_every=request.save_every,
            evaluate_every=request.evaluate_every,
            keep_all=request.keep_all,
            deadline=run.deadline,
            is_main=ranks.is_main,
        ),
        told=record,
        stop=run.stop,
        average_gradients=lambda model: average_gradients(model, ranks),
        saving=lambda: sync(log),
    )


def _objective(run: _Run, trainable: Trainable, settings: StageSettings) -> Objective:
    request, data, ranks = run.request, run.data, run.ranks
    tokenizer = load_tokenizer(request.base.folder)
    seed = request.recipe.seed
    if isinstance(settings, MntpStage):
        return MntpTraining(
            trainable, settings, tokenizer, texts=data.texts, held_out=data.unseen_texts, seed=seed, ranks=ranks
        )
    texts = TextTokenizer(
        tokenizer=tokenizer,
        prompt=request.base.sidecar.prompt,
        max_tokens=settings.length,
        # As the encoder chooses it that opens the result.
        eos=eos_token(trainable.decoder.config, request.base.folder) if settings.pooling is Pooling.LAST else None,
    )
    inner: Objective
    if isinstance(settings, DistillStage):
        inner = _distillation(run, trainable, settings, texts)
    elif isinstance(settings, SimcseStage):
        inner = SimcseTraining(
            trainable, settings, texts, texts=data.texts, held_out=data.unseen_texts, seed=seed, ranks=ranks
        )
    else:
        checkpoints = request.output / CHECKPOINTS / Stage.SUPERVISED.value
        inner = SupervisedTraining(
            trainable,
            settings,
            texts,
            sources=data.pairs,
            held_out=data.unseen_pairs,
            seed=seed,
            ranks=ranks,
            teacher=request.teacher.open() if request.teacher is not None and settings.teacher_weight else None,
            folder=checkpoints,
            begun=newest_step(checkpoints) is not None,
        )
    return WatchedObjective(inner, trainable, texts, settings.pooling, request.dev)


def _distillation(run: _Run, trainable: Trainable, stage: DistillStage, tokenizer: TextTokenizer) -> Objective:
    request, data = run.request, run.data
    assert request.teacher is not None
    if stage.loss == "vector":
        checkpoints = request.output / CHECKPOINTS / Stage.DISTILL.value
        kinds, unseen = kinds_of(request.recipe, data)
        return VectorTraining(
            trainable,
            stage,
            tokenizer,
            request.teacher.open(),
            kinds=kinds,
            held_out=unseen,
            folder=checkpoints,
            begun=newest_step(checkpoints) is not None,
            seed=request.recipe.seed,
            ranks=run.ranks,
        )
    sources, held_out = lessons_of(request.recipe, data)
    return DistillTraining(
        trainable,
        stage,
        tokenizer,
        request.teacher.open(),
        sources=sources,
        held_out=held_out,
        seed=request.recipe.seed,
        ranks=run.ranks,
    )


def _free_memory(device: torch.device) -> None:
    """Let go of a finished stage's model before the next one is loaded: cycles inside it outlive its last name."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
