"""How `searchctl dedup apply` and `searchctl dedup undo` look: what would happen, what was done, what came back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..collection.paths import existing_collection, shown_path
from ..collection.talk import Talk
from ..errors import ExitCode
from ..options import ReportFormat
from ..terminal.console import Terminal, one_line
from ..terminal.wording import many, size
from .apply import Application, Applied, Outlook
from .checks import Checked
from .plan import Action, Plan, read_plan
from .trash import Manifest, State, Trash
from .undo import Undoing, Undone

SCHEMA = 1
_MOST_NAMED = 20
"""Files named without --verbose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest:
    """What the person asked for."""

    plan: Path
    yes: bool
    skip_changed: bool
    form: ReportFormat


def run_apply(terminal: Terminal, request: ApplyRequest, given: Path | None) -> ExitCode:
    """Show what the plan would do, or do it, and return how to exit."""
    plan = read_plan(request.plan)
    path = existing_collection(given)
    with terminal.progress("Applying") as told:
        application = Application(path, plan, Talk(), skip_changed=request.skip_changed, told=told)
        # A plan without an action is done when it is looked at: a script that finds no duplicates has not failed.
        doing = request.yes and bool(plan.actions)
        if not doing:
            outlook = application.look()
        else:
            try:
                applied = application.apply()
            except KeyboardInterrupt:
                terminal.say(
                    "what was moved is in the trash: run the same command again to go on, or take it back with "
                    f"{terminal.command('dedup', 'undo')}"
                )
                raise
    if doing:
        return _tell_applied(terminal, request, plan, applied)
    return _tell_outlook(terminal, request, plan, outlook)


def _tell_outlook(terminal: Terminal, request: ApplyRequest, plan: Plan, outlook: Outlook) -> ExitCode:
    checked, earlier = outlook.checked, outlook.earlier
    if request.form is ReportFormat.JSON:
        terminal.write(_outlook_to_json(request, plan, outlook))
    elif earlier is None:
        _show(terminal, request, checked)
    if outlook.before and (earlier is None or earlier.state is not State.APPLIED):
        terminal.say(f"{len(outlook.before):,} of the plan's {many(len(plan.actions), 'action')} are done already")
    if earlier is not None:
        _tell_earlier(terminal, earlier)
        return ExitCode.OK if earlier.state is State.APPLIED else ExitCode.INCOMPLETE
    if checked.misfits and not request.skip_changed:
        terminal.say(
            Text.assemble(
                (f"{many(len(checked.misfits), 'action')} of {len(plan.actions):,} cannot be done", "red"),
                f": with --yes nothing would be done. Bring the index up to date with {terminal.command('index')} and "
                "make a new plan, or leave these out with --skip-changed",
            )
        )
        return ExitCode.INCOMPLETE
    if not checked.fits:
        terminal.say("nothing to do: the plan holds no action that can be done")
    else:
        terminal.say("nothing was changed: add --yes to do it")
    return ExitCode.OK


def _tell_earlier(terminal: Terminal, manifest: Manifest) -> None:
    when = f"{manifest.made:%Y-%m-%d %H:%M}"
    if manifest.state is State.APPLIED:
        terminal.say(
            f"nothing to do: this plan was applied on {when} as {manifest.id}. To take it back: "
            f"{terminal.command('dedup', 'undo', manifest.id)}"
        )
    else:
        terminal.say(
            f"applying this plan was begun on {when} as {manifest.id} and has not ended: --yes goes on with it, "
            f"{terminal.command('dedup', 'undo', manifest.id)} takes it back"
        )


