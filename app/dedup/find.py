"""How `searchctl dedup` runs: items and their pairs from a collection, found once, and grouped at any threshold."""

from __future__ import annotations

import logging
import math
import re
import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...index.dedup_settings import Keep, Level, Thresholds
from ...index.errors import EncoderMismatchError
from ...index.groups.duplicate_groups import DuplicateGraph
from ...index.groups.near_pairs import NEAR_FLOOR
from ...index.groups.similar_pairs import MOST_PAIRS
from ...index.groups.text_pairs import TextPairs, find_text_pairs
from ...index.protocol import Collection, Filter, Items
from ..collection.caches import StoredPairs, pairs_file, read_pairs, write_pairs
from ..collection.items import INCOMPLETE, Bar, check_room, opened
from ..collection.paths import existing_collection, rooted_globs, shown_path
from ..collection.stored_groups import StoredDuplicates, write_duplicates
from ..collection.talk import Talk
from ..errors import AppError, ResultNotStoredError
from ..options import GroupFormat
from ..pages.files import write_page
from ..terminal.console import Terminal
from ..terminal.wording import as_text, many, size
from .page import page
from .plan import Action, Kept, Plan
from .report import DedupReport, render, rounded, to_json
from .table import show_curve, show_dedup

_log = logging.getLogger(__name__)

