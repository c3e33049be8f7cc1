"""What `searchctl status` reports, and how it looks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from blake3 import blake3
from rich.table import Table
from rich.text import Text

from ...index.protocol import CollectionStatus
from ..terminal.console import Terminal, printable
from ..terminal.wording import ago, reason_of, size
from .changes import Task
from .encoder_choice import promote_command
from .generations import Generation, kept_generation, unfinished_promotion
from .indexer import Indexer
from .opening import open_collection
from .paths import shown_path

SCHEMA = 1
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the files on disk differ from the collection."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A collection and its files."""

    status: CollectionStatus
    sources: tuple[Path, ...]
    """Paths that were indexed; () when not known."""
    drift: Drift | None
    """None when the files were not looked at."""
    unread: Mapping[str, str]
    """Files the last run could not read, with the reason."""
    kept: Generation | None
    """What `models promote --rollback` goes back to."""
    promotion: Generation | None
    """What a running or killed `models promote` is making."""

    @property
    def ready(self) -> bool:
        """Whether every indexed file is as it is on disk, and no run was ended early."""
        drift = self.drift
        return self.status.complete and (drift is None or not (drift.changed or drift.missing or drift.new))


def read_report(indexer: Indexer, *, scan: bool) -> StatusReport:
    """Return the report of a collection; with `scan`, its files are compared."""
    collection = open_collection(indexer.path, indexer.talk)
    try:
        unread = collection.skipped()
        drift = None
        if scan:
            found = indexer.look(collection)
            changed = tuple(task.path for task in found.tasks if task.known is not None and _differs(task))
            protected = (path for paths in found.protected.values() for path in paths)
            drift = Drift(
                changed=tuple(sorted((*changed, *found.deselected))),
                missing=tuple(sorted((*found.gone, *protected))),
                new=tuple(sorted(task.path for task in found.tasks if task.known is None and task.path not in unread)),
            )
        return StatusReport(
            status=collection.status(),
            sources=tuple(path for path, _ in indexer.places()),
            drift=drift,
            unread=unread,
            kept=kept_generation(indexer.path),
            promotion=_promotion_begun(indexer.path),
        )
    finally:
        collection.close()


def _promotion_begun(collection: Path) -> Generation | None:
    """Return the unfinished promotion; one without a vector is no loss, and in nobody's way."""
    begun = unfinished_promotion(collection)
    return begun if begun is not None and (begun.vectors or begun.problem is not None) else None


def _differs(task: Task) -> bool:
    """Return whether a file whose size, time or inode is new also has new content."""
    assert task.known is not None
    if task.found.size != task.known.size:
        return True
    try:
        return blake3(task.found.path.read_bytes()).hexdigest() != task.known.content_hash
    except OSError:
        return True


def report_to_json(report: StatusReport) -> str:
    """Return the report as the JSON document of the command."""
    status, drift = report.status, report.drift
    settings = None if status.settings is None else asdict(status.settings)
    if settings is not None:
        settings["encoder_config"] = json.loads(settings["encoder_config"])
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "collection": str(status.path),
        "ready": report.ready if drift is not None else None,
        "complete": status.complete,
        "generation": status.generation,
        "documents": status.documents,
        "chunks": status.chunks,
        "vectors": status.vectors,
        "formats": dict(status.formats),
        "settings": settings,
        "bytes": {"catalogue": status.bytes_sqlite, "faiss": status.bytes_faiss},
        "created": _iso(status.created),
        "updated": _iso(status.updated),
        "sources": [str(path) for path in report.sources],
        "changed": None if drift is None else list(drift.changed),
        "missing": None if drift is None else list(drift.missing),
        "new": None if drift is None else list(drift.new),
        "unread": dict(report.unread),
        "kept": _generation_to_json(report.kept),
        "promotion": _generation_to_json(report.promotion),
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _generation_to_json(generation: Generation | None) -> dict[str, Any] | None:
    if generation is None:
        return None
    settings = generation.settings
    return {
        "folder": str(generation.folder),
        "encoder": None if settings is None else settings.encoder_name,
        "fingerprint": None if settings is None else settings.encoder_fingerprint,
        "dim": None if settings is None else settings.dim,
        "documents": generation.documents,
        "vectors": generation.vectors,
        "bytes": generation.bytes,
        "problem": generation.problem,
    }


