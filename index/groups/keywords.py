"""Words that tell a cluster from the others: class-based TF-IDF, without saying the same thing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import log

from ..lexical import stem
from .silhouette import Labels
from .words import BREAK, is_han, words_of

TOP = 8
_CANDIDATES = 80
"""Best words of each cluster that go on: into phrases, and into the choice."""
_EVEN = 3.0
"""A word is as common in a cluster as in the one where it is most frequent, when its rate is at least 1/3 of that."""
_ABSORBED = 0.6
"""A phrase stands for its word when it is in at least so many of the word's places."""
_LONGEST_HAN = 5
"""Pairs in a row: six characters."""

Word = str
Phrase = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    text: str
    weight: float
    rank: float
    """Its weight, or that of a word it stands for, when that is higher."""
    parts: frozenset[str]


def keywords(texts: Sequence[str], labels: Labels, *, top: int = TOP) -> list[list[tuple[str, float]]]:
    """Return for each cluster 0, 1, ... up to `top` words or phrases with their weights, the heaviest first.

    Weight of x in cluster c: tf(x, c) * log(1 + A / f(x)), where tf is its share of the words of c, f its number in
    all clusters and A the mean number of words of a cluster (Grootendorst 2022, arXiv 2203.05794, equation 3, with
    BERTopic's L1 norm of tf). Ties by alphabet. Texts with the label -1 are left out. English stop words do not count,
    nor do words that are about evenly frequent in more than half of the clusters (in all, of two or three): a stop word
    of any language. A cluster with nothing else gets those. No two keywords of a cluster share a word or a stem; a pair
    of words that mostly stand together is one keyword.
    """
    clusters = int(labels.max(initial=-1)) + 1
    tokens = _tokens(texts)
    counts = _counted(tokens, labels, clusters)
    totals = [sum(count.values()) for count in counts]
    everywhere = _even_words(counts, totals)
    overall = Counter[Word]()
    for count in counts:
        overall.update(count)
    average = sum(totals) / clusters if clusters else 0.0

    def weight(times: int, in_all: int, total: int) -> float:
        return times / total * log(1 + average / in_all)

    best: list[dict[Word, float]] = []
    for count, total in zip(counts, totals, strict=True):
        kept = [word for word in count if word not in everywhere] or list(count)
        weights = {word: weight(count[word], overall[word], total) for word in kept}
        best.append(dict(sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:_CANDIDATES]))
    phrases = _phrases(tokens, labels, clusters, frozenset(word for words in best for word in words))
    phrases_overall = Counter[Phrase]()
    for found in phrases:
        phrases_overall.update(found)
    answer = []
    for words, count, found, total in zip(best, counts, phrases, totals, strict=True):
        candidates = [_Candidate(word, value, value, _stems((word,))) for word, value in words.items()]
        for phrase, times in found.items():
            absorbed = [words[word] for word in phrase if word in words and times >= _ABSORBED * count[word]]
            if absorbed and times > 1:
                value = weight(times, phrases_overall[phrase], total)
                candidates.append(_Candidate(_joined(phrase), value, max(value, *absorbed), _stems(phrase)))
        answer.append(_different(candidates, top))
    return answer


def _tokens(texts: Sequence[str]) -> list[list[Word]]:
    """Return the words of each text; equal words are one object, or a large collection would not fit in memory."""
    known: dict[Word, Word] = {BREAK: BREAK}
    return [[known.setdefault(word, word) for word in words_of(text)] for text in texts]


def _counted(tokens: Sequence[Sequence[Word]], labels: Labels, clusters: int) -> list[Counter[Word]]:
    counts = [Counter[Word]() for _ in range(clusters)]
    for words, label in zip(tokens, labels.tolist(), strict=True):
        if label >= 0:
            counts[label].update(words)
    for count in counts:
        del count[BREAK]
    return counts


def _even_words(counts: Sequence[Counter[Word]], totals: Sequence[int]) -> frozenset[Word]:
    """Return the words that are about evenly frequent in more than half of the clusters, or in all of two or three."""
    clusters = len(counts)
    if clusters < 2:
        return frozenset()
    least = clusters if clusters <= 3 else clusters // 2 + 1
    rates: dict[Word, list[float]] = {}
    for count, total in zip(counts, totals, strict=True):
        for word, times in count.items():
            rates.setdefault(word, []).append(times / total)
    return frozenset(
        word
        for word, found in rates.items()
        if len(found) >= least and sum(rate * _EVEN >= max(found) for rate in found) >= least
    )


def _phrases(
    tokens: Sequence[Sequence[Word]], labels: Labels, clusters: int, words: frozenset[Word]
) -> list[Counter[Phrase]]:
    """Return how often words of `words` stand side by side: two of them, or up to five pairs of Chinese characters."""
    counts = [Counter[Phrase]() for _ in range(clusters)]
    for found, label in zip(tokens, labels.tolist(), strict=True):
        if label >= 0:
            counts[label].update(_runs(found, words))
    return counts


def _runs(found: Sequence[Word], words: frozenset[Word]) -> Iterator[Phrase]:
    for at, (first, second) in enumerate(pairwise(found)):
        if first in words and second in words and first != second:
            yield first, second
            if is_han(first):
                for length in range(3, _LONGEST_HAN + 1):
                    run = tuple(found[at : at + length])
                    if len(run) < length or run[-1] not in words:
                        break
                    yield run


def _joined(phrase: Phrase) -> str:
    if is_han(phrase[0]):  # overlapping pairs
        return phrase[0] + "".join(word[-1] for word in phrase[1:])
    return " ".join(phrase)


@cache
def _stem(word: Word) -> str:
    return stem(word)


def _stems(phrase: Phrase) -> frozenset[str]:
    return frozenset(_stem(word) for word in phrase)


def _different(candidates: Sequence[_Candidate], top: int) -> list[tuple[str, float]]:
    """Return the best `top` of which no two have a part in common, by weight."""
    chosen: list[_Candidate] = []
    taken: set[str] = set()
    # Of a phrase and the word it stands for, the phrase; of two phrases, the longer one.
    for candidate in sorted(candidates, key=lambda c: (-c.rank, -len(c.parts), -c.weight, c.text)):
        if len(chosen) == top:
            break
        if not taken & candidate.parts:
            chosen.append(candidate)
            taken |= candidate.parts
    return sorted(((c.text, c.weight) for c in chosen), key=lambda pair: (-pair[1], pair[0]))
