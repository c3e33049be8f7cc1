"""How `searchctl probe --depth` runs and what it shows: a held-out score against the layers that are kept."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ...encoder.config import Attention, EncoderConfig
from ..collection.encoder_choice import absolute_model
from ..errors import AppError
from ..options import InputFormat, ReportFormat, cache_folder
from ..pages.files import check_target, write_whole
from ..terminal.console import Terminal, printable
from ..terminal.progress import pull_bar
from ..terminal.text_input import read_rows
from ..terminal.wording import many, points
from .run import ProbeRequest, config_of, open_probed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...encoder.transformer import TransformerEncoder
    from ...training.objectives.dev_pairs import DevPairs
    from ...training.objectives.teacher import Teacher
    from ...training.probing.depth_scan import DepthScan
    from ..pages.line_plots import Plot, Tips
    from ..pages.svg import Palette

SCHEMA = 1
_BAR = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthOptions:
    """What --depth takes beside the model; None and () are not given."""

    depth: bool
    dev: tuple[Path, ...]
    teacher: tuple[str, ...]
    """Several are one, side by side."""
    texts: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthReport:
    """A scan and what it was of."""

    encoder: TransformerEncoder
    attention: Attention
    adapters: tuple[Path, ...]
    dev: tuple[DevPairs, ...]
    teacher: Teacher | None
    fitted: int
    """Texts that the maps to the teacher were fitted on."""
    scan: DepthScan
    command: str
    """Trains an encoder of the fewest layers."""

    @property
    def columns(self) -> dict[str, list[float | None]]:
        """Scores to show by name, one for each number of layers; the last column decides."""
        from ...training.probing.depth_scan import mean_score

        rows = self.scan.rows
        found = {pairs.name: [row.plain[pairs.name] for row in rows] for pairs in self.dev}
        if len(self.dev) > 1:
            found["mean"] = [mean_score(row.plain) for row in rows]
        if self.teacher is not None:
            found["mapped"] = [row.deciding for row in rows]
        return found

    @property
    def sentence(self) -> str:
        """What the scan says, and what to do next."""
        from ...training.probing.depth_scan import WITHIN

        rows, best, fewest = self.scan.rows, self.scan.best, self.scan.fewest
        total, within = len(rows) - 1, f"within {100 * WITHIN:g} points of it"
        told = f"the best is {points(rows[best].deciding)}, at {best} of {many(total, 'layer')}"
        if fewest == total:
            return f"{told}: keep them all, no fewer score {within}"
        fewer = f"no fewer score {within}"
        if fewest < best:
            fewer = f"the fewest that score {within} are {fewest}, with {points(rows[fewest].deciding)}"
        return f"{told}; {fewer}. To keep {fewest}: `{self.command}`"


def run_depth(terminal: Terminal, request: ProbeRequest, options: DepthOptions) -> None:
    """Scan the model and report. Raises AppError and DataError for options and files, before anything is loaded."""
    _require_options(request, options)
    if request.png is not None:
        check_target("--png", request.png)
    config = config_of(request, Attention.BIDIRECTIONAL)
    from ...training.objectives.dev_pairs import read_dev
    from ...training.probing.depth_scan import fit_texts, require_scorable

    dev = tuple(read_dev(path, {}) for path in options.dev)
    require_scorable(dev)
    texts = [] if options.texts is None else fit_texts(_texts(options.texts), dev)
    report = _scanned(terminal, config, options, dev, texts)
    if request.png is not None:
        from ..pages.line_plots import as_png

        write_whole(request.png, as_png(depth_plot(report)))
    if request.form is ReportFormat.JSON:
        terminal.write(depth_to_json(report))
    else:
        _show(terminal, report)


def _require_options(request: ProbeRequest, options: DepthOptions) -> None:
    """Raise AppError for an option that has no part in what was asked for, and for one that is missing."""
    if not options.depth:
        of_depth = {"--dev": options.dev, "--teacher": options.teacher, "--texts": options.texts}
        given = next(name for name, value in of_depth.items() if value)
        raise AppError(f"{given} is of the scan of layers: add --depth, or leave {given} out")
    for name, path in (("--text", request.text), ("--html", request.html)):
        if path is not None:
            raise AppError(f"{name} has no part in --depth, which writes a picture with --png: leave {name} out")
    if not options.dev:
        raise AppError('--depth needs --dev FILE: JSON lines of {"a", "b", "score"}, on which each depth is scored')
    if bool(options.teacher) != (options.texts is not None):
        given, missing = ("--teacher", "--texts FILE") if options.teacher else ("--texts", "--teacher NAME|FOLDER")
        raise AppError(f"{given} needs {missing}: on the texts each depth is mapped to the teacher's vectors")
    blank = next((name for name in options.teacher if not name.strip()), None)
    if blank is not None:
        raise AppError(f"--teacher is {blank!r}: expected a name, a folder, or a hub name owner/name")


def _texts(path: Path) -> list[str]:
    """Return the texts of JSON lines, or of lines. Raises AppError and DataError with the line."""
    from ...training.data.corpus import read_texts
    from ...training.data.json_lines import SUFFIXES

    if not path.name.endswith(SUFFIXES):
        return [row.text for row in read_rows([path.expanduser()], InputFormat.LINES, None)]
    found = read_texts(path.expanduser())
    if found is None:
        raise AppError(f'--texts is {path}, which holds pairs: expected JSON lines of {{"text"}}, or a text a line')
    return list(found.texts)


def _scanned(
    terminal: Terminal, config: EncoderConfig, options: DepthOptions, dev: tuple[DevPairs, ...], texts: list[str]
) -> DepthReport:
    """Load what is needed and scan."""
    from ...encoder.models.resolve import resolve
    from ...training.probing.depth_scan import PARTS, scan_depth

    teacher = _teacher(terminal, config, options)
    encoder = open_probed(terminal, config)
    adapters = resolve(config, cache=cache_folder()).adapters
    opened = None
    if teacher is not None:
        with terminal.waiting(f"loading {teacher.info.name}"):
            opened = teacher.open()
    parts = PARTS if opened is not None else PARTS[:1]
    with terminal.progress("Scanning") as update:
        scan = scan_depth(
            encoder,
            dev,
            teacher=opened,
            texts=texts,
            progress=lambda part, share: update((parts.index(part) + share) / len(parts), part),
        )
    # mntp begins with the bare base; without it the adapters that were measured stay.
    stages = ("" if adapters else "mntp,") + ("distill" if options.teacher else "simcse")
    words = ["--model", config.model, "--layers", str(scan.fewest), "--stages", stages]
    words += [word for name in options.teacher for word in ("--teacher", name)]
    return DepthReport(
        encoder=encoder,
        attention=config.attention,
        adapters=adapters,
        dev=dev,
        teacher=teacher,
        fitted=len(texts),
        scan=scan,
        command=f"searchctl train run {shlex.join(words)} --data FILE",
    )


def _teacher(terminal: Terminal, config: EncoderConfig, options: DepthOptions) -> Teacher | None:
    """Return the teacher, found and not yet loaded."""
    if not options.teacher:
        return None
    from ...encoder.load import choose_device, choose_dtype
    from ...training.objectives.teacher import find_teacher

    device = choose_device(config.device)
    dtype, _ = choose_dtype(config.precision, device)
    names = [absolute_model(name) for name in options.teacher]
    with pull_bar(terminal, names[0]) as pulling:
        return find_teacher(names, device=device, dtype=dtype, cache=cache_folder(), progress=pulling)


def depth_to_json(report: DepthReport) -> str:
    """Return the JSON document of the command; scores are -1 to 1, null where undefined."""
    from ...training.probing.depth_scan import WITHIN

    info, model, scan = report.encoder.info, report.encoder.model, report.scan
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": info.name,
        "revision": info.revision,
        "architecture": type(model).__name__,
        "fingerprint": info.fingerprint,
        "adapters": [str(folder) for folder in report.adapters],
        "device": str(model.device),
        "precision": str(model.dtype).removeprefix("torch."),
        "attention": report.attention.value,
        "pooling": info.pooling,
        "max_tokens": info.max_tokens,
        "dev": {pairs.name: pairs.account() for pairs in report.dev},
        "teacher": None if report.teacher is None else {**report.teacher.account(), "texts": report.fitted},
        "metric": "spearman",
        "layers": [{**asdict(row), "deciding": row.deciding} for row in scan.rows],
        "best": scan.best,
        "fewest": scan.fewest,
        "within": WITHIN,
        "command": report.command,
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _show(terminal: Terminal, report: DepthReport) -> None:
    info, model = report.encoder.info, report.encoder.model
    name = info.name + (f" with {many(len(report.adapters), 'adapter')}" if report.adapters else "")
    facts = (
        f"{type(model).__name__}, {many(len(report.scan.rows) - 1, 'layer')}, {report.attention}, pooling "
        f"{info.pooling}, {str(model.dtype).removeprefix('torch.')} on {model.device}"
    )
    terminal.show(Text.assemble((printable(name), "bold"), f"  {facts}"))
    dev = ", ".join(f"{pairs.name} ({many(len(pairs.gold), 'pair')})" for pairs in report.dev)
    about = f"Spearman x 100 on {dev}, by layers kept; 0 is the embeddings"
    if report.teacher is not None:
        about += f"; mapped: after a ridge map to {report.teacher.info.name}, fitted on {many(report.fitted, 'text')}"
    terminal.show(Text(printable(about), style="dim"))
    terminal.show(depth_table(report.scan, report.columns))
    terminal.show(Text(printable(report.sentence)))


def depth_table(scan: DepthScan, columns: Mapping[str, Sequence[float | None]]) -> Table:
    """Return a row for each number of layers: its scores, a bar of the one that decides, and which is best."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("layers", *columns):
        table.add_column(printable(name), justify="right", overflow="fold")
    table.add_column("", no_wrap=True)
    highest = max(row.deciding or 0.0 for row in scan.rows)
    for row, scores in zip(scan.rows, zip(*columns.values(), strict=True), strict=True):
        marks = [word for word, layers in (("best", scan.best), ("fewest", scan.fewest)) if row.layers == layers]
        bar = "\N{FULL BLOCK}" * (round(_BAR * max(0.0, row.deciding or 0.0) / highest) if highest > 0 else 0)
        table.add_row(
            str(row.layers),
            *map(points, scores),
            f"{bar} {', '.join(marks)}".strip(),
            style="bold green" if row.layers == scan.fewest else "bold" if marks else "",
        )
    return table


def depth_plot(report: DepthReport) -> Plot:
    """Return the picture: a line for each column, and the fewest layers marked."""
    from ..pages.line_plots import WIDTH, Plot, line, look, over_steps

    columns = {name: [(at, 100 * y) for at, y in enumerate(of) if y is not None] for name, of in report.columns.items()}

    def draw(figure: Figure, palette: Palette) -> Tips:
        axes = figure.subplots()
        for number, curve in enumerate(columns.values()):
            color, marker = look(palette, number)
            line(axes, curve, color=color, marker=marker, ms=4, lw=1.8)
        axes.axvline(report.scan.fewest, color=palette.muted, lw=1, ls="--")
        over_steps(axes, label="layers kept, 0 is the embeddings")
        axes.set_ylabel("Spearman x 100")
        return {}

    return Plot(
        name="depth",
        title=f"{printable(report.encoder.info.name)}: score against layers kept",
        about=report.sentence,
        width=WIDTH,
        height=3.8,
        draw=draw,
        runs=tuple(enumerate(columns)),
    )
