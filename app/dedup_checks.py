"""Does a plan still fit? Every action is compared with the files and with the index before anything is moved."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ..index.collection import FolderCollection
from ..index.ignore import OWN_IGNORE_FILE, hidden_by_text
from ..index.protocol import FileRecord
from .dedup_plan import Action, Kept, Plan
from .errors import AppError
from .ignore_block import can_be_ignored, with_block
from .places import absolute_path
from .sources import read_sources
from .trash import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """An action that can be done, and its file as it is."""

    action: Action
    info: os.stat_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """An action that cannot be done, and why."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The actions of a plan, in its order."""

    fits: tuple[Fit, ...]
    misfits: tuple[Misfit, ...]


class _DoesNotFitError(Exception):
    """Why an action cannot be done."""


def check_collection(plan: Plan, collection: Path) -> None:
    """Raise AppError when the plan is not for the collection in the folder `collection`."""
    if Path(os.path.realpath(plan.collection)) != Path(os.path.realpath(collection)):
        raise AppError(
            f"the plan is for the collection {plan.collection}, this one is {collection}: expected a plan of this "
            f"collection. Name the other with --collection {plan.collection}, or make a plan of this one: "
            "`searchctl dedup plan`"
        )


def check_plan(plan: Plan, collection: FolderCollection, origin: Origin) -> Checked:
    """Return which actions of the plan can be done now. Every file is read, those that go and those that stay."""
    return _Check(plan, collection, origin).run()


class _Check:
    """State of one check."""

    def __init__(self, plan: Plan, collection: FolderCollection, origin: Origin) -> None:
        self._plan = plan
        self._base = collection.root
        self._origin = origin
        self._indexed: Mapping[str, FileRecord] = collection.files()
        self._kept: dict[Kept, str | os.stat_result] = {}
        self._sources = read_sources(collection.path)

    def run(self) -> Checked:
        found: list[Fit | Misfit] = []
        for action in self._plan.actions:
            try:
                found.append(Fit(action=action, info=self._file(action)))
            except _DoesNotFitError as reason:
                found.append(Misfit(action=action, reason=str(reason)))
        found = self._together(found)
        return Checked(
            fits=tuple(one for one in found if isinstance(one, Fit)),
            misfits=tuple(one for one in found if isinstance(one, Misfit)),
        )

    def _file(self, action: Action) -> os.stat_result:
        """Return what is known of the action's file. Raises _DoesNotFitError."""
        self._check_indexed(action.path, action.content_hash)
        file = absolute_path(action.path, self._base)
        info = _regular(file)
        if self._origin is Origin.FILES:
            if not os.access(file.parent, os.W_OK | os.X_OK):
                raise _DoesNotFitError(f"its folder {file.parent} is read-only")
        else:
            self._check_ignorable(action.path, file)
        try:
            changed = hash_file(file) != action.content_hash
        except OSError as error:
            raise _DoesNotFitError(f"it cannot be read ({(error.strerror or str(error)).lower()})") from error
        if changed:
            raise _DoesNotFitError("it has changed since it was indexed")
        kept = self._kept_file(action.kept)
        if (kept.st_dev, kept.st_ino) == (info.st_dev, info.st_ino) and self._origin is Origin.FILES:
            raise _DoesNotFitError(
                f"it is the same file as the kept one, {action.kept.path}, under another name: moving it frees "
                "nothing. Take it out of the index alone, with --from index"
            )
        return info

    def _check_indexed(self, path: str, content_hash: str, what: str = "it") -> None:
        record = self._indexed.get(path)
        if record is None:
            raise _DoesNotFitError(f"{what} is not in the index any more")
        if record.content_hash != content_hash:
            raise _DoesNotFitError(f"{what} was indexed again with other content since the plan was made")

    def _kept_file(self, kept: Kept) -> os.stat_result:
        """Return what is known of the file that stays; looked at once, however many go for its sake."""
        if kept not in self._kept:
            try:
                self._kept[kept] = self._look_at_kept(kept)
            except _DoesNotFitError as reason:
                self._kept[kept] = str(reason)
        found = self._kept[kept]
        if isinstance(found, str):
            raise _DoesNotFitError(found)
        return found

    def _look_at_kept(self, kept: Kept) -> os.stat_result:
        what = f"the kept file {kept.path}"
        if self._plan.against is None:
            self._check_indexed(kept.path, kept.content_hash, what)
        file = absolute_path(kept.path, self._base)
        try:
            info = file.stat()
            if not stat.S_ISREG(info.st_mode):
                raise _DoesNotFitError(f"{what} is no file any more")
            if hash_file(file) != kept.content_hash:
                raise _DoesNotFitError(f"{what} has changed since it was indexed")
        except OSError as error:
            raise _DoesNotFitError(f"{what} cannot be read ({(error.strerror or str(error)).lower()})") from error
        return info

    def _check_ignorable(self, path: str, file: Path) -> None:
        """Raise _DoesNotFitError when the next `searchctl index` would take the file in again, whatever is ignored."""
        if path.startswith("/"):
            raise _DoesNotFitError(
                f"it lies outside of {self._base}, whose {OWN_IGNORE_FILE} cannot name it: the next `searchctl index` "
                "would take it in again. Take it away with --from files"
            )
        if not can_be_ignored(path):
            raise _DoesNotFitError(
                "its name has a line break, which no ignore file can say. Take it away with --from files"
            )
        for source in self._sources:
            root = absolute_path(source.path, self._base)
            if root == file or root in file.parents or source.path == ".":
                block = with_block("", "now", [path])
                if source.options.no_ignore or not hidden_by_text(file, root, self._base, block):
                    raise _DoesNotFitError(
                        f"`searchctl index` of {source.path} takes it in whatever {OWN_IGNORE_FILE} says "
                        "(--no-ignore, an ignore file further down, or a path of its own). Take it away with "
                        "--from files"
                    )

    def _together(self, found: list[Fit | Misfit]) -> list[Fit | Misfit]:
        """Return the outcome with what only shows over several actions: names of one file, and a kept one that goes."""
        if self._origin is Origin.INDEX:
            return found
        names = Counter((one.info.st_dev, one.info.st_ino) for one in found if isinstance(one, Fit))
        kept = {(info.st_dev, info.st_ino): name.path for name, info in self._kept.items() if not isinstance(info, str)}
        return [one if isinstance(one, Misfit) else _alone(one, names, kept) for one in found]


