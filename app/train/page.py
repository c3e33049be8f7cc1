"""The HTML page of training runs: one file that needs no network, in light and dark."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...training.chain.run_log import ScoreSummary, StageSummary, loss_curve, smoothing_span
from ...training.recipe import Stage
from ..pages.line_plots import MOST_POINTS, Plot, as_svg
from ..pages.parts import document, figure, heading, legend_list, number_table, safe, text_table
from ..pages.svg import SERIES
from ..terminal.wording import many
from .plots import curve_plots, stage_plots
from .view import (
    DATA_HEADER,
    STAGE_NAMES,
    CurveView,
    ReportedRun,
    cost_words,
    curve_note,
    curve_table,
    curve_views,
    stage_table,
    stages_of,
    state_words,
    value,
)


def page(runs: Sequence[ReportedRun], *, command: str) -> str:
    """Return the page. Raises EvaluationError without matplotlib."""
    views, curve_notes = curve_views(runs)
    sections = [(stage.value, STAGE_NAMES[stage], _stage(runs, stage)) for stage in stages_of(runs)]
    sections.append(("curve", "Score against steps", "".join(_curve(runs, view) for view in views)))
    sections.append(("notes", "Notes", _notes(runs, curve_notes)))
    sections.append(("provenance", "Made from", "".join(_made_from(run, len(runs) > 1) for run in runs)))
    title = f"Training of {' and '.join(run.label for run in runs)}"
    return document(title, _head(title, runs, command), sections)


def _head(title: str, runs: Sequence[ReportedRun], command: str) -> str:
    alone = len(runs) == 1
    lead = _lead(runs[0]) if alone else f"{many(len(runs), 'run')} over each other"
    each = "" if alone else "".join(f"<dt>{safe(run.label)}</dt><dd>{safe(_lead(run))}</dd>" for run in runs)
    tiles = "".join(_tile(run, number, summary, alone) for number, run in enumerate(runs) for summary in run.summaries)
    return (
        f'{heading(title, lead)}<ul class="tiles wide">{tiles}</ul>'
        f"<dl>{each}<dt>this page</dt><dd><code>{safe(command)}</code></dd></dl>"
    )


def _lead(run: ReportedRun) -> str:
    """Return base and recipe of a run, and until when its log goes."""
    made = run.provenance
    words = [f"{made.facts['base']}, recipe {made.facts['recipe']}"] if made is not None else []
    return ", ".join([*words, f"log last written {run.log.written:%Y-%m-%d %H:%M}"])


def _tile(run: ReportedRun, number: int, summary: StageSummary, alone: bool) -> str:
    """Return the card of a stage: the held-out loss at its end, and what it took."""
    name = STAGE_NAMES[summary.stage] if alone else f"{run.label}: {STAGE_NAMES[summary.stage]}"
    loss = next((score for score in summary.held_out if score.name == "loss"), None)
    start = "" if loss is None else f", from {value(loss.start)}"
    others = "".join(f"<span>{safe(_way(score))}</span>" for score in summary.held_out if score.name != "loss")
    return (
        f'<li style="--swatch:var(--s{number % len(SERIES)})"><b>{safe(name)}</b>'
        f'<span class="big">{value(loss.end if loss else None)}</span><span>held-out loss{start}</span>{others}'
        f"<span>{safe(state_words(summary))}</span><span>{safe(cost_words(summary))}</span></li>"
    )


def _way(score: ScoreSummary) -> str:
    return f"{score.name} {value(score.start)} \N{RIGHTWARDS ARROW} {value(score.end)}"


def _stage(runs: Sequence[ReportedRun], stage: Stage) -> str:
    alone = len(runs) == 1
    with_stage = [run for run in runs if run.stage(stage) is not None]
    parts = [] if alone else [_legend(runs, [run.label for run in with_stage])]
    parts += [figure(as_svg(plot), _caption(with_stage, stage, plot)) for plot in stage_plots(runs, stage)]
    for run in with_stage:
        (summary,) = [summary for summary in run.summaries if summary.stage is stage]
        table = stage_table(summary)
        if not alone:
            parts.append(f"<h3>{safe(run.label)}</h3>")
        parts.append(f'<p class="note">{safe(f"{state_words(summary)}: {table.note}")}.</p>')
        parts.append(number_table(table, titled=False, noted=False))
    return "".join(parts)


def _legend(runs: Sequence[ReportedRun], drawn: Collection[str]) -> str:
    labels = [run.label for run in runs]
    return legend_list(labels, markers=True, without=[label for label in labels if label not in drawn])


def _caption(runs: Sequence[ReportedRun], stage: Stage, plot: Plot) -> str:
    counts = [len(log.lines) for run in runs if (log := run.stage(stage)) is not None]
    spans = " or ".join(str(span) for span in dict.fromkeys(smoothing_span(count) for count in counts))
    thin = f" Of more than {MOST_POINTS:,} steps the highest and lowest of equal parts are drawn."
    cut = thin if max(counts) > MOST_POINTS else ""
    if plot.name.endswith("-loss"):
        return f"{plot.title}. The smooth line is a moving average over about {spans} steps.{cut}{_same(runs, stage)}"
    if plot.name.endswith("-training"):
        return f"{plot.title}. Thin lines are single steps; the gradient's norm is that before clipping.{cut}"
    return f"{plot.title}: on texts and pairs that are not trained on."


def _same(runs: Sequence[ReportedRun], stage: Stage) -> str:
    """Return words for runs whose line lies under another's, as where they differ in a later stage only."""
    seen: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for run in runs:
        log = run.stage(stage)
        if log is not None:
            seen.setdefault(tuple(loss_curve(log)), []).append(run.label)
    equal = [" and ".join(labels) for labels in seen.values() if len(labels) > 1]
    return "".join(f" {labels} are the same here, loss by loss: one line covers the other." for labels in equal)


