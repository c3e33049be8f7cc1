"""What `query --cluster` and `query --collapse` go by: the stored groups, what was asked of them, how old they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..collection.stored_groups import (
    Members,
    StoredCluster,
    StoredClusters,
    StoredDuplicates,
    read_clusters,
    read_duplicates,
)
from ..errors import AppError
from ..terminal.console import Terminal

if TYPE_CHECKING:
    from ...index.protocol import Collection


NOISE = "noise"
_SHOWN = 8
"""Clusters that an error names."""
_TITLE_CHARS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Which groups a query uses; None: that option was not given."""

    clusters: StoredClusters | None = None
    within: Members | None = None
    """The members of the clusters that were chosen."""
    duplicates: StoredDuplicates | None = None


def read_grouping(folder: Path, clusters: Sequence[str], *, collapse: bool) -> Grouping:
    """Return what --cluster, () where it was not given, and --collapse ask for in a collection's folder.

    Raises AppError when there are no clusters or duplicates yet, or a cluster is not there.
    """
    found = within = duplicates = None
    if clusters:
        found = read_clusters(folder)
        if found is None:
            raise AppError(f"there are no clusters in {folder} yet", next_command=("cluster",))
        within = _chosen(found, clusters)
    if collapse:
        duplicates = read_duplicates(folder)
        if duplicates is None:
            raise AppError(f"it is not known yet what is a duplicate in {folder}", next_command=("dedup",))
    return Grouping(clusters=found, within=within, duplicates=duplicates)


def _chosen(found: StoredClusters, asked: Sequence[str]) -> Members:
    by_id = {str(cluster.id): cluster for cluster in found.clusters}
    names: list[str] = []
    for name in dict.fromkeys(part.strip() for value in asked for part in value.split(",")):
        if name == NOISE:
            names += found.noise
        elif name in by_id:
            names += by_id[name].members
        else:
            raise AppError(
                f"--cluster is {name!r}: expected the number of a cluster that is there, or {NOISE}. "
                f"{_there(found.clusters)}",
                next_command=("cluster",),
            )
    return Members(level=found.level, names=tuple(names))


def _there(clusters: Sequence[StoredCluster]) -> str:
    """Return a sentence that names some clusters, the largest first, and where to see all."""
    if not clusters:
        return "There are none but noise: expected other settings"
    largest = sorted(clusters, key=lambda cluster: (-len(cluster.members), cluster.id))[:_SHOWN]
    named = ", ".join(f"{cluster.id} ({_short(cluster.title)})" for cluster in largest)
    if len(clusters) > len(largest):
        named += f" and {len(clusters) - len(largest)} smaller ones"
    return f"There are {named}"


def _short(title: str) -> str:
    return title if len(title) <= _TITLE_CHARS else title[: _TITLE_CHARS - 1].rstrip(" ,") + "…"


def grouping_notices(grouping: Grouping, collection: Collection, terminal: Terminal) -> list[str]:
    """Return what a person should know when the collection has changed since its groups were made."""
    if grouping == Grouping():
        return []
    said = []
    with collection.snapshot():
        changes = collection.changes
        if grouping.clusters is not None and grouping.clusters.changes != changes:
            said += _since_clustered(grouping.clusters, collection, terminal)
    if grouping.within is not None and not grouping.within.names:
        said.append("no passage is noise in these clusters")
    if grouping.duplicates is not None and grouping.duplicates.changes != changes:
        said.append(
            "the collection has changed since duplicates were looked for: of what is new or changed only word-for-word "
            f"copies are taken for duplicates. {terminal.command('dedup')} compares it"
        )
    return said


def _since_clustered(clusters: StoredClusters, collection: Collection, terminal: Terminal) -> list[str]:
    names = [name for cluster in clusters.clusters for name in cluster.members] + list(clusters.noise)
    known = len(Members(level=clusters.level, names=tuple(names)).find(collection))
    new = collection.status().chunks - known
    if new:
        noun, verb = ("chunk", "is") if new == 1 else ("chunks", "are")
        return [
            f"the collection has changed since it was clustered: {new:,} {noun} {verb} in no cluster yet. "
            f"{terminal.command('cluster')} renews them"
        ]
    if clusters.level == "document":  # a document keeps its path when it comes to speak of something else
        return [
            "the collection has changed since it was clustered: no chunk is without a cluster, but documents that "
            f"changed stay where they were. {terminal.command('cluster')} renews them"
        ]
    return []
