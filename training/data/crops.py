"""Training pairs out of plain text: a sentence and its passage, two crops of one passage, a title and its text.

A sentence as the query and the rest of its passage as the answer is the inverse cloze task (Lee, Chang and Toutanova,
ACL 2019, arXiv 1906.00300, section 4); two crops sampled independently are Contriever's pairs (Izacard et al., TMLR
2022, arXiv 2112.09118, section 3.1), here without its deletion of words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from blake3 import blake3
from semantic_text_splitter import TextSplitter

from .corpus import Pair
from .sentences import SEPARATOR, Words, pieces_of, unit_spans, without, without_heading, words_of

PASSAGE_CHARS = 1200
"""A longer text is cut into passages of at most so many characters, at the largest borders: some 250 tokens, what a
supervised stage reads of a positive."""
KEPT_SHARE = 0.1
"""Of the queries stay in their passage, so that matching words are learnt too (Lee et al., section 4)."""
LEAST_LEFT = 15
"""Words that a passage must keep without its query."""
CROP_SHARES = (0.05, 0.5)
"""Least and greatest length of a crop, of its passage (Contriever, section 3.1)."""
LEAST_CROP = 5
"""Words; 5 % of a paragraph would be one or two."""
LEAST_CROPPED = 20
"""Words of a passage that crops are taken from: with fewer, both are nearly all of it."""
COMMON_SHARE, COMMON_LEAST = 0.01, 20
"""A word in more than this share of all passages, and in more than so many, says nothing about one of them."""
TELLING = 3
"""Uncommon words that a query has at least, numbers not counted."""
_CONTINUING = frozenset(
    ["also", "and", "another", "both", "but", "finally", "furthermore", "her", "here", "his", "however", "instead"]
) | frozenset(
    ["meanwhile", "moreover", "nevertheless", "other", "others", "similarly", "such", "then", "there", "therefore"]
)
"""A sentence that begins so goes on from the one before."""
_POINTING = frozenset(["this", "these", "those"])
_POINTING_WORDS = 4
"""So does one that points back among its first words: "Around this time"."""
_STEM = 6
"""Letters by which two words are taken for forms of one."""
_REPORT_EVERY = 500


class Method(StrEnum):
    """How a pair is made."""

    CLOZE = "cloze"
    CROP = "crop"
    TITLE = "title"


class LeftOut(StrEnum):
    """Why a passage, or a sentence of one, made no pair; `sentence_queries.Fault` says more of sentences."""

    DUPLICATE = "with the words of an earlier passage"
    LITTLE = "with too few words"
    UNTITLED = "without a title, or with too few words under it"
    UNUSED = "without a sentence that can be used"
    REPEATED = "in more than one place"
    CONTINUING = "going on from the sentence before"
    VAGUE = "of common words only"
    APART = "without an uncommon word of the passage"
    LITTLE_LEFT = "with too little text beside it"


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that pairs are made of."""

    text: str
    title: str | None = None

    @property
    def embedded(self) -> str:
        """What the encoder of an index sees of it: the title on a line of its own, if it has one, and the text."""
        return self.text if self.title is None else f"{self.title}\n{self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePairs:
    """Pairs in the order of their passages, and what became of everything else."""

    pairs: tuple[Pair, ...]
    passages: int
    """Cut out of the texts, duplicates left out."""
    kept: int
    """Queries of the inverse cloze task that stayed in their passage."""
    passages_left_out: Mapping[str, int]
    sentences_left_out: Mapping[str, int]


Told = Callable[[str, int, int], None]
"""What is being done, how many are done, of how many."""


def make_pairs(
    texts: Sequence[Passage], *, method: Method, each: int = 1, seed: int = 0, told: Told = lambda what, done, of: None
) -> MadePairs:
    """Return up to `each` pairs of every passage of `texts`, one with TITLE.

    What is sampled from a passage depends on its words and the seed, not on where it stands. A positive of CLOZE begins
    with the title where there is one, as passages are embedded for a search.
    """
    dropped: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    passages = _distinct(texts, dropped)
    cloze = _Cloze(passages, sentences, told) if method is Method.CLOZE else None
    found: dict[Pair, None] = {}
    kept = 0
    for number, passage in enumerate(passages):
        rng = random.Random(f"{seed}\0{passage.embedded}")
        if cloze is not None:
            made = cloze.pairs(number, each, rng)
            kept += sum(pair.positive == passage.embedded for pair in made)
            reason = LeftOut.UNUSED
        elif method is Method.CROP:
            made, reason = _crops(passage, each, rng), LeftOut.LITTLE
        else:
            made, reason = _titled(passage), LeftOut.UNTITLED
        if not made:
            dropped[reason] += 1
        found.update(dict.fromkeys(made))
        if number % _REPORT_EVERY == 0:
            told("pairs", number, len(passages))
    return MadePairs(
        pairs=tuple(found), passages=len(passages), kept=kept, passages_left_out=dropped, sentences_left_out=sentences
    )


