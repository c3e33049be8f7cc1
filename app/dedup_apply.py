"""One apply of a plan: files into the trash, documents out of the index; ended at any point, the same again goes on."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from blake3 import blake3

from ..index.collection import FolderCollection
from ..index.keeper import Keeper
from ..training.whole_files import sync
from .dedup_checks import Checked, check_collection, check_plan
from .dedup_plan import Plan, plan_to_json
from .engine import Talk
from .errors import AppError, ExitCode
from .ignore_change import plan_change, read_ignore, write_change
from .places import absolute_path
from .swap import is_collection
from .trash import FILES_FOLDER, OUTSIDE_FOLDER, PART_FILE, ROWS_FILE, Manifest, Moved, Origin, State, Step, Trash
from .trash_files import as_noted, is_there, move_in

Told = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What an apply would do now."""

    checked: Checked
    """Empty when there is an earlier apply of the plan."""
    earlier: Manifest | None
    """An apply of this very plan that was begun or is done, and not undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an apply did."""

    manifest: Manifest
    folder: Path
    moved: tuple[str, ...]
    """Paths taken away, by this run and the ones it goes on with."""
    left: tuple[str, ...]
    """Paths not taken away, as their files changed after the run was begun."""
    continued: bool
    """An apply that was begun before was finished."""
    repeated: bool = False
    """It was done already, and nothing was changed."""


class Application:
    """Applies a plan to a collection."""

    def __init__(
        self,
        path: Path,
        plan: Plan,
        origin: Origin,
        talk: Talk,
        *,
        skip_changed: bool = False,
        told: Told = lambda share, words: None,
    ) -> None:
        """`path` is the collection's own folder; `told` hears the share of the files done and a word."""
        self._path = path
        self._plan = plan
        self._origin = origin
        self._talk = talk
        self._step: Step = talk.step or (lambda name: None)
        self._skip_changed = skip_changed
        self._told = told
        self._trash = Trash(path)
        self._digest = plan_digest(plan, origin)

    def look(self) -> Outlook:
        """Return what `apply` would do; nothing is changed. Raises AppError for a plan of another collection."""
        check_collection(self._plan, self._path)
        with closing(self._open()) as collection:
            return self._outlook(collection)

    def apply(self) -> Applied:
        """Do it, and return what was done.

        Raises AppError before anything is changed when an action does not fit, unless those are to be left out, and
        when another apply is unfinished.
        """
        check_collection(self._plan, self._path)
        with closing(self._open()) as collection, collection.keeper() as keeper:
            outlook = self._outlook(collection)
            self._refuse(outlook)
            manifest = outlook.earlier
            if manifest is not None and manifest.state is State.APPLIED:
                return self._applied(manifest, [], repeated=True)
            self._step("apply:checked")
            continued = manifest is not None
            if manifest is None:
                manifest = self._begin(outlook.checked)
            return self._finish(manifest, keeper, continued=continued)

    def _open(self) -> FolderCollection:
        is_collection(self._path)  # waits for a swap that another process is in the middle of
        return FolderCollection.open(self._path, notice=self._talk.notice, step=self._talk.step)

    def _outlook(self, collection: FolderCollection) -> Outlook:
        earlier = None
        for manifest in self._trash.manifests():
            if manifest.state is State.UNDOING or (manifest.state is State.APPLYING and manifest.plan != self._digest):
                raise _unfinished(manifest)
            if manifest.plan == self._digest and manifest.state in (State.APPLYING, State.APPLIED):
                earlier = manifest
        if earlier is not None:
            return Outlook(checked=Checked(fits=(), misfits=()), earlier=earlier)
        if self._origin is Origin.INDEX:
            read_ignore(self._trash.root)  # one that cannot be added to is said before anything is written
        return Outlook(checked=check_plan(self._plan, collection, self._origin), earlier=None)

    def _refuse(self, outlook: Outlook) -> None:
        if outlook.checked.misfits and not self._skip_changed:
            raise does_not_fit(outlook.checked)
        if outlook.earlier is None and not outlook.checked.fits:
            raise AppError(
                "no action of the plan can be done: nothing was changed. Make a new one with `searchctl dedup plan`",
                code=ExitCode.INCOMPLETE,
            )

    def _begin(self, checked: Checked) -> Manifest:
        """Put the manifest on the disk: from here on, what is done can be undone."""
        files = tuple(
            Moved(
                path=fit.action.path,
                target=target_of(fit.action.path),
                size=fit.info.st_size,
                mtime_ns=fit.info.st_mtime_ns,
                mode=stat.S_IMODE(fit.info.st_mode),
                content_hash=fit.action.content_hash,
                kept=fit.action.kept.path,
                tier=fit.action.tier,
                score=fit.action.score,
            )
            for fit in checked.fits
        )
        manifest = Manifest(
            id="",
            made=datetime.now().astimezone().replace(microsecond=0),
            state=State.APPLYING,
            origin=self._origin,
            collection=self._path.name,
            plan=self._digest,
            files=files,
            ignore=None,
        )
        return self._trash.begin(manifest, step=self._step)

    def _finish(self, manifest: Manifest, keeper: Keeper, *, continued: bool) -> Applied:
        """Do what is left of an apply whose manifest is on the disk."""
        rows = self._trash.path_of(manifest) / ROWS_FILE
        keeper.keep([file.path for file in manifest.files], rows)
        self._step("apply:kept")
        if manifest.origin is Origin.FILES:
            moved = self._move(manifest)
        else:
            moved = [file.path for file in manifest.files]
            manifest = self._ignore(manifest)
        keeper.set_aside(set(moved), rows)
        self._step("apply:set-aside")
        manifest = self._trash.update(manifest, state=State.APPLIED)
        self._step("apply:done")
        return self._applied(manifest, moved, continued=continued)

    def _move(self, manifest: Manifest) -> list[str]:
        """Move the files that are not moved yet, and return the paths of all that are."""
        folder = self._trash.path_of(manifest)
        part = folder / PART_FILE
        part.unlink(missing_ok=True)
        moved: list[str] = []
        touched: set[Path] = set()
        for number, file in enumerate(manifest.files, start=1):
            source, target = absolute_path(file.path, self._trash.root), folder / file.target
            if is_there(target):
                _drop_copied(source, target, file)
                moved.append(file.path)
            elif as_noted(source, file):
                target.parent.mkdir(parents=True, exist_ok=True)
                self._step("apply:move")
                move_in(source, target, part, file.content_hash, step=self._step)
                self._step("apply:moved")
                moved.append(file.path)
            touched |= {source.parent, target.parent}
            self._told(number / len(manifest.files), f"{number:,} of {len(manifest.files):,} files")
        for parent in sorted(touched):
            if parent.is_dir():
                sync(parent)
        return moved

    def _ignore(self, manifest: Manifest) -> Manifest:
        folder = self._trash.path_of(manifest)
        change = plan_change(self._trash.root, manifest)
        if change is not None:
            manifest = self._trash.update(manifest, ignore=change)
            self._step("ignore:noted")
            write_change(self._trash.root, folder, manifest, step=self._step)
        return manifest

    def _applied(
        self, manifest: Manifest, moved: Sequence[str], *, continued: bool = False, repeated: bool = False
    ) -> Applied:
        paths: Collection[str] = moved or [
            file.path
            for file in manifest.files
            if manifest.origin is Origin.INDEX or is_there(self._trash.path_of(manifest) / file.target)
        ]
        return Applied(
            manifest=manifest,
            folder=self._trash.path_of(manifest),
            moved=tuple(paths),
            left=tuple(file.path for file in manifest.files if file.path not in set(paths)),
            continued=continued,
            repeated=repeated,
        )


