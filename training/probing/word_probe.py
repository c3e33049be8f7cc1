"""The word-level probe: a linear classifier on frozen word states (LLM2Vec paper, section 3.1 and appendix D.1.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...index.durable import write_whole
from ..errors import EvaluationError
from ..evaluation.intervals import SEED, Interval, interval
from ..evaluation.measurement import Json
from .word_data import WordData, WordTask
from .word_states import VERSION, WordStates
from .word_steps import Alignment

STEPS = 4000
"""Optimiser steps, with the test at their end.

The anchor trains 4000 of 17,560 scheduled steps and tests the checkpoint at 3000, the paper says 1500. Here the rate
falls to zero at the last step, so that any number of steps ends settled, and no checkpoint is chosen.
"""
RESAMPLES = 2000
_EVALUATED = 256
_REPORT_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How the classifier is trained; the defaults are the paper's, where it names any."""

    steps: int = STEPS
    batch: int = 8
    """Sentences."""
    lr: float = 5e-4
    """AdamW without weight decay, falling linearly to zero, no warm-up: the defaults of Hugging Face's Trainer."""
    dropout: float = 0.1
    clip: float = 1.0
    """Largest norm of the gradient, Trainer's default."""
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a whole number of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeScore:
    """How many words each sentence of a split has, and how many were labelled rightly: int64 (sentences,) each."""

    correct: NDArray[np.int64]
    words: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of words labelled rightly, 0 to 1 (the micro precision of the anchor)."""
        return float(self.correct.sum() / self.words.sum())


def run_probe(
    states: Mapping[str, WordStates],
    data: WordData,
    task: WordTask,
    settings: ProbeSettings,
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, ProbeScore]:
    """Return the scores on "dev" and "test" of a classifier trained on "train"; `progress` gets the steps done.

    One label per word. Words without a state take no part. A label that "train" has not counts as wrong. The same on
    every run on one CPU. Raises EvaluationError for a split without a single word state.
    """
    for split, of in states.items():
        if not of.starts[-1]:
            raise EvaluationError(f"{split}: none of its words has a state: use a larger --max-tokens")
    names = sorted({label for sentence in data.splits["train"] for label in sentence.labels[task]})
    ids = {name: number for number, name in enumerate(names)}
    labels = {
        split: [
            np.asarray([ids.get(label, -1) for label in sentence.labels[task]], dtype=np.int64)[kept]
            for sentence, kept in zip(sentences, states[split].kept, strict=True)
        ]
        for split, sentences in data.splits.items()
    }
    classifier = train_classifier(states["train"], labels["train"], len(names), settings, progress=progress)
    return {split: score(classifier, states[split], labels[split]) for split in ("dev", "test")}


def train_classifier(
    states: WordStates,
    labels: Sequence[NDArray[np.int64]],
    classes: int,
    settings: ProbeSettings,
    *,
    progress: Callable[[int], None] | None = None,
) -> nn.Linear:
    """Return the classifier; `labels` are those of each sentence's words with a state. No other random state moves."""
    usable = [number for number, of in enumerate(labels) if len(of)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier = nn.Linear(states.blocks[0].shape[1], classes)
        dropout = nn.Dropout(settings.dropout)
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=settings.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / settings.steps)
        batches = _batches(usable, settings)
        for step in range(1, settings.steps + 1):
            batch = next(batches)
            wanted = torch.from_numpy(np.concatenate([labels[number] for number in batch]))
            logits = classifier(dropout(torch.from_numpy(states.gather(batch))))
            nn.functional.cross_entropy(logits, wanted).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(classifier.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if progress is not None and (step % _REPORT_EVERY == 0 or step == settings.steps):
                progress(step)
    return classifier


def _batches(sentences: Sequence[int], settings: ProbeSettings) -> Iterator[list[int]]:
    """Yield batches without end, each epoch in an order of its own; an epoch's last may be smaller."""
    generator = torch.Generator().manual_seed(settings.seed)
    while True:
        order = torch.randperm(len(sentences), generator=generator).tolist()
        for at in range(0, len(order), settings.batch):
            yield [sentences[i] for i in order[at : at + settings.batch]]


def score(classifier: nn.Linear, states: WordStates, labels: Sequence[NDArray[np.int64]]) -> ProbeScore:
    """Return the counts of each sentence."""
    words = np.asarray([len(of) for of in labels], dtype=np.int64)
    correct = np.zeros(len(labels), dtype=np.int64)
    for at in range(0, len(labels), _EVALUATED):
        part = range(at, min(at + _EVALUATED, len(labels)))
        with torch.inference_mode():
            predicted = classifier(torch.from_numpy(states.gather(part))).argmax(dim=1).numpy()
        hits = predicted == np.concatenate([labels[number] for number in part])
        correct[part.start : part.stop] = np.bincount(
            np.repeat(np.arange(len(part)), words[part.start : part.stop]), weights=hits, minlength=len(part)
        )
    return ProbeScore(correct=correct, words=words)


def accuracy_interval(test: ProbeScore, against: ProbeScore | None = None) -> Interval:
    """Return the 95 % interval of the accuracy, or of how far it is above that of `against` on the same sentences.

    Percentile bootstrap over sentences, whose words are not independent of each other; paired for a difference. It
    says what another test set would change, not another training of the classifier. Raises EvaluationError when the
    two were scored on different words.
    """
    if against is not None and not np.array_equal(test.words, against.words):
        raise EvaluationError("two steps were scored on different words: expected the same data and length limit")
    seen = np.flatnonzero(test.words)
    words = test.words[seen]
    gained = (test.correct if against is None else test.correct - against.correct)[seen]
    rng = np.random.default_rng(SEED)
    resampled = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        rows = rng.integers(0, len(seen), len(seen))
        resampled[number] = gained[rows].sum() / words[rows].sum()
    return interval(resampled)


SCHEMA = 1
_STATES = ".word-states"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatesKey:
    """Everything that decides a word state."""

    fingerprint: str
    """Of the encoder: weights, adapters, attention."""
    alignment: Alignment
    data: str
    """Digest of the files."""
    max_tokens: int
    precision: str
    """fp32 or bf16."""

    def folder(self, results: Path) -> Path:
        """Return where the states are kept; the folder is hidden, and may be removed at any time."""
        return results / _STATES / _digest({"version": VERSION, **asdict(self)})[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordResult:
    """One step of a model on one task."""

    task: WordTask
    label: str
    """The step as in the paper's Table 4."""
    model: str
    states: StatesKey
    settings: Mapping[str, Json]
    """Of the classifier."""
    accuracy: float
    """On eng.testb, 0 to 1."""
    low: float
    high: float
    """95 % interval of `accuracy`."""
    dev_accuracy: float
    """On eng.testa."""
    left_out: Mapping[str, int]
    """Words without a state, by split: not trained on, not scored."""
    correct: tuple[int, ...]
    words: tuple[int, ...]
    """Of each sentence of eng.testb, for paired comparisons."""
    seconds: float
    """Training and scoring the classifier."""
    versions: Mapping[str, str]
    machine: str
    finished: str
    """ISO 8601 with offset."""

    @property
    def test(self) -> ProbeScore:
        return ProbeScore(correct=np.asarray(self.correct), words=np.asarray(self.words))


def result_path(
    results: Path, *, model: str, label: str, task: WordTask, states: StatesKey, settings: Mapping[str, Json]
) -> Path:
    """Return the file of a result in the folder `results`; equal keys and settings give the same one."""
    key = _digest({"states": asdict(states), "version": VERSION, "settings": dict(settings), "task": task.value})
    return results / f"word-{task.value}-{_slug(Path(model).name)}-{_slug(label)}-{key[:12]}.json"


def find_result(path: Path) -> WordResult | None:
    """Return the result in `path`, None when there is none. Raises EvaluationError for a damaged file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("schema") != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}")
        states = StatesKey(**{**document["states"], "alignment": Alignment(document["states"]["alignment"])})
        tuples = {name: tuple(document[name]) for name in ("correct", "words")}
        result = WordResult(**{**document, **tuples, "states": states, "task": WordTask(document["task"])})
        if len(result.correct) != len(result.words) or not sum(result.words):
            raise ValueError("counts of words do not fit")
        if abs(result.test.accuracy - result.accuracy) > 1e-9:
            raise ValueError("accuracy is not that of its counts")
        return result
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} is no sound result ({error!r}): remove it; it is computed again") from error


def save_result(path: Path, result: WordResult) -> None:
    """Write the result in one step: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA, **asdict(result)}
    entries = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    write_whole(path, f"{{\n{entries}\n}}\n".encode())


def _digest(value: Mapping[str, Json]) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=32).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.").lower()[:60] or "unnamed"
