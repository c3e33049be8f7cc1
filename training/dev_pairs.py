"""Development pairs: a quality watched during training that the loss does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import spearmanr

from ..encoder.config import Pooling
from ..encoder.protocol import Role
from ..encoder.tokenize import TextTokenizer
from .embedder import by_length, embed
from .local_data import StsData, read
from .local_folders import LocalTask
from .loop import Objective
from .trainable import Trainable


@dataclass(frozen=True, slots=True, kw_only=True)
class DevPairs:
    """Sentence pairs with graded similarity, to watch a quality that the loss does not show."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    gold: tuple[float, ...]


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
        self._rows = [tokenizer([*pairs.first, *pairs.second], role=Role.DOCUMENT, instruction=None) for pairs in dev]
        self.step, self.describe = inner.step, inner.describe

    def held_out(self) -> dict[str, float]:
        scores = self._inner.held_out()
        self._trainable.decoder.eval()
        for pairs, rows in zip(self._dev, self._rows, strict=True):
            chunks = by_length(rows, 64)
            with torch.no_grad(), self._trainable.autocast():
                parts = [embed(self._trainable, [rows[i] for i in chunk], self._pooling) for chunk in chunks]
            back = torch.tensor([i for chunk in chunks for i in chunk]).argsort()
            vectors = torch.nn.functional.normalize(torch.cat(parts).cpu()[back], dim=1)
            first, second = vectors.chunk(2)
            scores[pairs.name] = float(spearmanr((first * second).sum(dim=1).numpy(), pairs.gold)[0])
        return scores


def read_dev(path: Path) -> DevPairs:
    """Return the pairs of a file of {"a", "b", "score"} a line. Raises DataError with the line."""
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    data = read(LocalTask(kind="sts", name=name, path=path))
    assert isinstance(data, StsData)
    return DevPairs(name=name, first=data.first, second=data.second, gold=data.scores)
