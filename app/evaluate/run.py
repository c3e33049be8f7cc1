"""How `searchctl eval run` runs: models and tasks from what was typed, the evaluation, and its table."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from ...training.data.local_data import LAYOUT
from ...training.errors import DataError
from ...training.evaluation.instructions import InstructionTable
from ...training.evaluation.model_specs import MODEL, parse_model, require_unique, split_spec
from ...training.evaluation.result_selection import first_of_equals
from ...training.evaluation.results import ResultStore
from ...training.evaluation.runner import evaluate, settings_for, worker
from ...training.evaluation.tasks import find_tasks
from ..collection.encoder_choice import EncoderChoice
from ..collection.paths import shown_path
from ..collection.talk import Talk
from ..errors import AppError, ExitCode
from ..options import DEFAULT_RESULTS, ReportFormat, SearchMode, cache_folder
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.wording import duration, size
from .progress import EvalView, hushed
from .score_table import EvalOutcome, for_equals, outcome_to_json, score_table

if TYPE_CHECKING:
    from ...encoder.config import EncoderConfig
    from ...training.evaluation.measurement import EvalTask, EvaluatedModel, Identity


def named_tasks(
    terminal: Terminal, names: Sequence[str], *, suite: str | None, local: Path | None, table: InstructionTable
) -> list[EvalTask]:
    """Return what `find_tasks` returns. Raises AppError for a --local that cannot be read."""
    local = None if local is None else local.expanduser()  # no shell expands what comes from the environment
    with terminal.waiting("reading the tasks"), hushed(terminal.detail):
        try:
            return find_tasks(names, suite=suite, local=local, table=table)
        except DataError as error:
            if error.path != local:
                raise
            raise AppError(f"--local {error}") from error
        except OSError as error:
            if local is None or not str(error.filename).startswith(str(local)):
                raise
            place = "" if str(error.filename) == str(local) else f"{error.filename}: "
            expected = f"Expected a folder that can be read, with {LAYOUT}"
            raise AppError(f"--local {local}: {place}{error.strerror}. {expected}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """What to evaluate, on what, and where scores are kept."""

    names: tuple[str, ...]
    suite: str | None
    baselines: tuple[str, ...]
    """Specs, each as `parse_model` or a search mode has them, with or without "label="."""
    only_baselines: bool
    local: Path | None
    instructions: Path | None
    no_instructions: bool
    results: Path
    again: bool
    debug: bool
    """Show the traceback of a task that fails."""


def run_eval(terminal: Terminal, request: EvalRequest, choice: EncoderChoice, form: ReportFormat) -> ExitCode:
    """Evaluate, print the table and return how it ended: INCOMPLETE when a task failed.

    Raises AppError and TrainingError for what cannot be evaluated at all.
    """
    began = time.monotonic()
    tasks = _tasks(terminal, request)
    store = ResultStore(request.results.expanduser())
    store.prepare()
    models, identities = _models(terminal, request, choice.config())
    same_as = _equals(terminal, identities)
    view = EvalView(
        terminal,
        labels=[who.label for who in identities if who.label not in same_as],
        tasks=[task.name for task in tasks],
        debug=request.debug,
    )
    try:
        with view.live():
            scores = evaluate(models, tasks, store, told=view.told, again=request.again)
    except KeyboardInterrupt:
        terminal.say(_kept(view, store.folder))
        raise
    outcome = EvalOutcome(
        folder=store.folder,
        models=identities,
        tasks=tuple(tasks),
        scores=tuple(scores),
        computed=frozenset(view.computed),
        not_applicable=tuple(view.not_applicable),
        failed=tuple(view.failed),
        seconds=time.monotonic() - began,
    )
    if form is ReportFormat.JSON:
        document = outcome_to_json(for_equals(outcome, same_as))
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    else:
        terminal.show(score_table(for_equals(outcome, same_as)))
    _summary(terminal, outcome)
    _hidden(terminal, view)
    _left_over(terminal, store, outcome)
    return ExitCode.INCOMPLETE if outcome.failed else ExitCode.OK


def _tasks(terminal: Terminal, request: EvalRequest) -> list[EvalTask]:
    if request.instructions is not None and request.no_instructions:
        raise AppError("--instructions and --no-instructions contradict each other: expected one of them")
    table = InstructionTable.none() if request.no_instructions else InstructionTable.load(request.instructions)
    tasks = named_tasks(terminal, request.names, suite=request.suite, local=request.local, table=table)
    if unused := table.unused([task.name for task in tasks]):
        terminal.notice(f"--instructions names what is no task of this run and changes nothing: {', '.join(unused)}")
    return tasks


def _models(
    terminal: Terminal, request: EvalRequest, base: EncoderConfig
) -> tuple[list[EvaluatedModel], tuple[Identity, ...]]:
    """Return the model and its baselines, and who they are: models are fetched here, and large files digested.

    Raises AppError or EvaluationError for a wrong spec, and for two with one label.
    """
    if request.only_baselines and not request.baselines:
        raise AppError("--only-baselines leaves nobody to measure: expected --baseline SPEC beside it")
    specs = request.baselines if request.only_baselines else (MODEL, *request.baselines)
    with pull_bar(terminal, base.model) as pulling, terminal.waiting("identifying the models"):
        talk = Talk(pulling=pulling, cache=cache_folder())
        made = [_model(spec, base, talk) for spec in specs]
        require_unique([label for label, _ in made])
        identities = tuple(model.identify() for _, model in made)
    return [model for _, model in made], identities


def _equals(terminal: Terminal, identities: Sequence[Identity]) -> dict[str, str]:
    """Return the label that each model equal to an earlier one is measured under, and say so."""
    same_as = first_of_equals(identities)
    kinds = {who.label: "encoder" if who.kind == "sentence-transformers" else who.kind for who in identities}
    for label, first in same_as.items():
        terminal.notice(f"{label} is the same {kinds[label]} as {first}: measured once")
    return same_as


def _model(spec: str, base: EncoderConfig, talk: Talk) -> tuple[str, EvaluatedModel]:
    """Return label and model of one spec."""
    label, name = split_spec(spec)
    if name in list(SearchMode):
        # Not with the others in `parse_model`: this is the room where an encoder meets an index.
        from .search_model import search_model

        return label or name, search_model(SearchMode(name), config=base, label=label or name, talk=talk)
    made = parse_model(spec, base=base, cache=talk.cache, progress=talk.pulling, others=tuple(SearchMode))
    return made.label, made


def _kept(view: EvalView, folder: Path) -> str:
    """Return what an interrupted run leaves."""
    count = len(view.computed)
    words = f"{count} new {'score is' if count == 1 else 'scores are'} kept in {shown_path(folder)}"
    if view.under_way is not None:
        words += f", and of {view.under_way.task} with {view.under_way.label} what is encoded so far"
    return f"{words}: run the same command again to go on"


def _summary(terminal: Terminal, outcome: EvalOutcome) -> None:
    """Say what was done, where it is, and what to type next."""
    counts = {
        "computed": (len(outcome.computed), "green"),
        "reused": (len(outcome.scores) - len(outcome.computed), ""),
        "not applicable": (len(outcome.not_applicable), ""),
        "failed": (len(outcome.failed), "red"),
    }
    shown = [Text(f"{number:,} {word}", style=style) for word, (number, style) in counts.items() if number]
    terminal.say(Text("scores: ") + Text(", ").join(shown) + Text(f"; {duration(outcome.seconds)}", style="dim"))
    if outcome.failed:
        terminal.say("the same command again computes what failed and reads the rest")
    option = "" if outcome.folder == DEFAULT_RESULTS else f" --results {shlex.quote(str(outcome.folder))}"
    terminal.say(
        Text(
            f"kept in {shown_path(outcome.folder)}; compare and plot with `searchctl eval report{option}`", style="dim"
        )
    )


def _left_over(terminal: Terminal, store: ResultStore, outcome: EvalOutcome) -> None:
    """Say what other runs began in the folder and did not finish: nothing else ever names it."""
    pairs = [(who, task) for who in outcome.models for task in outcome.tasks]
    unscored = [(who, task) for who, task in pairs if (who.label, task.name) not in outcome.grid]
    folders = store.left_over((worker(who), task, settings_for(who, task)) for who, task in unscored)
    if folders:
        count = "1 unfinished task" if len(folders) == 1 else f"{len(folders):,} unfinished tasks"
        taken = size(sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()))
        terminal.notice(
            f"{shown_path(folders[0].parent)} holds {count} of other runs, {taken}: the command that began one goes on "
            "with it; else remove them at will"
        )


def _hidden(terminal: Terminal, view: EvalView) -> None:
    """Say how much libraries had to say that was not shown."""
    if view.messages and not terminal.verbose:
        count = "1 message" if view.messages == 1 else f"{view.messages:,} messages"
        them = "it" if view.messages == 1 else "them"
        terminal.say(Text(f"{count} of libraries, warnings as a rule: -v shows {them}", style="dim"))