def _show(terminal: Terminal, request: ApplyRequest, checked: Checked) -> None:
    fits = [fit.action for fit in checked.fits]
    if fits:
        total = size(sum(action.bytes for action in fits))
        terminal.show(Text(f"{many(len(fits), 'file')}, {total}, would go to the trash", style="bold"))
        shown = fits if terminal.verbose else fits[:_MOST_NAMED]
        terminal.show(_table(shown))
        if len(shown) < len(fits):
            terminal.show(Text(f"and {len(fits) - len(shown):,} more: --verbose names all", style="dim"))
    if checked.misfits:
        left = "would be left out" if request.skip_changed else "cannot be done"
        terminal.show(Text(f"{many(len(checked.misfits), 'action')} {left}", style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("file", overflow="fold", max_width=40 if terminal.is_terminal else None)
        table.add_column("why not", overflow="fold")
        for misfit in checked.misfits:
            table.add_row(Text(one_line(misfit.action.path)), Text(one_line(misfit.reason), style="yellow"))
        terminal.show(table)


def _table(actions: Sequence[Action]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("goes", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("tier", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("for the sake of", overflow="fold")
    for action in actions:
        table.add_row(
            Text(one_line(action.path)),
            size(action.bytes),
            action.tier,
            f"{action.score:.3f}",
            Text(one_line(action.kept.path), style="green"),
        )
    return table


def _outlook_to_json(request: ApplyRequest, plan: Plan, outlook: Outlook) -> str:
    reasons = {misfit.action.path: misfit.reason for misfit in outlook.checked.misfits}
    earlier = outlook.earlier
    document = {
        "schema": SCHEMA,
        "applied": False,
        "id": None if earlier is None else earlier.id,
        "state": None if earlier is None else earlier.state.value,
        "files": len(outlook.checked.fits),
        "bytes": sum(fit.action.bytes for fit in outlook.checked.fits),
        "folder": None,
        "actions": [_action_to_json(action, reasons.get(action.path)) for action in plan.actions],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _action_to_json(action: Action, reason: str | None) -> dict[str, Any]:
    return {
        "path": action.path,
        "bytes": action.bytes,
        "tier": action.tier,
        "score": action.score,
        "kept": action.kept.path,
        "reason": reason,
    }


def _tell_applied(terminal: Terminal, request: ApplyRequest, plan: Plan, applied: Applied) -> ExitCode:
    manifest = applied.manifest
    done = set(applied.moved)
    # What --skip-changed left out is in no manifest.
    reasons = {
        action.path: applied.left.get(action.path, "it did not fit any more")
        for action in plan.actions
        if action.path not in done | applied.before
    }
    moved = sum(file.size for file in manifest.files)
    if request.form is ReportFormat.JSON:
        document = {
            "schema": SCHEMA,
            "applied": True,
            "id": manifest.id,
            "state": manifest.state.value,
            "files": len(done),
            "bytes": moved,
            "folder": str(applied.folder),
            "actions": [_action_to_json(action, reasons.get(action.path)) for action in plan.actions],
        }
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    if applied.repeated:
        _tell_earlier(terminal, manifest)
        return ExitCode.OK
    for path, reason in reasons.items():
        what = "stays" if path in applied.left else "left out"
        terminal.say(Text.assemble(("  ", ""), one_line(path), (f" {what}: {one_line(reason)}", "yellow")))
    what = f"{many(len(done), 'file')}, {size(moved)}, moved to {shown_path(applied.folder)} and out of the index"
    terminal.say(f"{'finished what was begun: ' if applied.continued else ''}{what}")
    if done:
        terminal.say(f"to take it back: {terminal.command('dedup', 'undo', manifest.id)}")
    if applied.left:
        terminal.say(
            f"{many(len(applied.left), 'file')} stayed: once the reasons are fixed, run the same command again"
        )
    return ExitCode.INCOMPLETE if applied.left else ExitCode.OK


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
            talk = Talk()
            undone = Undoing(path, talk, told=told).undo(id_)
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
        terminal.say(f"take them in with {terminal.command('index')}")
    terminal.say(_summary(terminal, undone))
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
    for name in ("id", "date"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for one in found:
        words, style = _WORDS[one.state]
        made = f"{one.made:%Y-%m-%d %H:%M}"
        table.add_row(one.id, made, f"{len(one.files):,}", size(one.bytes), Text(words, style=style))
    terminal.show(table)


def _summary(terminal: Terminal, undone: Undone) -> str:
    manifest = undone.manifest
    if undone.repeated:
        return f"{manifest.id} is undone already"
    files, documents = many(len(undone.files), "file"), many(len(undone.documents), "document")
    end = ""
    if manifest.state is State.PARTLY:
        again = terminal.command("dedup", "undo", manifest.id)
        end = f"; what is left is in {shown_path(undone.folder)}: once the reasons are fixed, run {again} again"
    return f"{manifest.id}: {files} back in place, {documents} back in the index{end}"


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
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "state": manifest.state.value,
    }
