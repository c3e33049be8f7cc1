"""`searchctl train mine`: hard negatives for training pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision
from ..invocation import terminal_of
from ..settings import BatchTokens, Color, Debug, Device, MaxTokens, Model, PrecisionOption, Quiet, Verbose

Pairs = Annotated[
    list[Path],
    typer.Argument(
        metavar="PAIRS...", help='JSON lines {"query", "positive"}, also .gz; each file is a corpus of its own.'
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE|FOLDER", help="A name in .jsonl or .jsonl.gz; a folder for several files."
    ),
]
Lexical = Annotated[bool, typer.Option("--lexical", help="Score by BM25 in place of a model; needs the extra eval.")]
Corpus = Annotated[
    list[Path] | None,
    typer.Option(
        "--corpus",
        metavar="FILE|FOLDER",
        help='More texts to find negatives among, JSON lines {"text"} or pairs, also .gz; repeatable.',
    ),
]
Count = Annotated[
    int, typer.Option("--count", "-n", min=1, metavar="N", help="Negatives of a pair, at most; those it has count.")
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin", help="A text scored above this share of the positive's score may be an answer, and is left out."
    ),
]
SkipTop = Annotated[int, typer.Option("--skip-top", min=0, metavar="N", help="Leave out the N nearest texts first.")]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction", "-i", metavar="TEXT", help="What queries are told. [dim]Default: the model's own.[/dim]"
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME|FILE", help="Tell queries what this recipe's source of the file's name is."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]

OF_THE_ENCODER = ("model", "instruction", "recipe", "max_tokens", "precision", "device", "batch_tokens")


def mine(
    ctx: typer.Context,
    *,
    pairs: Pairs,
    output: Output,
    lexical: Lexical = False,
    corpus: Corpus = None,
    count: Count = 4,
    margin: Margin = 0.95,
    skip_top: SkipTop = 0,
    instruction: Instruction = None,
    recipe: RecipeOption = None,
    force: Force = False,
    model: Model = None,
    max_tokens: MaxTokens = None,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Find hard negatives for training pairs: texts near a query, but less near than its positive by a margin.

    The search is exact, over the positives of the file and --corpus. A killed run keeps its vectors: the same command
    goes on.

    [bold]Examples[/bold]

      searchctl train mine pairs.jsonl.gz -o mined.jsonl.gz --model my-encoder
      searchctl train mine pairs.jsonl -o mined.jsonl --lexical --corpus notes.jsonl --count 8
      searchctl train mine questions.jsonl titles.jsonl -o mined --recipe smollm2-135m
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..encoders import EncoderChoice, require_model
    from ..texts import require_unicode
    from ..train_mine import MineWish, run_mine

    require_model(model)
    if instruction is not None:
        require_unicode(instruction, "--instruction")
    # A variable of the environment is there for all commands; what stands in the command is meant.
    typed = [name for name in OF_THE_ENCODER if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
    run_mine(
        terminal,
        MineWish(
            pairs=tuple(pairs),
            output=output,
            lexical=lexical,
            corpus=tuple(corpus or ()),
            count=count,
            margin=margin,
            skip_top=skip_top,
            instruction=instruction,
            recipe=recipe,
            force=force,
            choice=EncoderChoice(
                model=model, max_tokens=max_tokens, precision=precision, device=device, batch_tokens=batch_tokens
            ),
            typed=tuple(typed),
        ),
    )
