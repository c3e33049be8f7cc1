"""How `searchctl train report` runs: output folders read, and shown in the terminal, as JSON, pictures or a page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.text import Text

from ...training.chain.run_log import StageSummary
from ...training.evaluation.step_curve import curve_to_json
from ..collection.paths import shown_path
from ..errors import AppError, explain
from ..options import ReportFormat
from ..pages.files import check_target, write_whole
from ..terminal.console import Terminal, printable
from ..terminal.tables import show_table
from .view import CurveView, ReportedRun, curve_table, curve_views, read_runs, stage_table, stages_of

SCHEMA = 1
REPORT = "report.html"
"""What `searchctl train run` calls the page in its output folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReportRequest:
    """Which runs to show, and how."""

    folders: tuple[Path, ...]
    html: Path | None
    png: Path | None
    form: ReportFormat

    @property
    def command(self) -> str:
        """The command line that asks for this, for a reader who wants it again."""
        words = ["searchctl", "train", "report", *map(str, self.folders)]
        return shlex.join([*words, *(["--html", str(self.html)] if self.html else [])])


def run_train_report(terminal: Terminal, request: TrainReportRequest) -> None:
    """Show the runs.

    Raises DataError for a folder without one, AppError for a page or folder of pictures that cannot be written.
    """
    if request.html is not None:
        check_target("--html", request.html)
    if request.png is not None:
        _check_folder("--png", request.png)
    runs = read_runs(request.folders)
    views, curve_notes = curve_views(runs)
    if request.html is not None:
        from .page import page

        with terminal.waiting("drawing the page"):
            write_whole(request.html, page(runs, command=request.command).encode("utf-8"))
        terminal.say(f"wrote {request.html}")
    if request.png is not None:
        with terminal.waiting("drawing the pictures"):
            names = _write_pictures(request.png, runs, views)
        terminal.say(f"wrote {', '.join(names)} into {request.png}")
    notes = [f"{run.label}: {note}" if len(runs) > 1 else note for run in runs for note in run.notes]
    if request.form is ReportFormat.JSON:
        document = {"schema": SCHEMA, "runs": [run_to_json(run) for run in runs], "notes": [*notes, *curve_notes]}
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        return
    _show(terminal, runs, views)
    for note in [*notes, *curve_notes]:
        terminal.notice(note)


def leave_report(terminal: Terminal, folder: Path) -> None:
    """Write the page of the run in `folder` into it and say so.

    Whatever goes wrong is reported and nothing more: the training is done and saved, and a page can be made any time.
    """
    target = folder / REPORT
    words = ["searchctl", "train", "report", str(folder), "--html", str(target)]
    try:
        check_target("the report", target)
        from .page import page

        with terminal.waiting("drawing the report"):
            write_whole(target, page(read_runs([folder]), command=shlex.join(words)).encode("utf-8"))
    except KeyboardInterrupt:
        terminal.notice(f"no report was written: interrupted. `{shlex.join(words)}` writes it")
    except Exception as error:
        terminal.notice(f"no report was written: {explain(error).error}. `{shlex.join(words)}` tries again")
    else:
        terminal.say(f"the report is {target}")


def _check_folder(option: str, path: Path) -> None:
    """Raise AppError, with the option, where nothing can be drawn or `path` is a file."""
    if find_spec("matplotlib") is None:
        raise AppError(f"{option} needs the extra eval: `pip install 'searchctl[eval]'`")
    place = path.expanduser()
    if place.exists() and not place.is_dir():
        raise AppError(f"{option} is {path}, a file: expected a folder")


def _write_pictures(folder: Path, runs: Sequence[ReportedRun], views: Sequence[CurveView]) -> list[str]:
    """Write the plots of all stages and curves and return the names of the files."""
    from ..pages.line_plots import as_png
    from .plots import curve_plots, stage_plots

    place = folder.expanduser()
    place.mkdir(parents=True, exist_ok=True)
    plots = [plot for stage in stages_of(runs) for plot in stage_plots(runs, stage)]
    plots += [plot for view in views for plot in curve_plots(runs, view)]
    for plot in plots:
        write_whole(place / f"{plot.name}.png", as_png(plot))
    return [f"{plot.name}.png" for plot in plots]


def _show(terminal: Terminal, runs: Sequence[ReportedRun], views: Sequence[CurveView]) -> None:
    for at, run in enumerate(runs):
        if at:
            terminal.write("\n")
        terminal.show(Text.assemble((printable(shown_path(run.log.folder)), "bold"), (printable(_about(run)), "dim")))
        for summary in run.summaries:
            terminal.write("\n")
            show_table(terminal, stage_table(summary))
    for view in views:
        terminal.write("\n")
        show_table(terminal, curve_table(view))


def _about(run: ReportedRun) -> str:
    made = run.provenance
    return "" if made is None else f"  {made.facts['base']}, recipe {made.facts['recipe']}, seed {made.facts['seed']}"


def run_to_json(run: ReportedRun) -> dict[str, Any]:
    """Return the JSON of one run: numbers as in its log, and its manifest as it is."""
    return {
        "run": run.label,
        "folder": str(run.log.folder),
        "log_written": run.log.written.isoformat(timespec="seconds"),
        "stages": [_stage_to_json(summary) for summary in run.summaries],
        "curves": {stage.value: curve_to_json(curve) for stage, curve in run.curves.items()},
        "manifest": run.log.manifest,
    }


def _stage_to_json(summary: StageSummary) -> dict[str, Any]:
    entry = asdict(summary)
    entry["held_out"] = {score.pop("name"): score for score in entry["held_out"]}
    return entry
