"""Training runs as a report shows them: read, named apart, and set in tables that terminal and page each draw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...training.chain.output_folder import MANIFEST
from ...training.chain.run_log import RunLog, ScoreSummary, StageLog, StageSummary, read_run, summarise
from ...training.errors import DataError
from ...training.evaluation.step_curve import CurveTask, StageCurve, read_curves, shared_curve_tasks
from ...training.recipe import Stage
from ..terminal.tables import Line, TextTable
from ..terminal.wording import MISSING, count, duration, many, metric_name, points, rate

_WEIGHING = ("supervised", "distill")
"""Stages that draw pairs by weight and tell queries an instruction; others read the texts of pairs at most."""
_LEFT_OUT = "sources"
"""A table of settings with a row for each file would be its longest part; it stands beside the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a run comes from."""

    facts: Mapping[str, str]
    """Base, teacher, recipe, seed, precision, versions, command ..., by name."""
    data: tuple[tuple[str, ...], ...]
    """Name, rows, licence, stages that read it, weight and instruction, BLAKE3 of the content."""
    settings: tuple[tuple[str, ...], ...]
    """Name of a setting, then its value in each of `stages`."""
    stages: tuple[str, ...]
    whole: str
    """The manifest itself."""


DATA_HEADER = ("data", "rows", "licence", "read by", "weight", "query instruction", "BLAKE3")


def provenance(manifest: Mapping[str, Any]) -> Provenance:
    """Return it. Raises ValueError for a manifest that is not as training writes it."""
    try:
        stages = {name: _mapping(entry) for name, entry in _mapping(manifest["stages"]).items()}
        settings = {name: _flat(_mapping(entry["recipe"])[name]) for name, entry in stages.items()}
        return Provenance(
            facts=_facts(manifest, stages),
            data=tuple(_data(manifest, stages)),
            settings=tuple(
                (key, *(settings[name].get(key, MISSING) for name in stages))
                for key in dict.fromkeys(key for of_stage in settings.values() for key in of_stage)
            ),
            stages=tuple(stages),
            whole=json.dumps(manifest, indent=1, ensure_ascii=False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _facts(manifest: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    recipe = _mapping(manifest["recipe"])
    revision, licence = manifest.get("base_revision"), manifest.get("base_licence")
    told = ", ".join(str(word) for word in (revision, licence) if word)
    adapters = manifest.get("base_adapters") or []
    facts = {
        "base": f"{manifest['base']} ({told})" if told else str(manifest["base"]),
        "its adapters": " + ".join(map(str, adapters)),
        "trained by": _commands_before(manifest.get("base_manifest")),
        "teacher": "; ".join(
            dict.fromkeys(_teacher(said) for entry in stages.values() if (said := entry.get("teacher")))
        ),
        "recipe": f"{recipe['name']} ({recipe['source']})",
        "seed": str(recipe["seed"]),
        "precision": f"{manifest['precision']} on {manifest['device']}",
        "versions": ", ".join(f"{name} {number}" for name, number in _mapping(manifest["versions"]).items()),
    }
    commands = list(dict.fromkeys(str(entry["command"]) for entry in stages.values()))
    for number, command in enumerate(commands, start=1):
        facts["command" if len(commands) == 1 else f"command {number}"] = command
    return {name: value for name, value in facts.items() if value}


def _commands_before(manifest: Any) -> str:
    """Return the commands that made the base's adapters, oldest first."""
    if manifest is None:
        return ""
    said = _mapping(manifest)
    stages = [_mapping(stage) for stage in _mapping(said["stages"]).values()]
    earlier = _commands_before(said.get("base_manifest"))
    return "; ".join(dict.fromkeys([*([earlier] if earlier else []), *(str(stage["command"]) for stage in stages)]))


def _teacher(said: Any) -> str:
    """Return who taught, with all that decides its vectors."""
    teacher = _mapping(said)
    revision = [f"revision {teacher['revision']}"] if teacher["revision"] else []
    told = [
        *revision,
        f"licence {teacher['licence'] or 'not said'}",
        f"{count(int(teacher['dim']))} dimensions",
        str(teacher["precision"]),
        f"at most {count(int(teacher['max_tokens']))} tokens",
        f"fingerprint {teacher['fingerprint']}",
    ]
    return f"{teacher['name']} ({', '.join(told)})"


