from __future__ import annotations

from math import log

import numpy as np
import pytest

from searchctl.index.groups.keywords import keywords
from searchctl.index.groups.words import BREAK, words_of


def named(texts: list[str], labels: list[int], top: int = 8) -> list[list[str]]:
    return [[word for word, _ in found] for found in keywords(texts, np.array(labels), top=top)]


def test_weights_by_hand() -> None:
    texts = ["apple apple pear", "apple plum", "car car road", "car pear", "ignored apple"]
    fruit, cars = keywords(texts, np.array([0, 0, 1, 1, -1]))
    # 5 words in each cluster, so A = 5. pear: once in each, evenly, and left out; f(apple) = f(car) = 3.
    assert ["apple", "plum"] == [word for word, _ in fruit]
    assert ["car", "road"] == [word for word, _ in cars]
    assert dict(fruit) == pytest.approx({"apple": 3 / 5 * log(1 + 5 / 3), "plum": 1 / 5 * log(1 + 5 / 1)})


def test_a_word_in_both_clusters_weighs_by_its_number_in_all() -> None:
    texts = ["tree " * 8 + "leaf leaf", "tree " * 2 + "stone " * 7 + "sand"]
    (first, second) = (dict(found) for found in keywords(texts, np.array([0, 1])))
    assert first["tree"] == pytest.approx(8 / 10 * log(1 + 10 / 10))
    assert second["tree"] == pytest.approx(2 / 10 * log(1 + 10 / 10))
    assert first["leaf"] == pytest.approx(2 / 10 * log(1 + 10 / 2))


def test_equal_weights_go_by_alphabet_whatever_the_order_of_the_texts() -> None:
    texts = ["zebra quail ibis", "stone", "quail zebra ibis"]
    assert [["ibis", "quail", "zebra"], ["stone"]] == named(texts, [0, 1, 0])
    assert [["ibis", "quail", "zebra"], ["stone"]] == named(texts[::-1], [0, 1, 0])
    assert [["ibis", "quail"], ["stone"]] == named(texts, [0, 1, 0], top=2)


def test_one_word_is_not_said_twice() -> None:
    texts = ["tomato soil, tomatoes", "tomato soil; good tomato", "tomato. wet soil", "engine oil"]
    (garden, _) = named(texts, [0, 0, 0, 1])
    assert ["good", "tomato", "wet"] == sorted(set(garden) - {"soil", "tomato soil"} | {"tomato"})
    stems = [word for entry in garden for word in entry.split()]
    assert 1 == sum(word.startswith("tomato") for word in stems)
    assert 1 == stems.count("soil")


def test_words_that_stand_together_are_one_keyword() -> None:
    texts = ["machine learning works", "fast machine learning", "machine learning", "learning", "bread"]
    assert "machine learning" == named(texts, [0, 0, 0, 0, 1])[0][0]
    # Apart, they are two.
    texts = ["machine. learning", "learning, machine", "the machine of learning", "learning", "bread"]
    assert ["learning", "machine"] == named(texts, [0, 0, 0, 0, 1])[0]


def test_stop_words_of_english_and_of_any_other_language_are_left_out() -> None:
    assert [["garden"], ["motor"]] == named(["the garden is there and it's mine", "what a motor"], [0, 1])
    gardens = ["der Garten und die Tomate", "die Erde und der Regen"]
    motors = ["der Motor und die Achse", "die Bremse und der Reifen"]
    assert [["erde", "garten", "regen", "tomate"], ["achse", "bremse", "motor", "reifen"]] == named(
        gardens + motors, [0, 0, 1, 1]
    )


def test_a_word_of_some_clusters_stays() -> None:
    texts = ["python snake", "python code", "python film", "bread flour", "rain cloud", "sea wave"]
    found = named(texts, [0, 1, 2, 3, 4, 5])
    assert all("python" in " ".join(words) for words in found[:3])
    # In four of six it no longer tells them apart.
    found = named([*texts[:3], "python flour", *texts[4:]], [0, 1, 2, 3, 4, 5])
    assert not any("python" in " ".join(words) for words in found)


def test_a_cluster_of_common_words_gets_those() -> None:
    assert [["note"], ["note"]] == named(["note note", "note"], [0, 1])
    assert [[]] == named(["the, of?!"], [0])


def test_words(subtests: pytest.Subtests) -> None:
    for text, expected in [
        ("Tomato's", ["tomato"]),
        ("don\u2019t we'll", [BREAK, BREAK]),
        ("l\u2019eau", ["eau"]),
        ("red-hot a 7 42", ["red", "hot", BREAK, BREAK, "42"]),
        ("soil. Earth - oil", ["soil", BREAK, "earth", "oil"]),
        ("R\u00e9sum\u00e9 re\u0301sume\u0301", ["r\u00e9sum\u00e9", "r\u00e9sum\u00e9"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),
        ("snake_case", ["snake", BREAK, "case"]),
    ]:
        with subtests.test(text=text, expected=expected):
            assert expected == words_of(text)


def test_chinese_terms_are_found_whole() -> None:
    texts = ["番茄土壤需要水分", "番茄土壤的肥力", "好的番茄土壤", "机器学习的模型", "深度的机器学习", "机器学习和数据"]
    garden, machines = named(texts, [0, 0, 0, 1, 1, 1])
    assert ("番茄土壤", "机器学习") == (garden[0], machines[0])
    assert not any("的" in word or "和" in word for word in garden + machines)


def test_japanese_and_korean_words() -> None:
    texts = ["庭のトマトに水をやる", "トマトを植える", "データを学習する", "学習のデータ"]
    garden, machines = named(texts, [0, 0, 1, 1])
    assert "トマト" == garden[0]
    assert {"データ", "学習"} == set(machines)
    assert ["토마토를"] == named(["토마토를 토마토를", "기계"], [0, 1])[0]


def test_no_clusters_have_no_keywords() -> None:
    assert [] == named([], [])
    assert [] == named(["noise"], [-1])
