"""`searchctl train pairs`: training pairs out of plain text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..invocation import terminal_of
from ..settings import Color, Debug, Quiet, Verbose


class PairMethod(StrEnum):
    """`training.crops.Method` by value: that module needs a splitter, which --help does not."""

    CLOZE = "cloze"
    CROP = "crop"
    TITLE = "title"


Texts = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[TEXTS]...",
        help='JSON lines {"text"} (+"title"), also .gz, documents, or a folder with either or both.',
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="Where the pairs go: a name in .jsonl or .jsonl.gz."),
]
MethodOption = Annotated[
    PairMethod,
    typer.Option(
        "--method",
        help="cloze: a sentence and the rest of its passage; crop: two crops of a passage; title: title and text.",
    ),
]
Crops = Annotated[
    int | None,
    typer.Option("--crops", min=1, metavar="N", help="Pairs of each passage, at most. [dim]Default: 1.[/dim]"),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another number, other pairs.")]
FromCollection = Annotated[
    Path | None,
    typer.Option("--collection", metavar="PATH", help="Take the passages of this indexed collection too."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def pairs(
    ctx: typer.Context,
    *,
    output: Output,
    texts: Texts = None,
    method: MethodOption = PairMethod.CLOZE,
    crops: Crops = None,
    seed: Seed = 0,
    collection: FromCollection = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Make training pairs out of plain text, for those who have none. Loads no model.

    Sentences that make no good query are left out and counted. The same texts and seed give the same file.

    [bold]Examples[/bold]

      searchctl train pairs notes.jsonl -o pairs.jsonl
      searchctl train pairs docs -o pairs.jsonl.gz --crops 3
      searchctl train pairs --collection .searchctl --method title -o titles.jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..train_pairs import PairsWish, run_pairs

    run_pairs(
        terminal,
        PairsWish(
            texts=tuple(texts or ()),
            output=output,
            method=method.value,
            crops=crops,
            seed=seed,
            collection=collection,
            force=force,
        ),
    )