def _alone(fit: Fit, names: Mapping[tuple[int, int], int], kept: Mapping[tuple[int, int], str]) -> Fit | Misfit:
    file = (fit.info.st_dev, fit.info.st_ino)
    if file in kept:
        return Misfit(action=fit.action, reason=f"it is the same file as {kept[file]}, which another action keeps")
    if names[file] > fit.info.st_nlink:
        return Misfit(
            action=fit.action, reason="another action names the same file (letters of another case, or a mount)"
        )
    return fit


def _regular(file: Path) -> os.stat_result:
    """Return the state of a file. Raises _DoesNotFitError when it is gone, a link, or reached through one."""
    try:
        info = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise _DoesNotFitError("it is gone") from None
    except OSError as error:
        raise _DoesNotFitError(f"it cannot be reached ({(error.strerror or str(error)).lower()})") from error
    if stat.S_ISLNK(info.st_mode):
        raise _DoesNotFitError(f"it is a symlink to {file.readlink()}: only files themselves are taken away")
    if not stat.S_ISREG(info.st_mode):
        raise _DoesNotFitError("it is no regular file")
    real = os.path.realpath(file)
    if real != str(file):
        raise _DoesNotFitError(
            f"it is reached through a symlink, and lies in {real}: only files themselves are taken away"
        )
    return info


def hash_file(file: Path) -> str:
    """Return the blake3 hex of a file's bytes."""
    return blake3(max_threads=1).update_mmap(file).hexdigest()
