"""A test set from a person's own passages: titles, headings and sentences as queries, and where they stood as answers.

A sentence as the query and the passage it was taken from as the answer is the inverse cloze task (Lee, Chang and
Toutanova, ACL 2019, arXiv 1906.00300, section 4); a long sentence is cropped at random, as Contriever crops its queries
(Izacard et al., TMLR 2022, arXiv 2112.09118, section 3.1). Unlike there, where a part of the queries stay in their
passages to teach matching of words, every query is cut out of the corpus: no passage holds its words in a row.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from ..data.sentences import (
    Words,
    cropped,
    holds,
    occurrences,
    sentences_of,
    shared,
    without,
    without_heading,
    words_of,
)
from ..errors import EvaluationError
from .own_collection_folder import Entry, Passage, Query, TestSet

T = TypeVar("T")

EVERY = 100
"""Items between two calls: a step goes over as many as a collection has passages."""


class MakingStep(StrEnum):
    """What is done, in order, in words for a person."""

    READ = "reading"
    DISTINCT = "leaving out duplicates"
    FIND = "finding queries"
    LOOK = "looking for their words"
    CHOOSE = "choosing"
    CHECK = "checking the cuts"

    @property
    def counts(self) -> str:
        """What the step counts."""
        return {MakingStep.FIND: "sentences", MakingStep.CHOOSE: "queries"}.get(self, "passages")


MakingTold = Callable[[MakingStep, int, int], None]
"""Told the step, how much of it is done, and of how much."""


def counted(items: Iterable[T], step: MakingStep, of: int, told: MakingTold) -> Iterator[T]:
    """Yield the items and tell every so often how many there were."""
    done = 0
    for done, item in enumerate(items, start=1):
        if done % EVERY == 1:
            told(step, done - 1, of)
        yield item
    told(step, done, of)


MOST_ANSWERS = 10
"""A title or heading over more passages says too little about each, and their share among ten hits would be small."""
MANY_DOCUMENTS = 3
"""A heading in so many documents ("See also") is a form, and says nothing about its text."""
LEAST_WORDS = 2
"""One word alone names too many things."""
LEAST_LEFT = 15
"""Words that an answer must keep when the query is cut out of it."""
LEAST_QUERIES = 10
NEARLY_EQUAL = 0.8
"""Share of common words (Jaccard) from which two queries ask the same."""
_POOL = 6
"""Sentences looked at per query wanted: most are used, some occur elsewhere."""


class Kind(StrEnum):
    """Where a query comes from."""

    TITLE = "title"
    HEADING = "heading"
    SENTENCE = "sentence"


class Drop(StrEnum):
    """Why a query was not used, in words for a person."""

    SHORT = "of one word"
    BOILERPLATE = "in many documents"
    WIDE = "over too many passages"
    ELSEWHERE = "with the same words elsewhere"
    REMAINS = "still in its passage after the cut"
    LITTLE_LEFT = "with too little text left"
    TAKEN = "on a passage another query uses"
    SIMILAR = "nearly the same as another"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    kind: Kind
    text: str
    words: Words
    answers: tuple[int, ...]
    cuts: Mapping[int, Entry]
    """The passages that change when it is used, as they are then."""


def make_test_set(
    passages: Sequence[Passage], *, count: int, seed: int, told: MakingTold = lambda step, done, of: None
) -> TestSet:
    """Return up to `count` queries over `passages`, as many of each kind and document as there are.

    The same passages and seed give the same test set, whatever the order of the passages. Each passage is cut for one
    query at most. A query whose words stand in a row in a passage that is no answer is dropped, and that passage is not
    counted as an answer: it may say something else about the same thing, and would have to be cut too. Raises
    EvaluationError when fewer than `LEAST_QUERIES` queries are found.
    """
    return _Making(passages, seed, told).make(count)


class _Making:
    """One making of a test set; passages are known by their row."""

    def __init__(self, passages: Sequence[Passage], seed: int, told: MakingTold) -> None:
        self._told = told
        ordered = sorted(passages, key=lambda passage: (passage.document, passage.position))
        self._passages = list(_distinct(counted(ordered, MakingStep.DISTINCT, len(ordered), told)))
        self._duplicates = len(ordered) - len(self._passages)
        self._row = {(passage.document, passage.position): row for row, passage in enumerate(self._passages)}
        self._rng = random.Random(seed)
        self._dropped: Counter[str] = Counter()

    def make(self, count: int) -> TestSet:
        queues = {
            Kind.TITLE: list(self._in_turn(self._titles(), self._document_of)),
            Kind.HEADING: list(self._in_turn(self._headings(), self._document_of)),
            Kind.SENTENCE: list(self._sentences(_POOL * count)),
        }
        found = occurrences(
            (candidate.words for queue in queues.values() for candidate in queue),
            (_parts(passage.context, passage.text) for passage in self._over(self._passages, MakingStep.LOOK)),
        )
        chosen = self._choose({kind: iter(queue) for kind, queue in queues.items()}, found, count)
        corpus = [Entry(id=passage.id, title=passage.context, text=passage.text) for passage in self._passages]
        for candidate in chosen:
            for row, entry in candidate.cuts.items():
                corpus[row] = entry
        # Cutting may bring words together that were apart.
        entries = self._over(corpus, MakingStep.CHECK)
        left = occurrences((candidate.words for candidate in chosen), (_parts(e.title, e.text) for e in entries))
        kept = [candidate for candidate in chosen if not left[candidate.words]]
        self._dropped[Drop.ELSEWHERE] += len(chosen) - len(kept)
        self._check_enough(len(kept))
        return TestSet(
            corpus=tuple(corpus),
            queries=self._named(kept),
            cut=frozenset(corpus[row].id for candidate in chosen for row in candidate.cuts),
            duplicates=self._duplicates,
            dropped={reason: number for reason, number in sorted(self._dropped.items()) if number},
        )

    def _over(self, items: Sequence[T], step: MakingStep) -> Iterator[T]:
        return counted(items, step, len(items), self._told)

    def _check_enough(self, found: int) -> None:
        if found < LEAST_QUERIES:
            reasons = ", ".join(f"{number} {reason}" for reason, number in self._dropped.most_common() if number)
            raise EvaluationError(
                f"{len(self._passages)} passages give {found} queries, expected at least {LEAST_QUERIES}"
                f"{f'; not used were {reasons}' if reasons else ''}. The collection is too small, or holds too little "
                "prose: index more",
                next_command=("index", "PATH"),
            )

    def _named(self, chosen: Sequence[_Candidate]) -> tuple[Query, ...]:
        return tuple(
            Query(
                id=f"{candidate.kind}-{number}",
                kind=candidate.kind.value,
                text=candidate.text,
                answers=tuple(self._passages[row].id for row in candidate.answers),
            )
            for number, candidate in enumerate(chosen, start=1)
        )

    def _in_turn(self, items: Iterable[T], document_of: Callable[[T], str]) -> Iterator[T]:
        """Yield the items so that documents take turns, documents and their items in random order."""
        by_document: dict[str, list[T]] = defaultdict(list)
        for item in items:
            by_document[document_of(item)].append(item)
        piles = list(by_document.values())
        self._rng.shuffle(piles)
        for pile in piles:
            self._rng.shuffle(pile)
        for turn in range(max(map(len, piles), default=0)):
            yield from (pile[turn] for pile in piles if turn < len(pile))

    def _choose(
        self, queues: dict[Kind, Iterator[_Candidate]], found: Mapping[Words, set[int]], count: int
    ) -> list[_Candidate]:
        """Return usable candidates, the kinds in turn; a kind that has no more leaves its turns to the others."""
        chosen: list[_Candidate] = []
        used: set[int] = set()
        while queues and len(chosen) < count:
            for kind in list(queues):
                for candidate in queues[kind]:
                    drop = _why_not(candidate, found[candidate.words], used, chosen)
                    if drop is None:
                        break
                    self._dropped[drop] += 1
                else:
                    del queues[kind]
                    continue
                if len(chosen) < count:
                    self._told(MakingStep.CHOOSE, len(chosen), count)
                    chosen.append(candidate)
                    used.update(candidate.cuts)
        return chosen

    def _document_of(self, candidate: _Candidate) -> str:
        return self._passages[candidate.answers[0]].document

    def _titles(self) -> Iterator[_Candidate]:
        groups: dict[str, list[int]] = defaultdict(list)
        for row, passage in enumerate(self._passages):
            if passage.title is not None and passage.title.strip():
                groups[passage.document].append(row)
        titles = {rows[0]: self._passages[rows[0]].title or "" for rows in groups.values()}
        documents = Counter(words_of(title) for title in titles.values())
        for rows in groups.values():
            yield from self._named_by(Kind.TITLE, titles[rows[0]], rows, documents)

    def _headings(self) -> Iterator[_Candidate]:
        groups: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for row, passage in enumerate(self._passages):
            for depth, heading in enumerate(passage.headings, start=1):
                if words_of(heading) != words_of(passage.title or ""):
                    groups[passage.document, passage.headings[:depth]].append(row)
        documents = Counter(key for key, _ in {(words_of(trail[-1]), document) for document, trail in groups})
        for (_, trail), rows in groups.items():
            yield from self._named_by(Kind.HEADING, trail[-1], rows, documents)

    def _named_by(
        self, kind: Kind, name: str, rows: Sequence[int], documents: Mapping[Words, int]
    ) -> Iterator[_Candidate]:
        """Yield the query that a title or heading over `rows` makes."""
        words = words_of(name)
        if len(words) < LEAST_WORDS:
            self._dropped[Drop.SHORT] += 1
        elif documents[words] >= MANY_DOCUMENTS:
            self._dropped[Drop.BOILERPLATE] += 1
        elif len(rows) > MOST_ANSWERS:
            self._dropped[Drop.WIDE] += 1
        else:
            cuts = {row: _cut_heading(self._passages[row], words) for row in rows}
            yield _Candidate(kind=kind, text=" ".join(name.split()), words=words, answers=tuple(rows), cuts=cuts)

    def _sentences(self, most: int) -> Iterator[_Candidate]:
        """Yield up to `most` candidates, one random sentence of a passage each, documents taking turns."""
        rows = self._in_turn(range(len(self._passages)), lambda row: self._passages[row].document)
        found = (found for row in rows if (found := self._sentence(row)) is not None)
        yield from counted(islice(found, most), MakingStep.FIND, min(most, len(self._passages)), self._told)

    def _sentence(self, row: int) -> _Candidate | None:
        passage = self._passages[row]
        sentences = sentences_of(passage.text)
        if not sentences:
            return None
        sentence = self._rng.choice(sentences)
        text = cropped(sentence, self._rng)
        answers = [row]
        cuts = {row: _cut(passage, sentence)}
        for step in (-1, 1):
            other = self._row.get((passage.document, passage.position + step))
            if other is None:
                continue
            piece = shared(self._passages[other].text, sentence, after=step > 0)
            if piece is not None:
                cuts[other] = _cut(self._passages[other], piece)
                answers += [other] if piece == sentence else []
        return _Candidate(kind=Kind.SENTENCE, text=text, words=words_of(text), answers=tuple(answers), cuts=cuts)


def _distinct(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Yield the first passage of each text; one without a word is no passage."""
    seen: set[Words] = set()
    for passage in passages:
        words = words_of(passage.text)
        if words and words not in seen:
            seen.add(words)
            yield passage


