"""The prefix test: causal models cannot tell the texts apart, bidirectional ones can; numbers by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import snowballstemmer
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModel

from searchctl.encoder.config import Attention, EncoderConfig, Precision, Runtime
from searchctl.encoder.open import open_encoder
from searchctl.encoder.transformer import TransformerEncoder
from searchctl.training.errors import DataError, EvaluationError
from searchctl.training.probing.prefix_test import (
    BINS,
    PrefixScores,
    Triple,
    auc,
    histogram,
    prefix_rows,
    read_triples,
    run_prefix_test,
    sign_test,
)

MakeFolder = Callable[..., Path]
SHORT = Triple(prefix="After the concert", query="all was silent", positive="no sound came", negative="people danced")
FEW = (SHORT, *read_triples()[:3])
KINDS = {"llama": {}, "mistral": {}, "qwen2": {}, "gemma2": {"head_dim": 8}}
FUNCTION_WORDS = """
a all an and any are as at be because been before but by can could do each every for from had has have he her his how i
if in is it its lets many may more most must my near nearly never no nobody none nor not of off on once one only or
other our out over own quite she should so some than that the their them there they this those to too two until up very
was we were what when where whether which while who whose will with within without would you your
"""


def opened(folder: Path, attention: Attention = Attention.CAUSAL) -> TransformerEncoder:
    config = EncoderConfig(
        model=str(folder), attention=attention, precision=Precision.FP32, runtime=Runtime.TORCH, device="cpu"
    )
    encoder = open_encoder(config)
    assert isinstance(encoder, TransformerEncoder)
    return encoder


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


def content(text: str) -> set[str]:
    stems = snowballstemmer.stemmer("english").stemWords([w for w in words(text) if w not in FUNCTION_WORDS.split()])
    return set(stems)


def test_triples_are_enough_and_different() -> None:
    triples = read_triples()
    assert len(triples) >= 40
    texts = [text for triple in triples for text in triple.texts]
    assert len(texts) == len(set(texts))
    assert len(triples) == len({triple.prefix for triple in triples})
    lengths = {len(words(triple.prefix)) for triple in triples}
    assert min(lengths) >= 3
    assert max(lengths) >= 20  # of varied length


def test_triple_gives_no_hint_by_words(subtests: pytest.Subtests) -> None:
    """B is close to C in meaning only: not by its content words, nor C and D told apart by their length."""
    for triple in read_triples():
        with subtests.test(triple=triple):
            assert set() == content(triple.query) & content(triple.positive)
            assert abs(len(words(triple.positive)) - len(words(triple.negative))) <= 2
            for text in (triple.prefix, triple.query, triple.positive, triple.negative):
                assert text == text.strip()
                assert text.isascii()


def test_malformed_triples_are_named_by_line(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for line, what in [
        ("{", "line 2: not JSON"),
        ('{"prefix": "a", "query": "b", "positive": "c"}', "line 2: expected an object with the keys"),
        ('{"prefix": " ", "query": "b", "positive": "c", "negative": "d"}', "line 2: prefix is ' '"),
        ('{"prefix": "a", "query": 1, "positive": "c", "negative": "d"}', "line 2: query is 1"),
    ]:
        with subtests.test(line=line, what=what):
            tmp_path = tmp_path_factory.mktemp("row")
            good = json.dumps({"prefix": "a", "query": "b", "positive": "c", "negative": "d"})
            path = tmp_path / "triples.jsonl"
            path.write_text(f"{good}\n{line}\n")
            with pytest.raises(DataError, match=re.escape(what)):
                read_triples(path)


def test_causal_prefix_states_are_identical(make_folder: MakeFolder, subtests: pytest.Subtests) -> None:
    for kind, changes in KINDS.items():
        for bos in [False, True]:
            with subtests.test(kind=kind, bos=bos):
                scores = run_prefix_test(opened(make_folder(kind, bos=bos, **changes)), FEW, Attention.CAUSAL)
                assert scores.prefix_error < 1e-6
                assert len(FEW) == scores.undecided
                assert 0.5 == scores.auc
                assert 1.0 == scores.p_value
                assert list(scores.positive) == pytest.approx([1.0] * len(FEW))


def test_bidirectional_cosines_equal_those_of_each_text_alone(
    make_folder: MakeFolder, subtests: pytest.Subtests
) -> None:
    """Computed again without padding, with transformers alone; the prefix is counted in characters of its tokens."""
    for kind, changes in KINDS.items():
        with subtests.test(kind=kind):
            folder = make_folder(kind, bos=True, **changes)
            encoder = opened(folder)
            scores = run_prefix_test(encoder, FEW, Attention.BIDIRECTIONAL)
            config = AutoConfig.from_pretrained(folder)
            config.is_causal = False
            model = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

            def pooled(text: str, prefix: str) -> np.ndarray:
                encoding = tokenizer.encode(text)
                inside = [i for i, (start, end) in enumerate(encoding.offsets) if start < end <= len(prefix)]
                with torch.inference_mode():
                    states = model(input_ids=torch.tensor([encoding.ids])).last_hidden_state[0].numpy()
                return states[inside].mean(axis=0)

            def cosine(one: np.ndarray, other: np.ndarray) -> float:
                return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

            for triple, near, far in zip(FEW, scores.positive, scores.negative, strict=True):
                q, positive, negative = (pooled(text, triple.prefix) for text in triple.texts)
                assert cosine(q, positive) == pytest.approx(near, abs=1e-5)
                assert cosine(q, negative) == pytest.approx(far, abs=1e-5)
            assert 0 == scores.undecided
            assert scores.prefix_error > 1e-3
            assert encoder.model.config.is_causal  # left as it was


def character_tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    """A tokenizer of characters and the merges given, which may go across words."""
    alphabet = [*"abcdefghijklmnopqrstuvwxyz "]
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, *(a + b for a, b in merges)])}
    return Tokenizer(models.BPE(vocabulary, merges))


RED = Triple(prefix="red", query="nose", positive="nut", negative="fish")


def test_a_token_across_the_border_is_not_the_prefix() -> None:
    rows = prefix_rows(character_tokenizer([("d", " ")]), RED)
    assert [(0, 2)] * 3 == [(row.start, row.end) for row in rows]  # r, e; then "d " belongs to neither


def test_the_prefix_ends_where_the_texts_are_cut_up_differently() -> None:
    # " n" merges before "d ": "d" stands alone before nose and nut, and is glued to the space before fish.
    tokenizer = character_tokenizer([(" ", "n"), ("d", " ")])
    assert ["r", "e", "d", " n"] == tokenizer.encode("red nose").tokens[:4]
    assert ["r", "e", "d ", "f"] == tokenizer.encode("red fish").tokens[:4]
    rows = prefix_rows(tokenizer, RED)
    assert [(0, 2)] * 3 == [(row.start, row.end) for row in rows]


def test_special_tokens_are_no_part_of_the_prefix(make_folder: MakeFolder) -> None:
    tokenizer = opened(make_folder("llama", bos=True)).tokenizer
    row = prefix_rows(tokenizer, SHORT)[0]
    assert 1 == row.start
    assert "After the concert" == tokenizer.decode(row.ids[row.start : row.end].tolist())


def test_a_prefix_without_a_token_of_its_own_is_refused() -> None:
    with pytest.raises(EvaluationError, match="prefix 'd': no token lies wholly inside"):
        prefix_rows(character_tokenizer([("d", " ")]), Triple(prefix="d", query="a", positive="b", negative="c"))


def test_a_triple_beyond_the_models_context_is_refused(make_folder: MakeFolder) -> None:
    encoder = opened(make_folder("llama", max_position_embeddings=24))
    with pytest.raises(EvaluationError, match=r"triple 2 has \d+ tokens: .* at most 24"):
        run_prefix_test(encoder, [SHORT, *read_triples()], Attention.CAUSAL)


def test_auc_by_hand() -> None:
    # 0.9 > 0.5, 0.9 > 0.4, 0.4 < 0.5, 0.4 = 0.4: two and a half of four.
    assert 0.625 == auc([0.9, 0.4], [0.5, 0.4])
    assert 1.0 == auc([0.9, 0.8], [0.5, 0.4])
    assert 0.5 == auc([0.9], [0.9 + 1e-9], equal_within=1e-6)
    assert 0.0 == auc([0.9], [0.9 + 1e-9])


def test_sign_test_by_hand(subtests: pytest.Subtests) -> None:
    for right, wrong, p in [
        (0, 0, 1.0),
        (3, 0, 2 / 8),
        (0, 3, 2 / 8),
        (5, 1, 2 * (6 + 1) / 64),
        (2, 2, 1.0),
        (10, 0, 2 / 1024),
    ]:
        with subtests.test(right=right, wrong=wrong, p=p):
            assert p == sign_test(right, wrong)


def scores_of(positive: tuple[float, ...], negative: tuple[float, ...]) -> PrefixScores:
    return PrefixScores(
        attention=Attention.BIDIRECTIONAL,
        positive=positive,
        negative=negative,
        prefix_error=0.1,
        undecided_below=1e-6,
    )


def test_scores_by_hand() -> None:
    scores = scores_of((0.9, 0.8, 0.7, 0.6), (0.5, 0.9, 0.7, 0.3))
    assert (2, 1, 1) == (scores.right, scores.wrong, scores.undecided)
    assert pytest.approx((0.4 - 0.1 + 0.0 + 0.3) / 4) == scores.mean_difference
    assert 1.0 == scores.p_value  # two against one
    assert scores.interval.low < scores.mean_difference < scores.interval.high
    shifted = scores_of((0.9, 0.8, 0.7), (0.8, 0.7, 0.6)).interval
    assert (pytest.approx(0.1), pytest.approx(0.1)) == (shifted.low, shifted.high)


def test_histogram_shares_its_bins() -> None:
    counts = histogram(scores_of((1.5, 0.05, 0.75), (0.0, 0.74, 0.2)))
    assert BINS + 1 == len(counts.edges)
    assert [number / 10 for number in range(16)] == pytest.approx(counts.edges)
    assert (1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1) == counts.positive
    assert (1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0) == counts.negative
