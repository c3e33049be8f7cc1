"""`searchctl eval init` and `searchctl eval mine`: the search of one's own collection, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..invocation import terminal_of
from ..settings import (
    BatchTokens,
    Collection,
    Color,
    Debug,
    Device,
    Model,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    Verbose,
)

Count = Annotated[int, typer.Option("--queries", "-n", min=10, help="How many queries to make.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another number, other queries.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Where to put the test set. [dim]Default: beside the collection.[/dim]"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a test set that is there.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The test set. [dim]Default: the collection's own.[/dim]"),
]
K = Annotated[int, typer.Option("-k", "--limit", min=1, help="How many hits count.")]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction",
        "-i",
        envvar="SEARCHCTL_INSTRUCTION",
        metavar="TEXT",
        help="What kind of nearness is meant; '' for none. [dim]Default: the model's own.[/dim]",
    ),
]
DenseWeight = Annotated[
    float | None,
    typer.Option(
        "--dense-weight",
        envvar="SEARCHCTL_DENSE_WEIGHT",
        min=0.0,
        max=1.0,
        help="Share of meaning in hybrid mode, 0 to 1. [dim]Default: the model's own.[/dim]",
    ),
]


def init(
    ctx: typer.Context,
    *,
    count: Count = 200,
    seed: Seed = 0,
    out: Out = None,
    force: Force = False,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Make a test set from a collection: its titles, headings and sentences as queries, their passages as answers.

    Each query is cut out of the test set's passages, so that its words stand in a row nowhere. Loads no model.

    [bold]Examples[/bold]

      searchctl eval init
      searchctl eval init -n 500 --out eval/notes
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..eval_mine import run_init

    run_init(terminal, collection, out, count=count, seed=seed, force=force)


def mine(
    ctx: typer.Context,
    *,
    data: Data = None,
    k: K = 10,
    instruction: Instruction = None,
    dense_weight: DenseWeight = None,
    form: Report = ReportFormat.TABLE,
    model: Model = None,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    collection: Collection = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Measure lexical, dense and hybrid search on the test set of a collection, with intervals.

    Only passages that were cut are encoded, all others have their vectors in the collection. Make the test set first
    with `searchctl eval init`.

    [bold]Examples[/bold]

      searchctl eval mine
      searchctl eval mine --dense-weight 0.3
      searchctl eval mine --data eval/notes --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..encoders import EncoderChoice, require_model
    from ..eval_mine import MineRequest, run_mine
    from ..texts import require_unicode

    require_model(model)
    if instruction is not None:
        require_unicode(instruction, "--instruction")
    choice = EncoderChoice(model=model, precision=precision, device=device, batch_tokens=batch_tokens)
    request = MineRequest(data=data, k=k, choice=choice, instruction=instruction, dense_weight=dense_weight)
    run_mine(terminal, request, collection, form)