def plan_digest(plan: Plan, origin: Origin) -> str:
    """Return what tells an apply of this plan from others, however its file is laid out."""
    return blake3(json.dumps([origin.value, plan_to_json(plan)]).encode()).hexdigest()


def target_of(path: str) -> str:
    """Return the place of a file in the folder of its apply."""
    return f"{OUTSIDE_FOLDER}{path}" if path.startswith("/") else f"{FILES_FOLDER}/{path}"


def does_not_fit(checked: Checked) -> AppError:
    """Return the error that lists every action that cannot be done."""
    total = len(checked.fits) + len(checked.misfits)
    # A line break in a name would look like the next reason.
    named = [(misfit.action.path.replace("\n", "\\n"), misfit.reason) for misfit in checked.misfits]
    reasons = "".join(f"\n  {path}: {reason}" for path, reason in named)
    return AppError(
        f"{len(checked.misfits)} of {total} actions do not fit what is there now, and nothing was changed:{reasons}\n"
        "Bring the index up to date with `searchctl index` and make a new plan, or leave these out with --skip-changed",
        code=ExitCode.INCOMPLETE,
    )


def _unfinished(manifest: Manifest) -> AppError:
    undo = f"`searchctl dedup undo {manifest.id}`"
    if manifest.state is State.UNDOING:
        return AppError(
            f"{manifest.id} is being taken back, and not to its end: finish that with {undo}", code=ExitCode.INCOMPLETE
        )
    return AppError(
        f"{manifest.id}, of another plan or with another --from, was begun and is not finished: take it back with "
        f"{undo}, or finish it with the command that began it",
        code=ExitCode.INCOMPLETE,
    )


def _drop_copied(source: Path, target: Path, file: Moved) -> None:
    """Remove what a killed process had copied to the trash and not yet taken away; another file there stays."""
    if as_noted(source, file) and as_noted(target, file) and not source.samefile(target):
        source.unlink()
