"""Options that `dedup` and `cluster` share: which documents take part, and how to print."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import GroupFormat

FILTER = "Which documents"
OUTPUT = "Output"

Types = Annotated[
    list[str] | None,
    typer.Option("--type", "-t", metavar="TYPE", rich_help_panel=FILTER, help="Only this type, as in `query`."),
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
