"""The options that commands share. A flag wins over its SEARCHCTL_* variable, which wins over the default."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..encoder.config import Attention, Method, Pooling, Precision, Runtime

DENSE_WEIGHT = 0.05
"""Share of the dense side in hybrid search where the model recommends none. Measured with the untrained default
(benchmarks/retrieval.py, training/LOG.md): with it an encoder nobody vouches for did not drag lexical down."""
CHUNK_TOKENS = 256
CHUNK_OVERLAP = 32
MAX_MIB = 32
"""Size cap of `index`: a larger file is skipped."""


DEDUP_THRESHOLD = 0.95
"""Cosine from which two texts are taken to say the same. Measured with the default model
(benchmarks/planted_duplicates.py, training/LOG.md)."""
DEDUP_NEAR_THRESHOLD = 0.7
"""Jaccard similarity of five-word runs: one word in a sentence of thirty may differ."""


class ColorMode(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class SearchMode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


class HitFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"
    FILES = "files"


class Collapse(StrEnum):
    DUPLICATES = "duplicates"


class ReportFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


class GroupFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class VectorFormat(StrEnum):
    NPY = "npy"
    JSONL = "jsonl"


class InputFormat(StrEnum):
    AUTO = "auto"
    LINES = "lines"
    JSONL = "jsonl"


class RoleName(StrEnum):
    """`encoder.protocol.Role` by value: that module needs numpy, which --help does not."""

    QUERY = "query"
    DOCUMENT = "document"


COMMON = "Common options"
ENCODER = "Encoder options"

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=COMMON)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=COMMON)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=COMMON)]
Color = Annotated[
    ColorMode | None,
    typer.Option(
        "--color",
        envvar="SEARCHCTL_COLOR",
        help="Colours; auto means on a terminal. NO_COLOR and FORCE_COLOR count too.",
        show_default="auto",
        rich_help_panel=COMMON,
    ),
]
Collection = Annotated[
    Path | None,
    typer.Option(
        "--collection",
        envvar="SEARCHCTL_COLLECTION",
        metavar="PATH",
        help="The collection's folder. [dim]Default: .searchctl/ here or in the nearest folder above.[/dim]",
        rich_help_panel=COMMON,
    ),
]
Report = Annotated[
    ReportFormat, typer.Option("--format", "-f", envvar="SEARCHCTL_REPORT_FORMAT", help="How to print the result.")
]


def model_names(incomplete: str) -> list[str]:
    """Return the names of the registry that begin so, for completion."""
    from ..encoder.models.registry import names

    return [name for name in names() if name.startswith(incomplete)]


def type_names(incomplete: str) -> list[str]:
    """Return the extensions that have a reader and begin so, for completion."""
    from ..index.readers import known_extensions

    return sorted(name for name in known_extensions() if name.startswith(incomplete))


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SEARCHCTL_MODEL",
        metavar="NAME|FOLDER",
        help="A name of `searchctl models list`, a folder, or a hub name owner/name.",
        rich_help_panel=ENCODER,
        autocompletion=model_names,
    ),
]
Adapters = Annotated[
    list[Path] | None,
    typer.Option(
        "--adapter",
        envvar="SEARCHCTL_ADAPTER",
        metavar="FOLDER",
        help="LoRA adapter to merge; repeat to apply several in order.",
        rich_help_panel=ENCODER,
    ),
]
PoolingOption = Annotated[
    Pooling | None,
    typer.Option(
        "--pooling",
        envvar="SEARCHCTL_POOLING",
        help="Which token states become the vector. [dim]Default: the model's own.[/dim]",
        rich_help_panel=ENCODER,
    ),
]
AttentionOption = Annotated[
    Attention | None,
    typer.Option(
        "--attention",
        envvar="SEARCHCTL_ATTENTION",
        help="Bidirectional, or causal as the model was made. [dim]Default: bidirectional.[/dim]",
        rich_help_panel=ENCODER,
    ),
]
MethodOption = Annotated[
    Method | None,
    typer.Option(
        "--method",
        envvar="SEARCHCTL_METHOD",
        help="Plain, or echo: the text twice, pooled over the second copy. [dim]Default: plain.[/dim]",
        rich_help_panel=ENCODER,
    ),
]
Dim = Annotated[
    int | None,
    typer.Option(
        "--dim",
        envvar="SEARCHCTL_DIM",
        min=1,
        help="Keep the first N components of each vector. [dim]Default: all.[/dim]",
        rich_help_panel=ENCODER,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        envvar="SEARCHCTL_MAX_TOKENS",
        min=1,
        help="Longest text in tokens; longer ones are cut and counted. [dim]Default: the model's own.[/dim]",
        rich_help_panel=ENCODER,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        envvar="SEARCHCTL_PRECISION",
        help="Number format to compute in; auto takes bf16 where the hardware has it.",
        rich_help_panel=ENCODER,
    ),
]
RuntimeOption = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        envvar="SEARCHCTL_RUNTIME",
        help="What computes; auto compiles a model for the CPU where that can be done, and takes torch elsewhere.",
        rich_help_panel=ENCODER,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SEARCHCTL_DEVICE",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to compute; auto takes a GPU with room.",
        rich_help_panel=ENCODER,
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        envvar="SEARCHCTL_BATCH_TOKENS",
        min=1,
        help="Tokens per forward pass. [dim]Default: chosen for the device.[/dim]",
        rich_help_panel=ENCODER,
    ),
]


def cache_folder() -> Path | None:
    """Return the folder for models that SEARCHCTL_CACHE names, None for the user's cache folder."""
    folder = os.environ.get("SEARCHCTL_CACHE")
    return Path(folder).expanduser().absolute() if folder else None


FILTER = "Which documents"
OUTPUT = "Output"

Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        metavar="TYPE",
        rich_help_panel=FILTER,
        autocompletion=type_names,
        help="Only this type, as in `query`.",
    ),
]
PathGlobs = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="GLOB", rich_help_panel=FILTER, help="Only documents whose path matches."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="GLOB", rich_help_panel=FILTER, help="Leave out documents whose path matches."),
]
Form = Annotated[
    GroupFormat,
    typer.Option("--format", "-f", envvar="SEARCHCTL_GROUP_FORMAT", rich_help_panel=OUTPUT, help="How to print."),
]


DEFAULT_RESULTS = Path(".searchctl-eval")
