"""How `searchctl eval word` runs: one pass of each step over the data, a classifier per task, a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ...encoder.config import Runtime
from ...training.probing.word_data import WordData, WordTask, load_words
from ...training.probing.word_steps import TABLE_4, ProbedStep, probed_steps
from ...training.recipe import Step
from ..collection.encoder_choice import EncoderChoice, LazyEncoder
from ..collection.talk import talk_to
from ..options import ReportFormat, cache_folder
from ..terminal.console import Terminal, printable
from ..terminal.progress import pull_bar
from ..terminal.wording import duration, size

if TYPE_CHECKING:
    from ...encoder.models.cache import PullProgress
    from ...encoder.transformer import TransformerEncoder
    from ...training.probing.word_probe import StatesKey, WordResult
    from ...training.probing.word_states import StateProgress, WordStates


SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WordRow:
    """One step and its result on each task."""

    step: ProbedStep
    results: Mapping[WordTask, WordResult]


def to_json(rows: Sequence[WordRow], tasks: Sequence[WordTask], *, data: Path, digest: str, paper: bool) -> str:
    """Return the JSON document of the command; accuracies are 0 to 1."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "data": str(data),
        "data_digest": digest,
        "tasks": [task.value for task in tasks],
        "rows": [
            {
                "step": row.step.step.value,
                "label": row.step.label,
                "model": row.step.config.model,
                "alignment": row.step.alignment.value,
                "tasks": {task.value: _entry(row, rows[0], task, paper=paper) for task in tasks},
            }
            for row in rows
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _entry(row: WordRow, first: WordRow, task: WordTask, *, paper: bool) -> dict[str, Any]:
    result = row.results[task]
    entry: dict[str, Any] = {
        "accuracy": result.accuracy,
        "low": result.low,
        "high": result.high,
        "dev_accuracy": result.dev_accuracy,
        "words": sum(result.words),
        "left_out": dict(result.left_out),
        "difference": None,
        "fingerprint": result.states.fingerprint,
        "max_tokens": result.states.max_tokens,
        "precision": result.states.precision,
        "settings": dict(result.settings),
        "seconds": result.seconds,
        "finished": result.finished,
    }
    if row is not first:
        value, low, high = _difference(row, first, task)
        entry["difference"] = {"from": first.step.step.value, "value": value, "low": low, "high": high}
    if paper:
        entry["paper"] = {base: round(number / 100, 4) for base, number in _published(row, task).items()} or None
    return entry


def show_table(terminal: Terminal, rows: Sequence[WordRow], tasks: Sequence[WordTask], *, paper: bool) -> None:
    """Print accuracies times 100 as the paper does, each with its 95 % interval, and what each step changes."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for task in tasks:
        table.add_column(task.value, justify="right", no_wrap=True)
        if paper:
            table.add_column(f"{task.value}, paper", justify="right", style="dim", no_wrap=True)
    for row in rows:
        cells = [Text(row.step.label, style="bold")]
        for task in tasks:
            result = row.results[task]
            cells.append(
                Text.assemble(
                    f"{result.accuracy * 100:.2f}", (f" [{result.low * 100:.1f}, {result.high * 100:.1f}]", "dim")
                )
            )
            if paper:
                cells.append(Text(" / ".join(f"{value:.2f}" for value in _published(row, task).values()) or "-"))
        table.add_row(*cells)
    terminal.show(table)
    for row in rows[1:]:
        terminal.say(_against(row, rows[0], tasks))
    result = next(iter(rows[0].results.values()))
    said = f"{printable(result.model)}: accuracy on {sum(result.words):,} words of eng.testb, [95 % interval]"
    bases = " / ".join(next(iter(TABLE_4.values())))
    terminal.say(Text(f"{said}; paper: Table 4, {bases}" if paper else said, style="dim"))


def _against(row: WordRow, first: WordRow, tasks: Sequence[WordTask]) -> Text:
    """Return e.g. "Bi - Uni: chunk -9.60 [-9.9, -9.3]"; what an interval has on one side of zero is coloured."""
    parts: list[Text] = []
    for task in tasks:
        value, low, high = (100 * number for number in _difference(row, first, task))
        style = "green" if low > 0 else "red" if high < 0 else ""
        parts.append(Text.assemble(f"{task.value} ", (f"{value:+.2f} [{low:+.1f}, {high:+.1f}]", style)))
    return Text(f"{row.step.label} - {first.step.label}: ") + Text(", ").join(parts)


def _difference(row: WordRow, first: WordRow, task: WordTask) -> tuple[float, float, float]:
    from ...training.probing.word_probe import accuracy_interval

    ours, theirs = row.results[task], first.results[task]
    interval = accuracy_interval(ours.test, theirs.test)
    return ours.accuracy - theirs.accuracy, interval.low, interval.high


def _published(row: WordRow, task: WordTask) -> dict[str, float]:
    """Return the paper's number by base, {} for a step that it has not measured."""
    return {base: of[task] for base, of in TABLE_4.get(row.step.label, {}).items()}


PRECISIONS = {"torch.float32": "fp32", "torch.bfloat16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WordRequest:
    """What to measure."""

    data: Path
    tasks: tuple[WordTask, ...]
    steps: tuple[Step, ...]
    """() is every step that the model has."""
    results: Path
    training_steps: int | None
    """None is the classifier's own default."""
    paper: bool
    """Whether to show the paper's numbers."""


def run_word(terminal: Terminal, request: WordRequest, choice: EncoderChoice, form: ReportFormat) -> None:
    """Measure and print. What is there already is read back; what is computed is kept at once."""
    # No shell expands what comes from the environment.
    request = replace(request, data=request.data.expanduser(), results=request.results.expanduser())
    # Before the model: a mistake in the files shows at once.
    data = load_words(request.data)
    began = time.monotonic()
    with ExitStack() as stack:
        pulling = stack.enter_context(pull_bar(terminal, choice.model or "the model"))
        steps = probed_steps(choice.config(), request.steps, cache=cache_folder(), progress=pulling)
        runner = _Runner(terminal, request, data, pulling)
        try:
            rows = [WordRow(step=step, results=runner.results(step)) for step in steps]
        except KeyboardInterrupt:
            terminal.say("what is computed so far is kept: run the same command again to go on")
            raise
    if form is ReportFormat.JSON:
        terminal.write(to_json(rows, request.tasks, data=request.data, digest=data.digest, paper=request.paper))
    else:
        show_table(terminal, rows, request.tasks, paper=request.paper)
    _tell_left_out(terminal, rows, data)
    if runner.kept:
        terminal.say(f"token states kept in {runner.folder} for other tasks ({size(runner.kept)} new): remove at will")
    terminal.detail(duration(time.monotonic() - began))


class _Runner:
    """Measures steps one after the other; only one model is in memory at a time."""

    def __init__(
        self,
        terminal: Terminal,
        request: WordRequest,
        data: WordData,
        pulling: Callable[[PullProgress], None],
    ) -> None:
        from ...training.probing.word_probe import ProbeSettings

        self._terminal = terminal
        self._request = request
        self._data = data
        self._pulling = pulling
        self._settings = ProbeSettings()
        if request.training_steps is not None:
            self._settings = replace(self._settings, steps=request.training_steps)
        self.kept = 0
        """Bytes of token states written by this run."""
        self.folder = Path()

    def results(self, step: ProbedStep) -> Mapping[WordTask, WordResult]:
        """Return the result of each task, computed where it is not there."""
        from ...encoder.load import choose_device, choose_dtype
        from ...training.probing.word_probe import find_result

        terminal = self._terminal
        lazy = LazyEncoder(
            # Only torch gives the states of single tokens.
            replace(step.config, runtime=Runtime.TORCH),
            replace(
                talk_to(terminal, self._pulling),
                loading=lambda name: terminal.waiting(f"{step.label}: loading {name}"),
            ),
        )
        lazy.info()
        dtype, _ = choose_dtype(step.config.precision, choose_device(step.config.device))
        key = self._key(step, lazy, str(dtype))
        found: dict[WordTask, WordResult] = {}
        for task in self._request.tasks:
            result = find_result(self._path(step, task, key))
            if result is not None:
                terminal.detail(f"{step.label}, {task.value}: there already")
                found[task] = replace(result, label=step.label, model=step.config.model)
        missing = [task for task in self._request.tasks if task not in found]
        if missing:
            states, key = self._states(step, lazy, key)
            for task in missing:
                found[task] = self._probe(step, task, key, states)
        return found

    def _key(self, step: ProbedStep, lazy: LazyEncoder, dtype: str) -> StatesKey:
        from ...training.probing.word_probe import StatesKey

        info = lazy.info()
        return StatesKey(
            fingerprint=info.fingerprint,
            alignment=step.alignment,
            data=self._data.digest,
            max_tokens=info.max_tokens,
            precision=PRECISIONS[dtype],
        )

    def _path(self, step: ProbedStep, task: WordTask, key: StatesKey) -> Path:
        from ...training.probing.word_probe import result_path

        return result_path(
            self._request.results,
            model=step.config.model,
            label=step.label,
            task=task,
            states=key,
            settings=asdict(self._settings),
        )

    def _states(
        self, step: ProbedStep, lazy: LazyEncoder, key: StatesKey
    ) -> tuple[Mapping[str, WordStates], StatesKey]:
        """Return the states, and the key of what they were computed in: a full GPU may have sent them to the CPU."""
        from ...training.probing.word_states import compute_states, open_states

        states = open_states(key.folder(self._request.results), self._data)
        if states is not None:
            return states, key
        encoder = _transformer(lazy)
        self._tell_start(encoder)
        key = self._key(step, lazy, str(encoder.model.dtype))
        folder = key.folder(self._request.results)
        self.folder = folder.parent
        before = _bytes(folder)
        with self._terminal.progress(f"{step.label}: reading") as update:
            states = compute_states(
                encoder,
                self._data,
                step.alignment,
                folder,
                progress=lambda event: update(*_words(event)),
            )
        self.kept += _bytes(folder) - before
        return states, key

    def _tell_start(self, encoder: TransformerEncoder) -> None:
        from ...training.probing.word_states import start_token

        start = start_token(encoder)
        if start is not None:
            token = encoder.tokenizer.id_to_token(start)
            self._terminal.detail(f"{encoder.info.name}: {token} is put before each sentence, as BOS is in the paper")

    def _probe(self, step: ProbedStep, task: WordTask, key: StatesKey, states: Mapping[str, WordStates]) -> WordResult:
        from ...training.evaluation.measurement import describe_machine, describe_versions
        from ...training.probing.word_probe import WordResult, accuracy_interval, run_probe, save_result

        began = time.monotonic()
        steps = self._settings.steps
        with self._terminal.progress(f"{step.label}: learning {task.value}") as update:
            scores = run_probe(
                states,
                self._data,
                task,
                self._settings,
                progress=lambda done: update(done / steps, _learning(done, steps, time.monotonic() - began)),
            )
        test = scores["test"]
        interval = accuracy_interval(test)
        result = WordResult(
            task=task,
            label=step.label,
            model=step.config.model,
            states=key,
            settings=asdict(self._settings),
            accuracy=test.accuracy,
            low=interval.low,
            high=interval.high,
            dev_accuracy=scores["dev"].accuracy,
            left_out={split: of.left_out for split, of in states.items()},
            correct=tuple(test.correct.tolist()),
            words=tuple(test.words.tolist()),
            seconds=round(time.monotonic() - began, 3),
            versions=describe_versions(),
            machine=describe_machine(),
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        save_result(self._path(step, task, key), result)
        return result


def _transformer(lazy: LazyEncoder) -> TransformerEncoder:
    from ...encoder.transformer import TransformerEncoder

    encoder = lazy.open()
    assert isinstance(encoder, TransformerEncoder)
    return encoder


def _words(event: StateProgress) -> tuple[float, str]:
    words = f"{event.tokens_done:,} of {event.tokens_total:,} tokens, {event.tokens_per_s:,.0f} tokens/s"
    if event.remaining_s is not None:
        words += f", {duration(event.remaining_s)} left"
    return event.tokens_done / event.tokens_total, words


def _learning(done: int, steps: int, seconds: float) -> str:
    return f"{done:,} of {steps:,} steps, {duration(seconds * (steps - done) / done)} left"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.npy"))


def _tell_left_out(terminal: Terminal, rows: Sequence[WordRow], data: WordData) -> None:
    """Say how many words no step could be scored on."""
    worst = max((sum(result.left_out.values()) for row in rows for result in row.results.values()), default=0)
    if worst:
        total = sum(len(sentence.words) for sentences in data.splits.values() for sentence in sentences)
        limit = max(result.states.max_tokens for row in rows for result in row.results.values())
        terminal.notice(
            f"{worst:,} of {total:,} words take no part, in training or in the scores: they stand beyond {limit:,} "
            "tokens of their sentence, or have no token of their own. --max-tokens sets the limit"
        )
