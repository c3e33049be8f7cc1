"""Which results a comparison is of: the last of each model and task, on the same data, by unique labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from ..errors import EvaluationError
from .measurement import Identity, TaskScore

CATEGORIES = ("Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS", "Summarization")
"""In the paper's order; other mteb types come after them."""

Scores = Mapping[str, Mapping[str, TaskScore]]
"""By task and by label."""


def newest(results: Iterable[TaskScore]) -> tuple[list[TaskScore], list[TaskScore]]:
    """Return the last result of each model and task, and those before it; both in the order of `results`.

    `results` are in the order in which runs wanted them, as `ResultStore.all` has them.
    """
    found: dict[tuple[str, str, str], TaskScore] = {}
    older = []
    for score in results:
        key = (score.who.kind, score.who.fingerprint, score.task)
        if key in found:
            older.append(found.pop(key))
        found[key] = score
    return list(found.values()), older


def same(one: Identity, other: Identity) -> bool:
    """Return whether they are one model, whatever their labels."""
    return (one.kind, one.fingerprint) == (other.kind, other.fingerprint)


def first_of_equals(models: Iterable[Identity]) -> dict[str, str]:
    """Return for each model that is the same as one before it, by its label, the label of the first such one."""
    first: dict[tuple[str, str], str] = {}
    others = {}
    for who in models:
        label = first.setdefault((who.kind, who.fingerprint), who.label)
        if label != who.label:
            others[who.label] = label
    return others


def labelled(scores: Sequence[TaskScore]) -> dict[str, Identity]:
    """Return the models by the newest label each has, with the start of the fingerprint where two share one."""
    who = list({(score.who.kind, score.who.fingerprint): score.who for score in scores}.values())
    labels = [one.label for one in who]
    names = [one.label if labels.count(one.label) == 1 else f"{one.label} #{one.fingerprint[:8]}" for one in who]
    assert len(set(names)) == len(names), names
    return dict(zip(names, who, strict=True))


def chosen_names(known: Mapping[str, Identity | str], wanted: Sequence[str], what: str) -> list[str]:
    """Return the names of `known` that `wanted` means; "x" means "x #1234" too. Raises EvaluationError."""
    if not wanted:
        return list(known)
    found: list[str] = []
    for name in wanted:
        matches = [one for one in known if name in (one, one.rpartition(" #")[0])]
        if not matches:
            close = get_close_matches(name, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise EvaluationError(f"{name}: no result of that {what}, expected one of {', '.join(known)}.{meant}")
        found += [one for one in matches if one not in found]
    return found


def one_label(baseline: str | None, labels: Sequence[str]) -> str:
    """Return the label that `baseline` means, the first for None. Raises EvaluationError."""
    if baseline is None:
        return labels[0]
    try:
        matches = chosen_names(dict.fromkeys(labels, ""), [baseline], "model, among those shown")
    except EvaluationError as error:
        raise EvaluationError(f"--baseline {error}") from error
    if len(matches) > 1:
        raise EvaluationError(f"--baseline {baseline} means {' and '.join(matches)}: expected one of them in full")
    return matches[0]


def category_place(category: str) -> tuple[int, str]:
    """Return where a category belongs: in the order of CATEGORIES, and after them by name."""
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES), category)


def task_place(entry: tuple[str, Mapping[str, TaskScore]]) -> tuple[int, str, str]:
    """Return where a task and its results belong: by category, then by name."""
    task, row = entry
    return (*category_place(next(iter(row.values())).task_type), task.lower())


def on_same_data(task: str, row: Mapping[str, TaskScore], notes: list[str]) -> dict[str, TaskScore]:
    """Return the results on the same data and metric as the newest, which is the last of `row`.

    What else differs is put into `notes`.
    A setting that a result lacks decided nothing there: instructions of a model that reads none.
    """
    first = list(row)[-1]
    newest_one = row[first]
    kept = {label: s for label, s in row.items() if (s.data, s.metric) == (newest_one.data, newest_one.metric)}
    for other in sorted(row.keys() - kept.keys()):
        notes.append(f"{task}: {other} was measured on other data, or by another metric, than {first}: left out")
    names = {name for score in kept.values() for name in score.settings}
    differing = [
        name
        for name in sorted(names)
        if len({json.dumps(s.settings[name], sort_keys=True) for s in kept.values() if name in s.settings}) > 1
    ]
    if differing:
        notes.append(f"{task}: the models were measured with different settings: {', '.join(differing)}")
    return kept
