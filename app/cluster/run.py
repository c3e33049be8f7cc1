"""How `searchctl cluster` runs: vectors of a collection, clusters of them, words and lasting ids for these.

The vectors are those that are stored, or others of the same texts under an instruction.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...encoder.protocol import EncodeProgress, Role
from ...index.dedup_settings import Level
from ...index.groups.cluster_ids import MatchedIds, NamedCluster, NewCluster, match_ids
from ...index.groups.cluster_settings import ClusterSettings, Layout
from ...index.groups.cluster_shape import describe_clusters
from ...index.groups.clustering import by_size, check_settings, cluster
from ...index.groups.keywords import keywords
from ...index.groups.map_layout import check_layout
from ...index.groups.steps import StepProgress
from ...index.items import with_vectors
from ...index.protocol import Filter, Items
from ...training.evaluation.vector_cache import CachedEncoder
from ..collection.caches import places_of
from ..collection.encoder_choice import EncoderChoice, collection_encoder
from ..collection.items import INCOMPLETE, Bar, check_room
from ..collection.opening import open_collection
from ..collection.paths import existing_collection, rooted_globs
from ..collection.stored_groups import StoredCluster, StoredClusters, read_clusters, write_clusters
from ..collection.stored_vectors import StoredVectors
from ..collection.talk import Talk
from ..errors import AppError, ResultNotStoredError
from ..options import GroupFormat
from ..pages.files import write_page
from ..terminal.console import Terminal
from ..terminal.wording import as_text
from .page import page
from .report import ClusterReport, ReportedCluster, render, settings_json, to_json
from .table import show_clusters

if TYPE_CHECKING:
    from ...index.protocol import Collection
    from ..collection.encoder_choice import LazyEncoder


_log = logging.getLogger(__name__)

INSTRUCTED_FILE = "instructed.sqlite"
"""In the collection's folder: vectors under instructions, each text once an instruction."""


def instructed(
    collection: Collection,
    items: Items,
    instruction: str,
    lazy: LazyEncoder,
    *,
    show: Callable[[float, str], None],
) -> Items:
    """Return the items with vectors under `instruction`, which all texts get as queries do.

    What was encoded stays in the collection's folder: another run, also after a kill, encodes only what is new.
    """
    hashes = sorted({hash_ for part in items.parts for hash_, _ in part})
    texts = collection.embedded_texts(hashes)

    def progress(event: EncodeProgress) -> None:
        show(event.texts_done / max(event.texts_total, 1), f"{event.texts_done:,} of {event.texts_total:,} texts")

    file = collection.path / INSTRUCTED_FILE
    with closing(CachedEncoder(StoredVectors(lazy=lazy, collection=None), file, kind="instructed")) as encoder:
        vectors = encoder.encode(texts, role=Role.DOCUMENT, instruction=instruction, progress=progress)
    return with_vectors(items, hashes, vectors)


KEYWORDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRequest:
    """What to cluster and how."""

    level: Level = Level.CHUNK
    settings: ClusterSettings = field(default_factory=ClusterSettings)
    instruction: str | None = None
    """None: the vectors that are stored."""
    where: Filter = field(default_factory=Filter)
    layout: Layout | None = None
    """None: no map."""
    choice: EncoderChoice = field(default_factory=EncoderChoice)
    """How an instruction's vectors are computed."""


def run_cluster(given: Path | None, request: ClusterRequest, *, talk: Talk, bar: Bar) -> ClusterReport:
    """Return the clusters of a collection and keep them in its folder for queries."""
    path = existing_collection(given)
    collection = open_collection(path, talk)
    try:
        where = replace(request.where, paths=rooted_globs(request.where.paths, collection.root))
        status = collection.status()
        check_room(status)
        items = collection.items(request.level, where)
        if not items.items:
            narrowed = "" if where.is_empty else " that passes the filters"
            raise AppError(f"{path} holds no {request.level.value}{narrowed}: expected some to cluster")
        check_settings(request.settings, *items.vectors.shape)
        if request.layout is not None:
            check_layout(request.layout, len(items.items), items.vectors.shape[1])  # the map has a place for each copy
        if request.instruction is not None:
            with bar("encoding") as show:
                lazy = collection_encoder(collection.settings, request.choice, talk)
                items = instructed(collection, items, request.instruction, lazy, show=show)
    finally:
        collection.close()
    if not status.complete:
        _log.warning(INCOMPLETE)
    report = _clustered(path, items, request, talk=talk, bar=bar, filtered=not where.is_empty)
    if report.filtered:
        _log.warning(
            "only a part was clustered: the clusters that `query --cluster` knows stay those of the last whole run"
        )
    else:
        _store(report, talk)
    if request.layout is None:
        return report
    with bar("drawing the map") as show:
        places = places_of(path, items, request.layout, seed=request.settings.seed, progress=_steps(show))
    return replace(report, places=places)


