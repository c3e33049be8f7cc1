"""The LLM2Vec chain, and distillation after it: each stage a LoRA on top of what the stages before it made."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...encoder.batching import is_out_of_memory
from ...encoder.config import Pooling
from ...encoder.load import eos_token
from ...encoder.models.identity import digest_of
from ...encoder.models.projection import FILE_NAME as PROJECTION
from ...encoder.tokenize import TextTokenizer, load_tokenizer
from ...index.durable import sync, sync_tree
from ..checkpoints import newest_step, writing
from ..data.training_data import Data
from ..distributed import Ranks, agree, average_gradients, barrier
from ..errors import TrainingError
from ..loop import LoopSettings, Moment, Objective, Outcome, run_stage
from ..objectives.contrastive import SimcseTraining, SupervisedTraining
from ..objectives.dev_pairs import WatchedObjective
from ..objectives.distill import DistillTraining
from ..objectives.mntp import MntpTraining
from ..objectives.vector import VectorTraining
from ..recipe import DistillStage, MntpStage, SimcseStage, Stage, StageSettings, stage_settings
from ..trainable import Trainable, load_trainable, save_lora
from .output_folder import CHECKPOINTS, LOG, append, applied_adapters, describe, plain_base, trim_log, write_stage
from .preflight import check_needs, kinds_of, lessons_of
from .request import TrainRequest
from .resume import based, decisive_settings, finished, settings_parts

if TYPE_CHECKING:
    from .request import TrainRequest


def out_of_memory(error: BaseException, request: TrainRequest, stage: Stage) -> TrainingError:
    """Return the error that says what needs less memory in `stage`, and how --resume goes on with it."""
    settings = stage_settings(request.recipe, stage)
    smaller = [f"{stage}.chunk below {settings.chunk}"] if settings.chunk > 1 else []
    if not isinstance(settings, MntpStage) and not settings.cached:
        smaller.append(f"{stage}.cached = true")
    smaller += [f"{stage}.length below {settings.length}", f"{stage}.batch below {settings.batch}"]
    option = "" if request.checkpointing else "--gradient-checkpointing"
    folder = request.output / CHECKPOINTS / stage.value
    step = newest_step(folder)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    ran = f"{stage}: memory ran out on {request.device} ({said})"
    recipe = f"in the recipe {', '.join(smaller[:-1])} or {smaller[-1]}"
    if step is None:
        less = f"{option}, or {recipe}" if option else recipe
        return TrainingError(f"{ran}. Less is needed with {less}; with --resume the run then goes on with this stage")
    on = f"the last checkpoint, step {step}"
    first = (
        f"{option} needs less, and with --resume the run goes on from {on}" if option else f"--resume goes on from {on}"
    )
    return TrainingError(
        f"{ran}. {first}. Other ways to need less are {recipe}: they change what is trained, so that this stage begins "
        f"again; remove {folder} before --resume"
    )


def adapters_below(
    request: TrainRequest, stage: Stage, done: Mapping[Stage, Path]
) -> tuple[tuple[Path, ...], Path | None]:
    """Return the adapters under this stage's, in order, and the one whose weights it starts from."""
    if stage is Stage.DISTILL:
        return _below_distill(request, done)
    folders = dict(done)
    start = None
    if stage is Stage.SUPERVISED and request.recipe.supervised.start == "previous":
        *before, last = (*request.base.adapters, *folders.values())
        return tuple(before), last
    if stage is Stage.SUPERVISED and request.recipe.supervised.start != "merged":
        simcse = folders.pop(Stage.SIMCSE, None)
        start = simcse if request.recipe.supervised.start == "simcse" else None
    return (*request.base.adapters, *folders.values()), start


def _below_distill(request: TrainRequest, done: Mapping[Stage, Path]) -> tuple[tuple[Path, ...], Path | None]:
    if request.recipe.distill.start == "fresh":
        return (*request.base.adapters, *(done[stage] for stage in done if stage is Stage.MNTP)), None
    # Those that the stage before was used with: where supervised training began again, SimCSE's is not among them.
    before = applied_adapters(request.output, list(done)[-1]) if done else request.base.adapters
    if request.recipe.distill.start == "previous":
        return before[:-1], before[-1]
    return before, None


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
