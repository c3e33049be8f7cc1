"""The files of one apply on their way into the trash, each looked at once more, as is the one that stays for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .dedup_files import DoesNotFitError, KeptFiles, said
from .dedup_plan import Kept
from .places import absolute_path
from .trash import PART_FILE, Manifest, Moved, Step, Trash
from .trash_files import DISK_IS_FULL, as_noted, drop_original, has_bytes, is_there, make_folder, move_in, sync_names


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
