"""What each step of the recipe brings: contenders of one base by attention, training stages and pooling (Table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .measurement import Identity, Json, TaskScore

_ATTENTION = {"causal": "uni", "bidirectional": "bi"}
_STARTS = ("uni", "bi", "echo", "bi-echo")
_STAGES = ("mntp", "simcse", "supervised", "distill")
_POOLINGS = ("last", "first", "mean", "weighted_mean")
_SAME_IN_ALL = ("dim", "max_tokens")
"""Details in which the contenders of one ablation must agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A way to make an encoder of a base: how it attends, and what it was trained with, in order."""

    start: str
    """uni: causal attention; bi: bidirectional; echo: the text twice, causal; bi-echo: the same, bidirectional."""
    stages: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """As in the paper's tables, in small letters: "bi+mntp+simcse"."""
        return "+".join((self.start, *self.stages))

    @property
    def order(self) -> tuple[int, int, int, str]:
        """Table 5's order: by the last stage, the number of stages, then uni, bi, echo."""
        ranks = [_STAGES.index(stage) if stage in _STAGES else len(_STAGES) for stage in self.stages]
        return (max(ranks, default=-1), len(self.stages), _STARTS.index(self.start), self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    step: Step
    values: Mapping[str, float]
    """Mean score over the tasks by pooling; a pooling not measured is not there."""
    labels: Mapping[str, str]
    """The contender behind each value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The steps of one base; the paper's Table 5 with our tasks."""

    base: str
    tasks: tuple[str, ...]
    """Those that every contender in it was measured on."""
    poolings: tuple[str, ...]
    rows: tuple[AblationRow, ...]


def step_of(who: Identity) -> Step | None:
    """Return the step that an encoder of ours stands for; None for rivals, and where its details do not say."""
    attention = _ATTENTION.get(str(who.details.get("attention")))
    if who.kind != "encoder" or attention is None:
        return None
    start = attention
    if who.details.get("method") == "echo":
        start = "echo" if attention == "uni" else "bi-echo"
    return Step(start=start, stages=_stages(who.details))


def _stages(details: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the training stages: the names of the adapter folders in `chain`, a known stage in one named for it."""
    chain = details.get("chain")
    names = list(map(str, chain)) if isinstance(chain, list) else []
    return tuple(next((stage for stage in _STAGES if stage in name.lower()), name) for name in names)


def ablations(
    contenders: Mapping[str, Identity], scores: Mapping[str, Mapping[str, TaskScore]]
) -> tuple[tuple[Ablation, ...], tuple[str, ...]]:
    """Return one ablation for each base of which two steps or more were measured on the same task, and notes.

    `contenders` is by label, `scores` by task and label. Of two contenders of the same step and pooling the first
    stands, and a note says so.
    """
    bases: dict[str, dict[tuple[Step, str], str]] = {}
    notes = []
    for label, who in contenders.items():
        step = step_of(who)
        if step is None:
            continue
        place = (step, str(who.details.get("pooling", "mean")))
        members = bases.setdefault(_base(who), {})
        if place in members:
            notes.append(f"ablation of {_base(who)}: {members[place]} stands for {step.key}, {label} is left out of it")
        members.setdefault(place, label)
    found = (_ablation(base, members, scores) for base, members in bases.items())
    return tuple(one for one in found if one is not None), tuple(notes)


def _base(who: Identity) -> str:
    more = [f"{name} {who.details[name]}" for name in _SAME_IN_ALL if who.details.get(name) is not None]
    return ", ".join((who.name, *more))


def _ablation(
    base: str, members: Mapping[tuple[Step, str], str], scores: Mapping[str, Mapping[str, TaskScore]]
) -> Ablation | None:
    labels = members.values()
    tasks = tuple(task for task, row in scores.items() if all(label in row for label in labels))
    steps = sorted({step for step, _ in members}, key=lambda step: step.order)
    if len(steps) < 2 or not tasks:
        return None
    rows = []
    for step in steps:
        own = {pooling: label for (other, pooling), label in members.items() if other == step}
        values = {pooling: fmean(scores[task][label].score for task in tasks) for pooling, label in own.items()}
        rows.append(AblationRow(step=step, values=values, labels=own))
    return Ablation(base=base, tasks=tasks, poolings=_ordered({p for _, p in members}), rows=tuple(rows))


def _ordered(poolings: set[str]) -> tuple[str, ...]:
    return tuple(sorted(poolings, key=lambda name: (_POOLINGS.index(name) if name in _POOLINGS else 99, name)))


def step_order(labels: Sequence[str], contenders: Mapping[str, Identity]) -> list[str]:
    """Return `labels` in the order to show them: our encoders by base and step, then rivals by kind and label."""
    kinds = ("encoder", "search", "sentence-transformers", "bm25")

    def place(label: str) -> tuple[int, str, int, tuple[int, int, int, str], str]:
        who, step = contenders[label], step_of(contenders[label])
        order = (0, 0, 0, "") if step is None else step.order
        return (kinds.index(who.kind), who.name, step is None, order, label)

    return sorted(labels, key=place)
