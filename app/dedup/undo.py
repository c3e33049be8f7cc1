"""An apply taken back: files to their places, rows into the index; from any point at which the apply was ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...index.errors import KeptRowsError
from ...index.keeper import Keeper
from ..collection.opening import open_collection
from ..collection.paths import absolute_path
from ..collection.talk import Talk
from ..errors import AppError
from .files import hash_file, said
from .trash import (
    DISK_IS_FULL,
    ROWS_FILE,
    Manifest,
    Moved,
    State,
    Step,
    Trash,
    as_noted,
    is_there,
    make_folder,
    move_back,
    sync_names,
)

Told = Callable[[float, str], None]


@dataclass(slots=True, kw_only=True)
class Undone:
    """What an undo did."""

    manifest: Manifest
    folder: Path
    files: list[str] = field(default_factory=list)
    """Moved back, by this run."""
    documents: list[str] = field(default_factory=list)
    """Put back into the index, by this run."""
    conflicts: dict[str, str] = field(default_factory=dict)
    """Paths that are not as they were, with the reason."""
    changed: list[str] = field(default_factory=list)
    """Paths at whose places files are that were changed, in the trash or there, and are to be indexed again."""
    foreign: list[str] = field(default_factory=list)
    """Paths to be indexed again, as their rows cannot be put back."""
    foreign_reason: str = ""
    repeated: bool = False
    """It was undone already, and nothing was changed."""

    @property
    def whole(self) -> bool:
        return not self.conflicts and not self.changed and not self.foreign


def chosen(trash: Trash, id_: str | None) -> Manifest:
    """Return the apply with this id, or without one the latest that is not undone. Raises AppError for none."""
    found = trash.manifests()
    if id_ is not None:
        for manifest in found:
            if manifest.id == id_:
                return manifest
        known = ", ".join(manifest.id for manifest in found[-5:]) or "none"
        raise AppError(
            f"there is no apply {id_!r} in {trash.folder}: expected one of them, the latest being {known}",
            next_command=("dedup", "undo", "--list"),
        )
    left = [manifest for manifest in found if manifest.state is not State.UNDONE]
    if not left:
        gone = trash.missing()
        renamed = (
            f". What lies there was taken out of a collection called {', '.join(gone)}, which is not here any more: if "
            "this is it, give it that name again for the undo"
            if gone
            else ""
        )
        raise AppError(
            f"there is nothing to take back in {trash.folder}: {'all is undone' if found else 'nothing was applied'}"
            f"{renamed}",
            next_command=("dedup", "undo", "--list"),
        )
    return left[-1]


class Undoing:
    """Takes back one apply to a collection."""

    def __init__(self, path: Path, talk: Talk, *, told: Told = lambda share, words: None) -> None:
        """`path` is the collection's own folder; `told` hears the share of the files done and a word."""
        self._path = path
        self._talk = talk
        self._step: Step = talk.step or (lambda name: None)
        self._told = told
        self._trash = Trash(path)

    def undo(self, id_: str | None = None) -> Undone:
        """Take back the apply with this id, else the latest; what is back already stays as it is.

        Raises AppError for an unknown id, and when nothing is left to undo.
        """
        chosen(self._trash, id_)  # before the lock is asked for
        with (
            closing(open_collection(self._path, self._talk)) as collection,
            collection.keeper() as keeper,
        ):
            manifest = chosen(self._trash, id_)
            result = Undone(manifest=manifest, folder=self._trash.path_of(manifest))
            result.repeated = manifest.state is State.UNDONE
            if not result.repeated:
                self._undo(result, keeper, collection.files())
            if result.manifest.state is State.UNDONE:
                self._trash.clean(result.manifest)
                self._step("undo:cleaned")
        return result

    def _undo(self, result: Undone, keeper: Keeper, indexed: Collection[str]) -> None:
        begun, folder = result.manifest, result.folder
        rows = begun.rows if begun.state is not State.APPLYING else _may_have_rows(begun, folder)
        manifest = result.manifest = self._trash.update(begun, state=State.UNDOING, rows=rows)
        self._step("undo:begun")
        changed = self._move(result)
        result.changed = sorted(changed - set(indexed))
        away = bool(result.conflicts) or any(is_there(folder / file.target) for file in manifest.files)
        if manifest.rows:
            self._rows(result, keeper, indexed, {file.path for file in manifest.files} - changed)
        result.manifest = self._trash.update(manifest, state=State.PARTLY if away else State.UNDONE)
        self._step("undo:marked")

    def _move(self, result: Undone) -> set[str]:
        """Move the files back, and return the paths whose files are there and not as they were."""
        manifest = result.manifest
        changed: set[str] = set()
        touched: set[Path] = set()
        for number, file in enumerate(manifest.files, start=1):
            source, place = result.folder / file.target, absolute_path(file.path, self._trash.root)
            self._step("undo:file")
            try:
                if self._bring_back(source, place, file, manifest.id):
                    result.files.append(file.path)
                if not as_noted(place, file):
                    changed.add(file.path)
            except _ConflictError as reason:
                result.conflicts[file.path] = str(reason)
            except OSError as error:
                if error.errno in DISK_IS_FULL:
                    raise
                result.conflicts[file.path] = f"it cannot be moved back ({said(error)}); what was there is in {source}"
            touched |= {source.parent, place.parent}
            self._told(number / len(manifest.files), f"{number:,} of {len(manifest.files):,} files")
        sync_names(touched)
        return changed

    def _bring_back(self, source: Path, place: Path, file: Moved, id_: str) -> bool:
        """Move a file back to its place, and return whether it had to be. Raises _ConflictError."""
        part = place.with_name(f".searchctl-{id_}.part")  # a name that no person's file has
        if _is_real(place.parent):
            part.unlink(missing_ok=True)  # of a killed process
        if not is_there(source):
            if not is_there(place):
                raise _ConflictError(f"it is neither at its place nor in {source.parent}")
            return False  # it was never moved, or is back
        _make_folder(place.parent)
        if is_there(place):
            _settle_both(source, place, absolute_path(file.kept, self._trash.root))
            return False
        try:
            if not stat.S_ISREG(source.lstat().st_mode):
                raise _ConflictError(f"{source} is no file any more")
            move_back(source, place, part, step=self._step)
        except FileExistsError:
            raise _ConflictError(f"something came to its place meanwhile; what was there is in {source}") from None
        self._step("undo:moved")
        return True

    def _rows(self, result: Undone, keeper: Keeper, indexed: Collection[str], paths: AbstractSet[str]) -> None:
        paths = paths - result.conflicts.keys()
        try:
            found = keeper.put_back(paths, result.folder / ROWS_FILE)
        except KeptRowsError as error:
            result.foreign = sorted(paths - set(indexed))
            result.foreign_reason = str(error)
            return
        self._step("undo:rows")
        result.documents = list(found.restored)
        result.foreign = list(found.foreign)
        result.foreign_reason = "the collection has another encoder or other chunks now"
        for path in found.conflicting:
            result.conflicts[path] = (
                "it was indexed again meanwhile with other content, and stays in the index like that"
            )


