"""The tasks of an evaluation by name: of a local folder, of a suite, of the hub."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.local_data import LocalTask, digest_of, discover, read
from ..errors import MISSING_EXTRA, DataError, EvaluationError
from .measurement import EvalTask

if TYPE_CHECKING:
    from mteb import AbsTask

    from .instructions import InstructionTable
    from .suites import HubTask


HUB_SUITES = ("paper15", "paper56", "mteb-eng-v2", "nanobeir")
LOCAL_SUITE = "local"
SUITES = (*HUB_SUITES, LOCAL_SUITE)
_GUESSES = 5


def find_tasks(
    names: Sequence[str], *, suite: str | None, local: Path | None, table: InstructionTable
) -> list[EvalTask]:
    """Return the tasks named, then those of the suite, each once; all local ones when neither is given.

    A local task wins over one of the hub with its name. Nothing is loaded from the hub, and local files are hashed
    and not checked yet. Raises EvaluationError for a name or suite that is not known, with those that look like it,
    and when there is nothing to do; DataError for a local folder without tasks or with a file missing.
    """
    if suite is not None and suite not in SUITES:
        raise EvaluationError(f"suite {suite!r} is not known, expected one of {', '.join(SUITES)}")
    if suite == LOCAL_SUITE and local is None:
        raise EvaluationError(f"--suite {LOCAL_SUITE} needs --local DIR, the folder with the data")
    if not names and suite is None and local is None:
        raise EvaluationError(
            "nothing to evaluate on. Name tasks of mteb, a suite "
            f"(`--suite {HUB_SUITES[0]}`; {', '.join(SUITES)}) or a folder with data of your own (`--local DIR`)",
            next_command=("eval", "run", "SciFact", "STSBenchmark"),
        )
    own = {task.name: task for task in discover(local)} if local is not None else {}
    wanted: list[LocalTask | HubTask] = [_by_name(name, own) for name in dict.fromkeys(names)]
    if suite in HUB_SUITES:
        wanted += [own.get(task.name, task) for task in _suite(suite)]
    elif suite == LOCAL_SUITE or not names:
        wanted += own.values()
    once = {task.name: task for task in wanted}
    return [_of_folder(task, table) if isinstance(task, LocalTask) else _of_hub(task, table) for task in once.values()]


def _by_name(name: str, own: dict[str, LocalTask]) -> LocalTask | HubTask:
    if name in own:
        return own[name]
    _need_mteb()
    from .suites import hub_names, hub_task

    found = hub_task(name)
    if found is not None:
        return found
    close = _close(name, [*own, *hub_names()])
    known = (
        f"Close to it: {', '.join(close)}" if close else f"Local tasks: {', '.join(own) or 'none, without --local DIR'}"
    )
    raise EvaluationError(f"no task {name!r} among the local ones and mteb's. {known}")


def _suite(name: str) -> list[HubTask]:
    _need_mteb()
    from .suites import suite

    return suite(name)


def _of_hub(task: HubTask, table: InstructionTable) -> EvalTask:
    return EvalTask(
        name=task.name,
        task_type=task.task_type,
        data=task.data,
        instructions=table.for_task(task.name, task.task_type, task.prompt, task.default),
        make=task.load,
    )


def _of_folder(task: LocalTask, table: InstructionTable) -> EvalTask:
    _need_mteb()
    from .local_tasks import FORMS

    form, digest = FORMS[task.kind], digest_of(task)
    return EvalTask(
        name=task.name,
        task_type=form.task_type,
        data=digest,
        instructions=table.for_task(task.name, form.task_type, None, form.prompt),
        make=partial(_make_local, task, digest),
    )


def _make_local(task: LocalTask, digest: str) -> AbsTask:
    """Return the task with its data. Raises DataError when they are not as their layout says, or no longer the same."""
    from .local_tasks import make_task

    data = read(task)
    if data.digest != digest:
        raise DataError(task.path, "changed after the evaluation began. Start it again; finished scores are kept")
    return make_task(task.name, task.kind, data)


def _need_mteb() -> None:
    """Raise EvaluationError when the extra is not installed."""
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise EvaluationError(f"evaluation {MISSING_EXTRA}") from error


def _close(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that look most like `name`, in any case of letters."""
    by_lower = {known.lower(): known for known in reversed(list(names))}
    return [by_lower[low] for low in difflib.get_close_matches(name.lower(), by_lower, n=_GUESSES)]
