"""`searchctl eval`: run, report, word, and init and mine for one's own collection."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision, Runtime
from ...training.probing.word_data import WordTask
from ...training.recipe import Step
from ..command_groups import DefaultGroup
from ..options import (
    DEFAULT_RESULTS,
    Adapters,
    AttentionOption,
    BatchTokens,
    Collection,
    Color,
    Debug,
    Device,
    Dim,
    MaxTokens,
    MethodOption,
    Model,
    PoolingOption,
    PrecisionOption,
    Quiet,
    Report,
    ReportFormat,
    RuntimeOption,
    Verbose,
)
from ..terminal.invocation import Invocation, terminal_of


class Suite(StrEnum):
    """Lists of tasks known by name."""

    PAPER15 = "paper15"
    PAPER56 = "paper56"
    MTEB_ENG_V2 = "mteb-eng-v2"
    NANOBEIR = "nanobeir"
    LOCAL = "local"


Tasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TASK]...", help="Names of local tasks (with --local) or of mteb; none needs --suite."),
]
SuiteOption = Annotated[
    Suite | None,
    typer.Option(
        "--suite",
        "-s",
        help="A list of tasks; local is all that --local holds. [dim]Default: local with --local.[/dim]",
    ),
]
Baselines = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        "-b",
        metavar="SPEC",
        help=(
            "Who else runs: bm25; hybrid, lexical or dense (this program's own search); uni, bi, echo, mntp, simcse, "
            "supervised, distill (steps of the model; uni:last pools one in another way); a model; a "
            "sentence-transformers folder or package. "
            "LABEL=SPEC names its column; repeatable."
        ),
    ),
]
OnlyBaselines = Annotated[bool, typer.Option("--only-baselines", help="Leave the model itself out.")]
Local = Annotated[
    Path | None,
    typer.Option(
        "--local",
        envvar="SEARCHCTL_EVAL_DATA",
        metavar="DIR",
        help="Folder with retrieval/, sts/, pairs/, clustering/, classification/.",
    ),
]
Instructions = Annotated[
    Path | None,
    typer.Option("--instructions", metavar="FILE", help="TOML table of instructions that win over the built-in ones."),
]
NoInstructions = Annotated[bool, typer.Option("--no-instructions", help="Encode every text without an instruction.")]
Results = Annotated[
    Path,
    typer.Option(
        "--results", envvar="SEARCHCTL_RESULTS", metavar="DIR", help="Where scores are kept, and read back from."
    ),
]
Again = Annotated[bool, typer.Option("--again", help="Compute what is there already once more.")]


def run(
    ctx: typer.Context,
    *,
    tasks: Tasks = None,
    suite: SuiteOption = None,
    baseline: Baselines = None,
    only_baselines: OnlyBaselines = False,
    local: Local = None,
    instructions: Instructions = None,
    no_instructions: NoInstructions = False,
    results: Results = DEFAULT_RESULTS,
    again: Again = False,
    form: Report = ReportFormat.TABLE,
    model: Model = None,
    adapter: Adapters = None,
    pooling: PoolingOption = None,
    attention: AttentionOption = None,
    method: MethodOption = None,
    dim: Dim = None,
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
    """Measure an encoder, and baselines beside it, with the evaluators of mteb.

    Every score is kept as soon as it is had: the same command goes on after a kill, and reads what is there.

    [bold]Examples[/bold]

      searchctl eval run --local data --baseline bm25 --baseline uni --baseline hybrid
      searchctl eval run --local data --baseline uni:mean --baseline uni:last --baseline bi:last
      searchctl eval stsb-test scifact --local data --model qwen3-0.6b
      searchctl eval --suite paper15 --baseline small=models/all-MiniLM-L6-v2
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import choice_of
    from .run import EvalRequest, run_eval

    code = run_eval(
        terminal,
        EvalRequest(
            names=tuple(tasks or ()),
            suite=None if suite is None else suite.value,
            baselines=tuple(baseline or ()),
            only_baselines=only_baselines,
            local=local,
            instructions=instructions,
            no_instructions=no_instructions,
            results=results,
            again=again,
            debug=ctx.ensure_object(Invocation).debug,
        ),
        choice_of(
            model=model,
            adapter=adapter,
            pooling=pooling,
            attention=attention,
            method=method,
            dim=dim,
            max_tokens=max_tokens,
            precision=precision,
            runtime=runtime,
            device=device,
            batch_tokens=batch_tokens,
        ),
        form,
    )
    if code:
        raise typer.Exit(code)