class _ConflictError(Exception):
    """Why a file is not moved back."""


def _may_have_rows(manifest: Manifest, folder: Path) -> bool:
    """Return whether an apply that was killed had come as far as its rows, which are kept before anything changes."""
    moved = any(is_there(folder / file.target) for file in manifest.files)
    return moved or (folder / ROWS_FILE).is_file()


def _settle_both(source: Path, place: Path, kept: Path) -> None:
    """Remove the file in the trash when the one at the place is the same or has its bytes. Raises _ConflictError."""
    if place.is_symlink() or not place.is_file():
        raise _ConflictError(f"something else is at its place now; what was there is in {source}")
    if kept.exists() and place.samefile(kept):  # a link or a mount: no second copy
        raise _ConflictError(f"the kept file itself is at its place now; what was there is in {source}")
    if source.samefile(place):
        # A killed process had given it its name and not yet taken away the other one; a mount gives no second name.
        if source.parent.samefile(place.parent) or source.lstat().st_nlink < 2:
            raise _ConflictError(f"its place leads to the trash itself, to {source}")
    elif hash_file(source) != hash_file(place):
        raise _ConflictError(f"another file is at its place now; what was there is in {source}")
    source.unlink()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises _ConflictError when something else, or a link, is in the way."""
    there = next(above for above in (folder, *folder.parents) if is_there(above))
    if not _is_real(there):
        what = f"is a symlink now, or below one, to {os.path.realpath(there)}" if there.is_dir() else "is no folder now"
        raise _ConflictError(f"{there} {what}: nothing is moved there")
    make_folder(folder, there)


def _is_real(folder: Path) -> bool:
    return folder.is_dir() and os.path.realpath(folder) == str(folder)
