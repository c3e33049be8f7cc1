"""How `searchctl eval init` and `searchctl eval own` look: bars, the test set that was made, and the scores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from ...encoder.protocol import EncodeProgress, EncoderInfo
from ...training.evaluation.intervals import LEVEL, Interval, difference_interval, score_interval
from ...training.evaluation.measurement import Samples
from ...training.evaluation.own_collection import MakingStep
from ...training.evaluation.own_collection_folder import TestSet
from ..collection.paths import shown_path
from ..collection.stored_vectors import Reuse
from ..options import ReportFormat, SearchMode
from ..terminal.console import Terminal, printable
from ..terminal.wording import duration
from .corpus_index import FillProgress

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeScores:
    """How one mode of search did, query by query."""

    ndcg: tuple[float, ...]
    recall: tuple[float, ...]
    reciprocal_rank: tuple[float, ...]
    seconds_per_query: float
    """Of the search; encoding the query comes to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReport:
    """A collection's search on its test set."""

    collection: Path
    data: Path
    encoder: EncoderInfo
    is_own_encoder: bool
    """Whether it is the collection's."""
    k: int
    dense_weight: float
    passages: int
    query_ids: tuple[str, ...]
    kinds: Mapping[str, str]
    modes: Mapping[SearchMode, ModeScores]
    faiss_recall: tuple[float, ...]
    reuse: Reuse
    gone: int
    """Passages of the test set that the collection has no longer, of those that were not cut."""
    uncut: int
    generations: tuple[int, int]
    """Of the collection when the test set was made, and now."""

    def samples(self, mode: SearchMode, kind: str | None = None) -> Samples:
        """Return nDCG of the queries, or of those of one kind."""
        rows = [row for row, id_ in enumerate(self.query_ids) if kind is None or self.kinds[id_] == kind]
        values = self.modes[mode].ndcg
        return Samples(
            kind="mean", ids=tuple(self.query_ids[row] for row in rows), values=tuple(values[row] for row in rows)
        )

    @property
    def faiss(self) -> Estimate:
        """Return the mean recall of the FAISS index."""
        return estimate(Samples(kind="mean", ids=self.query_ids, values=self.faiss_recall))

    @property
    def counts(self) -> dict[str, int]:
        """How many queries of each kind there are."""
        kinds = list(self.kinds.values())
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over queries, or a difference of two, with its interval; None for a single query."""

    value: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        low, high = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        return {"value": _rounded(self.value), "low": _rounded(low), "high": _rounded(high)}


def estimate(samples: Samples) -> Estimate:
    """Return the mean of the samples."""
    return Estimate(value=fmean(samples.values), interval=score_interval(samples) if len(samples.values) > 1 else None)


def difference(ours: Samples, theirs: Samples) -> Estimate:
    """Return the mean difference on the same queries."""
    return Estimate(
        value=fmean(ours.values) - fmean(theirs.values),
        interval=difference_interval(ours, theirs) if len(ours.values) > 1 else None,
    )


def show_own(terminal: Terminal, report: OwnReport, form: ReportFormat) -> None:
    """Print the report."""
    _tell_changes(terminal, report)
    if form is ReportFormat.JSON:
        terminal.write(json.dumps(report_to_json(report), ensure_ascii=False, indent=2) + "\n")
        return
    terminal.show(
        Text.assemble(
            f"{len(report.query_ids):,} queries on {report.passages:,} passages, encoder ",
            (printable(report.encoder.name), "bold"),
            f", dense share of hybrid {report.dense_weight:g}",
        )
    )
    terminal.show(Text(f"points of 100; in brackets the {LEVEL:.0%} interval", "dim"))
    terminal.show(Text(""))
    terminal.show(_modes(report))
    terminal.show(Text(""))
    terminal.show(_differences(report))
    if len(report.counts) > 1:
        terminal.show(Text(""))
        terminal.show(_by_kind(report))
    terminal.show(Text(""))
    _close(terminal, report)


def _tell_changes(terminal: Terminal, report: OwnReport) -> None:
    if report.gone:
        made, now = report.generations
        terminal.notice(
            f"the collection has changed since the test set was made (generation {made}, now {now}): "
            f"{report.gone:,} of {report.uncut:,} passages that were not cut are no longer in it. They are measured as "
            f"they were; {terminal.command('eval', 'init', '--force')} makes a test set of today's"
        )
    if not report.is_own_encoder:
        terminal.notice(
            f"{report.encoder.name} is not the collection's encoder: all passages are encoded for this test, once"
        )


def _modes(report: OwnReport) -> Table:
    table = _table("search", f"nDCG@{report.k}", "", f"recall@{report.k}", f"MRR@{report.k}", "ms a query")
    best = max(report.modes, key=lambda mode: fmean(report.modes[mode].ndcg))
    for mode, scores in report.modes.items():
        found = estimate(report.samples(mode))
        table.add_row(
            mode.value,
            Text(_points(found.value), "bold green" if mode is best else "bold"),
            _range(found.interval),
            _points(fmean(scores.recall)),
            _points(fmean(scores.reciprocal_rank)),
            f"{1000 * scores.seconds_per_query:.1f}",
        )
    return table


def _differences(report: OwnReport) -> Table:
    table = _table("hybrid against", f"nDCG@{report.k}", "", "")
    for side in (SearchMode.LEXICAL, SearchMode.DENSE):
        found = difference(report.samples(SearchMode.HYBRID), report.samples(side))
        table.add_row(
            side.value, _points(found.value, signed=True), _range(found.interval, signed=True), _verdict(found)
        )
    return table


def _verdict(found: Estimate) -> Text:
    if found.interval is None or not found.interval.excludes_zero:
        return Text("no clear difference", "dim")
    return Text("hybrid is better", "green") if found.value > 0 else Text("hybrid is worse", "yellow")


def _by_kind(report: OwnReport) -> Table:
    columns = [cell for kind, count in report.counts.items() for cell in (f"{kind} ({count:,})", "")]
    table = _table(f"nDCG@{report.k} by kind", *columns)
    for mode in report.modes:
        cells: list[str | Text] = []
        for kind in report.counts:
            found = estimate(report.samples(mode, kind))
            cells += [_points(found.value), _range(found.interval)]
        table.add_row(mode.value, *cells)
    return table


def _close(terminal: Terminal, report: OwnReport) -> None:
    reuse = report.reuse
    found = report.faiss
    terminal.show(
        Text.assemble(
            f"FAISS finds {_points(found.value)} % ",
            _range(found.interval),
            " " if found.interval else "",
            f"of the {report.k} nearest that exact search finds",
        )
    )
    if reuse.queries:
        milliseconds = 1000 * reuse.queries_s / reuse.queries
        terminal.show(
            f"encoding a query takes {milliseconds:.1f} ms more in dense and hybrid, {reuse.queries:,} at once"
        )
    source = f"{reuse.taken:,} vectors from the collection, {reuse.encoded:,} encoded again"
    terminal.show(
        Text(f"passages: {source if reuse.taken or reuse.encoded else 'all there from an earlier run'}", "dim")
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 or not name else "right", no_wrap=True)
    return table


def _points(value: float, *, signed: bool = False) -> str:
    return f"{100 * value:{'+' if signed else ''}.1f}"


def _range(interval: Interval | None, *, signed: bool = False) -> Text:
    if interval is None:
        return Text("")
    return Text(f"[{_points(interval.low, signed=signed)}, {_points(interval.high, signed=signed)}]", "dim")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def report_to_json(report: OwnReport) -> dict[str, Any]:
    """Return the JSON document of the command; scores are 0 to 1."""
    hybrid = report.samples(SearchMode.HYBRID)
    sides = (SearchMode.LEXICAL, SearchMode.DENSE)
    return {
        "schema": SCHEMA,
        "collection": str(report.collection),
        "data": str(report.data),
        "encoder": {"name": report.encoder.name, "fingerprint": report.encoder.fingerprint},
        "dense_weight": report.dense_weight,
        "k": report.k,
        "queries": {"total": len(report.query_ids), **report.counts},
        "passages": report.passages,
        "modes": {mode.value: _mode_to_json(report, mode) for mode in report.modes},
        "hybrid_minus": {side.value: difference(hybrid, report.samples(side)).to_json() for side in sides},
        "faiss_recall": report.faiss.to_json(),
        "vectors": {"reused": report.reuse.taken, "encoded": report.reuse.encoded},
        "seconds_per_query_encoded": _rounded(report.reuse.queries_s / max(report.reuse.queries, 1)),
        "changed": {
            "passages_gone": report.gone,
            "generation_then": report.generations[0],
            "generation_now": report.generations[1],
        },
    }


def _mode_to_json(report: OwnReport, mode: SearchMode) -> dict[str, Any]:
    scores = report.modes[mode]
    return {
        "ndcg": estimate(report.samples(mode)).to_json(),
        "recall": _mean_to_json(report, scores.recall),
        "mrr": _mean_to_json(report, scores.reciprocal_rank),
        "ndcg_by_kind": {kind: estimate(report.samples(mode, kind)).to_json() for kind in report.counts},
        "seconds_per_query": _rounded(scores.seconds_per_query),
    }


def _mean_to_json(report: OwnReport, values: Sequence[float]) -> dict[str, Any]:
    return estimate(Samples(kind="mean", ids=report.query_ids, values=tuple(values))).to_json()


_EXAMPLES = 3
_PLURAL = {"title": "titles", "heading": "headings", "sentence": "sentences"}


def show_test_set(terminal: Terminal, test_set: TestSet, folder: Path, *, asked: int, hint: str) -> None:
    """Tell what a new test set holds, with a few of its queries."""
    kinds = ", ".join(_counted(kind, count) for kind, count in test_set.kinds.items())
    terminal.say(
        Text.assemble(
            "test set: ",
            (f"{len(test_set.queries):,} queries", "green"),
            f" ({kinds}) on {len(test_set.corpus):,} passages",
        )
    )
    duplicates = f"; {test_set.duplicates:,} duplicate passages left out" if test_set.duplicates else ""
    terminal.say(Text(f"cut out of {len(test_set.cut):,} passages, so that no query stands in any{duplicates}", "dim"))
    if test_set.dropped:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(test_set.dropped.items(), key=lambda item: -item[1])
        )
        terminal.say(Text(f"not used: {reasons}", "dim"))
    if len(test_set.queries) < asked:
        terminal.notice(
            f"{len(test_set.queries):,} queries are all that the collection gives, {asked:,} were asked for"
        )
    terminal.say("for example:")
    for query in _examples(test_set):
        answers = ", ".join(query.answers[:2]) + (" ..." if len(query.answers) > 2 else "")
        terminal.say(Text.assemble((f"  {query.kind:<9} ", "dim"), printable(query.text), (f"  {answers}", "dim")))
    terminal.say(Text.assemble(f"kept in {shown_path(folder)}; measure with ", (f"`{hint}`", "bold")))


def _examples(test_set: TestSet) -> list[Any]:
    """Return three queries, of as many kinds as there are."""
    firsts = [next(query for query in test_set.queries if query.kind == kind) for kind in test_set.kinds]
    others = [query for query in test_set.queries if query not in firsts]
    return (firsts + others)[:_EXAMPLES]


def _counted(kind: str, count: int) -> str:
    return f"{count:,} {kind if count == 1 else _PLURAL.get(kind, kind)}"


_FILLING = 0.8
"""Share of the bar that stands for encoding passages; queries are the rest."""


class InitWords:
    """What the bar says while a test set is made; the time left is that of the step, for steps are of all lengths."""

    def __init__(self, update: Callable[[float, str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._update = update
        self._now = now
        self._step: MakingStep | None = None
        self._began = now()

    def told(self, step: MakingStep, done: int, of: int) -> None:
        if step is not self._step:
            self._step, self._began = step, self._now()
        number, steps = list(MakingStep).index(step), len(MakingStep)
        words = f"{number + 1} of {steps}, {step}: {done:,} of {of:,} {step.counts}"
        if 0 < done < of:
            words += f", {duration((self._now() - self._began) * (of - done) / done)} left in it"
        self._update((number + done / max(of, 1)) / steps, words)


class OwnWords:
    """What the bar says."""

    def __init__(self) -> None:
        self.update: Callable[[float, str], None] = lambda share, words: None

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        self.update(0.0, f"loading {name}")
        yield

    def filling(self, progress: FillProgress, total: int) -> None:
        speed = _speed(progress.tokens_done, progress.tokens_expected(total), progress.encode_s)
        self.update(_FILLING * progress.share(total), f"{progress.passages:,} of {total:,} passages{speed}")

    def filled(self, queries: int) -> None:
        self.update(_FILLING, f"{queries:,} queries")

    def asking(self, progress: EncodeProgress, began: float) -> None:
        """Say how far the queries are encoded; `began` is of `time.perf_counter`."""
        share = progress.tokens_done / progress.tokens_total if progress.tokens_total else 1.0
        speed = _speed(progress.tokens_done, progress.tokens_total, time.perf_counter() - began)
        words = f"{progress.texts_done:,} of {progress.texts_total:,} queries{speed}"
        self.update(_FILLING + (1 - _FILLING) * share, words)


def _speed(tokens: int, expected: float, seconds: float) -> str:
    """Return ", 1,200 tokens/s, 10 s left"; "" before anything was encoded."""
    if not tokens or seconds <= 0:
        return ""
    per_s = tokens / seconds
    return f", {per_s:,.0f} tokens/s, {duration(max(0.0, expected - tokens) / per_s)} left"
