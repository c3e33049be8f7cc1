"""How `searchctl dedup undo` looks: what came back, what did not and why, and the list of all applies."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table
from rich.text import Text

from .console import Terminal
from .dedup_apply_run import one_line
from .dedup_undo import Undoing, Undone
from .encoders import collection_option
from .engine import Talk
from .errors import ExitCode
from .places import existing_collection, shown_path
from .score_words import many
from .settings import ReportFormat
from .status_report import size
from .trash import Manifest, Origin, State, Trash

SCHEMA = 1

_WORDS = {
    State.APPLYING: ("unfinished", "yellow"),
    State.APPLIED: ("applied", ""),
    State.UNDOING: ("undo unfinished", "yellow"),
    State.PARTLY: ("partly undone", "yellow"),
    State.UNDONE: ("undone", "dim"),
}


def run_undo(terminal: Terminal, id_: str | None, given: Path | None, form: ReportFormat) -> ExitCode:
    """Take back one apply, say what came of it, and return how to exit."""
    path = existing_collection(given)
    with terminal.progress("Undoing") as told:
        try:
            talk = Talk(notice=terminal.notice, detail=terminal.detail)
            undone = Undoing(path, talk, told=told, named=collection_option(given)).undo(id_)
        except KeyboardInterrupt:
            terminal.say("what is back stays: run the same command again to go on")
            raise
    if form is ReportFormat.JSON:
        terminal.write(_undone_to_json(undone))
    for name, reason in undone.conflicts.items():
        terminal.say(Text.assemble(("  not as it was ", "red"), one_line(name), f": {one_line(reason)}"))
    for name in undone.changed:
        terminal.say(Text.assemble(("  changed ", "yellow"), one_line(name), ": the file is not the one that went"))
    if undone.foreign:
        terminal.say(
            f"  {many(len(undone.foreign), 'document')} cannot come back into the index: {undone.foreign_reason}"
        )
    if undone.changed or undone.foreign:
        terminal.say(f"take them in with `searchctl index{collection_option(given)}`")
    terminal.say(_summary(undone, collection_option(given)))
    return ExitCode.OK if undone.whole else ExitCode.INCOMPLETE


def run_list(terminal: Terminal, given: Path | None, form: ReportFormat) -> None:
    """List every apply to the collection, the oldest first."""
    trash = Trash(existing_collection(given))
    found = trash.manifests()
    if form is ReportFormat.JSON:
        document = {"schema": SCHEMA, "folder": str(trash.folder), "applies": [_manifest_to_json(one) for one in found]}
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        return
    if not found:
        terminal.say("nothing was applied to this collection")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("id", "date", "from"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for one in found:
        words, style = _WORDS[one.state]
        made = f"{one.made:%Y-%m-%d %H:%M}"
        table.add_row(one.id, made, one.origin.value, f"{len(one.files):,}", size(one.bytes), Text(words, style=style))
    terminal.show(table)


def _summary(undone: Undone, named: str) -> str:
    manifest = undone.manifest
    if undone.repeated:
        return f"{manifest.id} is undone already"
    parts = [f"{many(len(undone.documents), 'document')} back in the index"]
    if manifest.origin is Origin.FILES:
        parts.insert(0, f"{many(len(undone.files), 'file')} back in place")
    end = ""
    if manifest.state is State.PARTLY:
        again = f"`searchctl dedup undo {manifest.id}{named}`"
        end = f"; what is left is in {shown_path(undone.folder)}: once the reasons are mended, run {again} again"
    return f"{manifest.id}: {', '.join(parts)}{end}"


def _undone_to_json(undone: Undone) -> str:
    document = {
        "schema": SCHEMA,
        **_manifest_to_json(undone.manifest),
        "folder": str(undone.folder),
        "moved_back": undone.files,
        "indexed_again": undone.documents,
        "to_index": [*undone.foreign, *undone.changed],
        "conflicts": undone.conflicts,
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _manifest_to_json(manifest: Manifest) -> dict[str, object]:
    return {
        "id": manifest.id,
        "made": manifest.made.isoformat(),
        "from": manifest.origin.value,
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "state": manifest.state.value,
    }
