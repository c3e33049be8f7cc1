"""All of the training data: read, checked and split before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from ..errors import TrainingError
from ..recipe import Recipe, Stage
from .corpus import PairSource, TextSource, data_files, read_pairs, read_texts

HELD_OUT_SHARE, HELD_OUT_MOST = 0.02, 512
_SPLIT = 42
"""Not the recipe's seed: what one run holds out, a run that goes on from its adapters must not have been trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """All training data, what is held out of it set apart; the same for the same files, whatever the recipe."""

    texts: tuple[str, ...]
    unseen_texts: tuple[str, ...]
    pairs: tuple[PairSource, ...]
    unseen_pairs: tuple[PairSource, ...]
    digests: Mapping[str, str]
    """By file name; two files of one name are refused."""
    counts: Mapping[str, int]
    repeated: int = 0
    """Texts left out of `texts`, since the same was read before."""
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By file name, fields of its lines that nothing reads."""

    def read_by(self, stage: Stage, recipe: Recipe) -> list[str]:
        """Return the names of the files that `stage` reads.

        Pairs of some weight for the supervised stage, and for distillation where there are any; else texts, and where
        there are none those of the pairs. Distillation of vectors reads both.
        """
        pairs, weighed = [source.name for source in self.pairs], self.read_pairs(recipe)
        if stage is Stage.DISTILL and recipe.distill.loss == "vector":
            return [*weighed, *(name for name in self.digests if name not in pairs)]
        if stage is Stage.SUPERVISED or (stage is Stage.DISTILL and weighed):
            return weighed
        return [name for name in self.digests if name not in pairs] or pairs

    def read_pairs(self, recipe: Recipe) -> list[str]:
        """Return the names of the files of pairs that have some weight."""
        sources = recipe.supervised.sources
        return [each.name for each in self.pairs if each.name not in sources or sources[each.name].weight > 0]


def read_data(places: Sequence[Path], stages: Sequence[Stage]) -> Data:
    """Return the data in `places`, all of it checked. Raises DataError, and TrainingError for a stage without data.

    Where there is no plain text, MNTP and SimCSE read the texts of the pairs; distillation reads pairs first.
    """
    texts: list[TextSource] = []
    pairs: list[PairSource] = []
    for path in data_files(places):
        plain = read_texts(path)
        if plain is not None:
            texts.append(plain)
        else:
            pairs.append(read_pairs(path))
    if Stage.SUPERVISED in stages and not pairs:
        raise TrainingError('the supervised stage needs pairs, {"query": ..., "positive": ...} a line: none in --data')
    plain_texts = [text for source in texts for text in source.texts]
    if not plain_texts:
        plain_texts = [text for source in pairs for pair in source.pairs for text in (pair.query, pair.positive)]
    given = len(plain_texts)
    plain_texts = list(dict.fromkeys(plain_texts))
    seen, unseen = _split(plain_texts, plain_texts)
    split = [(source, *_split(source.pairs, [pair.query for pair in source.pairs])) for source in pairs]
    digests, counts = _account(texts, pairs)
    sources: list[TextSource | PairSource] = [*texts, *pairs]
    return Data(
        texts=tuple(seen),
        unseen_texts=tuple(unseen),
        pairs=tuple(replace(source, pairs=tuple(kept)) for source, kept, _ in split),
        unseen_pairs=tuple(replace(source, pairs=tuple(out)) for source, _, out in split),
        digests=digests,
        counts=counts,
        # The two sides of pairs repeat by their nature; texts that a file gives twice were hardly meant to be.
        repeated=given - len(plain_texts) if texts else 0,
        unread={source.name: source.unread for source in sources if source.unread},
    )


def _account(texts: Sequence[TextSource], pairs: Sequence[PairSource]) -> tuple[dict[str, str], dict[str, int]]:
    digests: dict[str, str] = {}
    counts: dict[str, int] = {}
    sizes = [(source.name, source.digest, len(source.texts)) for source in texts]
    for name, digest, size in [*sizes, *((source.name, source.digest, len(source.pairs)) for source in pairs)]:
        if name in digests:
            raise TrainingError(f"two data files are called {name}: recipes name sources by file, so rename one")
        digests[name], counts[name] = digest, size
    return digests, counts


def _split(items: Sequence[Any], keys: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Return items to train on and items held out: those whose keys hash lowest, so equal keys fall on one side.

    The share is one of the different keys: a query may have a hundred positives, and is learnt or held out with all.
    """
    marks = [blake3(f"{_SPLIT}\0{key}".encode()).digest() for key in keys]
    different = sorted(set(marks))
    most = min(HELD_OUT_MOST, max(2, int(len(different) * HELD_OUT_SHARE)))
    limit = different[: most + 1][-1]
    seen = [item for item, mark in zip(items, marks, strict=True) if mark >= limit]
    unseen = [item for item, mark in zip(items, marks, strict=True) if mark < limit]
    return seen, unseen
