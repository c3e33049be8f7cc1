"""The result of `searchctl eval word`, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..training.probing.word_data import WordTask
from ..training.probing.word_steps import TABLE_4, ProbedStep
from .console import Terminal, printable

if TYPE_CHECKING:
    from ..training.probing.word_probe import WordResult

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
    from ..training.probing.word_probe import accuracy_interval

    ours, theirs = row.results[task], first.results[task]
    interval = accuracy_interval(ours.test, theirs.test)
    return ours.accuracy - theirs.accuracy, interval.low, interval.high


def _published(row: WordRow, task: WordTask) -> dict[str, float]:
    """Return the paper's number by base, {} for a step that it has not measured."""
    return {base: of[task] for base, of in TABLE_4.get(row.step.label, {}).items()}