def _why_not(candidate: _Candidate, found: set[int], used: set[int], chosen: Sequence[_Candidate]) -> Drop | None:
    """Return why a candidate is not used, None when it is; `found` are the passages that hold its words in a row."""
    if not found <= candidate.cuts.keys():
        return Drop.ELSEWHERE
    if not used.isdisjoint(candidate.cuts):
        return Drop.TAKEN
    for row, entry in candidate.cuts.items():
        if any(holds(part, candidate.words) for part in _parts(entry.title, entry.text)):
            return Drop.REMAINS
        left = len(words_of(entry.text))
        if left < (LEAST_LEFT if row in candidate.answers else 1):
            return Drop.LITTLE_LEFT
    own = set(candidate.words)
    for other in chosen:
        theirs = set(other.words)
        if len(own & theirs) >= NEARLY_EQUAL * len(own | theirs):
            return Drop.SIMILAR
    return None


def _parts(context: str, text: str) -> tuple[Words, Words]:
    return words_of(context), words_of(text)


def _cut(passage: Passage, piece: str) -> Entry:
    return Entry(id=passage.id, title=passage.context, text=without(passage.text, piece))


def _cut_heading(passage: Passage, heading: Words) -> Entry:
    context, text = without_heading(passage.context, passage.text, heading)
    return Entry(id=passage.id, title=context, text=text)
