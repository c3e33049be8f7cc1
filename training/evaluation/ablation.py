"""What each step of the recipe brings: models of one base by attention, training stages and pooling (Table 5)."""

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
"""Details in which the models of one ablation must agree."""


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
    """The model behind each value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The steps of one base; the paper's Table 5 with our tasks."""

    base: str
    tasks: tuple[str, ...]
    """Those that every model in it was measured on."""
    poolings: tuple[str, ...]
    rows: tuple[AblationRow, ...]


def step_of(who: Identity) -> Step | None:
    """Return the step that an encoder of ours stands for; None for baselines, and where its details do not say."""
    attention = _ATTENTION.get(str(who.details.get("attention")))
    if who.kind != "encoder" or attention is None:
        return None
    start = attention
    if who.details.get("method") == "echo":
        start = "echo" if attention == "uni" else "bi-echo"
    return Step(start=start, stages=_stages(who.details))


def _stages(details: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the names in `chain`, which `word_steps.adapter_name` gave: a stage is one by its very name."""
    chain = details.get("chain")
    return tuple(map(str, chain)) if isinstance(chain, list) else ()


def ablations(
    models: Mapping[str, Identity], scores: Mapping[str, Mapping[str, TaskScore]]
) -> tuple[tuple[Ablation, ...], tuple[str, ...]]:
    """Return one ablation for each base that has two steps or poolings measured on the same task, and notes.

    `models` is by label, `scores` by task and label. Of two models of the same step and pooling the first
    stands. Where no task is shared by all, the most of them that share one are compared. Notes say who and what is left
    out, why there is no ablation of a base that could have one, and which models have another precision.
    """
    bases: dict[str, dict[tuple[Step, str], str]] = {}
    notes = []
    for label, who in models.items():
        step = step_of(who)
        if step is None:
            continue
        place = (step, str(who.details.get("pooling", "mean")))
        members = bases.setdefault(_base(who), {})
        if place in members:
            notes.append(f"ablation of {_base(who)}: {members[place]} stands for {step.key}, {label} is left out of it")
        members.setdefault(place, label)
    found = []
    for base, members in bases.items():
        ablation, more = _ablation(base, members, scores)
        found += [ablation] if ablation is not None else []
        notes += more
        notes += _precisions(base, [models[label] for label in members.values()]) if ablation is not None else []
    return tuple(found), (*notes, *_alone(bases, models))


def _base(who: Identity) -> str:
    more = [f"{name} {who.details[name]}" for name in _SAME_IN_ALL if who.details.get(name) is not None]
    return ", ".join((who.name, *more))


def _ablation(
    base: str, everyone: Mapping[tuple[Step, str], str], scores: Mapping[str, Mapping[str, TaskScore]]
) -> tuple[Ablation | None, list[str]]:
    """Return the ablation, None for one model and for none that share a task; and what is left out."""
    if len(everyone) < 2:
        return None, []
    tasks = _shared(set(everyone.values()), scores)
    if not tasks:
        return None, [f"no ablation of {base}: {', '.join(everyone.values())} have no task in common"]
    members = {place: label for place, label in everyone.items() if label in scores[tasks[0]]}
    notes = []
    if out := [label for label in everyone.values() if label not in members.values()]:
        notes.append(f"ablation of {base}: {', '.join(out)} left out, for lack of a task that the others have too")
    if missed := [task for task, row in scores.items() if task not in tasks and row.keys() & set(members.values())]:
        notes.append(f"ablation of {base}: {', '.join(missed)} left out, which not all of its models have")
    rows = []
    for step in sorted({step for step, _ in members}, key=lambda step: step.order):
        own = {pooling: label for (other, pooling), label in members.items() if other == step}
        values = {pooling: fmean(scores[task][label].score for task in tasks) for pooling, label in own.items()}
        rows.append(AblationRow(step=step, values=values, labels=own))
    return Ablation(base=base, tasks=tasks, poolings=_ordered({p for _, p in members}), rows=tuple(rows)), notes


def _shared(labels: set[str], scores: Mapping[str, Mapping[str, TaskScore]]) -> tuple[str, ...]:
    """Return the tasks that the most of `labels` share, and of equally many those of the most tasks; () for none."""
    groups = [(task, frozenset(labels & row.keys())) for task, row in scores.items()]
    found = [(len(who), tuple(task for task, others in groups if who <= others)) for _, who in groups if len(who) > 1]
    return max(found, key=lambda one: (one[0], len(one[1])), default=(0, ()))[1]


def _precisions(base: str, members: Sequence[Identity]) -> list[str]:
    """Return a note where steps were computed in different precision, which moves scores too."""
    labels: dict[str, list[str]] = {}
    for who in members:
        labels.setdefault(str(who.details.get("precision")), []).append(who.label)
    words = "; ".join(f"{precision} in {', '.join(own)}" for precision, own in labels.items())
    return (
        [f"ablation of {base} mixes precisions, which is a difference of its own: {words}"] if len(labels) > 1 else []
    )


def _alone(bases: Mapping[str, Mapping[tuple[Step, str], str]], models: Mapping[str, Identity]) -> list[str]:
    """Return a note on each step that stands alone only because its length or dimension is not that of the others."""
    names = [models[next(iter(members.values()))].name for members in bases.values()]
    return [
        f"{next(iter(members.values()))} is in no ablation: no other step of {name} has {base.removeprefix(name)[2:]}"
        for (base, members), name in zip(bases.items(), names, strict=True)
        if len(members) == 1 and names.count(name) > 1
    ]


def _ordered(poolings: set[str]) -> tuple[str, ...]:
    return tuple(sorted(poolings, key=lambda name: (_POOLINGS.index(name) if name in _POOLINGS else 99, name)))


def step_order(labels: Sequence[str], models: Mapping[str, Identity]) -> list[str]:
    """Return `labels` in the order to show them: our encoders by base and step, then baselines by kind and label."""
    kinds = ("encoder", "search", "sentence-transformers", "bm25")

    def place(label: str) -> tuple[int, str, int, tuple[int, int, int, str], str]:
        who, step = models[label], step_of(models[label])
        order = (0, 0, 0, "") if step is None else step.order
        return (kinds.index(who.kind), who.name, step is None, order, label)

    return sorted(labels, key=place)
