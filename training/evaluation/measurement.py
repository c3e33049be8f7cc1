"""What one evaluation gives: the score of one model on one task, with all that makes it comparable."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ... import __version__

if TYPE_CHECKING:
    from mteb import AbsTask
    from mteb.models import EncoderProtocol, SearchProtocol


Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The parts of a score from which intervals are resampled; row i of two models is the same item."""

    kind: Literal["mean", "spearman"]
    """"mean": the main score is the mean of `values` (one nDCG@10 per query). "spearman": it is the rank correlation
    of `values` (one similarity per pair) with `gold`."""
    ids: tuple[str, ...]
    values: tuple[float, ...]
    gold: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who was measured; equal identities give equal scores."""

    label: str
    """Heading in tables, as the user gave it; not part of the key."""
    kind: Literal["encoder", "sentence-transformers", "bm25", "search"]
    name: str
    fingerprint: str
    """Digest of weights and all settings that decide a vector or a rank; the algorithm's parameters for bm25."""
    details: Mapping[str, Json] = field(default_factory=dict)
    """For people and plots: attention, pooling, method, stage, precision, max_tokens, dim, parameters, mode ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the evaluation took. Texts read back from an interrupted run count as texts and not as tokens."""

    texts: int
    tokens: int
    truncated: int
    """Texts cut at the encoder's length limit."""
    empty: int
    """Empty texts of the data, which stand for nothing and get the zero vector."""
    encode_s: float
    """Inside of the encoder's own `encode`."""
    total_s: float
    """Loading the data, encoding, searching and scoring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One model on one task."""

    task: str
    task_type: str
    """mteb's: Retrieval, Reranking, Clustering, PairClassification, Classification, STS, Summarization."""
    data: str
    """Digest of the local files, or "hub NAME@REVISION"."""
    who: Identity
    settings: Mapping[str, Json]
    """Instructions given to each side, seed, and whatever else the caller set."""
    metric: str
    """Name of the main score, e.g. ndcg_at_10, cosine_spearman, max_ap, v_measure, accuracy."""
    score: float
    """0 to 1 as mteb gives it; tables show it times 100."""
    metrics: Mapping[str, float]
    """All numbers that mteb gave, averaged over its splits and subsets as mteb does."""
    samples: Samples | None
    cost: Cost
    versions: Mapping[str, str]
    machine: str
    finished: str
    """ISO 8601 with offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How far the encoding under way has come."""

    share: float
    """0 to 1: what an interrupted run left is done from the start, the rest is weighed by its tokens."""
    share_known: float
    """What an interrupted run left."""
    texts_total: int
    tokens_done: int
    tokens_total: int
    """Both of what is encoded now; the total may be reckoned from the part seen so far."""
    elapsed_s: float

    @property
    def remaining_s(self) -> float | None:
        """Time left at the speed so far; None before anything was encoded."""
        if not self.tokens_done:
            return None
        return self.elapsed_s * max(0, self.tokens_total - self.tokens_done) / self.tokens_done

    @property
    def tokens_per_s(self) -> float:
        return self.tokens_done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class Meter:
    """Counts what a model does; the runner reads and resets it around each task."""

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    empty: int = 0
    encode_s: float = 0.0
    pulse: Callable[[Pulse], None] | None = None
    """Told the progress of each `encode` call."""

    def add(self, seconds: float, tokens: int, truncated: int) -> None:
        """Count one call of an encoder: its seconds, the tokens that were read and the texts that were cut."""
        self.encode_s += seconds
        self.tokens += tokens
        self.truncated += truncated

    def reset(self) -> None:
        self.texts = self.tokens = self.truncated = self.empty = 0
        self.encode_s = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstructions:
    """What the encoder is told on one task; None leaves it to the model's own default, "" is none."""

    query: str | None = None
    """For queries, and for every text of a symmetric task (STS, pairs, clustering, classification ...)."""
    document: str | None = None
    """For the documents of an asymmetric task (retrieval, reranking): None unless the user's table says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalTask:
    """One task, local or of the hub; making it reads the data."""

    name: str
    task_type: str
    data: str
    """As in TaskScore."""
    instructions: TaskInstructions
    make: Callable[[], AbsTask]
    """Raises DataError for malformed local files, EvaluationError when a hub task's data are not available."""


class Opened(Protocol):
    """A model ready to be measured."""

    @property
    def model(self) -> EncoderProtocol | SearchProtocol:
        """What mteb's evaluators take."""
        ...

    @property
    def meter(self) -> Meter: ...


class EvaluatedModel(Protocol):
    """Something that can be measured."""

    def identify(self) -> Identity:
        """Return who it is without loading weights, so that a score already there needs none."""
        ...

    def supports(self, task_type: str) -> bool:
        """Return whether it can do tasks of this mteb type; bm25 and the search path only rank documents."""
        ...

    def open(self, task: EvalTask, workspace: Path) -> AbstractContextManager[Opened]:
        """Return it loaded for `task`; leaving the context frees what it holds.

        `workspace` is a folder of this model and this task: what it writes there survives a kill, and is
        removed by the runner once the task's score is stored.
        """
        ...


_PACKAGES = (
    *("mteb", "torch", "transformers", "onnxruntime", "numpy", "scikit-learn", "scipy"),
    *("sentence-transformers", "bm25s"),
)


def describe_machine() -> str:
    """Return GPUs, processor, threads and memory in one line, e.g. "AMD EPYC 7B13, 2 threads, 8 GiB"."""
    # What was measured has imported torch where it computed with it.
    torch: Any = sys.modules.get("torch")
    cards = range(torch.cuda.device_count() if torch is not None else 0)
    threads = (os.cpu_count() or 1) if torch is None else torch.get_num_threads()
    words = [*(torch.cuda.get_device_name(number) for number in cards), _processor(), f"{threads} threads"]
    memory = _memory_gib()
    return ", ".join(words if memory is None else [*words, f"{memory:.0f} GiB"])


def describe_versions() -> dict[str, str]:
    """Return the versions of searchctl, Python and the packages that numbers come from; absent ones are left out."""
    found = {package: package_version(package) for package in _PACKAGES}
    present = {package: number for package, number in found.items() if number is not None}
    return {"searchctl": __version__, "python": platform.python_version(), **present}


@cache
def package_version(package: str) -> str | None:
    """Return the version of an installed package, None for an absent one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory_gib() -> float | None:
    """Return the memory of the machine, None where Linux does not say it."""
    total = (line.split()[1] for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal:"))
    kibibytes = next(total, None)
    return None if kibibytes is None else int(kibibytes) / 2**20


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
