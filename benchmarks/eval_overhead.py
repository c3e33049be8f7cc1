"""What evaluation costs beyond the encoder itself: `searchctl eval`'s own run of a task against bare `encode` calls.

    python benchmarks/eval_overhead.py stsb-test --local DATA --limit 250 --rounds 3
    python benchmarks/eval_overhead.py cranfield --local DATA --limit 100 --rounds 3

Both sides use one loaded encoder, encode the same texts with the same instructions, and take turns; the order changes
from round to round. The bare side encodes each side of the task in one call, as a person would in a notebook. The other
side is all of `evaluate`: reading the data, mteb, the vector file that makes a killed task resumable, search, scores
and the result file. Prints seconds and the median of the ratios. `--limit N` takes the first N pairs, or the first N
documents with the queries that one of them answers, so that minutes are enough.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Encoder, Role, Vectors
from searchctl.training.data.local_data import LocalData, PairData, RetrievalData, StsData, discover, read
from searchctl.training.evaluation.encoder_model import EncoderModel
from searchctl.training.evaluation.instructions import InstructionTable
from searchctl.training.evaluation.local_tasks import make_task
from searchctl.training.evaluation.measurement import EvalTask
from searchctl.training.evaluation.results import ResultStore
from searchctl.training.evaluation.runner import evaluate
from searchctl.training.evaluation.tasks import find_tasks

Call = tuple[list[str], Role, str | None]


class Recorder:
    """Passes everything on to the encoder and remembers the texts."""

    def __init__(self, encoder: Encoder, calls: list[Call]) -> None:
        self._encoder = encoder
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, texts: Any, *, role: Role, instruction: str | None = None, progress: Any = None) -> Vectors:
        self._calls.append((list(texts), role, instruction))
        return self._encoder.encode(texts, role=role, instruction=instruction, progress=progress)


def tasks_of(names: Sequence[str], local: Path, limit: int | None) -> list[EvalTask]:
    """Return the tasks named, cut down to their first `limit` pairs or documents."""
    found = find_tasks(names, suite=None, local=local, table=InstructionTable.load(None))
    if limit is None:
        return found
    places = {place.name: place for place in discover(local)}
    cut = []
    for task in found:
        if task.name not in places:
            raise SystemExit(f"--limit goes with local tasks, which {task.name} is not: expected one of {local}")
        place = places[task.name]
        part = first(read(place), limit, task.name)
        make = lambda place=place, part=part: make_task(place.name, place.kind, part)  # noqa: E731
        cut.append(replace(task, data=f"{task.data} first {limit}", make=make))
    return cut


def first(data: LocalData, limit: int, name: str) -> LocalData:
    """Return the first `limit` pairs, or documents with the queries that one of them answers."""
    match data:
        case StsData():
            return replace(data, first=data.first[:limit], second=data.second[:limit], scores=data.scores[:limit])
        case PairData():
            return replace(data, first=data.first[:limit], second=data.second[:limit], labels=data.labels[:limit])
        case RetrievalData():
            return _first_documents(data, limit)
    raise SystemExit(f"--limit goes with pairs and with retrieval, and {name} is neither")


def _first_documents(data: RetrievalData, limit: int) -> RetrievalData:
    kept = set(data.document_ids[:limit])
    judged = {
        query: {document: grade for document, grade in grades.items() if document in kept}
        for query, grades in data.judgements.items()
    }
    answered = {query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())}
    rows = [row for row, query in enumerate(data.query_ids) if query in answered]
    return replace(
        data,
        document_ids=data.document_ids[:limit],
        titles=data.titles[:limit],
        texts=data.texts[:limit],
        query_ids=tuple(data.query_ids[row] for row in rows),
        queries=tuple(data.queries[row] for row in rows),
        judgements=answered,
    )


def harness(task: EvalTask, config: EncoderConfig, encoder: Any) -> float:
    """Return the seconds of a whole evaluation of `task` with the loaded encoder, into an empty results folder."""
    model = EncoderModel("model", config, cache=None, progress=None)
    model._encoder = encoder  # loading takes seconds, and is no part of a task
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        (score,) = evaluate([model], [task], ResultStore(Path(folder)), told=lambda _: None)
        taken = time.perf_counter() - began
    print(f"  {task.name}: {score.metric} {100 * score.score:.2f}, {score.cost.tokens:,} tokens", flush=True)
    return taken


def bare(calls: list[Call], encoder: Encoder) -> float:
    """Return the seconds that the texts take in the encoder alone: one call per role and instruction."""
    joined: dict[tuple[Role, str | None], dict[str, None]] = {}
    for texts, role, instruction in calls:
        joined.setdefault((role, instruction), {}).update(dict.fromkeys(texts))
    began = time.perf_counter()
    for (role, instruction), texts in joined.items():
        encoder.encode(list(texts), role=role, instruction=instruction)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--local", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pairs, or N documents")
    args = parser.parse_args()
    config = EncoderConfig(model=args.model)
    encoder = open_encoder(config)
    if args.limit is not None and args.limit < 2:
        parser.error(f"--limit is {args.limit}, expected 2 or more")
    for task in tasks_of(args.tasks, args.local, args.limit):
        calls: list[Call] = []
        harness(task, config, Recorder(encoder, calls))  # warms both sides up, and tells what is encoded
        ratios = []
        for number in range(args.rounds):
            sides = {"harness": lambda: harness(task, config, encoder), "bare": lambda: bare(calls, encoder)}  # noqa: B023
            order = list(sides) if number % 2 else list(reversed(sides))
            taken = {side: sides[side]() for side in order}
            ratios.append(taken["harness"] / taken["bare"])
            print(f"  round {number + 1}: harness {taken['harness']:.1f} s, bare {taken['bare']:.1f} s", flush=True)
        print(f"{task.name}: harness / encoder = {statistics.median(ratios):.3f} (median of {args.rounds})", flush=True)


if __name__ == "__main__":
    main()
