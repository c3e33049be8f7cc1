"""The words of a text for keywords: any script, without stop words, and which words stand side by side."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

BREAK = ""
"""Stands between two words that are not neighbours: a stop word or a mark was there."""

_KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff"
_HIRAGANA = re.compile("[\u3041-\u3096\u30fc]+")
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_GRAMMAR = re.compile(
    "[\u7684\u4e86\u548c\u662f\u5728\u5f88\u4e5f\u5c31"
    "\u90fd\u800c\u53ca\u4e0e\u8207\u7740\u6216\u628a\u88ab\u8ba9\u7ed9\u4ece\u5417\u5462\u5427"
    "\u8fd9\u9019\u90a3\u6211\u4f60\u4ed6\u5979\u5b83\u4eec\u5011]"
)
"""The commonest particles, pronouns and conjunctions of Chinese: no pair across them is a word."""
_SHORT_HIRAGANA = 3
"""Up to here a run of hiragana is grammar (particles, endings), as a rule."""

_ENGLISH = (
    "a about above after again against all almost alone along already also although always am among an and "
    "another any anyone anything are aren't around as at away back be became because become been before being "
    "below between both but by came can can't cannot come could couldn't did didn't do does doesn't doing "
    "don't done down during each either else ever every few for from further get gets getting give go goes "
    "going gone got had hadn't has hasn't have haven't having he her here hers herself him himself his how "
    "however if in instead into is isn't it its itself just keep kind know less let like made make makes many "
    "may maybe me might mine more most much must my myself need neither never next no nobody none nor not "
    "nothing now of off often on once one only onto or other others our ours ourselves out over own part per "
    "perhaps put quite rather really said same say says see seem seems several shall she should shouldn't "
    "since so some something sometimes somewhere still such take than that the their theirs them themselves "
    "then there therefore these they thing things this those though through thus to together too toward "
    "towards two under until up upon us use used uses using very via want was wasn't way we well went were "
    "weren't what whatever when where whether which while who whole whom whose why will with within without "
    "won't would wouldn't yes yet you your yours yourself yourselves "
)
STOP_WORDS = frozenset(_ENGLISH.split())
_ENDINGS = frozenset(["t", "re", "ve", "ll", "d", "m"])
"""What follows the apostrophe of an English contraction."""


def words_of(text: str) -> list[str]:
    """Return the words in order, lower case, each with at least 2 letters or digits; BREAK between non-neighbours.

    "Tomato's" is "tomato", "l'eau" is "eau"; English stop words and contractions are breaks. A run of Chinese
    characters gives its overlapping pairs, cut at grammatical characters; of Japanese, katakana runs are words and
    short hiragana runs are breaks. Hangul words are cut at spaces, as they are written.
    """
    found: list[str] = []
    end = 0
    lowered = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    for match in _pattern().finditer(lowered):
        if lowered[end : match.start()].strip(" \t-/") or "\n\n" in lowered[end : match.start()]:
            found.append(BREAK)
        end = match.end()
        if match.lastgroup == "han":
            for run in _HAN_GRAMMAR.split(match.group()):
                found += [BREAK, *([run[at : at + 2] for at in range(len(run) - 1)] or [run])]
            found.append(BREAK)
        elif match.lastgroup == "kana":
            found += [BREAK, BREAK if _is_grammar(match.group()) else match.group(), BREAK]
        else:
            found.append(_plain(match.group()))
    return found


def is_han(word: str) -> bool:
    """Return whether a word is a pair of Chinese characters, or one of them."""
    return _han().match(word) is not None


def _is_grammar(run: str) -> bool:
    return len(run) < 2 or (len(run) <= _SHORT_HIRAGANA and _HIRAGANA.fullmatch(run) is not None)


def _plain(word: str) -> str:
    if word in STOP_WORDS:
        return BREAK
    if "'" in word:
        *before, last = word.split("'")
        if last in _ENDINGS:
            return BREAK
        word = before[-1] if last == "s" else last
    return word if len(word) >= 2 and word not in STOP_WORDS else BREAK


@cache
def combining_marks() -> str:
    """Return the combining marks of the basic plane, for a set of characters in a regular expression."""
    marks = (code for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    return "".join(f"\\u{code:04x}" for code in marks)


@cache
def _han() -> re.Pattern[str]:
    return re.compile(f"[{_HAN}]")


@cache
def _pattern() -> re.Pattern[str]:
    # Python's \w leaves out combining marks, without which words of Hindi or Thai fall apart.
    letter = rf"(?:[^\W_{_HAN}{_KANA}]|[{combining_marks()}])"
    kana = "[\u3041-\u3096\u30fc]+|[\u30a1-\u30fa\u30fc\u31f0-\u31ff]+"
    return re.compile(rf"(?P<han>[{_HAN}]+)|(?P<kana>{kana})|(?P<word>{letter}+(?:'{letter}+)*)")