def _iso(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat()


def show_report(terminal: Terminal, report: StatusReport) -> None:
    """Print the report for a person."""
    status = report.status
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows: dict[str, Text | str] = {
        "collection": shown_path(status.path),
        "state": _state(terminal, report),
        "indexed": f"{status.documents:,} documents, {status.chunks:,} chunks, {status.vectors:,} distinct vectors",
        "formats": ", ".join(f"{name} {count:,}" for name, count in status.formats.items()) or "none",
        "from": ", ".join(printable(shown_path(path)) for path in report.sources) or "not known",
    }
    settings = status.settings
    if settings is not None:
        rows["encoder"] = (
            f"{settings.encoder_name} ({settings.encoder_revision}), {settings.dim} dimensions, fingerprint "
            f"{settings.encoder_fingerprint[:12]}"
        )
        rows["chunk size"] = f"{settings.chunk_tokens} tokens, {settings.chunk_overlap} shared with the next"
    rows["on disk"] = f"{size(status.bytes_sqlite)} catalogue, {size(status.bytes_faiss)} FAISS file"
    if status.updated is not None:
        rows["updated"] = f"{ago(status.updated)}, generation {status.generation}"
    if report.kept is not None:
        rows["kept"] = _kept(terminal, report.kept)
    if report.promotion is not None:
        rows["promotion"] = _promotion(terminal, report.promotion, status)
    for name, value in rows.items():
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    terminal.show(table)
    _name_drift(terminal, report)


def _kept(terminal: Terminal, kept: Generation) -> Text:
    where = f"{shown_path(kept.folder)}, {size(kept.bytes)}"
    if kept.settings is None:
        return Text(f"{where}: cannot be read: {kept.problem}", style="yellow")
    back = terminal.command("models", "promote", "--rollback")
    return Text(
        f"{kept.settings.encoder_name}, {kept.settings.dim} dimensions, fingerprint "
        f"{kept.settings.encoder_fingerprint[:12]} in {where}; {back} goes back to it"
    )


def _promotion(terminal: Terminal, promotion: Generation, status: CollectionStatus) -> Text:
    where = f"in {shown_path(promotion.folder)}, {size(promotion.bytes)}"
    if promotion.settings is None:
        return Text(f"unfinished {where}: cannot be read: {promotion.problem}", style="yellow")
    command = terminal.command(*promote_command(promotion.config()))
    return Text(
        f"to {promotion.settings.encoder_name} is going on or was ended early: {promotion.vectors:,} of "
        f"{status.vectors:,} vectors {where}; {command} goes on, deleting the folder gives it up",
        style="yellow",
    )


def _state(terminal: Terminal, report: StatusReport) -> Text:
    if not report.status.complete:
        return Text(
            f"incomplete: a run is going on or was ended early; {terminal.command('index')} completes it",
            style="yellow",
        )
    drift = report.drift
    if drift is None:
        return Text("complete; files not looked at")
    if report.ready:
        return Text("complete and fresh", style="green")
    parts = [("changed", drift.changed), ("missing", drift.missing), ("new", drift.new)]
    drifted = ", ".join(f"{len(paths):,} {name}" for name, paths in parts if paths)
    return Text(
        f"stale: {drifted}; run {terminal.command('index')}",
        style="yellow",
    )


def _name_drift(terminal: Terminal, report: StatusReport) -> None:
    drift = report.drift
    groups: dict[str, list[str]] = {}
    if drift is not None:
        groups = {"changed": list(drift.changed), "missing": list(drift.missing), "new": list(drift.new)}
    groups["not read"] = [f"{path}: {reason_of(path, reason)}" for path, reason in report.unread.items()]
    for name, paths in groups.items():
        shown = paths if terminal.verbose else paths[:_MOST_NAMED]
        for path in shown:
            terminal.show(Text.assemble((f"{name:<10}", "yellow"), "  ", printable(path)))
        if len(shown) < len(paths):
            rest = f"{'':<10}  and {len(paths) - len(shown):,} more {name}: --verbose names all"
            terminal.show(Text(rest, style="dim"))
