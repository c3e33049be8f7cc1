"""Does a plan still fit? Every action is compared with the files and with the index before anything is moved."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...index.protocol import Collection, FileRecord
from ..collection.paths import absolute_path
from ..errors import AppError
from .files import DoesNotFitError, hash_file, look_at_file, look_at_kept, said
from .plan import Action, Kept, Plan


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

    fits: tuple[Fit, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    kept: Mapping[Kept, os.stat_result] = field(default_factory=dict)
    """The files that stay and fit, as they were when they were read."""


def check_collection(plan: Plan, collection: Path) -> None:
    """Raise AppError when the plan is not for the collection in the folder `collection`."""
    if Path(os.path.realpath(plan.collection)) != Path(os.path.realpath(collection)):
        raise AppError(
            f"the plan is for the collection {plan.collection}, this one is {collection}: expected a plan of this "
            f"collection. Name the other with --collection {plan.collection}, or make a plan of this one",
            next_command=("dedup", "plan"),
        )


def check_plan(plan: Plan, collection: Collection) -> Checked:
    """Return which actions of the plan can be done now. Every file is read, those that go and those that stay."""
    return _Check(plan, collection).run()


class _Check:
    """State of one check."""

    def __init__(self, plan: Plan, collection: Collection) -> None:
        self._plan = plan
        self._base = collection.root
        self._indexed: Mapping[str, FileRecord] = collection.files()
        self._kept: dict[Kept, str | os.stat_result] = {}

    def run(self) -> Checked:
        found: list[Fit | Misfit] = []
        for action in self._plan.actions:
            try:
                found.append(Fit(action=action, info=self._file(action)))
            except DoesNotFitError as reason:
                found.append(Misfit(action=action, reason=str(reason)))
        found = self._together(found)
        return Checked(
            fits=tuple(one for one in found if isinstance(one, Fit)),
            misfits=tuple(one for one in found if isinstance(one, Misfit)),
            kept={kept: info for kept, info in self._kept.items() if not isinstance(info, str)},
        )

    def _file(self, action: Action) -> os.stat_result:
        """Return what is known of the action's file. Raises DoesNotFitError."""
        self._check_indexed(action.path, action.content_hash)
        file = absolute_path(action.path, self._base)
        info = look_at_file(file)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise DoesNotFitError(f"its folder {file.parent} is read-only")
        try:
            changed = hash_file(file) != action.content_hash
        except OSError as error:
            raise DoesNotFitError(f"it cannot be read ({said(error)})") from error
        if changed:
            raise DoesNotFitError("it has changed since it was indexed")
        kept = self._kept_file(action.kept)
        if (kept.st_dev, kept.st_ino) == (info.st_dev, info.st_ino):
            raise DoesNotFitError(
                f"it is the same file as the kept one, {action.kept.path}, under another name: moving it frees nothing"
            )
        return info

    def _check_indexed(self, path: str, content_hash: str, what: str = "it") -> None:
        record = self._indexed.get(path)
        if record is None:
            raise DoesNotFitError(f"{what} is not in the index any more")
        if record.content_hash != content_hash:
            raise DoesNotFitError(f"{what} was indexed again with other content since the plan was made")

    def _kept_file(self, kept: Kept) -> os.stat_result:
        """Return what is known of the file that stays; looked at once, however many go for its sake."""
        if kept not in self._kept:
            try:
                self._kept[kept] = self._look_at_kept(kept)
            except DoesNotFitError as reason:
                self._kept[kept] = str(reason)
        found = self._kept[kept]
        if isinstance(found, str):
            raise DoesNotFitError(found)
        return found

    def _look_at_kept(self, kept: Kept) -> os.stat_result:
        if self._plan.against is None:
            self._check_indexed(kept.path, kept.content_hash, f"the kept file {kept.path}")
        return look_at_kept(kept, self._base)

    def _together(self, found: list[Fit | Misfit]) -> list[Fit | Misfit]:
        """Return the outcome with what only shows over several actions: names of one file, and a kept one that goes."""
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
