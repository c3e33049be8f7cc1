"""Pairs out of plain text: sentences that can be asked with, what their passages keep, crops, titles."""

from __future__ import annotations

import random

import pytest

from searchctl.training.data.corpus import Pair
from searchctl.training.data.crops import (
    CROP_SHARES,
    LEAST_CROP,
    LEAST_CROPPED,
    PASSAGE_CHARS,
    LeftOut,
    MadePairs,
    Method,
    Passage,
    make_pairs,
)
from searchctl.training.data.sentences import Fault, pieces_of, sentences_of

HERON = "The grey heron stands in shallow water and waits for fish."
NEST = "A heron builds its nest of sticks in the crown of a tall tree near the river."
REST = "Its neck is folded in flight. They leave their nest after two months and hunt on their own at the bank."
BEES = "Bees dance in the dark hive to tell their sisters where the flowers bloom."
BEES_REST = "Its angle to the vertical is that to the sun, and honey is made of what a bee brings home from far away."


def cloze(*texts: str | Passage, **options: int) -> MadePairs:
    passages = [text if isinstance(text, Passage) else Passage(text) for text in texts]
    return make_pairs(passages, method=Method.CLOZE, **options)


def many(count: int) -> list[Passage]:
    """Passages of one good sentence each, about a thing of their own."""
    return [
        Passage(f"Machine zug{n}x grinds kol{n}y into flour of mur{n}z. its kol{n}y {'and more of it ' * 5}")
        for n in range(count)
    ]


def test_what_is_wrong_with_a_sentence(subtests: pytest.Subtests) -> None:
    for text, fault in [
        (HERON, None),
        ("Too short here.", Fault.SHORT),
        (f"{'word ' * 70}ends.", Fault.LONG),
        ("Ants, bees, wasps, flies, moths, gnats are here.", Fault.LIST),
        ("The one ends nowhere at all, it seems", Fault.UNFINISHED),
        ("lower case letters begin what was cut off.", Fault.UNFINISHED),
        ('Officials said that "nothing was more likely to happen.', Fault.UNFINISHED),
        ("Ries composed his clarinet sonata in G minor, op.", Fault.UNFINISHED),
        ("The call f(x) = {y | z} has no words in it.", Fault.SYMBOLS),
        ("1 234 567 + 89 101 112 / 13 14 15 = 16.", Fault.SYMBOLS),
        ("It lives in the shallow water of the river.", Fault.LEANING),
    ]:
        with subtests.test(text=text, fault=fault):
            assert list(pieces_of(text)) == [(text, fault)]


def test_a_name_with_an_initial_is_no_border() -> None:
    text = f"The prize was given to John F. Kennedy in the summer of that year. {HERON}"
    assert sentences_of(text) == [HERON]
    # A new paragraph begins again, whatever stood before it.
    assert sentences_of(f"Written by A.\n\n{HERON}") == [HERON]


def test_a_sentence_is_the_query_and_the_rest_of_its_passage_the_positive() -> None:
    made = cloze(Passage(f"{HERON} {REST}", "Grey heron"), f"{BEES} {BEES_REST}")
    assert made.pairs == (Pair(HERON, f"Grey heron\n{REST}"), Pair(BEES, BEES_REST))
    assert (made.passages, made.kept) == (2, 0)
    assert made.passages_left_out == {}


def test_one_query_in_ten_stays_in_its_passage() -> None:
    passages = many(1000)
    made = cloze(*passages)
    stays = [pair for pair in made.pairs if pair.query in pair.positive]
    assert len(made.pairs) == 1000
    assert made.kept == len(stays)
    assert 70 < len(stays) < 130
    assert {pair.positive for pair in stays} <= {passage.text for passage in passages}


def test_pairs_depend_on_the_words_and_the_seed_alone() -> None:
    passages = [Passage(f"{HERON} {NEST} {REST}"), Passage(f"{BEES} {BEES_REST}"), *many(60)]
    first = cloze(*passages).pairs
    shuffled = random.Random(1).sample(passages, len(passages))
    assert set(cloze(*shuffled).pairs) == set(first)
    assert cloze(*passages).pairs == first
    assert cloze(*passages, seed=1).pairs != first


def test_several_pairs_of_a_passage_stand_in_its_order() -> None:
    passage = f"{HERON} {NEST} {REST}"
    made = cloze(passage, each=5)
    assert [pair.query for pair in made.pairs] == [HERON, NEST]
    assert len(cloze(passage, each=1).pairs) == 1