def _clustered(
    path: Path, items: Items, request: ClusterRequest, *, talk: Talk, bar: Bar, filtered: bool
) -> ClusterReport:
    with bar("clustering") as show:
        # What is said many times counts once: copies have the same neighbours, and must not be parted by chance.
        found = cluster(items.vectors, request.settings, progress=_steps(show))
    found = replace(found, labels=by_size(found.labels[items.nodes]))
    vectors = items.vectors[items.nodes]
    shapes, to_center = describe_clusters(vectors, found.labels)
    words = keywords([item.text for item in items.items], found.labels, top=KEYWORDS)
    rows = [tuple(np.flatnonzero(found.labels == label).tolist()) for label in range(found.n)]
    ids = _ids(path, items, [(shape.medoid, members) for shape, members in zip(shapes, rows, strict=True)], talk)
    return ClusterReport(
        collection=path,
        root=path.parent,
        items=items,
        clustering=found,
        settings=request.settings,
        instruction=request.instruction,
        clusters=tuple(
            ReportedCluster(id=id_, known=known, rows=members, keywords=tuple(its), shape=shape)
            for id_, known, members, its, shape in zip(ids.ids, ids.known, rows, words, shapes, strict=True)
        ),
        to_center=to_center,
        places=None,
        next_id=ids.next_id,
        filtered=filtered,
    )


def _steps(show: Callable[[float, str], None]) -> Callable[[StepProgress], None]:
    """Turn the steps of a computation, each with an end of its own, into words beside a bar that never goes back."""
    return lambda event: show(event.done / max(event.total, 1), f"{event.step}: {event.done:,} of {event.total:,}")


def _ids(path: Path, items: Items, clusters: list[tuple[int, tuple[int, ...]]], talk: Talk) -> MatchedIds:
    """Return the ids of the clusters, given as medoid and members: those of the run before where they go on."""
    try:
        before = read_clusters(path)
    except AppError as error:
        _log.warning("%s. Clusters are numbered from 1 again", error)
        before = None
    members = [item.member for item in items.items]
    same_kind = before is not None and before.level == items.level.value
    old = [] if before is None or not same_kind else [
        NamedCluster(id=one.id, medoid=one.medoid, members=one.members) for one in before.clusters
    ]  # fmt: skip
    new = [NewCluster(medoid=members[medoid], members=[members[row] for row in rows]) for medoid, rows in clusters]
    medoids = {one.medoid for one in old} | {one.medoid for one in new}
    vectors = {
        member: items.vectors[node]
        for member, node in zip(members, items.nodes.tolist(), strict=True)
        if member in medoids
    }
    return match_ids(old, new, vectors, next_id=1 if before is None else before.next_id)


def _store(report: ClusterReport, talk: Talk) -> None:
    members = [item.member for item in report.items.items]

    def unique(rows: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(members[row] for row in rows))

    noise = tuple(np.flatnonzero(report.clustering.labels < 0).tolist())
    stored = StoredClusters(
        level=report.items.level.value,
        method=report.clustering.method.value,
        settings=settings_json(report),
        changes=report.items.changes,
        next_id=report.next_id,
        clusters=tuple(
            StoredCluster(id=one.id, title=one.title, medoid=members[one.shape.medoid], members=unique(one.rows))
            for one in report.clusters
        ),
        noise=unique(noise),
    )
    try:
        write_clusters(report.collection, stored)
    except ResultNotStoredError as error:
        _log.warning(str(error))


def present(
    terminal: Terminal,
    report: ClusterReport,
    form: GroupFormat,
    *,
    most: int,
    html: Path | None,
) -> None:
    """Print the report, and write its page where one is asked for."""
    document = to_json(report) if html is not None or form is GroupFormat.JSON else None
    if html is not None:
        assert document is not None
        write_page(terminal, html, page(document, command=shlex.join(["searchctl", *sys.argv[1:]])))
    if document is not None and form is GroupFormat.JSON:
        terminal.write(as_text(document))
    elif form is GroupFormat.TABLE:
        show_clusters(terminal, report, most=most)
    else:
        terminal.write(render(report, form))
