"""Comparisons of hand-made scores: every mean and difference below is computed by hand."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.ablation import Step, step_of
from searchctl.training.evaluation.comparison import Comparison, Row, compare, mean_over, shared_tasks
from searchctl.training.evaluation.intervals import SEED, difference_interval, interval, resample, score_interval
from searchctl.training.evaluation.measurement import Cost, Identity, Samples, TaskScore


def identity(label: str, kind: Any = "encoder", *, name: str = "base", **details: Any) -> Identity:
    return Identity(label=label, kind=kind, name=name, fingerprint=f"{kind}-{label}", details=details)


A, B = identity("a"), identity("b")
BM25 = identity("bm25", "bm25")


def score(
    task: str,
    who: Identity,
    value: float,
    *,
    kind: str = "Retrieval",
    data: str = "d",
    day: int = 1,
    settings: Mapping[str, Any] | None = None,
    values: Sequence[float] | None = None,
    gold: Sequence[float] = (),
) -> TaskScore:
    samples = None
    if values is not None:
        ids = tuple(f"q{number}" for number in range(len(values)))
        samples = Samples(kind="spearman" if len(gold) else "mean", ids=ids, values=tuple(values), gold=tuple(gold))
    return TaskScore(
        task=task,
        task_type=kind,
        data=data,
        who=who,
        settings=settings or {},
        metric="ndcg_at_10" if kind == "Retrieval" else "cosine_spearman",
        score=value,
        metrics={},
        samples=samples,
        cost=Cost(texts=10, tokens=600, truncated=1, empty=2, encode_s=2.0, total_s=3.0),
        versions={},
        machine="m",
        finished=f"2026-01-{day:02}T12:00:00+00:00",
    )


def values_of(row: Row) -> dict[str, float]:
    return {label: pytest.approx(cell.value) for label, cell in row.cells.items()}


def differences(row: Row) -> dict[str, float | None]:
    return {
        label: None if cell.difference is None else pytest.approx(cell.difference.value)
        for label, cell in row.cells.items()
    }


def rows(comparison: Comparison) -> dict[str, Row]:
    return {row.name: row for group in comparison.groups for row in group.rows}


def test_tasks_stand_by_category_in_the_papers_order_with_means_and_differences() -> None:
    found = compare(
        [
            score("sts-x", A, 0.5, kind="STS"),
            score("sts-x", B, 0.7, kind="STS"),
            score("zeta", A, 0.2),
            score("zeta", B, 0.1),
            score("Alpha", A, 0.4),
            score("Alpha", B, 0.9),
        ]
    )
    assert ["Retrieval", "STS"] == [group.category for group in found.groups]
    assert ["Alpha", "zeta"] == [row.name for row in found.groups[0].rows]
    assert ("a", "b") == tuple(found.models)
    assert "a" == found.baseline
    assert {"a": 0.4, "b": 0.9} == values_of(rows(found)["Alpha"])
    assert {"a": None, "b": 0.5} == differences(rows(found)["Alpha"])
    assert {"a": None, "b": -0.1} == differences(rows(found)["zeta"])
    # Retrieval: a (.4 + .2) / 2, b (.9 + .1) / 2.
    assert {"a": 0.3, "b": 0.5} == values_of(found.groups[0].mean)
    assert {"a": None, "b": 0.2} == differences(found.groups[0].mean)
    # All tasks: a (.4 + .2 + .5) / 3, b (.9 + .1 + .7) / 3: over tasks, not over categories.
    assert {"a": 1.1 / 3, "b": 1.7 / 3} == values_of(found.overall)
    assert frozenset("b") == rows(found)["Alpha"].best
    assert frozenset("a") == rows(found)["zeta"].best
    assert () == found.notes


def test_the_baseline_may_be_any_model() -> None:
    results = [score("t", A, 0.25), score("t", B, 0.75)]
    found = compare(results, baseline="b")
    assert ("a", "b") == tuple(found.models)
    assert {"a": -0.5, "b": None} == differences(rows(found)["t"])


def test_intervals_are_those_of_the_items() -> None:
    rng = np.random.default_rng(0)
    ours, theirs, gold = rng.random(30), rng.random(30), rng.random(30)
    found = compare(
        [
            score("r", A, ours.mean(), values=ours),
            score("r", B, theirs.mean(), values=theirs),
            score("s", A, 0.1, kind="STS", values=ours, gold=gold),
            score("s", B, 0.2, kind="STS", values=theirs, gold=gold),
        ]
    )
    for task in ("r", "s"):
        seed = (SEED, zlib.crc32(task.encode()))
        a, b = (found.scores[task][label].samples for label in "ab")
        assert a is not None and b is not None
        cells = rows(found)[task].cells
        assert score_interval(a, seed=seed) == cells["a"].interval
        assert score_interval(b, seed=seed) == cells["b"].interval
        assert cells["b"].difference is not None
        assert difference_interval(b, a, seed=seed) == cells["b"].difference.interval
    assert found.overall.cells["b"].interval is None  # of means and rank correlations there is no common sample


def test_significance_is_that_the_interval_excludes_nothing() -> None:
    low = [0.1, 0.2, 0.3, 0.4] * 5
    better = [value + 0.1 for value in low]
    noisy = [value + sign * 0.2 for value, sign in zip(low, [1, -1] * 10, strict=True)]
    found = compare(
        [
            score("r", A, 0.25, values=low),
            score("r", B, 0.35, values=better),
            score("r", identity("c"), 0.25, values=noisy),
            score("r", identity("d"), 0.9),
        ]
    )
    cells = rows(found)["r"].cells
    significant = {label: cells[label].difference.significant for label in "bcd"}  # type: ignore[union-attr]
    assert {"b": True, "c": False, "d": None} == significant


def test_the_interval_of_a_mean_is_of_independent_tasks() -> None:
    rng = np.random.default_rng(1)
    items = {(task, label): rng.random(20) for task in ("r1", "r2") for label in "ab"}
    found = compare(
        [score(task, identity(label), values.mean(), values=values) for (task, label), values in items.items()]
    )
    resampled = {
        task: resample(
            [found.scores[task][label].samples for label in "ab"],  # type: ignore[misc]
            seed=(SEED, zlib.crc32(task.encode())),
        )
        for task in ("r1", "r2")
    }
    mean = (resampled["r1"] + resampled["r2"]) / 2
    expected = interval(mean[1] - mean[0])
    difference = found.groups[0].mean.cells["b"].difference
    assert difference is not None and difference.interval is not None
    assert (pytest.approx(expected.low), pytest.approx(expected.high)) == (
        difference.interval.low,
        difference.interval.high,
    )


def test_missing_scores_stay_missing_and_means_leave_their_tasks_out() -> None:
    found = compare(
        [score("t1", A, 0.1), score("t1", B, 0.3), score("t2", A, 0.9), score("t2", B, 0.9), score("t3", A, 0.5)]
    )
    assert {"a": 0.5} == values_of(rows(found)["t3"])
    assert frozenset() == rows(found)["t3"].best
    assert ("t1", "t2") == found.groups[0].mean.tasks
    assert {"a": 0.5, "b": 0.6} == values_of(found.groups[0].mean)
    assert {"a": 0.5, "b": 0.6} == values_of(found.overall)
    assert (
        "the mean of Retrieval leaves out what not all were measured on: t3 (b)",
        "the mean of all tasks leaves out what not all were measured on: t3 (b)",
    ) == found.notes


def test_who_cannot_do_a_category_does_not_take_it_from_the_others() -> None:
    found = compare(
        [
            *(score("r", who, value) for who, value in ((A, 0.2), (B, 0.4), (BM25, 0.9))),
            *(score("s", who, value, kind="STS") for who, value in ((A, 0.6), (B, 0.7))),
        ]
    )
    assert ("a", "b", "bm25") == tuple(found.models)
    assert {"a": 0.2, "b": 0.4, "bm25": 0.9} == values_of(found.groups[0].mean)
    assert {"a": 0.6, "b": 0.7} == values_of(found.groups[1].mean)
    assert {"a": 0.4, "b": 0.55} == values_of(found.overall)
    assert ("bm25 has no mean over all tasks: not measured on STS",) == found.notes


def test_of_old_and_new_the_last_counts_and_a_note_says_so() -> None:
    """The store has them in the order in which runs wanted them, which need not be that of computing."""
    found = compare(
        [score("t", A, 0.1, day=3, settings={"mteb": "2.25"}), score("t", A, 0.9, day=2), score("t", B, 0.5)]
    )
    assert {"a": 0.9, "b": 0.5} == values_of(rows(found)["t"])
    assert ("other results do not count, only the last of each: t (a)",) == found.notes
    assert () == compare([score("t", A, 0.1, day=3), score("t", A, 0.9, day=2), score("t", B, 0.5)], models=["b"]).notes


def test_other_data_are_left_out_and_other_settings_are_told() -> None:
    found = compare(
        [
            score("t", B, 0.5, day=3, data="old"),
            score("t", identity("c"), 0.4, data="new", settings={"seed": 2}),
            score("t", A, 0.9, data="new", settings={"seed": 1}),
        ]
    )
    assert {"a": 0.9, "c": 0.4} == values_of(rows(found)["t"])
    assert "t: b was measured on other data, or by another metric, than a: left out" in found.notes
    assert "t: the models were measured with different settings: seed" in found.notes


def test_items_that_do_not_fit_take_the_intervals_away_and_a_note_says_why() -> None:
    found = compare([score("t", A, 0.5, values=[0.4, 0.6]), score("t", B, 0.5, values=[0.5, 0.4, 0.6])])
    assert rows(found)["t"].cells["a"].interval is None
    assert "t: no intervals, since 1 items are in one model's results only, e.g. 'q2'" in found.notes[0]


def test_models_of_one_label_are_told_apart() -> None:
    one = Identity(label="x", kind="encoder", name="x", fingerprint="1234567890")
    two = Identity(label="x", kind="encoder", name="x", fingerprint="abcdefghij")
    results = [score("t", one, 0.1), score("t", two, 0.2), score("t", A, 0.3)]
    assert {"x #12345678", "x #abcdefgh", "a"} == set(compare(results).models)
    assert ("x #12345678", "x #abcdefgh") == tuple(compare(results, models=["x"]).models)
    assert ("x #abcdefgh",) == tuple(compare(results, models=["x #abcdefgh"]).models)
    with pytest.raises(EvaluationError, match="--baseline x means x #12345678 and x #abcdefgh"):
        compare(results, baseline="x")


def test_models_and_tasks_can_be_chosen() -> None:
    results = [score(task, who, 0.5) for task in ("t1", "t2") for who in (A, B, BM25)]
    found = compare(results, models=["bm25", "a"], tasks=["t2"])
    assert ("bm25", "a") == tuple(found.models)
    assert ["t2"] == list(found.scores)
    assert "bm25" == found.baseline
    more = compare([*results, score("t3", identity("c"), 0.1)], tasks=["t1"])
    assert ("not shown, for lack of a result on these tasks: c",) == more.notes


def test_unknown_names_are_errors(subtests: pytest.Subtests) -> None:
    for choice, message in [
        ({"models": ["bm52"]}, r"bm52: no result of that model, expected one of a, bm25\. Did you mean bm25\?"),
        ({"tasks": ["scifact"]}, "scifact: no result of that task, expected one of t"),
        ({"baseline": "zzz"}, "zzz: no result of that model, among those shown, expected one of a, bm25"),
        ({"baseline": "bm25", "models": ["a"]}, "bm25: no result of that model, among those shown"),
    ]:
        with subtests.test(choice=choice, message=message), pytest.raises(EvaluationError, match=message):
            compare([score("t", A, 0.5), score("t", BM25, 0.5)], **choice)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no result to compare"):
        compare([])
    with pytest.raises(EvaluationError, match="none of these models"):
        compare([score("t", A, 0.5), score("u", B, 0.5)], models=["a"], tasks=["u"])


def test_costs_add_up() -> None:
    found = compare([score("t1", A, 0.1), score("t2", A, 0.1), score("t1", B, 0.1)])
    cost = found.costs["a"]
    assert (2, 20, 1200, 2, 4, 4.0, 6.0, 300.0) == (
        cost.tasks, cost.texts, cost.tokens, cost.truncated, cost.empty, cost.encode_s, cost.total_s, cost.tokens_per_s
    )  # fmt: skip


def test_means_over_shared_tasks() -> None:
    found = compare([score("t1", A, 0.1), score("t2", A, 0.5), score("t1", B, 0.1)])
    assert ("t1",) == shared_tasks(found.scores, ["a", "b"])
    assert 0.3 == pytest.approx(mean_over(("t1", "t2"), found.scores, "a"))


CAUSAL, BI = "causal", "bidirectional"


def test_steps_are_read_from_the_details(subtests: pytest.Subtests) -> None:
    for details, expected in [
        ({"attention": CAUSAL, "method": "plain", "chain": []}, "uni"),
        ({"attention": BI, "method": "plain", "chain": []}, "bi"),
        ({"attention": CAUSAL, "method": "echo", "chain": []}, "echo"),
        ({"attention": BI, "method": "plain", "chain": ["mntp", "simcse", "supervised"]}, "bi+mntp+simcse+supervised"),
        ({"attention": BI, "method": "plain", "chain": ["no-mntp-test", "mine"]}, "bi+no-mntp-test+mine"),
    ]:
        with subtests.test(details=details, expected=expected):
            step = step_of(identity("x", **details))
            assert step is not None
            assert expected == step.key
            assert step_of(identity("x", "search", **details)) is None


def test_steps_stand_in_the_order_of_table_5() -> None:
    wanted = ["uni", "bi", "echo", "bi+mntp", "uni+simcse", "bi+simcse", "bi+mntp+simcse", "bi+mntp+supervised",
              "bi+mntp+simcse+supervised"]  # fmt: skip
    steps = [Step(start=key.split("+")[0], stages=tuple(key.split("+")[1:])) for key in sorted(wanted)]
    assert wanted == [step.key for step in sorted(steps, key=lambda step: step.order)]


def test_the_ablation_is_table_5_over_the_tasks_that_all_steps_have() -> None:
    def step(label: str, attention: str, pooling: str, *chain: str) -> Identity:
        return identity(label, attention=attention, method="plain", pooling=pooling, chain=list(chain), dim=8)

    uni, uni_mean = step("uni", CAUSAL, "weighted_mean"), step("uni-mean", CAUSAL, "mean")
    bi, mntp = step("bi", BI, "mean"), step("mntp", BI, "mean", "mntp")
    other = identity("z", name="other", attention=BI, method="plain", pooling="mean", chain=[])
    marks = {"uni": (0.3, 0.5), "uni-mean": (0.2, 0.4), "bi": (0.1, 0.2), "mntp": (0.5, 0.7)}
    results = [
        score(task, who, marks[who.label][number])
        for number, task in enumerate(("t1", "t2"))
        for who in (mntp, bi, uni, uni_mean)
    ]
    found = compare([*results, score("t3", bi, 0.9), score("t1", other, 0.9), score("t1", BM25, 0.9)])
    assert ("uni", "uni-mean", "bi", "mntp", "z", "bm25") == tuple(found.models)
    (ablation,) = found.ablations
    assert "base, dim 8" == ablation.base
    assert "ablation of base, dim 8: t3 left out, which not all of its models have" in found.notes
    assert not any("is in no ablation" in note or "mixes" in note for note in found.notes)
    assert ("t1", "t2") == ablation.tasks
    assert ("mean", "weighted_mean") == ablation.poolings
    assert [
        ("uni", {"weighted_mean": pytest.approx(0.4), "mean": pytest.approx(0.3)}),
        ("bi", {"mean": pytest.approx(0.15)}),
        ("bi+mntp", {"mean": pytest.approx(0.6)}),
    ] == [(row.step.key, row.values) for row in ablation.rows]


def test_a_setting_that_a_model_lacks_is_no_difference() -> None:
    with_one = score("t", A, 0.5, settings={"seed": 1, "instructions": {"query": "x"}})
    found = compare([with_one, score("t", BM25, 0.4, settings={"seed": 1})])
    assert () == found.notes
    other = score("t", B, 0.5, settings={"seed": 1, "instructions": {"query": "y"}})
    found = compare([with_one, other, score("t", BM25, 0.4, settings={"seed": 1})])
    assert "t: the models were measured with different settings: instructions" in found.notes


def test_two_models_of_one_step_are_told() -> None:
    details = {"attention": BI, "method": "plain", "pooling": "mean"}
    one, two = identity("one", chain=["mntp"], **details), identity("two", chain=["mntp"], **details)
    found = compare([score("t", who, 0.5) for who in (one, two, identity("bi", chain=[], **details))])
    assert ("ablation of base: one stands for bi+mntp, two is left out of it",) == found.notes
    assert ["bi", "bi+mntp"] == [row.step.key for row in found.ablations[0].rows]


def step(label: str, *chain: str, pooling: str = "mean", **details: Any) -> Identity:
    return identity(label, attention=BI, method="plain", pooling=pooling, chain=list(chain), **details)


def test_without_a_task_that_all_steps_have_the_most_that_share_one_are_compared() -> None:
    bi, mntp, more, lone = step("bi"), step("mntp", "mntp"), step("simcse", "mntp", "simcse"), step("x", "x")
    results = [score(task, who, 0.5) for task in ("t1", "t2") for who in (bi, mntp, more)]
    found = compare([*results, score("t3", lone, 0.5), score("t3", bi, 0.5)])
    (ablation,) = found.ablations
    assert (("t1", "t2"), ["bi", "bi+mntp", "bi+mntp+simcse"]) == (
        ablation.tasks,
        [row.step.key for row in ablation.rows],
    )
    assert (
        "ablation of base: x left out, for lack of a task that the others have too",
        "ablation of base: t3 left out, which not all of its models have",
    ) == tuple(note for note in found.notes if note.startswith("ablation"))


def test_no_ablation_is_told() -> None:
    found = compare([score("t1", step("bi"), 0.5), score("t2", step("mntp", "mntp"), 0.5)])
    assert () == found.ablations
    assert "no ablation of base: bi, mntp have no task in common" in found.notes


def test_a_step_of_another_length_is_told() -> None:
    short = step("mntp", "mntp", max_tokens=128)
    found = compare([score("t1", who, 0.5) for who in (step("bi", max_tokens=512), short)])
    assert () == found.ablations
    assert {
        "bi is in no ablation: no other step of base has max_tokens 512",
        "mntp is in no ablation: no other step of base has max_tokens 128",
    } <= set(found.notes)


def test_mixed_precision_is_told() -> None:
    steps = [step("bi", precision="fp32"), step("mntp", "mntp", precision="bf16"), step("x", "x", precision="fp32")]
    found = compare([score("t1", who, 0.5) for who in steps])
    assert len(found.ablations) == 1
    assert (
        "ablation of base mixes precisions, which is a difference of its own: fp32 in bi, x; bf16 in mntp"
    ) in found.notes


def test_poolings_of_one_step_are_an_ablation() -> None:
    found = compare([score("t1", step(pooling, pooling=pooling), 0.5) for pooling in ("last", "mean")])
    (ablation,) = found.ablations
    assert (("last", "mean"), ["bi"]) == (ablation.poolings, [row.step.key for row in ablation.rows])
