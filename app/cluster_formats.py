"""Clusters for programs: one item a line or a row. The schema is versioned and the columns fixed."""

from __future__ import annotations

import json

from .cluster_report import SCHEMA, ClusterReport, assignment
from .csv_rows import csv_text
from .settings import GroupFormat

CSV_COLUMNS = ("cluster", "title", "path", "place", "chunk", "to_center", "x", "y")


def render(report: ClusterReport, form: GroupFormat) -> str:
    """Return the report as JSONL or CSV, text that ends with a newline."""
    rows = range(len(report.items.items))
    if form is GroupFormat.JSONL:
        lines = ({"schema": SCHEMA, **assignment(report, row)} for row in rows)
        return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    assert form is GroupFormat.CSV, form
    return csv_text(CSV_COLUMNS, (_cells(report, row) for row in rows))


def _cells(report: ClusterReport, row: int) -> list[object]:
    cluster, found = report.cluster_of(row), assignment(report, row)
    return [
        found["cluster"],
        None if cluster is None else cluster.title,
        found["path"],
        found["place"],
        report.items.items[row].ordinal,
        found["to_center"],
        found["x"],
        found["y"],
    ]
