"""`searchctl dedup run` and `searchctl dedup plan`: what is said twice, and what could go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...index.dedup_settings import Keep, Level
from ..errors import AppError
from ..invocation import file_types, terminal_of, was_given
from ..settings import DEDUP_NEAR_THRESHOLD, DEDUP_THRESHOLD, Collection, Color, Debug, GroupFormat, Quiet, Verbose
from .group_options import OUTPUT, Exclude, Form, PathGlobs, Types

LevelOption = Annotated[
    Level, typer.Option("--level", envvar="SEARCHCTL_LEVEL", help="Compare passages, or whole documents.")
]
Threshold = Annotated[
    float,
    typer.Option(
        "--threshold",
        envvar="SEARCHCTL_DEDUP_THRESHOLD",
        metavar="COSINE",
        help="From which cosine on two texts mean the same; it depends on the encoder, see --curve.",
    ),
]
NearThreshold = Annotated[
    float,
    typer.Option(
        "--near-threshold",
        envvar="SEARCHCTL_DEDUP_NEAR_THRESHOLD",
        metavar="SHARE",
        help="From which share of common five-word runs on two texts are nearly the same, 0.5 to 1.",
    ),
]
KeepOption = Annotated[
    Keep,
    typer.Option(
        "--keep", help="Which one of a group stays; medoid is the one that is most like the others. Ties: first path."
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="COLLECTION",
        help="Find what is in another collection too, as test data in training data; its documents are never touched.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SEARCHCTL_DEVICE",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where vectors are compared; auto takes a GPU from 20,000 on.",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-k", min=0, rich_help_panel=OUTPUT, help="How many groups the table shows.")
]
Curve = Annotated[
    bool,
    typer.Option("--curve", rich_help_panel=OUTPUT, help="Print what each threshold would find instead of groups."),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", rich_help_panel=OUTPUT, help="Write a report to look through in a browser, too."
    ),
]


def run(
    ctx: typer.Context,
    *,
    level: LevelOption = Level.CHUNK,
    threshold: Threshold = DEDUP_THRESHOLD,
    near_threshold: NearThreshold = DEDUP_NEAR_THRESHOLD,
    keep: KeepOption = Keep.LONGEST,
    against: Against = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    form: Form = GroupFormat.TABLE,
    limit: Limit = 10,
    curve: Curve = False,
    html: Html = None,
    device: Device = "auto",
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Find what a collection says twice: in the same words, in nearly the same, or by meaning. Changes nothing.

    It compares the vectors that are stored: no text is embedded again.

    [bold]Examples[/bold]

      searchctl dedup
      searchctl dedup --curve
      searchctl dedup --level document --keep newest --html duplicates.html
      searchctl dedup run --against ../test-set --format jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.protocol import Filter
    from ..dedup_run import DedupRequest, present, run_dedup, store_groups
    from ..engine import Talk
    from ..page_files import check_target

    if html is not None:
        check_target("--html", html, drawn=False)
    if form is not GroupFormat.TABLE and (curve or was_given(ctx, "limit")):
        said = "--curve" if curve else "--limit"
        raise AppError(
            f"{said} is for the table, and --format is {form}, which holds all groups"
            f"{' and the curve' if form is GroupFormat.JSON else ''}: leave one of them out"
        )
    if curve and was_given(ctx, "limit"):
        raise AppError("--limit counts groups, and --curve shows none: leave one of them out")
    request = DedupRequest(
        level=level,
        threshold=threshold,
        near_threshold=near_threshold,
        keep=keep,
        where=Filter(types=file_types(types), paths=tuple(paths or ()), exclude=tuple(exclude or ())),
        against=against,
        device=device,
    )
    talk = Talk(notice=terminal.notice, detail=terminal.detail)
    report = run_dedup(collection, request, talk=talk, bar=terminal.progress)
    if not curve:
        store_groups(report, talk)
    present(terminal, report, form, most=limit, curve=curve, html=html)