def _distinct(texts: Sequence[Passage], dropped: Counter[str]) -> list[Passage]:
    """Return the passages of all texts, the first of each run of words."""
    splitter = TextSplitter(PASSAGE_CHARS)
    seen: set[bytes] = set()
    found: list[Passage] = []
    for text in texts:
        parts = [text.text] if len(text.text) <= PASSAGE_CHARS else splitter.chunks(text.text)
        for part in parts:
            mark = _mark(words_of(part))
            if mark in seen:
                dropped[LeftOut.DUPLICATE] += 1
                continue
            seen.add(mark)
            found.append(Passage(part, text.title))
    return found


def _mark(words: Words) -> bytes:
    """Return 16 bytes that stand for these words."""
    return blake3(" ".join(words).encode()).digest(16)


def _stems(words: Words) -> set[str]:
    """Return the beginnings of the words with letters: "Portugal" and "Portuguese" have one."""
    return {word[:_STEM] for word in words if not word.isdigit()}


class _Cloze:
    """The inverse cloze task over all passages: which sentences tell something, and of one passage only."""

    def __init__(self, passages: Sequence[Passage], dropped: Counter[str], told: Told) -> None:
        self._passages = passages
        self._dropped = dropped
        self._sentences: list[list[str]] = []
        self._places: Counter[bytes] = Counter()
        holding: Counter[str] = Counter()
        for number, passage in enumerate(passages):
            if number % _REPORT_EVERY == 0:
                told("sentences", number, len(passages))
            holding.update(_stems(words_of(passage.embedded)))
            good: list[str] = []
            for piece, fault in pieces_of(passage.text):
                if fault is None:
                    good.append(piece)
                else:
                    dropped[fault] += 1
            self._places.update(_mark(words_of(sentence)) for sentence in good)
            self._sentences.append(good)
        most = max(COMMON_LEAST, COMMON_SHARE * len(passages))
        self._common = {stem for stem, count in holding.items() if count > most}

    def pairs(self, number: int, each: int, rng: random.Random) -> list[Pair]:
        """Return up to `each` pairs of a passage, in the order of their sentences."""
        passage = self._passages[number]
        usable: list[tuple[str, Passage]] = []
        for sentence in self._sentences[number]:
            rest = Passage(without(passage.text, sentence), passage.title)
            reason = self._why_not(sentence, rest)
            if reason is None:
                usable.append((sentence, rest))
            else:
                self._dropped[reason] += 1
        made = []
        for at in sorted(rng.sample(range(len(usable)), min(each, len(usable)))):
            sentence, rest = usable[at]
            positive = passage if rng.random() < KEPT_SHARE else rest
            made.append(Pair(" ".join(sentence.split()), positive.embedded))
        return made

    def _why_not(self, sentence: str, rest: Passage) -> LeftOut | None:
        words = words_of(sentence)
        if words[0] in _CONTINUING or not _POINTING.isdisjoint(words[:_POINTING_WORDS]):
            return LeftOut.CONTINUING
        if self._places[_mark(words)] > 1:
            return LeftOut.REPEATED
        telling = _stems(words) - self._common
        if len(telling) < TELLING:
            return LeftOut.VAGUE
        beside = words_of(rest.text)
        if len(beside) < LEAST_LEFT:
            return LeftOut.LITTLE_LEFT
        if telling.isdisjoint(_stems(beside)) and telling.isdisjoint(_stems(words_of(rest.title or ""))):
            return LeftOut.APART
        return None


def _crops(passage: Passage, each: int, rng: random.Random) -> list[Pair]:
    """Return `each` pairs of two different crops, none for a short passage."""
    spans = unit_spans(passage.text)
    if len(spans) < LEAST_CROPPED:
        return []
    made = []
    for _ in range(each):
        first = second = _crop(passage.text, spans, rng)
        while second == first:
            second = _crop(passage.text, spans, rng)
        made.append(Pair(first, second))
    return made


def _crop(text: str, spans: Sequence[tuple[int, int]], rng: random.Random) -> str:
    least, most = (int(share * len(spans)) for share in CROP_SHARES)
    length = rng.randint(max(LEAST_CROP, least), most)
    first = rng.randint(0, len(spans) - length)
    return text[spans[first][0] : spans[first + length - 1][1]]


def _titled(passage: Passage) -> list[Pair]:
    """Return the title with the text, whose lines do not repeat it; none without a title, or with hardly a text."""
    if passage.title is None or not any(map(str.isalpha, passage.title)):
        return []
    parts = passage.title.split(SEPARATOR)
    text = passage.text
    for part in parts:
        _, text = without_heading("", text, words_of(part))
    return [Pair(": ".join(parts), text)] if len(words_of(text)) >= LEAST_LEFT else []
