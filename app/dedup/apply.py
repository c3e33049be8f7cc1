"""One apply of a plan: files into the trash, documents out of the index; ended at any point, the same again goes on."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from blake3 import blake3

from ...index.errors import StorageError
from ...index.lock import writers_kept_out
from ...index.protocol import Collection
from ..collection.opening import open_collection
from ..collection.paths import absolute_path
from ..collection.talk import Talk
from ..errors import AppError, ExitCode
from .checks import Checked, check_collection, check_plan
from .files import DoesNotFitError, KeptFiles, said
from .plan import Kept, Plan, plan_to_json
from .trash import (
    DISK_IS_FULL,
    FILES_FOLDER,
    OUTSIDE_FOLDER,
    PART_FILE,
    ROWS_FILE,
    Manifest,
    Moved,
    State,
    Step,
    Trash,
    as_noted,
    drop_original,
    has_bytes,
    is_there,
    make_folder,
    move_in,
    sync_names,
)

if TYPE_CHECKING:
    from ...index.keeper import Keeper

_log = logging.getLogger(__name__)


class Moving:
    """Moves the files of an apply that are not moved yet."""

    def __init__(
        self,
        trash: Trash,
        manifest: Manifest,
        kept: KeptFiles,
        goes: Mapping[str, Kept],
        *,
        continued: bool,
        step: Step,
        told: Callable[[float, str], None],
    ) -> None:
        """`goes` says which file stays for each path that goes.

        `continued`: the files were compared with the plan by another process, and who knows when."""
        self._root = trash.root
        self._folder = trash.path_of(manifest)
        self._files = manifest.files
        self._kept = kept
        self._goes = goes
        self._fits = has_bytes if continued else as_noted
        self._step = step
        self._told = told
        self._made: set[Path] = set()

    def run(self) -> dict[str, str]:
        """Move them, and return the paths that are left where they are, with the reason of each."""
        (self._folder / PART_FILE).unlink(missing_ok=True)  # of a killed process
        left: dict[str, str] = {}
        touched: set[Path] = set()
        for number, file in enumerate(self._files, start=1):
            source, target = absolute_path(file.path, self._root), self._folder / file.target
            reason = self._try(file, source, target)
            if reason is not None and not is_there(target):  # what is in the trash is to be taken back, whatever failed
                left[file.path] = reason
            touched |= {source.parent, target.parent}
            self._told(number / len(self._files), f"{number:,} of {len(self._files):,} files")
        sync_names(touched)
        return left

    def _try(self, file: Moved, source: Path, target: Path) -> str | None:
        """Move one file, and return why it is where it was, None when it is not."""
        try:
            self._move(file, source, target)
        except DoesNotFitError as error:
            return str(error)
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise
            return f"it cannot be moved ({said(error)})"
        return None

    def _move(self, file: Moved, source: Path, target: Path) -> None:
        """Move one file. Raises DoesNotFitError or OSError when it is where it was."""
        if is_there(target):
            self._end(file, source, target)
            return
        self._step("apply:move")
        if not self._fits(source, file):
            raise DoesNotFitError("it changed meanwhile")
        self._kept.check(self._goes[file.path], source)
        self._make(target.parent)
        if not move_in(source, target, self._folder / PART_FILE, file.content_hash, step=self._step):
            raise DoesNotFitError("it changed while it was copied")
        self._step("apply:moved")

    def _end(self, file: Moved, source: Path, target: Path) -> None:
        """End the move of a file that a killed process had brought to the trash; another one at its place stays."""
        if not is_there(source):
            return
        seen = source.lstat()
        if not (has_bytes(source, file) and has_bytes(target, file)) or source.samefile(target):
            return
        try:
            self._kept.check(self._goes[file.path], source)
        except DoesNotFitError:
            target.unlink()  # the copy
            raise
        self._make(target.parent)
        if not drop_original(source, target, seen):
            raise DoesNotFitError("it changed while it was copied")

    def _make(self, folder: Path) -> None:
        if folder not in self._made:
            make_folder(folder, self._folder)
            self._made.add(folder)


Told = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What an apply would do now."""

    checked: Checked
    """Of what earlier applies did not take; empty when there is one to go on with, or nothing to do."""
    earlier: Manifest | None
    """An apply of this very plan that was begun, or after which nothing is left to do; not undone."""
    before: frozenset[str] = frozenset()
    """Paths that earlier applies of the plan, ended and not undone, took away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an apply did."""

    manifest: Manifest
    folder: Path
    moved: tuple[str, ...]
    """Paths taken away, by this run and the ones it goes on with."""
    left: Mapping[str, str]
    """Paths not taken away, with the reason, after everything had fitted when the run was begun."""
    before: frozenset[str]
    """Paths that earlier applies of the plan took away."""
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
        talk: Talk,
        *,
        skip_changed: bool = False,
        told: Told = lambda share, words: None,
    ) -> None:
        """`path` is the collection's own folder; `told` hears the share of the files done and a word."""
        self._path = path
        self._plan = plan
        self._talk = talk
        self._step: Step = talk.step or (lambda name: None)
        self._skip_changed = skip_changed
        self._told = told
        self._trash = Trash(path)
        self._digest = plan_digest(plan)

    def look(self) -> Outlook:
        """Return what `apply` would do; nothing is changed. Raises AppError for a plan of another collection."""
        check_collection(self._plan, self._path)
        with closing(open_collection(self._path, self._talk)) as collection:
            return self._outlook(collection)

    def apply(self) -> Applied:
        """Do it, and return what was done.

        Raises AppError before anything is changed when an action does not fit, unless those are to be left out, and
        when another apply is unfinished.
        """
        check_collection(self._plan, self._path)
        with (
            closing(open_collection(self._path, self._talk)) as collection,
            self._kept_out(),
            collection.keeper() as keeper,
        ):
            outlook = self._outlook(collection)
            self._refuse(outlook)
            manifest = outlook.earlier
            if manifest is not None and manifest.state is State.APPLIED:
                return self._applied(manifest, outlook, {}, repeated=True)
            self._step("apply:checked")
            return self._finish(manifest or self._begin(outlook.checked), outlook, keeper)

    @contextmanager
    def _kept_out(self) -> Iterator[None]:
        """Keep an apply in the collection of the kept files from taking those away for the sake of what goes here."""
        other = None if self._plan.against is None else Path(os.path.realpath(self._plan.against))
        if other is None or other == Path(os.path.realpath(self._path)) or not other.is_dir():
            yield
            return
        with ExitStack() as held:
            try:
                held.enter_context(writers_kept_out(other))
            except StorageError as error:
                _log.warning(
                    "%s, which the kept files are in, cannot be locked (%s): going on without. "
                    "Take nothing out of it until this has ended",
                    other,
                    error.__cause__,
                )
            yield

    def _outlook(self, collection: Collection) -> Outlook:
        before: set[str] = set()
        begun = done = None
        for manifest in self._trash.manifests():
            same = manifest.plan == self._digest
            if manifest.state is State.UNDOING or (manifest.state is State.APPLYING and not same):
                raise _unfinished(manifest)
            if same and manifest.state is State.APPLYING:
                begun = manifest
            elif same and manifest.state is State.APPLIED:
                done = manifest
                before |= {file.path for file in manifest.files}
        rest = tuple(action for action in self._plan.actions if action.path not in before)
        earlier = begun if begun is not None or rest else done
        if earlier is not None:
            return Outlook(checked=Checked(), earlier=earlier, before=frozenset(before))
        checked = check_plan(replace(self._plan, actions=rest), collection)
        return Outlook(checked=checked, earlier=None, before=frozenset(before))

    def _refuse(self, outlook: Outlook) -> None:
        if outlook.checked.misfits and not self._skip_changed:
            raise does_not_fit(outlook.checked)
        if outlook.earlier is None and not outlook.checked.fits:
            raise AppError(
                "no action of the plan can be done: nothing was changed. Make a new one",
                code=ExitCode.INCOMPLETE,
                next_command=("dedup", "plan"),
            )

    def _begin(self, checked: Checked) -> Manifest:
        """Put the manifest on the disk: from here on, what is done can be undone."""
        targets = targets_of([fit.action.path for fit in checked.fits])
        files = tuple(
            Moved(
                path=fit.action.path,
                target=targets[fit.action.path],
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
            made=datetime.now().astimezone(),
            state=State.APPLYING,
            collection=self._path.name,
            plan=self._digest,
            files=files,
        )
        return self._trash.begin(manifest, step=self._step)

    def _finish(self, manifest: Manifest, outlook: Outlook, keeper: Keeper) -> Applied:
        """Do what is left of an apply whose manifest is on the disk."""
        rows = self._trash.path_of(manifest) / ROWS_FILE
        keeper.keep([file.path for file in manifest.files], rows)
        self._step("apply:kept")
        kept = KeptFiles(self._trash.root, outlook.checked.kept)
        goes = {action.path: action.kept for action in self._plan.actions}
        continued = outlook.earlier is not None
        moving = Moving(self._trash, manifest, kept, goes, continued=continued, step=self._step, told=self._told)
        left = moving.run()
        taken = tuple(file for file in manifest.files if file.path not in left)
        keeper.set_aside({file.path for file in taken}, rows)
        self._step("apply:set-aside")
        # Of what was not taken there is nothing to take back.
        manifest = self._trash.update(manifest, state=State.APPLIED if taken else State.UNDONE, files=taken)
        self._step("apply:done")
        return self._applied(manifest, outlook, left)

    def _applied(
        self, manifest: Manifest, outlook: Outlook, left: Mapping[str, str], *, repeated: bool = False
    ) -> Applied:
        return Applied(
            manifest=manifest,
            folder=self._trash.path_of(manifest),
            moved=tuple(file.path for file in manifest.files),
            left=left,
            before=outlook.before,
            continued=outlook.earlier is not None and not repeated,
            repeated=repeated,
        )


def plan_digest(plan: Plan) -> str:
    """Return what tells an apply of this plan from others, however its file is laid out."""
    return blake3(plan_to_json(plan).encode()).hexdigest()


def targets_of(paths: Iterable[str]) -> dict[str, str]:
    """Return the place of each file in the folder of its apply, by path.

    No two places are the same where names are told apart neither by case nor by how an accent is written: the trash
    may be on such a disk, and the files on another."""
    taken: set[str] = set()
    targets: dict[str, str] = {}
    for path in paths:
        top, below = (OUTSIDE_FOLDER, path) if path.startswith("/") else (FILES_FOLDER, f"/{path}")
        tops = (top if number == 1 else f"{top}-{number}" for number in count(1))
        target = next(target for top in tops if _folded(target := f"{top}{below}") not in taken)
        taken.add(_folded(target))
        targets[path] = target
    return targets


def _folded(path: str) -> str:
    return normalize("NFC", normalize("NFC", path).casefold())


def does_not_fit(checked: Checked) -> AppError:
    """Return the error that lists every action that cannot be done."""
    total = len(checked.fits) + len(checked.misfits)
    # A line break in a name would look like the next reason.
    lines = [(misfit.action.path.replace("\n", "\\n"), misfit.reason) for misfit in checked.misfits]
    reasons = "".join(f"\n  {path}: {reason}" for path, reason in lines)
    return AppError(
        f"{len(checked.misfits)} of {total} actions do not fit what is there now, and nothing was changed:{reasons}\n"
        "Bring the index up to date and make a new plan, or leave these out with --skip-changed",
        code=ExitCode.INCOMPLETE,
        next_command=("index",),
    )


def _unfinished(manifest: Manifest) -> AppError:
    undo = ("dedup", "undo", manifest.id)
    if manifest.state is State.UNDOING:
        begun = f"{manifest.id} is being taken back, and not to its end: finish that first"
        return AppError(begun, code=ExitCode.INCOMPLETE, next_command=undo)
    return AppError(
        f"{manifest.id}, of another plan, was begun and is not finished: take it back, or finish it with the command "
        "that began it",
        code=ExitCode.INCOMPLETE,
        next_command=undo,
    )
