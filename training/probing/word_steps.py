"""The steps of LLM2Vec that a model has, each as an encoder whose token states can be probed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import Attention, EncoderConfig
from ..errors import EvaluationError
from ..recipe import _NAMES, Step, adapter_name
from .word_data import WordTask

if TYPE_CHECKING:
    from ...encoder.models.cache import PullCallback


class Alignment(StrEnum):
    """Which token states stand for a word (paper, appendix D.1.3)."""

    SAME_TOKEN = "same_token"
    """Those of its own tokens."""
    NEXT_TOKEN = "next_token"
    """Those one position earlier: MNTP teaches position i - 1 to predict token i."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedStep:
    """One row of the table."""

    step: Step
    label: str
    """As in the paper's Table 4, e.g. "Bi+MNTP"."""
    config: EncoderConfig
    alignment: Alignment


def probed_steps(
    config: EncoderConfig,
    wanted: Sequence[Step],
    *,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> tuple[ProbedStep, ...]:
    """Return the steps `wanted`, in that order and each once; all that the model has when `wanted` is empty.

    A trained step is the chain of adapters up to that of its stage; which stage an adapter is of, its folder's name
    says, or that of the folder around it (mntp/step-001000). States are read one token earlier as soon as MNTP is
    in the chain. Raises EvaluationError for a step that the model has not, and what `resolve` raises.
    """
    # Here and not above: --help names the steps, and needs no model.
    from ...encoder.models.registry import find
    from ...encoder.models.resolve import resolve

    entry = find(config.model)
    if entry is not None and entry.source == "builtin":
        raise EvaluationError(f"{config.model} has no token states: expected a decoder model, e.g. smollm2-135m")
    resolved = resolve(config, cache=cache, progress=progress)
    trained = not wanted or any(step in _NAMES for step in wanted)
    stages = _stages(resolved.adapters) if trained else ()
    known = (Step.UNI, Step.BI, *stages)
    for step in wanted:
        if step not in known:
            raise EvaluationError(
                f"{config.model} has no step {step.value}, it has {', '.join(known)}: ask for one of these, or give "
                f"the adapter in a folder named {step.value}"
            )
    own = len(resolved.adapters) - len(config.adapters)
    return tuple(_probed(step, stages, config, own) for step in dict.fromkeys(wanted or known))


def _probed(step: Step, stages: tuple[Step, ...], config: EncoderConfig, own: int) -> ProbedStep:
    """`own` is how many adapters the model itself names; those of `config` follow them."""
    count = stages.index(step) + 1 if step in stages else 0
    applied = stages[:count]
    return ProbedStep(
        step=step,
        label="Uni" if step is Step.UNI else "+".join(["Bi", *(_NAMES[stage] for stage in applied)]),
        config=replace(
            config,
            attention=Attention.CAUSAL if step is Step.UNI else Attention.BIDIRECTIONAL,
            chain=min(count, own),
            adapters=config.adapters[: max(0, count - own)],
        ),
        alignment=Alignment.NEXT_TOKEN if Step.MNTP in applied else Alignment.SAME_TOKEN,
    )


def _stages(adapters: Sequence[Path]) -> tuple[Step, ...]:
    stages: list[Step] = []
    by_name = {step.value: step for step in _NAMES}
    for folder in adapters:
        stage = by_name.get(adapter_name(folder))
        if stage is None:
            raise EvaluationError(
                f"adapter {folder}: its stage is not known, and after MNTP states are read one token earlier. Expected "
                f"a folder named {', '.join(by_name)}: rename it, or measure the steps uni and bi alone"
            )
        if stage in stages:
            raise EvaluationError(f"adapter {folder} is the second of stage {stage.value}, expected one of each")
        stages.append(stage)
    return tuple(stages)


def _row(*values: str) -> Mapping[str, Mapping[WordTask, float]]:
    bases = ("S-LLaMA-1.3B", "LLaMA-2-7B", "Mistral-7B")
    tasks = (WordTask.CHUNK, WordTask.NER, WordTask.POS)
    return {
        base: {task: float(number) for task, number in zip(tasks, value.split("/"), strict=True)}
        for base, value in zip(bases, values, strict=True)
    }


TABLE_4: Mapping[str, Mapping[str, Mapping[WordTask, float]]] = {
    "Uni": _row("86.10/96.09/90.89", "88.23/96.59/91.53", "87.53/96.52/90.86"),
    "Bi": _row("76.50/92.17/89.18", "78.24/92.31/90.62", "85.66/97.14/90.70"),
    "Bi+MNTP": _row("90.51/96.59/92.04", "91.61/97.16/92.61", "91.17/97.18/92.35"),
    "Bi+SimCSE": _row("75.93/91.45/89.22", "77.75/91.96/90.48", "86.91/97.15/92.12"),
    "Bi+MNTP+SimCSE": _row("89.33/95.90/90.38", "89.66/96.05/90.53", "90.69/96.87/92.08"),
}
"""Accuracy in per cent by setting, base and task: LLM2Vec (arXiv 2404.05961), Table 4."""
