"""The HTML page of an evaluation: one file that needs no network, in light and dark."""

from __future__ import annotations

import json

from ...training.evaluation.comparison import Cell, Comparison, Row
from ...training.evaluation.measurement import Json, TaskScore
from ...training.evaluation.paper_scores import PaperComparison
from ..pages.parts import document, figure, heading, legend_list, number_table, safe, text_table
from ..pages.svg import SERIES
from ..terminal.wording import MARK, MISSING, many, metric_name, points, pooling_name, signed
from .plots import ablation_bars, category_bars, forest, forest_rows, speed_labels, speed_scatter
from .report_tables import (
    ablation_table,
    cost_table,
    difference_words,
    interval_table,
    legend,
    mean_name,
    paper_tables,
    range_words,
)

_SIDE_BY_SIDE = 5
"""Models up to which a difference and its interval share a line."""


def page(comparison: Comparison, paper: PaperComparison | None, *, command: str) -> str:
    """Return the page. Raises EvaluationError without matplotlib."""
    sections = [
        ("scores", "Scores and differences", _scores(comparison)),
        ("categories", "Means by category", _categories(comparison)),
        ("forest", "Differences with intervals", _forest(comparison)),
        ("steps", "What each step brings", _steps(comparison)),
        ("speed", "Speed against score", _speed(comparison)),
        ("cost", "Cost, truncated and empty texts", number_table(cost_table(comparison), titled=False)),
        ("paper", "Beside the paper", _paper(comparison, paper)),
        ("notes", "Notes", _notes(comparison)),
        ("provenance", "Provenance", _provenance(comparison)),
    ]
    return document("Encoder evaluation", _head(comparison, command), sections)


def _scores_of(comparison: Comparison) -> list[TaskScore]:
    return [score for row in comparison.scores.values() for score in row.values()]


