"""How `searchctl eval report` runs: results from a folder, compared, to the terminal, a file format or a page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...training.evaluation.comparison import Comparison, compare
from ...training.evaluation.paper_scores import PaperComparison, beside
from ...training.evaluation.results import ResultStore
from ..errors import AppError
from ..pages.files import check_target, write_whole
from ..terminal.console import Terminal, harmless
from ..terminal.tables import Line, TextTable, show_table
from .formats import to_csv, to_json
from .report_tables import ablation_table, comparison_table, cost_table, interval_table, paper_tables

_MARKUP = re.compile(r"[\\|*`<]|(?<=\])\(|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would take for its own; brackets only where they would make a link, underscores only beside a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What to compare and how to show it."""

    results: Path
    baseline: str | None
    models: tuple[str, ...]
    """() is all, as for tasks."""
    tasks: tuple[str, ...]
    paper: bool
    form: Literal["table", "json", "csv", "md"]
    html: Path | None

    @property
    def command(self) -> str:
        """The command line that asks for this, for a reader who wants it again."""
        words = ["searchctl", "eval", "report", "--results", str(self.results)]
        for name, value in (("--baseline", self.baseline), ("--compare", "paper" if self.paper else None)):
            words += [] if value is None else [name, value]
        for name, values in (("--model", self.models), ("--task", self.tasks)):
            words += [word for value in values for word in (name, value)]
        return shlex.join([*words, *(["--html", str(self.html)] if self.html else [])])


def run_report(terminal: Terminal, request: ReportRequest) -> None:
    """Compare the results of a folder.

    Raises AppError where there are none and where the page cannot be written, EvaluationError for unknown names.
    """
    if request.html is not None:
        check_target("--html", request.html)
    folder = request.results.expanduser()
    scores = ResultStore(folder).all() if folder.is_dir() else []
    if not scores:
        why = "no result in it" if folder.is_dir() else "no such folder"
        raise AppError(
            f"{request.results}: {why}, expected those of `eval run`, or another --results DIR",
            next_command=("eval", "run"),
        )
    comparison = compare(scores, baseline=request.baseline, models=request.models, tasks=request.tasks)
    paper = beside(comparison.models.values(), comparison.scores) if request.paper else None
    if request.html is not None:
        from .page import page

        write_whole(request.html, page(comparison, paper, command=request.command).encode("utf-8"))
        terminal.say(f"wrote {request.html}")
    if request.form == "json":
        terminal.write(to_json(comparison, paper, results=str(request.results)))
    elif request.form == "csv":
        terminal.write(to_csv(comparison, paper))
    elif request.form == "md":
        terminal.write(to_markdown(comparison, paper))
    else:
        show(terminal, comparison, paper)
    if request.form in ("table", "csv"):
        for note in comparison.notes:
            terminal.notice(note)


def tables_of(comparison: Comparison, paper: PaperComparison | None) -> list[TextTable]:
    """Return all tables of a report in the order to read them."""
    tables = [comparison_table(comparison)]
    tables += [ablation_table(ablation) for ablation in comparison.ablations]
    tables.append(cost_table(comparison))
    return tables if paper is None else [*tables, *paper_tables(comparison, paper)]


def show(terminal: Terminal, comparison: Comparison, paper: PaperComparison | None) -> None:
    """Print the tables; one too wide for the terminal in parts, each with the first column again."""
    for number, table in enumerate(tables_of(comparison, paper)):
        if number:
            terminal.write("\n")
        show_table(terminal, table)


def to_markdown(comparison: Comparison, paper: PaperComparison | None) -> str:
    """Return all tables, notes and what was measured, as Markdown."""
    tables = tables_of(comparison, paper)
    intervals = interval_table(comparison)
    if intervals is not None:
        tables.insert(1, intervals)
    parts = [f"## {_md(table.title)}\n\n{_md_table(table)}\n\n{_md(table.note)}\n" for table in tables]
    if comparison.notes:
        parts.append("## Notes\n\n" + "".join(f"- {_md(note)}\n" for note in comparison.notes))
    scores = [score for row in comparison.scores.values() for score in row.values()]
    about = [
        f"{_md(label)}: {who.kind}, {_md(who.name)}, `{who.fingerprint}`" for label, who in comparison.models.items()
    ]
    about += [f"machine: {_md(machine)}" for machine in dict.fromkeys(score.machine for score in scores)]
    about += dict.fromkeys(", ".join(f"{_md(n)} {_md(v)}" for n, v in score.versions.items()) for score in scores)
    days = sorted(score.finished[:10] for score in scores)
    about.append(f"measured {days[0]}" + (f" to {days[-1]}" if days[-1] != days[0] else ""))
    parts.append("## What was measured\n\n" + "".join(f"- {line}\n" for line in about))
    return "\n".join(parts)


def _md_table(table: TextTable) -> str:
    rows = [table.header, tuple("---" if at == 0 else "---:" for at in range(len(table.header)))]
    text = "".join(f"| {' | '.join(_md(cell) if cell != '---' else cell for cell in row)} |\n" for row in rows[:1])
    text += f"| {' | '.join(rows[1])} |\n"
    for line in table.lines:
        cells = [
            f"**{_md(cell.strip())}**" if _strong(line, at) else _md(cell.strip()) for at, cell in enumerate(line.cells)
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text.rstrip("\n")


def _strong(line: Line, at: int) -> bool:
    return at in line.best or (line.kind == "heading" and at == 0)


def _md(text: str) -> str:
    """Return text that Markdown shows as it is."""
    flat = " ".join(harmless(text).split())
    return _MARKUP.sub(r"\\\g<0>", flat)
