"""Duplicates for programs: one group a line, or one item a row. The schema is versioned and the columns fixed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .csv_rows import csv_text
from .dedup_report import SCHEMA, DedupReport, group_json, rounded
from .item_json import place
from .settings import GroupFormat

CSV_COLUMNS = (
    *("group", "size", "role", "tier", "score", "cosine", "path", "file", "place", "chunk", "title", "date"),
    *("bytes", "docid"),
)


def render(report: DedupReport, form: GroupFormat) -> str:
    """Return the report as JSONL or CSV, text that ends with a newline, or "" where there is no group to say."""
    if form is GroupFormat.JSONL:
        groups = (group_json(report, group, number) for number, group in enumerate(report.groups, start=1))
        return "".join(json.dumps({"schema": SCHEMA, **group}, ensure_ascii=False) + "\n" for group in groups)
    assert form is GroupFormat.CSV, form
    return csv_text(CSV_COLUMNS, _rows(report))


def _rows(report: DedupReport) -> Iterator[list[object]]:
    for number, group in enumerate(report.groups, start=1):
        size = len(group.dropped) + 1
        yield [number, size, "kept", None, None, None, *_cells(report, group.kept)]
        for found in group.dropped:
            cosine = None if found.cosine is None else rounded(found.cosine)
            yield [number, size, "dropped", found.tier.value, rounded(found.score), cosine, *_cells(report, found.item)]


def _cells(report: DedupReport, row: int) -> list[object]:
    item, root = report.items[row], report.root_of(row)
    return [
        item.path,
        str(root / item.path),
        place(item, root),
        item.ordinal,
        item.title,
        item.date.isoformat(),
        item.bytes,
        item.content_hash[:8],
    ]