def _head(comparison: Comparison, command: str) -> str:
    scores = _scores_of(comparison)
    days = sorted({score.finished[:10] for score in scores})
    machines = dict.fromkeys(score.machine for score in scores)
    versions = dict.fromkeys(", ".join(f"{n} {v}" for n, v in score.versions.items()) for score in scores)
    facts = [
        ("measured", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"),
        ("machine", "; ".join(machines)),
        ("versions", "; ".join(versions)),
        ("baseline", comparison.baseline),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{safe(value)}</dd>" for name, value in facts)
    what = f"{many(len(comparison.models), 'model')} on {many(len(comparison.scores), 'task')}"
    return (
        f"{heading('Encoder evaluation', f'{what}, scores times 100')}{_tiles(comparison)}"
        f"<dl>{lines}<dt>command</dt><dd><code>{safe(command)}</code></dd></dl>"
    )


def _tiles(comparison: Comparison) -> str:
    """Return one tile a model: its mean over all tasks and how often it differs from the baseline for sure."""
    tiles = []
    for number, (label, cost) in enumerate(comparison.costs.items()):
        cell = comparison.overall.cells.get(label)
        best = "best " if label in comparison.overall.best else ""
        words = f"{best}mean of {many(len(comparison.overall.tasks), 'task')}"
        if cell is None:
            words = f"no mean: {many(cost.tasks, 'task')} only"
        difference = f" <small>{difference_words(cell.difference)}</small>" if cell and cell.difference else ""
        tiles.append(
            f'<li style="--swatch:var(--s{number % len(SERIES)})"><b>{safe(label)}</b>'
            f'<span class="big">{points(cell.value if cell else None)}{difference}</span>'
            f"<span>{words}</span><span>{_tally(comparison, label)}</span></li>"
        )
    about = "Better and worse: the tasks on which the 95 % interval of the difference to the baseline excludes 0."
    return f'<ul class="tiles">{"".join(tiles)}</ul><p class="note">{about if len(tiles) > 1 else ""}</p>'


def _tally(comparison: Comparison, label: str) -> str:
    if label == comparison.baseline:
        return "the baseline"
    rows = [row for group in comparison.groups for row in group.rows if label in row.cells]
    found = [row.cells[label].difference for row in rows]
    sure = [one for one in found if one is not None and one.significant is not None]
    up = sum(bool(one.significant) and one.value > 0 for one in sure)
    down = sum(bool(one.significant) and one.value < 0 for one in sure)
    return f"{up} of {len(sure)} better, {down} worse" if sure else "no intervals"


def _scores(comparison: Comparison) -> str:
    labels = list(comparison.models)
    heads = "".join(
        f'<th scope="col"><button type="button" data-sort>{safe(label)}</button></th>' for label in ("task", *labels)
    )
    bodies = []
    for group in comparison.groups:
        metrics = dict.fromkeys(metric_name(row.metric) for row in group.rows)
        lines = [
            f'<tr class="heading"><th scope="rowgroup" colspan="{len(labels) + 1}">{safe(group.category)} '
            f"<span>{safe(', '.join(metrics))}</span></th></tr>"
        ]
        lines += [_line(comparison, row, row.name, "task") for row in group.rows]
        if len(group.rows) > 1:
            lines.append(_line(comparison, group.mean, mean_name(group.mean, len(group.rows)), "mean"))
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    if len(comparison.groups) > 1:
        name = f"all tasks: {mean_name(comparison.overall, len(comparison.scores))}"
        bodies.append(f"<tbody>{_line(comparison, comparison.overall, name, 'mean')}</tbody>")
    many = ' class="many"' if len(labels) > _SIDE_BY_SIDE else ""
    intervals = interval_table(comparison)
    more = (
        ""
        if intervals is None
        else f"<details><summary>{safe(intervals.title)}</summary>{number_table(intervals, titled=False)}"
    )
    return (
        f'<p class="note">{safe(legend(comparison))} The best is underlined too. Click a heading to sort.</p>'
        f'<div class="scroll" tabindex="0"><table{many}><caption class="hidden">Scores and differences</caption>'
        f"<thead><tr>{heads}</tr></thead>{''.join(bodies)}</table></div>{more}{'</details>' if more else ''}"
    )


def _line(comparison: Comparison, row: Row, name: str, kind: str) -> str:
    cells = "".join(_cell(row.cells.get(label), label in row.best) for label in comparison.models)
    return f'<tr class="{kind}"><th scope="row" data-value="{safe(name)}">{safe(name)}</th>{cells}</tr>'


def _cell(cell: Cell | None, best: bool) -> str:
    if cell is None:
        return f'<td><span class="hidden">not measured</span><span aria-hidden="true">{MISSING}</span></td>'
    value = f'<span class="best">{points(cell.value)}</span>' if best else points(cell.value)
    hint = f' title="{range_words(cell.interval)}"' if cell.interval else ""
    words = ""
    if cell.difference is not None:
        sure = "" if not cell.difference.significant else " up" if cell.difference.value > 0 else " down"
        found = cell.difference.interval
        mark = f" {MARK}" if sure else ""
        interval = f' <span class="range">[{signed(found.low)}, {signed(found.high)}]</span>' if found else ""
        words = f'<span class="diff{sure}">{signed(cell.difference.value)}{mark}{interval}</span>'
    return f'<td data-value="{cell.value:.6f}"{hint}>{value}{words}</td>'


def _categories(comparison: Comparison) -> str:
    caption = (
        "Each bar is the mean over the tasks of a category that all who do the category were measured on. "
        "Thin lines: 95 % intervals where every task has one; a dash: not measured."
    )
    return legend_list(list(comparison.models)) + figure(category_bars(comparison), caption)


def _forest(comparison: Comparison) -> str:
    if len(comparison.models) < 2:
        return ""
    rows = forest_rows(comparison)
    if not rows:
        return "<p>No task here has items to resample: only retrieval and STS have.</p>"
    caption = (
        "Full marks: the interval excludes 0. Tasks without items to resample (clustering, classification, pairs ...) "
        "have no interval and are not drawn. One test at a time: of twenty true zeros about one is marked."
    )
    return legend_list(list(comparison.models), markers=True, without=[comparison.baseline]) + figure(
        forest(comparison), caption
    )


def _steps(comparison: Comparison) -> str:
    parts = []
    for number, ablation in enumerate(comparison.ablations):
        names = [pooling_name(pooling) for pooling in ablation.poolings]
        table = ablation_table(ablation)
        plot = figure(ablation_bars(ablation, key=f"steps{number}"), table.note)
        parts.append(
            f"<h3>{safe(ablation.base)}</h3>{legend_list(names)}{plot}{number_table(table, titled=False, noted=False)}"
        )
    return "".join(parts)


def _speed(comparison: Comparison) -> str:
    labels = speed_labels(comparison)
    if not labels:
        return ""
    caption = "Up is better, right is faster. Speeds of different machines, or of a busy one, do not compare."
    without = [label for label in comparison.models if label not in labels]
    if without:
        caption += f" Not drawn, for lack of a count of tokens or of a mean over the same tasks: {', '.join(without)}."
    return figure(speed_scatter(comparison), caption)


def _paper(comparison: Comparison, paper: PaperComparison | None) -> str:
    return "" if paper is None else "".join(number_table(table) for table in paper_tables(comparison, paper))


def _notes(comparison: Comparison) -> str:
    if not comparison.notes:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{safe(note)}</li>" for note in comparison.notes)}</ul>'


def _provenance(comparison: Comparison) -> str:
    models = [
        (label, who.kind, who.name, who.fingerprint, ", ".join(f"{n} {_plain(v)}" for n, v in who.details.items()))
        for label, who in comparison.models.items()
    ]
    tasks: dict[tuple[str, ...], list[str]] = {}
    for score in _scores_of(comparison):
        settings = {name: value for name, value in score.settings.items() if name != "instructions"}
        row = (
            score.task,
            score.task_type,
            metric_name(score.metric),
            score.data,
            *_instructions(score),
            _plain(settings),
        )
        tasks.setdefault(row, []).append(score.finished[:16].replace("T", " "))
    return (
        text_table("Models", ("model", "kind", "name", "fingerprint", "details"), models)
        + text_table(
            "Tasks",
            ("task", "category", "metric", "data", "query instruction", "document instruction", "settings", "measured"),
            [(*row, f"{min(times)} to {max(times)}") for row, times in tasks.items()],
        )
    )  # fmt: skip


def _instructions(score: TaskScore) -> tuple[str, str]:
    """Return what each side was told: of the task's instructions, or of what the model has in their place."""
    said = score.settings.get("instructions")
    if score.who.kind == "sentence-transformers":
        return "its own prompts, if any", "its own prompts, if any"
    if not isinstance(said, dict):  # bm25 and lexical search read none
        return "none", "none"
    query, document = (
        "the model's own" if one is None else str(one) or "none" for one in (said.get("query"), said.get("document"))
    )
    return query, document


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
