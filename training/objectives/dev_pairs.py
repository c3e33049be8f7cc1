"""Development pairs: a quality watched during training that the loss does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...encoder.config import Pooling
from ...encoder.errors import EncoderError
from ...encoder.protocol import Role
from ...encoder.tokenize import TextTokenizer, TokenRow
from ..data.corpus import source_name
from ..data.local_data import LocalTask, StsData, read
from ..errors import TrainingError
from ..loop import Objective
from ..recipe import DevSettings
from ..trainable import Trainable
from .embedding import Views

CHUNK = 64
"""Texts embedded at once."""
OWN_SCORES = ("loss", "accuracy", "spearman", "uniformity", "alignment")
"""What the stages themselves tell of held-out data; development pairs stand beside these by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevPairs:
    """Sentence pairs with graded similarity, to watch a quality that the loss does not show."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    gold: tuple[float, ...]
    instruction: str | None = None
    """What both sides are told; None: nothing."""
    digest: str | None = None

    def account(self) -> dict[str, Any]:
        """Return what the manifest says of them."""
        return {"blake3": self.digest, "rows": len(self.gold), "instruction": self.instruction}


class WatchedObjective:
    """An objective whose held-out scores also tell Spearman's correlation on development pairs."""

    def __init__(
        self,
        inner: Objective,
        trainable: Trainable,
        tokenizer: TextTokenizer,
        pooling: Pooling,
        dev: Sequence[DevPairs],
    ) -> None:
        self._inner, self._trainable, self._pooling, self._dev = inner, trainable, pooling, dev
        self._rows = [_token_rows(pairs, tokenizer) for pairs in dev]
        self.step, self.describe = inner.step, inner.describe

    def held_out(self) -> dict[str, float]:
        scores = self._inner.held_out()
        for pairs, rows in zip(self._dev, self._rows, strict=True):
            embeddings = Views(self._trainable, rows, self._pooling, CHUNK).evaluate()
            vectors = torch.nn.functional.normalize(embeddings.cpu(), dim=1)
            first, second = vectors.chunk(2)
            scores[pairs.name] = spearman((first * second).sum(dim=1).numpy(), pairs.gold)
        return scores


def require_own_names(dev: Sequence[DevPairs]) -> None:
    """Raise TrainingError where a score of development pairs would take the place of another score."""
    names = [pairs.name for pairs in dev]
    for name in names:
        if names.count(name) > 1:
            raise TrainingError(
                f"two --dev files are called {name}: expected names of their own, by which their scores are told; "
                "rename one, or give it once"
            )
        if name in OWN_SCORES:
            raise TrainingError(
                f"a --dev file is called {name}, which is a held-out score of training itself: expected another name "
                f"than {', '.join(OWN_SCORES)}; rename the file"
            )


def _token_rows(pairs: DevPairs, tokenizer: TextTokenizer) -> list[TokenRow]:
    # As the texts of a symmetric source: both sides are asked alike, or neither is.
    role = Role.DOCUMENT if pairs.instruction is None else Role.QUERY
    try:
        return tokenizer([*pairs.first, *pairs.second], role=role, instruction=pairs.instruction)
    except EncoderError as error:
        raise TrainingError(
            f"development pairs {pairs.name}: {error} In training that is a shorter instruction in [dev.{pairs.name}] "
            "of the recipe, or a larger length of the stage"
        ) from error


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of their ranks.

    NaN where it is undefined: a side that is constant, fewer than two values, or a value that is NaN.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"shapes are {a.shape} and {b.shape}: expected two rows of equally many values")
    if len(a) < 2 or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    a, b = average_ranks(a), average_ranks(b)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else float("nan")


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value from 1, equal values sharing the mean of theirs; `values` holds no NaN."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    means: NDArray[np.float64] = last - (sizes - 1) / 2
    return means[group]


def read_dev(path: Path, settings: Mapping[str, DevSettings]) -> DevPairs:
    """Return the pairs of a file of {"a", "b", "score"} a line, used as `settings` say for a file of its name.

    Raises DataError with the line.
    """
    name = source_name(path)
    data = read(LocalTask(kind="sts", name=name, path=path))
    assert isinstance(data, StsData)
    return DevPairs(
        name=name,
        first=data.first,
        second=data.second,
        gold=data.scores,
        instruction=settings.get(name, DevSettings()).instruction,
        digest=data.digest,
    )
