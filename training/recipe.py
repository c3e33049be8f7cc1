"""How an encoder is trained: one table of a TOML file per stage, validated into plain data."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..encoder.config import Pooling
from ..encoder.depth import Layers, parse_layers
from .errors import DataError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


Settings = TypeVar("Settings", bound="DataclassInstance")


def changed(default: Settings, data: Mapping[str, Any], where: str) -> Settings:
    """Return `default` with the values of a TOML table; what the table leaves out stays as it is in `default`.

    Every key must be a field and its value of the field's type. Raises ValueError naming the key, `where` before it.
    """
    hints = get_type_hints(type(default))
    for key in data:
        if key not in hints:
            raise ValueError(f"unknown key {where}{key}, expected one of {', '.join(hints)}")
    values = {key: _value(hints[key], value, f"{where}{key}", getattr(default, key)) for key, value in data.items()}
    try:
        return replace(default, **values)
    except ValueError as error:
        raise ValueError(_with_place(str(error), where.rstrip("."))) from error


def _with_place(said: str, where: str) -> str:
    """Return the words of a check, which knows its table's own name only, with the table's full name."""
    own = where.rpartition(".")[2]
    if not own or said.startswith(where):
        return said
    if said.startswith(f"{own}."):
        return re.sub(rf"(?<![\w.]){re.escape(own)}\.", f"{where}.", said)
    return f"{where}: {said}"


def _value(hint: Any, value: Any, where: str, default: Any) -> Any:
    if isinstance(hint, UnionType):
        if value is False and NoneType in get_args(hint):
            return None  # TOML has no null
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if hasattr(hint, "__dataclass_fields__"):
        return changed(default, _table(value, where), f"{where}.")
    if get_origin(hint) is dict:
        kind = get_args(hint)[1]
        given = {
            key: _value(kind, item, f"{where}.{key}", default.get(key, kind()))
            for key, item in _table(value, where).items()
        }
        return {**default, **given}
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} is {value!r}: expected one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if kind is str and isinstance(value, str):
            return (value,)
        names = {int: "whole numbers", float: "numbers", str: "texts"}
        if not isinstance(value, list) or not all(type(item) in _taken(kind) for item in value):
            raise ValueError(f"{where} is {value!r}: expected a list of {names[kind]}")
        return tuple(_plain(kind, item, where) for item in value)
    if issubclass(hint, StrEnum):
        if value not in list(hint):
            raise ValueError(f"{where} is {value!r}: expected one of {', '.join(hint)}")
        return hint(value)
    if type(value) not in _taken(hint):
        raise ValueError(f"{where} is {value!r}: expected {hint.__name__}")
    if hint is float and not abs(value) <= sys.float_info.max:
        # TOML has inf and nan; JSON, in which a run says its settings, has not.
        raise ValueError(f"{where} is {value!r}: expected a finite number")
    return hint(value)


def _taken(hint: Any) -> tuple[type, ...]:
    return (int, float) if hint is float else (hint,)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}: expected a table")
    return value


SHIPPED = Path(__file__).parent / "recipes"


class Stage(StrEnum):
    MNTP = "mntp"
    SIMCSE = "simcse"
    SUPERVISED = "supervised"
    DISTILL = "distill"


class Masking(StrEnum):
    BERT = "bert"
    """80 % the mask token, 10 % a random token, 10 % left (Devlin et al. 2019, section 3.1)."""
    ALL = "all"
    """Every chosen token becomes the mask token."""


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{owner}.{name} is {value}: expected a number above 0")


def _share(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{owner}.{name} is {value}: expected at least 0 and less than 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters on every linear layer of the decoder (paper, appendix D)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05

    def __post_init__(self) -> None:
        _positive("lora", rank=self.rank, alpha=self.alpha)
        _share("lora", dropout=self.dropout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """AdamW with linear warm-up and decay, as Hugging Face's Trainer does by default."""

    steps: int = 1000
    """Optimiser steps after which the stage ends."""
    decay_steps: int | None = None
    """Step at which the rate reaches 0; None: `steps`. The paper's runs stop far before."""
    warmup_steps: int = 0
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _positive("schedule", steps=self.steps, learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise ValueError("schedule.warmup_steps and weight_decay: expected numbers of at least 0")
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"schedule.warmup_steps is {self.warmup_steps}: expected fewer than schedule.steps ({self.steps}), or "
                "the learning rate never comes down; set both"
            )
        if self.decay_steps is not None and self.decay_steps < self.steps:
            raise ValueError(f"schedule.decay_steps is {self.decay_steps}: expected at least steps ({self.steps})")

    def rate(self, step: int) -> float:
        """Return the learning rate of optimiser step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        end = self.decay_steps or self.steps
        return self.learning_rate * max(0.0, (end - step) / max(1, end - self.warmup_steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class MntpStage:
    """Masked next-token prediction (paper, section 2.1 and appendix D.1.1)."""

    lora: LoraSettings = LoraSettings()
    schedule: Schedule = Schedule()
    batch: int = 32
    """Packed rows a step."""
    length: int = 512
    """Tokens a row."""
    mask_token: str = "_"
    mask_probability: float = 0.2
    masking: Masking = Masking.BERT
    anneal_steps: int = 0
    """Steps over which the mask goes from causal to bidirectional (Conan-v2, arXiv 2509.12892); 0: at once."""
    chunk: int = 8
    """Rows in memory at once; gradients of a step's chunks add up to exactly those of the whole."""
    merge_share: float = 1.0
    """Weight of the adapted model against the base after the stage (BidirLM, arXiv 2604.02045)."""

    def __post_init__(self) -> None:
        _positive("mntp", batch=self.batch, chunk=self.chunk, mask_probability=self.mask_probability)
        if self.mask_probability > 1 or not 0 < self.merge_share <= 1:
            raise ValueError(
                f"mntp: mask_probability is {self.mask_probability} and merge_share {self.merge_share}: "
                "expected more than 0 and at most 1"
            )
        if self.length < 2 or self.anneal_steps < 0 or not self.mask_token:
            raise ValueError("mntp: expected length of at least 2, anneal_steps of at least 0, a mask_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimcseStage:
    """Unsupervised SimCSE (Gao et al., arXiv 2104.08821; paper, appendix D.1.2): two dropout views of one text."""

    lora: LoraSettings = LoraSettings()
    schedule: Schedule = Schedule(learning_rate=3e-5)
    batch: int = 128
    length: int = 128
    temperature: float = 0.05
    attention_dropout: float = 0.3
    pooling: Pooling = Pooling.MEAN
    sentences: bool = True
    """Longer texts are cut into sentences first, as in the paper's data (one Wikipedia sentence a line)."""
    chunk: int = 64
    cached: bool = True
    """Both as in the supervised stage."""

    def __post_init__(self) -> None:
        _positive("simcse", length=self.length, temperature=self.temperature, chunk=self.chunk)
        _share("simcse", attention_dropout=self.attention_dropout)
        if self.batch < 2:
            raise ValueError(f"simcse.batch is {self.batch}: expected at least 2, the others are the negatives")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How the pairs of one file are used."""

    weight: float = 1.0
    """Batches sampled from it are in proportion to weight times number of pairs; 0 leaves it out."""
    instruction: str | None = None
    """What the query is told; None: nothing."""
    symmetric: bool = False
    """Both sides carry the instruction."""
    licence: str | None = None
    """Of the data, for the manifest; None: not said."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"source weight is {self.weight}: expected at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedStage:
    """Supervised contrastive training (paper, section 3.2 and appendix G)."""

    lora: LoraSettings = LoraSettings()
    schedule: Schedule = Schedule(learning_rate=2e-4, warmup_steps=300)
    batch: int = 512
    length: int = 512
    temperature: float = 0.02
    hard_negatives: int = 1
    pooling: Pooling = Pooling.MEAN
    start: Literal["fresh", "simcse", "merged", "previous"] = "fresh"
    """A fresh LoRA in place of SimCSE's, SimCSE's trained further (the paper's full variant), a fresh one on top, or
    the last adapter trained further whatever made it: that of the stage before, else the last that the model brings."""
    false_negative_margin: float | None = 0.1
    """Leave out a candidate nearer to the query than its positive by more than this (Qwen3-Embedding, arXiv
    2506.05176). None, in TOML false: only what the data themselves say is no negative, which is always left out."""
    dimensions: tuple[int, ...] = ()
    """Matryoshka prefixes trained besides the full width (arXiv 2205.13147)."""
    teacher_weight: float = 0.0
    """Of 1 - cosine to the vectors of the teacher of [distill], added to the contrastive loss; 0: no teacher."""
    chunk: int = 64
    """Texts of about one length that are embedded together."""
    cached: bool = True
    """Keep the activations of one chunk at a time, the others as cached gradients (arXiv 2101.06983): any batch fits,
    for one forward pass more. False keeps those of the whole batch, which is faster where memory allows it."""
    evaluation_pairs: int = 1024
    """Held-out pairs that are scored, of all sources together, at most."""

    sources: dict[str, SourceSettings] = field(default_factory=dict)
    """By file name without .jsonl or .jsonl.gz; a file without a table is used with the defaults. A file of plain texts
    has only a licence to say here."""

    def __post_init__(self) -> None:
        _positive("supervised", length=self.length, temperature=self.temperature, chunk=self.chunk)
        _positive("supervised", evaluation_pairs=self.evaluation_pairs)
        if self.batch < 2 or self.hard_negatives < 0 or any(width < 1 for width in self.dimensions):
            raise ValueError(
                f"supervised: batch is {self.batch}, hard_negatives {self.hard_negatives}, dimensions "
                f"{list(self.dimensions)}: expected at least 2, at least 0, and widths of at least 1"
            )
        if self.teacher_weight < 0:
            raise ValueError(f"supervised.teacher_weight is {self.teacher_weight}: expected at least 0")
        if self.false_negative_margin is not None and self.false_negative_margin < 0:
            raise ValueError(f"supervised.false_negative_margin is {self.false_negative_margin}: expected at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What is made of the model before any stage."""

    layers: Layers | None = None
    """The layers that are kept, in TOML a number for the first so many, or a list counted from 0; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillStage:
    """Distillation: another encoder, the teacher, shows which texts are near. Losses: objectives/distill.py, vector.py.

    Its pairs are used as `supervised.sources` says: an instruction belongs to the data, whoever learns from them.
    """

    teacher: tuple[str, ...] = ()
    """Names, folders or hub names, as of `--model`, or sentence-transformers models; none: the command says it."""
    teacher_weights: tuple[float, ...] = ()
    """What the unit vectors of several teachers are multiplied by before they are put side by side; none: 1 each."""
    lora: LoraSettings = LoraSettings()
    schedule: Schedule = Schedule(learning_rate=2e-4, warmup_steps=100)
    batch: int = 128
    """Pairs a step, or texts where there are no pairs."""
    length: int = 512
    """Tokens of a text that the student reads; the teacher has its own limit."""
    loss: Literal["similarity", "vector"] = "similarity"
    """Copy how near the texts of a batch are; or the vectors themselves, through the projection where the teacher's
    are of another width: then each text of pairs and plain texts is read by itself."""
    projection: int | None = None
    """Components of a new projection, at most the teacher's, for a model that has none; None: vectors are states."""
    temperature: float = 0.05
    """Of the similarities; the lower, the more the nearest texts count."""
    pooling: Pooling = Pooling.MEAN
    start: Literal["merged", "fresh", "previous"] = "merged"
    """A fresh LoRA on top of the stage before, in place of those of SimCSE and supervised training, or the one of the
    stage before trained further."""
    sentences: bool = True
    """Where there are no pairs, longer texts are cut into sentences, as in SimCSE."""
    chunk: int = 64
    cached: bool = True
    """Both as in the supervised stage; the teacher embeds as many texts together."""
    evaluation_pairs: int = 1024
    """Held-out pairs that are scored, of all sources together, or texts where there are no pairs, at most."""

    def __post_init__(self) -> None:
        _positive("distill", length=self.length, temperature=self.temperature, chunk=self.chunk)
        _positive("distill", evaluation_pairs=self.evaluation_pairs)
        if self.batch < 2 or "" in self.teacher:
            raise ValueError(
                f"distill: batch is {self.batch}, teacher {list(self.teacher)}: expected at least 2, and names or "
                "folders"
            )
        if self.projection is not None:
            _positive("distill", projection=self.projection)
        if self.projection is not None and self.loss != "vector":
            raise ValueError(
                f'distill.projection is {self.projection}, and loss is "{self.loss}": only the loss "vector" fits one'
            )
        if self.teacher_weights and self.teacher and len(self.teacher_weights) != len(self.teacher):
            raise ValueError(
                f"distill.teacher_weights has {len(self.teacher_weights)} numbers for {len(self.teacher)} teachers: "
                "expected one for each"
            )
        if any(not weight > 0 for weight in self.teacher_weights):
            raise ValueError(f"distill.teacher_weights are {list(self.teacher_weights)}: expected numbers above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSettings:
    """How the pairs of one `--dev` file are read."""

    instruction: str | None = None
    """What both sides are told; None: nothing."""


StageSettings = MntpStage | SimcseStage | SupervisedStage | DistillStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of every stage; a stage is run when the command names it."""

    name: str
    source: str
    """Where the values come from."""
    seed: int = 42
    model: ModelSettings = ModelSettings()
    mntp: MntpStage = MntpStage()
    simcse: SimcseStage = SimcseStage()
    supervised: SupervisedStage = SupervisedStage()
    distill: DistillStage = DistillStage()
    dev: dict[str, DevSettings] = field(default_factory=dict)
    """By file name without .jsonl or .jsonl.gz; decides nothing but what is told."""


def stage_settings(recipe: Recipe, stage: Stage) -> StageSettings:
    """Return the recipe's table for `stage`."""
    found: StageSettings = getattr(recipe, stage.value)
    return found


def uses_teacher(recipe: Recipe, stage: Stage) -> bool:
    """Return whether `stage` learns from the teacher."""
    return stage is Stage.DISTILL or (stage is Stage.SUPERVISED and recipe.supervised.teacher_weight > 0)


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with searchctl, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_recipe(path: Path) -> Recipe:
    """Return the recipe in a TOML file. Raises DataError naming the file and the key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        tables = ", ".join(f"[{stage}]" for stage in Stage)
        raise DataError(path, f"{error}. Expected a TOML file with tables {tables}") from error
    try:
        if "source" not in data:
            raise ValueError("source is missing: expected where the values come from")
        model = data.get("model")
        if isinstance(model, dict) and model.get("layers") is not None:
            try:
                model["layers"] = list(parse_layers(model["layers"]))
            except ValueError as error:
                raise ValueError(f"model.{error}") from error
        return changed(Recipe(name=path.stem, source=""), data, "")
    except ValueError as error:
        raise DataError(path, str(error)) from error


class Step(StrEnum):
    UNI = "uni"
    """The bare base with causal attention, as it was made."""
    BI = "bi"
    """The bare base with bidirectional attention."""
    MNTP = "mntp"
    SIMCSE = "simcse"
    SUPERVISED = "supervised"
    DISTILL = "distill"


_NAMES = {Step.MNTP: "MNTP", Step.SIMCSE: "SimCSE", Step.SUPERVISED: "Supervised", Step.DISTILL: "Distill"}
"""The steps that an adapter brings."""


def adapter_name(folder: Path) -> str:
    """Return what an adapter is called: its folder's name, or that of the folder around it where only that is a stage.

    A checkpoint is called after its training: mntp/step-001000 is mntp.
    """
    place = folder.absolute()
    stages = {step.value for step in _NAMES}
    return place.parent.name if place.name not in stages and place.parent.name in stages else place.name
