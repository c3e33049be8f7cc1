"""`searchctl cluster`: what a collection is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...encoder.config import Precision, Runtime
from ...index.dedup_settings import Level
from ...index.groups.cluster_settings import ClusterSettings, Layout, Method
from ..errors import AppError
from ..options import (
    OUTPUT,
    BatchTokens,
    Collection,
    Color,
    Debug,
    Device,
    Exclude,
    Form,
    GroupFormat,
    PathGlobs,
    PrecisionOption,
    Quiet,
    RuntimeOption,
    Types,
    Verbose,
)
from ..terminal.invocation import file_types, terminal_of, was_given

LevelOption = Annotated[
    Level, typer.Option("--level", envvar="SEARCHCTL_LEVEL", help="Cluster passages, or whole documents.")
]
MethodOption = Annotated[
    Method, typer.Option("--method", envvar="SEARCHCTL_CLUSTER_METHOD", help="How clusters are found.")
]
Count = Annotated[
    int | None,
    typer.Option(
        "--clusters",
        "-n",
        min=1,
        metavar="N",
        help="How many, for kmeans and agglomerative. [dim]Default: chosen by silhouette.[/dim]",
    ),
]
Resolution = Annotated[
    float | None,
    typer.Option("--resolution", metavar="X", help="For leiden: higher gives more clusters. [dim]Default: 1.[/dim]"),
]
MinSize = Annotated[
    int | None,
    typer.Option("--min-size", min=2, metavar="N", help="For hdbscan: smallest cluster. [dim]Default: 10.[/dim]"),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same clusters.")]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction",
        "-i",
        metavar="TEXT",
        help="What kind of likeness is meant, such as 'Identify the sentiment': the texts are embedded under it, once.",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-k", min=0, rich_help_panel=OUTPUT, help="How many clusters the table shows.")
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", rich_help_panel=OUTPUT, help="Write a report with a map for a browser, too."
    ),
]
LayoutOption = Annotated[
    Layout,
    typer.Option("--map", rich_help_panel=OUTPUT, help="How the map of --html is made; umap needs the extra report."),
]


def cluster(
    ctx: typer.Context,
    *,
    level: LevelOption = Level.CHUNK,
    method: MethodOption = Method.LEIDEN,
    n: Count = None,
    resolution: Resolution = None,
    min_size: MinSize = None,
    seed: Seed = 0,
    instruction: Instruction = None,
    types: Types = None,
    paths: PathGlobs = None,
    exclude: Exclude = None,
    form: Form = GroupFormat.TABLE,
    limit: Limit = 20,
    html: Html = None,
    layout: LayoutOption = Layout.TSNE,
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
    """Say what a collection is about: clusters with their words, sizes and typical passages.

    It works on the vectors that are stored, unless an instruction asks for others. Clusters keep their ids from run to
    run, and `searchctl query --cluster ID` searches in one.

    [bold]Examples[/bold]

      searchctl cluster
      searchctl cluster --level document --html topics.html
      searchctl cluster --method kmeans -n 12 --format csv
      searchctl cluster --instruction "Identify the sentiment of the text"
    """
    terminal = terminal_of(ctx, quiet=quiet, verbose=verbose, debug=debug, color=color)
    from ...index.protocol import Filter
    from ..collection.encoder_choice import EncoderChoice
    from ..collection.talk import Talk
    from ..options import cache_folder
    from ..pages.files import check_target
    from ..terminal.text_input import require_unicode
    from .run import ClusterRequest, present, run_cluster

    if instruction is not None:
        require_unicode(instruction, "--instruction")
    if html is not None:
        check_target("--html", html, drawn=False)
    if form is not GroupFormat.TABLE and was_given(ctx, "limit"):
        raise AppError(f"--limit is for the table, and --format is {form}, which holds all: leave one of them out")
    if html is None and was_given(ctx, "layout"):
        raise AppError("--map is for the report: name its file with --html FILE")
    for name, option in (
        ("precision", "--precision"),
        ("runtime", "--runtime"),
        ("device", "--device"),
        ("batch_tokens", "--batch-tokens"),
    ):
        if instruction is None and was_given(ctx, name):
            raise AppError(f"{option} is for encoding, which only --instruction asks for: leave it out")
    if n is not None and method not in (Method.KMEANS, Method.AGGLOMERATIVE):
        raise AppError(
            f"--clusters is {n}, and {method} finds the number itself: leave it out, or give a method that takes it",
            next_command=("cluster", "--method", "kmeans", "-n", str(n)),
        )
    request = ClusterRequest(
        level=level,
        settings=ClusterSettings(method=method, n=n, seed=seed, resolution=resolution, min_size=min_size),
        instruction=instruction,
        where=Filter(types=file_types(types), paths=tuple(paths or ()), exclude=tuple(exclude or ())),
        layout=None if html is None else layout,
        choice=EncoderChoice(precision=precision, runtime=runtime, device=device, batch_tokens=batch_tokens),
    )
    talk = Talk(cache=cache_folder())
    report = run_cluster(collection, request, talk=talk, bar=terminal.progress)
    present(terminal, report, form, most=limit, html=html)