def _data(manifest: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, entry in _mapping(manifest["data"]).items():
        readers = [stage for stage, said in stages.items() if name in said["data"]]
        used = {stage: _use(stages[stage], stage, name, entry) for stage in readers if stage in _WEIGHING}
        asked = {stage: use for stage, use in used.items() if use is not None}
        rows.append(
            (
                str(name),
                count(int(entry["rows"])),
                str(entry["licence"] or "not said"),
                ", ".join(readers) or "base",
                _by_stage({stage: str(use.get("weight", 1.0)) for stage, use in asked.items()}),
                _by_stage({stage: str(use.get("instruction") or "none") for stage, use in asked.items()}),
                str(entry["blake3"]),
            )
        )
    return rows


def _use(said: Mapping[str, Any], stage: str, name: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how a stage used the pairs of a file, {} for the defaults, None for plain texts."""
    sources = _mapping(_mapping(_mapping(said["recipe"])[stage])["sources"])
    kind = entry.get("kind")
    if kind is None:  # an older manifest; supervised training reads pairs only
        kind = "pairs" if stage == "supervised" or name in sources else "texts"
    return _mapping(sources.get(name, {})) if kind == "pairs" else None


def _by_stage(words: Mapping[str, str]) -> str:
    """Return what all stages agree on, else what each has: recipes may change between them."""
    if len(set(words.values())) > 1:
        return "; ".join(f"{stage}: {word}" for stage, word in words.items())
    return next(iter(words.values()), MISSING)


def _flat(settings: Any, before: str = "") -> dict[str, str]:
    """Return the settings of a stage by dotted name."""
    found: dict[str, str] = {}
    for name, value in _mapping(settings).items():
        if name == _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = _word(value)
    return found


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} where an object was expected")
    return value


STAGE_NAMES = {
    Stage.MNTP: "MNTP",
    Stage.SIMCSE: "SimCSE",
    Stage.SUPERVISED: "Supervised",
    Stage.DISTILL: "Distillation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRun:
    """One training run of a report."""

    label: str
    """The name of its folder; the whole path where another run of the report has the same."""
    log: RunLog
    summaries: tuple[StageSummary, ...]
    """One for each stage of the log, in its order."""
    curves: Mapping[Stage, StageCurve]
    provenance: Provenance | None
    """None without a manifest that can be read."""
    notes: tuple[str, ...]

    def stage(self, stage: Stage) -> StageLog | None:
        """Return the log of a stage, None when the run has none."""
        return next((log for log in self.log.stages if log.stage is stage), None)


def read_runs(folders: Sequence[Path]) -> tuple[ReportedRun, ...]:
    """Return the runs of output folders, each once. Raises DataError for a folder that holds none."""
    places = list(dict.fromkeys(folder.expanduser().resolve() for folder in folders))
    names = Counter(place.name for place in places)
    return tuple(_read(place, place.name if names[place.name] == 1 else str(place)) for place in places)


def _read(folder: Path, label: str) -> ReportedRun:
    log = read_run(folder)
    summaries = tuple(summarise(stage) for stage in log.stages)
    notes = list(log.notes)
    for summary in summaries:
        notes += [
            f"{summary.stage}: {score.name} was no number at {many(score.missing, 'look')} at held-out data"
            for score in summary.held_out
            if score.missing
        ]
    curves: Mapping[Stage, StageCurve] = {}
    try:
        curves = read_curves(folder)
    except DataError as error:
        notes.append(str(error))
    made: Provenance | None = None
    try:
        made = None if log.manifest is None else provenance(log.manifest)
    except ValueError as error:
        notes.append(f"{folder / MANIFEST} is not as training writes it ({error}): it is not shown")
    return ReportedRun(label=label, log=log, summaries=summaries, curves=curves, provenance=made, notes=tuple(notes))


def stages_of(runs: Sequence[ReportedRun]) -> list[Stage]:
    """Return the stages that some run has, in their order."""
    return [stage for stage in Stage if any(run.stage(stage) for run in runs)]


def state_words(summary: StageSummary) -> str:
    """Return how far a stage is, e.g. "29 of 60 steps, not finished"."""
    if summary.finished:
        return many(summary.step, "step")
    return f"{summary.step:,} of {many(summary.steps, 'step')}, not finished"


def cost_words(summary: StageSummary) -> str:
    """Return what a stage took, e.g. "44,113 tokens, 9 min 39 s, 87 tokens/s"."""
    words = f"{many(summary.tokens, 'token')}, {duration(summary.seconds)}"
    return words if summary.tokens_per_s is None else f"{words}, {rate(summary.tokens_per_s)} tokens/s"


def value(number: float | None) -> str:
    """Return a loss or a held-out score as the training itself tells it."""
    return MISSING if number is None else f"{number:.4f}"


def stage_table(summary: StageSummary) -> TextTable:
    """Return the losses and held-out scores of a stage at its start, best and end."""
    lines = [
        Line(cells=("training loss", value(summary.first_loss), MISSING, MISSING, value(summary.last_loss))),
        *(Line(cells=_score_cells(score)) for score in summary.held_out),
    ]
    return TextTable(
        title=f"{STAGE_NAMES[summary.stage]}: {state_words(summary)}",
        note=cost_words(summary),
        header=("", "start", "best", "at step", "end"),
        lines=tuple(lines),
    )


def _score_cells(score: ScoreSummary) -> tuple[str, ...]:
    at = MISSING if score.best_step is None else count(score.best_step)
    return (f"held-out {score.name}", value(score.start), value(score.best), at, value(score.end))


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveView:
    """The curves of one stage side by side."""

    stage: Stage
    curves: Mapping[str, StageCurve]
    """By the run's label."""
    tasks: tuple[CurveTask, ...]
    """What all of them were measured on; means are over these."""

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]


def curve_views(runs: Sequence[ReportedRun]) -> tuple[list[CurveView], list[str]]:
    """Return the curves by stage, and what a reader must know of them."""
    views, notes = [], []
    for stage in Stage:
        curves = {run.label: run.curves[stage] for run in runs if stage in run.curves}
        if not curves:
            continue
        tasks = shared_curve_tasks(list(curves.values()))
        view = CurveView(stage=stage, curves=curves, tasks=tasks)
        every = dict.fromkeys(task.name for curve in curves.values() for task in curve.tasks)
        left_out = [name for name in every if name not in view.names]
        if not tasks:
            notes.append(f"{stage}: the curves of {', '.join(curves)} share no task on the same data: not compared")
            continue
        if left_out:
            notes.append(f"{stage}: not all runs were measured on {', '.join(left_out)}: left out of the curve")
        for label, curve in curves.items():
            gaps = [point.step for point in curve.points if point.mean(view.names) is None]
            if gaps:
                notes.append(f"{stage} of {label}: a task failed at step {', '.join(map(str, gaps))}: no mean there")
        views.append(view)
    return views, notes


def curve_table(view: CurveView) -> TextTable:
    """Return the mean score by step, the runs across; of a single run each task too."""
    columns: dict[str, dict[int, float | None]] = {}
    for label, curve in view.curves.items():
        name = label if len(view.curves) > 1 else "mean"
        columns[name] = {point.step: point.mean(view.names) for point in curve.points}
    if len(view.curves) == 1 and len(view.tasks) > 1:
        (curve,) = view.curves.values()
        for task in view.tasks:
            columns[task.name] = {point.step: point.scores.get(task.name) for point in curve.points}
    steps = sorted({step for column in columns.values() for step in column})
    best = {name: max((v for v in column.values() if v is not None), default=None) for name, column in columns.items()}
    lines = [
        Line(
            cells=(count(step), *(points(column.get(step)) for column in columns.values())),
            best=frozenset(
                at
                for at, (name, column) in enumerate(columns.items(), start=1)
                if column.get(step) is not None and column.get(step) == best[name]
            ),
        )
        for step in steps
    ]
    return TextTable(
        title=f"Score against steps: {STAGE_NAMES[view.stage]}",
        note=curve_note(view),
        header=("step", *columns),
        lines=tuple(lines),
    )


def curve_note(view: CurveView) -> str:
    """Return what the scores of a curve are."""
    tasks = ", ".join(f"{task.name} ({metric_name(task.metric)})" for task in view.tasks)
    what = tasks if len(view.tasks) == 1 else f"Mean of {tasks}"
    return f"{what}, times 100; the best of a column in bold. Step 0 is what the stage began with."
