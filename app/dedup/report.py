"""What `searchctl dedup` reports: its numbers, its JSON document, and one group a line or one item a row for programs.

The schema is versioned and the columns are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...index.dedup_settings import Keep, Level, Thresholds, Tier
from ...index.groups.duplicate_groups import Dropped, DuplicateGraph, Group
from ...index.protocol import Item
from ..collection.items import item_json, place
from ..options import GroupFormat
from ..terminal.csv_rows import csv_text

SCHEMA = 1
BORDER = 20
"""Pairs shown on either side of the threshold."""
_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What a threshold would find; exact and near pairs count at each."""

    threshold: float
    pairs: int
    groups: int
    dropped: int
    bytes_saved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupReport:
    """The duplicates of a collection, or what of it is in another one."""

    collection: Path
    against: Path | None
    root: Path
    other_root: Path | None
    own: int
    """Items of the collection; those of the other one follow in the graph."""
    level: Level
    keep: Keep
    thresholds: Thresholds
    graph: DuplicateGraph
    groups: tuple[Group, ...]
    changes: int
    filtered: bool
    """Whether only a part of the collection was looked at."""

    @property
    def items(self) -> Sequence[Item]:
        return self.graph.items

    def root_of(self, row: int) -> Path:
        """Return the folder that an item's path starts from."""
        return self.root if row < self.own or self.other_root is None else self.other_root

    def saved(self, groups: Sequence[Group]) -> int:
        """Return the bytes of all that these groups drop."""
        return sum(self.items[found.item].bytes for group in groups for found in group.dropped)

    def curve(self) -> list[CurvePoint]:
        """Return what each hundredth from the floor to 1 would find."""
        points = []
        first = max(round(self.graph.pairs.floor * _STEPS + 0.4999), 1)
        for step in range(first, _STEPS + 1):
            at = Thresholds(near=self.thresholds.near, semantic=step / _STEPS)
            groups = self.graph.groups(at)
            points.append(
                CurvePoint(
                    threshold=step / _STEPS,
                    pairs=sum(self.graph.pair_counts(at).values()),
                    groups=len(groups),
                    dropped=sum(len(group.dropped) for group in groups),
                    bytes_saved=self.saved(groups),
                )
            )
        return points


def to_json(report: DedupReport) -> dict[str, Any]:
    """Return the JSON document; the same items and options give the same bytes."""
    own = report.items[: report.own]
    bins = [int(count) for count in report.graph.pairs.histogram]
    accepted, rejected = report.graph.border(report.thresholds, BORDER)
    return {
        "schema": SCHEMA,
        "collection": str(report.collection),
        "against": None if report.against is None else str(report.against),
        "level": report.level.value,
        "keep": report.keep.value,
        "near_threshold": report.thresholds.near,
        "threshold": report.thresholds.semantic,
        "floor": report.graph.pairs.floor,
        "items": report.own,
        "against_items": None if report.against is None else len(report.items) - report.own,
        "documents": len({item.path for item in own}),
        "bytes": sum(item.bytes for item in own),
        "summary": _summary(report),
        "groups": [group_json(report, group, number) for number, group in enumerate(report.groups, start=1)],
        "curve": [
            {
                "threshold": point.threshold,
                "pairs": point.pairs,
                "groups": point.groups,
                "dropped": point.dropped,
                "bytes_saved": point.bytes_saved,
            }
            for point in report.curve()
        ],
        "histogram": {"start": -1.0, "width": 2 / len(bins), "counts": bins},
        "border": {
            "accepted": [_pair(report, row) for row in accepted],
            "rejected": [_pair(report, row) for row in rejected],
        },
    }


def rounded(score: float) -> float:
    """Return a similarity without the noise of float32, so that 0.7 is 0.7 and at its threshold."""
    return round(score, 6)


def _summary(report: DedupReport) -> dict[str, Any]:
    pairs = report.graph.pair_counts(report.thresholds)
    found = [found for group in report.groups for found in group.dropped]
    tiers = {}
    for tier in Tier:
        rows = [one.item for one in found if one.tier is tier]
        tiers[tier.value] = {
            "pairs": pairs[tier],
            "dropped": len(rows),
            "bytes": sum(report.items[row].bytes for row in rows),
        }
    return {
        "groups": len(report.groups),
        "kept": report.own - len(found),
        "dropped": len(found),
        "bytes_saved": report.saved(report.groups),
        "tiers": tiers,
    }


def group_json(report: DedupReport, group: Group, number: int) -> dict[str, Any]:
    """Return one group; its number counts from the largest."""
    kept = report.items[group.kept]
    return {
        "id": number,
        "size": len(group.dropped) + 1,
        "bytes_saved": report.saved([group]),
        "lowest": rounded(min(found.score for found in group.dropped)),
        "tiers": {tier.value: sum(found.tier is tier for found in group.dropped) for tier in Tier},
        "kept": item_json(kept, report.root_of(group.kept)),
        "dropped": [_dropped(report, found) for found in group.dropped],
    }


def _dropped(report: DedupReport, found: Dropped) -> dict[str, Any]:
    return {
        **item_json(report.items[found.item], report.root_of(found.item)),
        "tier": found.tier.value,
        "score": rounded(found.score),
        "cosine": None if found.cosine is None else rounded(found.cosine),
    }


def _pair(report: DedupReport, row: int) -> dict[str, Any]:
    pairs = report.graph.pairs
    jaccard, cosine = float(pairs.jaccard[row]), float(pairs.cosines[row])
    is_same = pairs.cosines[row] >= np.float32(report.thresholds.semantic)
    tier = Tier.SEMANTIC.value if is_same else None
    first, second = report.graph.first_items(row)
    return {
        "a": item_json(report.items[first], report.root_of(first)),
        "b": item_json(report.items[second], report.root_of(second)),
        "cosine": rounded(cosine),
        "jaccard": rounded(jaccard) if jaccard >= 0 else None,
        "tier": tier,
    }


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