Count = Annotated[int, typer.Option("--queries", "-n", min=10, help="How many queries to make.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another number, other queries.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", help="Where to put the test set. [dim]Default: beside the collection.[/dim]"
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
      searchctl eval init -n 500 --output eval/notes
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .own_collection import run_init

    run_init(terminal, collection, out, count=count, seed=seed, force=force)


def own(
    ctx: typer.Context,
    *,
    data: Data = None,
    k: K = 10,
    instruction: Instruction = None,
    dense_weight: DenseWeight = None,
    form: Report = ReportFormat.TABLE,
    model: Model = None,
    precision: PrecisionOption = Precision.AUTO,
    runtime: RuntimeOption = Runtime.AUTO,
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

      searchctl eval own
      searchctl eval own --dense-weight 0.3
      searchctl eval own --data eval/notes --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import EncoderChoice, require_model
    from ..terminal.text_input import require_unicode
    from .own_collection import OwnRequest, run_own

    require_model(model)
    if instruction is not None:
        require_unicode(instruction, "--instruction")
    choice = EncoderChoice(model=model, precision=precision, runtime=runtime, device=device, batch_tokens=batch_tokens)
    request = OwnRequest(data=data, k=k, choice=choice, instruction=instruction, dense_weight=dense_weight)
    run_own(terminal, request, collection, form)


class ComparisonFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


class Reference(StrEnum):
    """Published numbers to put beside one's own."""

    PAPER = "paper"


ReadResults = Annotated[
    Path,
    typer.Option("--results", envvar="SEARCHCTL_RESULTS", metavar="DIR", help="Where `searchctl eval` keeps scores."),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="LABEL",
        help="EvaluatedModel that the others are compared with. [dim]Default: the first column.[/dim]",
    ),
]
Shown = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="LABEL",
        help="Only this model; repeatable, in the order of the columns. [dim]Default: all.[/dim]",
    ),
]
TaskNames = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME", help="Only this task; repeatable. [dim]Default: all.[/dim]"),
]
Compare = Annotated[
    Reference | None,
    typer.Option("--compare", help="Put the published scores of the LLM2Vec paper beside those measured."),
]
Format = Annotated[
    ComparisonFormat,
    typer.Option("--format", "-f", envvar="SEARCHCTL_REPORT_FORMAT", help="How to print the comparison."),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with plots as well: one file, no network needed."),
]


def report(
    ctx: typer.Context,
    *,
    results: ReadResults = DEFAULT_RESULTS,
    baseline: Baseline = None,
    model: Shown = None,
    task: TaskNames = None,
    compare: Compare = None,
    form: Format = ComparisonFormat.TABLE,
    html: Html = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    """Compare what was measured: scores, differences to a baseline with 95 % intervals, means and costs.

    Reads results only; nothing is encoded.

    [bold]Examples[/bold]

      searchctl eval report
      searchctl eval report --baseline bm25 --task scifact --task cranfield
      searchctl eval report --compare paper --html report.html
      searchctl eval report --format csv > scores.csv
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from .report import ReportRequest, run_report

    run_report(
        terminal,
        ReportRequest(
            results=results,
            baseline=baseline,
            models=tuple(model or ()),
            tasks=tuple(task or ()),
            paper=compare is Reference.PAPER,
            form=form.value,
            html=html,
        ),
    )


class WordCompare(StrEnum):
    """Published numbers to put beside ours."""

    PAPER = "paper"


WordData = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="SEARCHCTL_EVAL_WORDS",
        metavar="DIR",
        help="Folder with eng.train, eng.testa and eng.testb: CoNLL-2003 columns WORD POS CHUNK NER.",
    ),
]
WordTasks = Annotated[
    list[WordTask] | None,
    typer.Option("--task", "-t", help="Which labels to learn; repeatable. [dim]Default: all three.[/dim]"),
]
WordSteps = Annotated[
    list[Step] | None,
    typer.Option(
        "--baseline",
        "-b",
        help="Which steps of the model run; repeatable. [dim]Default: every step that it has.[/dim]",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, metavar="N", help="Steps of training the classifier. [dim]Default: 4000.[/dim]"),
]
CompareOption = Annotated[
    WordCompare | None, typer.Option("--compare", help="Put the paper's numbers (Table 4) beside these.")
]


def word(
    ctx: typer.Context,
    *,
    data: WordData,
    task: WordTasks = None,
    baseline: WordSteps = None,
    results: Results = DEFAULT_RESULTS,
    steps: Steps = None,
    compare: CompareOption = None,
    form: Report = ReportFormat.TABLE,
    model: Model = None,
    adapter: Adapters = None,
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
    """Measure a linear classifier of words on the frozen token states of each step of a model.

    What is computed is kept: the same command goes on after Ctrl-C or a kill, and another task needs no new pass.

    [bold]Examples[/bold]

      searchctl eval word --data conll2003
      searchctl eval word --data conll2003 --task chunk --baseline uni --baseline bi --compare paper
      searchctl eval word --data conll2003 --model runs/mine --format json
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ..collection.encoder_choice import choice_of
    from .word_probe import WordRequest, run_word

    run_word(
        terminal,
        WordRequest(
            data=data,
            tasks=tuple(dict.fromkeys(task or WordTask)),
            steps=tuple(baseline or ()),
            results=results,
            training_steps=steps,
            paper=compare is WordCompare.PAPER,
        ),
        choice_of(
            model=model,
            adapter=adapter,
            pooling=None,
            attention=None,
            method=None,
            dim=None,
            max_tokens=max_tokens,
            precision=precision,
            runtime=runtime,
            device=device,
            batch_tokens=batch_tokens,
        ),
        form,
    )


eval = typer.Typer(
    add_completion=False,
    cls=DefaultGroup,
    help="Measure encoders beside baselines, on standard tasks, local data or your own collection.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
eval.command("run")(run)
eval.command("report")(report)
eval.command("word")(word)
eval.command("init")(init)
eval.command("own")(own)