def test_sentences_left_out_are_counted(subtests: pytest.Subtests) -> None:
    for text, reason in [
        (f"However the grey heron stands in shallow water near fish. {REST}", LeftOut.CONTINUING),
        (f"Around this time the grey heron stood in shallow water. {REST}", LeftOut.CONTINUING),
        (f"{HERON} They hunt.", LeftOut.LITTLE_LEFT),
        (f"{BEES} {REST.replace('their', 'many')}".replace("to the", "at the"), None),
        (f"Quartz glitters when sunlight touches mineral faces. {REST}", LeftOut.APART),
    ]:
        with subtests.test(text=text, reason=reason):
            made = cloze(text, f"{BEES} {BEES_REST}")
            found = {why: count for why, count in made.sentences_left_out.items() if isinstance(why, LeftOut)}
            if reason is None:
                assert found == {LeftOut.REPEATED: 2}
            else:
                assert found == {reason: 1}
                assert made.pairs == (Pair(BEES, BEES_REST),)
                assert made.passages_left_out == {LeftOut.UNUSED: 1}


def test_common_words_tell_nothing() -> None:
    """A sentence that says the same of any of a hundred films, and one with the names of its own."""
    films = [
        Passage(
            f"The film was shown on many screens in the summer and critics were fond of it. Director Zor{n}ak chose "
            f"the actress Pel{n}ima of Mur{n}vik. It was said {n} times that Zor{n}ak and Pel{n}ima did well, on {n} "
            "screens and more than that in other places."
        )
        for n in range(100)
    ]
    made = cloze(*films, each=3)
    assert {pair.query.split()[0] for pair in made.pairs} == {"Director"}
    assert len(made.pairs) == 100
    assert made.sentences_left_out[LeftOut.REPEATED] == 100
    vague = [Passage(film.text.replace("The film was", f"The film number {n} was")) for n, film in enumerate(films)]
    assert cloze(*vague, each=3).sentences_left_out[LeftOut.VAGUE] == 100


def test_a_passage_of_the_same_words_counts_once() -> None:
    made = cloze(f"{HERON} {REST}", f"{HERON.upper()}  {REST}", f"{HERON} {REST}")
    assert made.passages == 1
    assert made.passages_left_out == {LeftOut.DUPLICATE: 2}
    assert [pair.query for pair in made.pairs] == [HERON]


def test_a_long_text_is_cut_into_passages() -> None:
    paragraphs = [passage.text * 3 for passage in many(30)]
    text = "\n\n".join(paragraphs)
    made = make_pairs([Passage(text, "Mills")], method=Method.CROP)
    assert made.passages > len(text) // PASSAGE_CHARS
    assert max(len(pair.positive) for pair in made.pairs) <= PASSAGE_CHARS
    assert all(any(pair.positive in paragraph for paragraph in [text]) for pair in made.pairs)


def test_crops_are_two_runs_of_one_passage() -> None:
    words = [f"word{n}" for n in range(60)]
    made = make_pairs([Passage(" ".join(words), "Words")], method=Method.CROP, each=40)
    lengths, starts = set(), set()
    for pair in made.pairs:
        assert pair.query != pair.positive
        for crop in (pair.query, pair.positive):
            run = crop.split()
            start = words.index(run[0])
            assert words[start : start + len(run)] == run
            lengths.add(len(run))
            starts.add(start)
    assert LEAST_CROP == min(lengths) > CROP_SHARES[0] * 60
    assert max(lengths) == CROP_SHARES[1] * 60
    assert len(starts) > 20
    short = make_pairs([Passage(" ".join(words[: LEAST_CROPPED - 1]))], method=Method.CROP)
    assert (short.pairs, short.passages_left_out) == ((), {LeftOut.LITTLE: 1})


def test_a_title_asks_for_a_text_that_does_not_repeat_it() -> None:
    texts = [
        Passage(f"# Birds\n\n## Herons\n\n{HERON} {REST}", "Birds > Herons"),
        Passage(f"{BEES} {BEES_REST}"),
        Passage("Too little to find.", "Little"),
        Passage(f"{NEST} {REST}", "1999"),
    ]
    made = make_pairs(texts, method=Method.TITLE)
    assert made.pairs == (Pair("Birds: Herons", f"{HERON} {REST}"),)
    assert made.passages_left_out == {LeftOut.UNTITLED: 3}
