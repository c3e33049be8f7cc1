"""What `searchctl cluster` reports: its numbers, its JSON document, and one item a line or a row for programs.

The schema is versioned and the columns are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...index.groups.cluster_settings import ClusterSettings
from ...index.groups.cluster_shape import ClusterShape
from ...index.groups.clustering import Clustering
from ...index.protocol import Item, Items, Vectors
from ..collection.items import item_json, place
from ..options import GroupFormat
from ..terminal.csv_rows import csv_text

SCHEMA = 1
TITLE_WORDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCluster:
    """One cluster with the id that it keeps from run to run."""

    id: int
    known: bool
    """Whether it is one of the run before."""
    rows: tuple[int, ...]
    """Its items, ascending."""
    keywords: tuple[tuple[str, float], ...]
    shape: ClusterShape

    @property
    def title(self) -> str:
        """The first keywords, for a person."""
        return ", ".join(word for word, _ in self.keywords[:TITLE_WORDS]) or "(no words)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """What a collection is about."""

    collection: Path
    root: Path
    items: Items
    clustering: Clustering
    settings: ClusterSettings
    instruction: str | None
    clusters: tuple[ReportedCluster, ...]
    """The largest first."""
    to_center: Vectors
    """(n,) cosine of each item to the centre of its cluster, NaN for noise"""
    places: Vectors | None
    """(n, 2) on the map, None where none was asked for"""
    next_id: int
    filtered: bool
    """Whether only a part of the collection was looked at."""

    def cluster_of(self, row: int) -> ReportedCluster | None:
        """Return the cluster of an item, None for noise."""
        label = int(self.clustering.labels[row])
        return None if label < 0 else self.clusters[label]


def to_json(report: ClusterReport) -> dict[str, Any]:
    """Return the JSON document; the same items, options and earlier ids give the same bytes."""
    items, clustering = report.items, report.clustering
    count = len(items.items)
    return {
        "schema": SCHEMA,
        "collection": str(report.collection),
        "level": items.level.value,
        "method": clustering.method.value,
        "settings": settings_json(report),
        "items": count,
        "documents": len({item.path for item in items.items}),
        "quality": {
            "silhouette": clustering.silhouette,
            "choice": None
            if clustering.choice is None
            else [{"n": n, "silhouette": score} for n, score in clustering.choice],
            "noise_share": clustering.noise / count if count else 0.0,
        },
        "clusters": [_cluster(report, cluster) for cluster in report.clusters],
        "noise": {"size": clustering.noise} if clustering.noise else None,
        "assignments": [assignment(report, row) for row in range(count)],
    }


def settings_json(report: ClusterReport) -> dict[str, Any]:
    """Return how the clusters were made; every key is always there."""
    settings = report.settings
    return {
        "n": settings.n,
        "seed": settings.seed,
        "resolution": settings.resolution,
        "min_size": settings.min_size,
        "instruction": report.instruction,
    }


def _cluster(report: ClusterReport, cluster: ReportedCluster) -> dict[str, Any]:
    items = report.items.items
    return {
        "id": cluster.id,
        "size": len(cluster.rows),
        "share": len(cluster.rows) / len(items),
        "documents": len({items[row].path for row in cluster.rows}),
        "title": cluster.title,
        "keywords": [[word, weight] for word, weight in cluster.keywords],
        "cohesion": cluster.shape.cohesion,
        "medoid": item_json(items[cluster.shape.medoid], report.root),
        "representatives": [item_json(items[row], report.root) for row in cluster.shape.representatives],
        "known": cluster.known,
    }


def assignment(report: ClusterReport, row: int) -> dict[str, Any]:
    """Return one item with its cluster; null for noise."""
    item: Item = report.items.items[row]
    cluster = report.cluster_of(row)
    at: Sequence[float | None] = (None, None) if report.places is None else report.places[row].tolist()
    near = float(report.to_center[row])
    return {
        "key": item.key,
        "path": item.path,
        "place": place(item, report.root),
        "title": item.title,
        "text": item.text,
        "cluster": None if cluster is None else cluster.id,
        "to_center": None if np.isnan(near) else near,
        "x": at[0],
        "y": at[1],
    }


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
