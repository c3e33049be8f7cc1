"""`searchctl train`: run, mine, pairs, curve and report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision, Runtime
from ..command_groups import DefaultGroup
from ..evaluate.commands import Again, Instructions, Local, NoInstructions, SuiteOption
from ..options import (
    ENCODER,
    BatchTokens,
    Color,
    Debug,
    Device,
    MaxTokens,
    Model,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    RuntimeOption,
    Verbose,
)
from ..terminal.invocation import Invocation, terminal_of

Stages = Annotated[
    str,
    typer.Option("--stages", metavar="STAGE,...", help="Which of mntp, simcse, supervised, distill, in this order."),
]
DataPlaces = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="FILE|FOLDER",
        help='JSON lines, also .gz: {"text"} for mntp and simcse, {"query", "positive"} (+"negative") for supervised; '
        "distill reads pairs, else texts.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="A shipped recipe or a TOML file. [dim]Default: the model's.[/dim]"
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="N|LIST",
        help="Keep the first N decoder layers, or those of a list as in 0,2,4,7. "
        "[dim]Default: the recipe's, else all.[/dim]",
    ),
]
TeacherOption = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="NAME|FOLDER",
        help="Encoder that distill learns from, named as for --model, or a sentence-transformers model; several times "
        "for several together. [dim]Default: the recipe's.[/dim]",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where the encoder goes. [dim]Default: trained-MODEL.[/dim]"),
]
Dev = Annotated[
    list[Path] | None,
    typer.Option(
        "--dev",
        metavar="FILE",
        help='Sentence pairs {"a", "b", "score"} whose Spearman correlation is told beside the held-out loss; '
        "\\[dev.NAME] of the recipe gives both sides an instruction.",
    ),
]
MaxMinutes = Annotated[
    float | None,
    typer.Option("--max-minutes", metavar="N", help="Stop and save when this time is over; --resume goes on."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --output holds.")]
SaveEvery = Annotated[int, typer.Option("--save-every", min=1, metavar="STEPS", help="Steps between two checkpoints.")]
EvaluateEvery = Annotated[
    int, typer.Option("--evaluate-every", min=1, metavar="STEPS", help="Steps between two looks at held-out data.")
]
KeepAll = Annotated[bool, typer.Option("--keep-checkpoints", help="Keep every checkpoint, for curves over them.")]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Compute activations twice instead of keeping them: a third slower, much less memory.",
        rich_help_panel=ENCODER,
    ),
]


def run(
    ctx: typer.Context,
    *,
    model: Model = None,
    stages: Stages = "mntp,simcse",
    data: DataPlaces = None,
    recipe: RecipeOption = None,
    layers: LayersOption = None,
    teacher: TeacherOption = None,
    output: Output = None,
    dev: Dev = None,
    max_minutes: MaxMinutes = None,
    resume: Resume = False,
    save_every: SaveEvery = 50,
    evaluate_every: EvaluateEvery = 50,
    keep_checkpoints: KeepAll = False,
    gradient_checkpointing: Checkpointing = False,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Train a text encoder from a decoder LLM by the LLM2Vec recipe (arXiv 2404.05961).

    mntp teaches it to use what comes after a word, simcse to tell texts apart, supervised to find
    answers, and distill to find texts as near to each other as another encoder does, its teacher.
    Data is checked whole before the first step. A run that ends early is saved, and --resume ends
    with the weights of an unbroken one.

    [bold]Examples[/bold]

      searchctl train run --stages mntp,simcse --data notes.jsonl -o my-encoder
      searchctl train --stages mntp,simcse,supervised --data texts.jsonl --data pairs.jsonl.gz --max-minutes 60
      searchctl train --stages mntp,distill --data pairs.jsonl --teacher ./large-encoder -o small-encoder
      searchctl train -o my-encoder --resume --stages mntp,simcse --data notes.jsonl
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .request import TrainWish
    from .run import run_train

    code = run_train(
        terminal,
        TrainWish(
            model=model,
            stages=stages,
            data=tuple(data or ()),
            recipe=recipe,
            layers=layers,
            teacher=tuple(teacher or ()),
            output=output,
            dev=tuple(dev or ()),
            max_minutes=max_minutes,
            resume=resume,
            save_every=save_every,
            evaluate_every=evaluate_every,
            keep_checkpoints=keep_checkpoints,
            gradient_checkpointing=gradient_checkpointing,
            precision=precision,
            device=device,
        ),
    )
    if code:
        raise typer.Exit(code)


class StageName(StrEnum):
    """`training.recipe.Stage` by value: that module needs more than --help does."""

    MNTP = "mntp"
    SIMCSE = "simcse"
    SUPERVISED = "supervised"
    DISTILL = "distill"


Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Output folder of `searchctl train`.", show_default=False),
]
Tasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK]...", help="Names of local tasks (with --local) or of mteb; none needs --suite."),
]
StageOption = Annotated[
    StageName | None,
    typer.Option("--stage", help="Whose checkpoints. [dim]Default: the last stage that was trained.[/dim]"),
]
Every = Annotated[
    int | None,
    typer.Option(
        "--every",
        min=1,
        metavar="N",
        help="Only checkpoints at multiples of N steps, with start and end. [dim]Default: all.[/dim]",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        help="Where scores are kept, and read back from. [dim]Default: curve-results in FOLDER.[/dim]",
    ),
]


def curve(
    ctx: typer.Context,
    *,
    folder: Folder,
    tasks: Tasks = None,
    suite: SuiteOption = None,
    local: Local = None,
    stage: StageOption = None,
    every: Every = None,
    instructions: Instructions = None,
    no_instructions: NoInstructions = False,
    results: Results = None,
    again: Again = False,
    form: Report = ReportFormat.TABLE,
    precision: PrecisionOption = Precision.AUTO,
    device: Device = "auto",
    batch_tokens: BatchTokens = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Score the checkpoints of a training run against its steps.

    The sample-efficiency curve of the LLM2Vec paper's Figure 6. It goes into curve.json of FOLDER,
    which `searchctl train report` samples. Every score is kept as soon as it is had: the same
    command goes on after a kill, and reads what is there.

    [bold]Examples[/bold]

      searchctl train curve my-encoder stsb-test scifact --local data
      searchctl train curve my-encoder --suite paper15 --stage supervised --every 100
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .curve import CurveRequest, run_train_curve

    code = run_train_curve(
        terminal,
        CurveRequest(
            folder=folder,
            names=tuple(tasks or ()),
            suite=None if suite is None else suite.value,
            local=local,
            stage=None if stage is None else stage.value,
            every=every,
            instructions=instructions,
            no_instructions=no_instructions,
            results=results,
            again=again,
            form=form,
            precision=precision,
            device=device,
            batch_tokens=batch_tokens,
            debug=ctx.ensure_object(Invocation).debug,
        ),
    )
    if code:
        raise typer.Exit(code)


Pairs = Annotated[
    list[Path],
    typer.Argument(
        metavar="PAIRS...", help='JSON lines {"query", "positive"}, also .gz; each file is a corpus of its own.'
    ),
]
MinedOutput = Annotated[
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
QueryRecipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME|FILE", help="Tell queries what this recipe's source of the file's name is."),
]
ForceMany = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]

OF_THE_ENCODER = ("model", "instruction", "recipe", "max_tokens", "precision", "runtime", "device", "batch_tokens")


def mine(
    ctx: typer.Context,
    *,
    pairs: Pairs,
    output: MinedOutput,
    lexical: Lexical = False,
    corpus: Corpus = None,
    count: Count = 4,
    margin: Margin = 0.95,
    skip_top: SkipTop = 0,
    instruction: Instruction = None,
    recipe: QueryRecipe = None,
    force: ForceMany = False,
    model: Model = None,
    max_tokens: MaxTokens = None,
    precision: PrecisionOption = Precision.AUTO,
    runtime: RuntimeOption = Runtime.AUTO,
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
    from ..collection.encoder_choice import EncoderChoice, require_model
    from ..terminal.text_input import require_unicode
    from .hard_negatives import MineWish, run_mine

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
                model=model,
                max_tokens=max_tokens,
                precision=precision,
                runtime=runtime,
                device=device,
                batch_tokens=batch_tokens,
            ),
            typed=tuple(typed),
        ),
    )


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
PairsOutput = Annotated[
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
    output: PairsOutput,
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
    from .pairs import PairsWish, run_pairs

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


Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Output folders of `searchctl train`; several are sampled over each other.",
        show_default=False,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with the curves: one file, no network needed."),
]
Png = Annotated[
    Path | None,
    typer.Option("--png", metavar="DIR", help="Write each plot as a PNG into this folder, which is made if need be."),
]


def report(
    ctx: typer.Context,
    *,
    folders: Folders,
    html: Html = None,
    png: Png = None,
    form: Report = ReportFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Show how a training run went, also one that is unfinished or under way: losses, held-out scores, speed.

    Reads what `searchctl train run` wrote; nothing is computed again.

    [bold]Examples[/bold]

      searchctl train report my-encoder
      searchctl train report my-encoder --html report.html --png pictures
      searchctl train report with-simcse without-simcse --html both.html
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .report import TrainReportRequest, run_train_report

    run_train_report(terminal, TrainReportRequest(folders=tuple(folders), html=html, png=png, form=form))


train = typer.Typer(
    add_completion=False,
    cls=DefaultGroup,
    help="Train a text encoder from a decoder LLM by the LLM2Vec recipe. `searchctl train ...` is `train run ...`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
train.command("run")(run)
train.command("pairs")(pairs)
train.command("mine")(mine)
train.command("report")(report)
train.command("curve")(curve)
