"""Scores of the word-level probe on disk: one JSON file per step of a model and task."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from .errors import EvaluationError
from .measurement import Json
from .whole_files import write_whole
from .word_data import WordTask
from .word_probe import ProbeScore
from .word_states import VERSION
from .word_steps import Alignment

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