PAIR_FLOOR = 0.7
"""Cosine down to which pairs are found and kept, so that any threshold from it on is answered at once."""

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_WORDS_SHARE = 0.3
"""Of the bar, for comparing words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupRequest:
    """What to compare and how."""

    level: Level = Level.CHUNK
    threshold: float
    near_threshold: float
    keep: Keep = Keep.LONGEST
    where: Filter = field(default_factory=Filter)
    against: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise AppError(f"--device is {self.device!r}: expected auto, cpu, cuda or cuda:N")
        if not (math.isfinite(self.threshold) and 0 < self.threshold <= 1):
            raise AppError(f"--threshold is {self.threshold}: expected a cosine above 0 and up to 1, such as 0.95")
        if not NEAR_FLOOR <= self.near_threshold <= 1:
            raise AppError(
                f"--near-threshold is {self.near_threshold}: expected a share of common words from {NEAR_FLOOR} to 1"
            )


def run_dedup(given: Path | None, request: DedupRequest, *, talk: Talk, bar: Bar) -> DedupReport:
    """Return the duplicates of a collection. Raises IndexRoomError and AppError for what cannot be compared."""
    path = existing_collection(given)
    other_path = None if request.against is None else existing_collection(request.against)
    if other_path == path:
        raise AppError(
            f"--against is {request.against}, the collection itself: expected another one. Without --against its items "
            "are compared with each other"
        )
    with ExitStack() as stack:
        collection = stack.enter_context(opened(path, talk))
        against = None if other_path is None else stack.enter_context(opened(other_path, talk))
        where = replace(request.where, paths=rooted_globs(request.where.paths, collection.root))
        status = collection.status()
        check_room(status, *(() if against is None else (against.status(),)))
        items = collection.items(request.level, where)
        other = None
        if against is not None:
            _check_same_encoder(collection, against)
            other = against.items(request.level)
    if not items.items and not where.is_empty:
        raise AppError(f"{path} holds no {request.level.value} that passes the filters: expected some to compare")
    if not status.complete:
        _log.warning(INCOMPLETE)
    pairs = _pairs(path, items, other, request, talk=talk, bar=bar)
    own = len(items.items)
    graph = DuplicateGraph(
        items.items if other is None else items.items + other.items,
        pairs,
        keep=request.keep,
        own=None if other is None else own,
    )
    thresholds = Thresholds(near=request.near_threshold, semantic=request.threshold)
    return DedupReport(
        collection=path,
        against=other_path,
        root=path.parent,
        other_root=None if other_path is None else other_path.parent,
        own=own,
        level=request.level,
        keep=request.keep,
        thresholds=thresholds,
        graph=graph,
        groups=tuple(graph.groups(thresholds)),
        changes=items.changes,
        filtered=not where.is_empty,
    )


def store_groups(report: DedupReport, talk: Talk) -> None:
    """Keep the groups of a whole collection for `query --collapse`; those of a part would hide what they leave out."""
    if report.filtered or report.against is not None:
        return
    groups, contents = [], {}
    for group in report.groups:
        items = [report.items[row] for row in (group.kept, *(found.item for found in group.dropped))]
        members = tuple(dict.fromkeys(item.member for item in items))
        if len(members) > 1:  # equal chunks share one member, and always count as duplicates
            groups.append(members)
            if report.level is Level.DOCUMENT:
                contents.update({item.path: item.content_hash for item in items})
    stored = StoredDuplicates(
        level=report.level.value,
        threshold=report.thresholds.semantic,
        near_threshold=report.thresholds.near,
        changes=report.changes,
        groups=tuple(groups),
        contents=contents,
    )
    try:
        write_duplicates(report.collection, stored)
    except ResultNotStoredError as error:
        _log.warning(str(error))


def _check_same_encoder(one: Collection, two: Collection) -> None:
    ours, theirs = one.settings, two.settings
    if ours is None or theirs is None or ours.encoder_fingerprint == theirs.encoder_fingerprint:
        return  # an empty collection says so when it is read
    raise EncoderMismatchError(
        f"{one.path} was filled by encoder {ours.encoder_name} ({ours.encoder_fingerprint[:12]}), {two.path} by "
        f"{theirs.encoder_name} ({theirs.encoder_fingerprint[:12]}): their vectors cannot be compared. Fill one with "
        "the other's encoder",
        next_command=("index", "--rebuild", "--model", theirs.encoder_name, "--collection", str(one.path)),
    )


def _pairs(
    collection: Path, items: Items, other: Items | None, request: DedupRequest, *, talk: Talk, bar: Bar
) -> TextPairs:
    """Return the pairs down to the floor, from the last scan of the same items where there was one."""
    file = pairs_file(collection, items, other)
    floor = min(PAIR_FLOOR, request.threshold)
    stored = read_pairs(file)
    if stored is None or (stored.asked > request.threshold and stored.pairs.floor <= stored.asked):
        stored = StoredPairs(pairs=_scan(items, other, floor, request.device, bar), asked=floor)
        try:
            write_pairs(file, stored)
        except OSError as error:
            _log.warning("the pairs are not kept for the next run: %s: %s", file, error.strerror or error)
    else:
        _log.info("pairs of an earlier run: %s", shown_path(file))
    if stored.pairs.floor > request.threshold:
        least = stored.pairs.floor
        raise AppError(
            f"--threshold is {request.threshold:g}, and more than {MOST_PAIRS:,} pairs have a cosine of at least "
            f"{least - 0.01:g}: expected {least:g} or more",
            next_command=("dedup", "--threshold", f"{max(least, 0.95):g}"),
        )
    return stored.pairs.above(floor)


def _scan(items: Items, other: Items | None, floor: float, device: str, bar: Bar) -> TextPairs:
    with bar("comparing") as show:
        return find_text_pairs(
            items,
            other,
            floor=floor,
            device=device,
            comparing_words=lambda done, total: show(
                _WORDS_SHARE * done / max(total, 1), f"words of {done:,} of {total:,} texts"
            ),
            comparing_vectors=lambda done, total: show(
                _WORDS_SHARE + (1 - _WORDS_SHARE) * done / max(total, 1), f"vectors of {done:,} of {total:,} pairs"
            ),
        )


def present(
    terminal: Terminal, report: DedupReport, form: GroupFormat, *, most: int, curve: bool, html: Path | None = None
) -> None:
    """Print the report, and write its page where one is asked for."""
    document = to_json(report) if html is not None or form is GroupFormat.JSON else None
    if html is not None:
        assert document is not None
        write_page(terminal, html, page(document, command=shlex.join(["searchctl", *sys.argv[1:]])))
    if document is not None and form is GroupFormat.JSON:
        terminal.write(as_text(document))
    elif form is not GroupFormat.TABLE:
        terminal.write(render(report, form))
    elif curve:
        show_curve(terminal, report)
    else:
        show_dedup(terminal, report, most=most)


def plan_of(report: DedupReport) -> Plan:
    """Return what could go by a report on whole documents."""
    actions = []
    for group in report.groups:
        kept = report.items[group.kept]
        root = report.root_of(group.kept)
        path = kept.path if report.against is None else str(root / kept.path)
        actions += [
            Action(
                path=report.items[found.item].path,
                content_hash=report.items[found.item].content_hash,
                bytes=report.items[found.item].bytes,
                kept=Kept(path=path, content_hash=kept.content_hash),
                tier=found.tier.value,
                score=rounded(found.score),
            )
            for found in group.dropped
        ]
    return Plan(
        collection=str(report.collection),
        against=None if report.against is None else str(report.against),
        threshold=report.thresholds.semantic,
        near_threshold=report.thresholds.near,
        keep=report.keep.value,
        actions=tuple(sorted(actions, key=lambda action: action.path)),
    )


def tell_plan(terminal: Terminal, plan: Plan, output: Path) -> None:
    """Say what a plan holds, and what to do with it."""
    terminal.say(f"{many(len(plan.actions), 'document')} could go, {size(plan.bytes)}: {shown_path(output)}")
    if plan.actions:
        terminal.say(f"see what would happen: {terminal.command('dedup', 'apply', shown_path(output))}")