def _curve(runs: Sequence[ReportedRun], view: CurveView) -> str:
    legend = "" if len(runs) == 1 else _legend(runs, view.curves)
    first, *others = curve_plots(runs, view)
    parts = [
        f"<h3>{STAGE_NAMES[view.stage]}</h3>{legend}",
        figure(as_svg(first), curve_note(view)),
        *(figure(as_svg(plot), "Task by task.") for plot in others),
        number_table(curve_table(view), titled=False, noted=False),
    ]
    return "".join(parts)


def _notes(runs: Sequence[ReportedRun], curve_notes: Sequence[str]) -> str:
    notes = [f"{'' if len(runs) == 1 else f'{run.label}: '}{note}" for run in runs for note in run.notes]
    items = "".join(f"<li>{safe(note)}</li>" for note in [*notes, *curve_notes])
    return f'<ul class="notes">{items}</ul>' if items else ""


def _made_from(run: ReportedRun, named: bool) -> str:
    made = run.provenance
    if made is None:
        return ""
    facts = "".join(f"<dt>{safe(name)}</dt><dd>{_fact(name, said)}</dd>" for name, said in made.facts.items())
    measured = "".join(
        f"<dt>curve of {stage}</dt><dd><code>{safe(curve.command)}</code>, {safe(curve.measured[:10])}, "
        f"{safe(curve.machine)}</dd>"
        for stage, curve in run.curves.items()
    )
    settings = text_table("Settings", ("setting", *made.stages), made.settings)
    return (
        (f"<h3>{safe(run.label)}</h3>" if named else "")
        + f"<dl>{facts}{measured}</dl>"
        + text_table("Data", DATA_HEADER, made.data)
        + f"<details><summary>{many(len(made.settings), 'setting')} of the recipe</summary>{settings}</details>"
        + f"<details><summary>manifest.json</summary><pre><code>{safe(made.whole)}</code></pre></details>"
    )


def _fact(name: str, said: str) -> str:
    return f"<code>{safe(said)}</code>" if name.startswith("command") else safe(said)
