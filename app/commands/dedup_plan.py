"""`searchctl dedup plan`: which documents could go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...index.dedup_settings import Keep, Level
from ..invocation import file_types, terminal_of
from ..settings import DEDUP_NEAR_THRESHOLD, DEDUP_THRESHOLD, Collection, Color, Debug, Quiet, Verbose
from .dedup_find import Against, Device, KeepOption, NearThreshold, Threshold
from .group_options import Exclude, PathGlobs, Types

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the plan.", show_default=False)
]


def plan(
    ctx: typer.Context,
    *,
    output: Output,
    threshold: Threshold = DEDUP_THRESHOLD,
    near_threshold: NearThreshold = DEDUP_NEAR_THRESHOLD,
    keep: KeepOption = Keep.LONGEST,
    against: Against = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    device: Device = "auto",
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Write down which documents could go, and which one is kept for each. Changes nothing.

    The plan is a JSON file: read it, take out what should stay, then give it to `searchctl dedup apply`.

    [bold]Examples[/bold]

      searchctl dedup plan --output plan.json
      searchctl dedup plan --keep newest --exclude archive/ --output plan.json
      searchctl dedup plan --against ../test-set --output plan.json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.protocol import Filter
    from ..dedup_plan import write_plan
    from ..dedup_run import DedupRequest, plan_of, run_dedup, tell_plan
    from ..encoders import collection_option
    from ..engine import Talk
    from ..page_files import check_target

    check_target("--output", output, drawn=False)
    request = DedupRequest(
        level=Level.DOCUMENT,
        threshold=threshold,
        near_threshold=near_threshold,
        keep=keep,
        where=Filter(types=file_types(types), paths=tuple(paths or ()), exclude=tuple(exclude or ())),
        against=against,
        device=device,
    )
    talk = Talk(notice=terminal.notice, detail=terminal.detail)
    made = plan_of(run_dedup(collection, request, talk=talk, bar=terminal.progress))
    write_plan(output, made)
    tell_plan(terminal, made, output, collection_option(collection))
