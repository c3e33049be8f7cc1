"""The word-level probe: which token states stand for a word, what is kept on disk, and what a classifier learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel

from searchctl.encoder.config import Attention, EncoderConfig, Precision, Runtime
from searchctl.encoder.open import open_encoder
from searchctl.encoder.tokenize import load_tokenizer
from searchctl.encoder.transformer import TransformerEncoder
from searchctl.training.errors import EvaluationError
from searchctl.training.probing import word_states
from searchctl.training.probing.word_data import Sentence, WordData, WordTask
from searchctl.training.probing.word_probe import (
    ProbeScore,
    ProbeSettings,
    accuracy_interval,
    run_probe,
    train_classifier,
)
from searchctl.training.probing.word_states import (
    StateProgress,
    WordRow,
    WordStates,
    compute_states,
    open_states,
    start_token,
    word_rows,
)
from searchctl.training.probing.word_steps import Alignment

NUMBERS = "Rust 1996 dough"
LINES = ["The capital of France", NUMBERS, "zebra", "A short one .", "Bread rises", "the Seine is a city"]


def sentence(text: str, labels: Sequence[str] | None = None) -> Sentence:
    words = tuple(text.split(" "))
    given = tuple(labels or ("O",) * len(words))
    return Sentence(words=words, labels=dict.fromkeys(WordTask, given))


def word_data(train: Sequence[Sentence], dev: Sequence[Sentence], test: Sequence[Sentence]) -> WordData:
    return WordData(splits={"train": tuple(train), "dev": tuple(dev), "test": tuple(test)}, digest="d")


@pytest.fixture(scope="module")
def data() -> WordData:
    return word_data([sentence(line) for line in LINES], [sentence(LINES[1])], [sentence(LINES[0])])


@pytest.fixture(scope="module")
def encoder(tiny_folder: Path) -> TransformerEncoder:
    return opened(EncoderConfig(model=str(tiny_folder), precision=Precision.FP32, runtime=Runtime.TORCH))


def opened(config: EncoderConfig) -> TransformerEncoder:
    found = open_encoder(config)
    assert isinstance(found, TransformerEncoder)
    return found


def compute(encoder: TransformerEncoder, data: WordData, alignment: Alignment, folder: Path) -> dict[str, WordStates]:
    return compute_states(encoder, data, alignment, folder)


def pieces(tokenizer: Tokenizer, row: WordRow) -> list[list[str | None]]:
    return [[tokenizer.id_to_token(int(id_)) for id_ in row.ids[a:b]] for a, b in row.spans]


# Which tokens are a word's.


def test_words_get_the_tokens_that_hold_them_and_the_space_before(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    (row,) = word_rows(tokenizer, [sentence(NUMBERS)], start=1, max_tokens=64)
    # "\u0120" is a space in the alphabet of byte-level BPE; alone, it is the first token of the number after it.
    assert pieces(tokenizer, row) == [["Rust"], ["\u0120", "1", "9", "9", "6"], ["\u0120dough"]]
    assert row.spans.tolist() == [[1, 2], [2, 7], [7, 8]]
    assert row.ids.tolist() == [1, *tokenizer.encode(NUMBERS).ids]


def test_words_are_not_tokenised_alone(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    (row,) = word_rows(tokenizer, [sentence("of of")], start=1, max_tokens=64)
    assert tokenizer.encode(" of").ids != tokenizer.encode("of").ids
    assert row.ids[row.spans[1, 0] : row.spans[1, 1]].tolist() == tokenizer.encode(" of").ids


def test_characters_of_several_bytes_stay_in_their_word(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    text = "\u00e9t\u00e9 \u6771\u4eac \U0001f600 x"
    (row,) = word_rows(tokenizer, [sentence(text)], start=1, max_tokens=64)
    found = [tokenizer.decode(row.ids[a:b].tolist()) for a, b in row.spans]
    assert found == ["\u00e9t\u00e9", " \u6771\u4eac", " \U0001f600", " x"]


def test_the_tokenizers_own_start_is_not_doubled(make_folder: Callable[..., Path]) -> None:
    found = opened(EncoderConfig(model=str(make_folder(bos=True)), precision=Precision.FP32, runtime=Runtime.TORCH))
    assert start_token(found) is None
    (row,) = word_rows(found.tokenizer, [sentence("The capital")], start=None, max_tokens=64)
    assert row.ids[0] == 1
    assert row.spans.tolist() == [[1, 2], [2, 3]]


def test_without_one_the_models_bos_stands_there_else_its_eos(encoder: TransformerEncoder) -> None:
    config = encoder.model.config
    assert start_token(encoder) == 1
    config.bos_token_id = None
    try:
        assert start_token(encoder) == 2
        config.eos_token_id = None
        with pytest.raises(EvaluationError, match="neither bos_token_id nor eos_token_id"):
            start_token(encoder)
    finally:
        config.bos_token_id, config.eos_token_id = 1, 2


def test_a_word_cut_anywhere_has_no_state(tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for max_tokens, kept in [(8, [True, True, True]), (7, [True, True, False]), (6, [True] + [False] * 2)]:
        with subtests.test(max_tokens=max_tokens, kept=kept):
            (row,) = word_rows(load_tokenizer(tiny_folder), [sentence(NUMBERS)], start=1, max_tokens=max_tokens)
            assert row.kept.tolist() == kept
            assert len(row.ids) == max_tokens


# The states.


def by_hand(folder: Path, ids: Sequence[int], attention: Attention) -> NDArray[np.float32]:
    """Return (tokens, dim) of transformers' own model."""
    config = AutoConfig.from_pretrained(folder)
    config.is_causal = attention is Attention.CAUSAL
    model = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    with torch.no_grad():
        return np.asarray(model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0])


def test_states_are_means_over_the_words_tokens(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, data: WordData, subtests: pytest.Subtests
) -> None:
    for attention in list(Attention):
        for alignment in list(Alignment):
            with subtests.test(attention=attention, alignment=alignment):
                tmp_path = tmp_path_factory.mktemp("row")
                shift = {Alignment.SAME_TOKEN: 0, Alignment.NEXT_TOKEN: 1}[alignment]
                encoder = opened(
                    EncoderConfig(
                        model=str(tiny_folder), precision=Precision.FP32, runtime=Runtime.TORCH, attention=attention
                    )
                )
                states = compute(encoder, data, alignment, tmp_path)
                # Row 0 is the start token; then "Rust", the number with its space, "dough", and so on.
                spans = {
                    "The capital of France": [(1, 2), (2, 3), (3, 4), (4, 5)],
                    NUMBERS: [(1, 2), (2, 7), (7, 8)],
                    "zebra": [(1, 6)],
                }
                for number, (text, of) in enumerate(spans.items()):
                    tokens = by_hand(tiny_folder, [1, *load_tokenizer(tiny_folder).encode(text).ids], attention)
                    expected = np.stack([tokens[a - shift : b - shift].mean(axis=0) for a, b in of])
                    assert np.allclose(expected, states["train"].gather([number]), atol=2e-3)
                    if text == NUMBERS:
                        assert np.allclose(expected, states["dev"].gather([0]), atol=2e-3)
                        assert not np.allclose(expected, np.roll(expected, 1, axis=0), atol=0.05)


def test_after_mntp_the_first_word_is_read_from_the_start_token(
    encoder: TransformerEncoder, tiny_folder: Path, tmp_path: Path, data: WordData
) -> None:
    states = compute(encoder, data, Alignment.NEXT_TOKEN, tmp_path)
    ids = [1, *load_tokenizer(tiny_folder).encode("The capital of France").ids]
    expected = by_hand(tiny_folder, ids, Attention.BIDIRECTIONAL)[0]
    assert np.allclose(expected, states["test"].gather([0])[0], atol=2e-3)


def test_rows_follow_the_order_that_is_asked_for(encoder: TransformerEncoder, tmp_path: Path, data: WordData) -> None:
    states = compute(encoder, data, Alignment.SAME_TOKEN, tmp_path)["train"]
    assert states.gather([2, 0]).shape == (1 + 4, 32)
    assert np.array_equal(states.gather([2, 0]), np.concatenate([states.gather([2]), states.gather([0])]))
    assert states.left_out == 0


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_pass_goes_on_and_gives_the_same_states(
    encoder: TransformerEncoder, tmp_path: Path, data: WordData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_states, "BLOCK", 2)
    whole = compute(encoder, data, Alignment.SAME_TOKEN, tmp_path / "whole")
    total = sum(len(encoder.tokenizer.encode(s.text).ids) + 1 for of in data.splits.values() for s in of)
    killed = tmp_path / "killed"
    first = sum(len(encoder.tokenizer.encode(line).ids) + 1 for line in LINES[:4])

    def kill(event: StateProgress) -> None:
        if event.tokens_done > first:
            raise Killed

    with pytest.raises(Killed):
        compute_states(encoder, data, Alignment.SAME_TOKEN, killed, progress=kill)
    written = sorted(file.name for file in killed.glob("*.npy"))
    assert written == ["train-00000.npy", "train-00001.npy"]
    assert open_states(killed, data) is None
    times = {name: (killed / name).stat().st_mtime_ns for name in written}

    events: list[StateProgress] = []
    resumed = compute_states(encoder, data, Alignment.SAME_TOKEN, killed, progress=events.append)
    assert (events[0].tokens_done, events[-1].tokens_done) == (first, total)
    assert {event.tokens_total for event in events} == {total}
    assert times == {name: (killed / name).stat().st_mtime_ns for name in written}
    for split, of in whole.items():
        everything = range(len(data.splits[split]))
        assert np.array_equal(of.gather(everything), resumed[split].gather(everything))
    assert not [file for file in killed.iterdir() if file.name.startswith(".")]


def test_a_complete_folder_is_read_without_a_model(encoder: TransformerEncoder, tmp_path: Path, data: WordData) -> None:
    assert open_states(tmp_path, data) is None
    computed = compute(encoder, data, Alignment.SAME_TOKEN, tmp_path)
    read = open_states(tmp_path, data)
    assert read is not None
    assert np.array_equal(computed["train"].gather(range(6)), read["train"].gather(range(6)))


def test_damage_is_named(encoder: TransformerEncoder, tmp_path: Path, data: WordData) -> None:
    compute(encoder, data, Alignment.SAME_TOKEN, tmp_path)
    file = tmp_path / "dev-00000.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(EvaluationError, match=r"dev-00000\.npy is damaged"):
        open_states(tmp_path, data)
    np.save(file, np.zeros((2, 32), dtype=np.float16))
    with pytest.raises(EvaluationError, match=r"expected float16 \(3, 32\)"):
        open_states(tmp_path, data)
    file.write_bytes(whole)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"plan\.json is damaged"):
        open_states(tmp_path, data)


def test_words_beyond_the_limit_have_no_row(tiny_folder: Path, tmp_path: Path, data: WordData) -> None:
    short = opened(EncoderConfig(model=str(tiny_folder), precision=Precision.FP32, runtime=Runtime.TORCH, max_tokens=4))
    states = compute(short, data, Alignment.SAME_TOKEN, tmp_path)
    # Start token and three more: "The capital of", "Rust" (its number needs five), nothing of z-e-b-r-a.
    assert [kept.tolist() for kept in states["train"].kept[:3]] == [[True] * 3 + [False], [True, False, False], [False]]
    assert states["train"].gather([0, 1, 2]).shape == (4, 32)
    assert (states["test"].left_out, states["dev"].left_out) == (1, 2)
    read = open_states(tmp_path, data)
    assert read is not None
    assert [kept.tolist() for kept in read["train"].kept] == [kept.tolist() for kept in states["train"].kept]


# The classifier.


def toy(labels: Sequence[Sequence[int]], *, seed: int, told: bool) -> tuple[WordStates, list[Sentence]]:
    """Return sentences whose states are noise, and point along their label's axis when they are `told`."""
    rng = np.random.default_rng(seed)
    flat = np.concatenate([np.asarray(of) for of in labels])
    states = rng.normal(0, 0.3, (len(flat), 8))
    if told:
        states[np.arange(len(flat)), flat] += 3
    starts = np.concatenate([[0], np.cumsum([len(of) for of in labels])]).astype(np.int64)
    kept = [np.ones(len(of), dtype=np.bool_) for of in labels]
    sentences = [sentence(" ".join("w" * len(of)), [f"L{label}" for label in of]) for of in labels]
    return WordStates(blocks=[states.astype(np.float16)], starts=starts, kept=kept), sentences


def toy_run(*, told: bool, settings: ProbeSettings) -> dict[str, ProbeScore]:
    rng = np.random.default_rng(7)
    splits = {
        name: toy([rng.integers(0, 4, rng.integers(1, 6)).tolist() for _ in range(count)], seed=count, told=told)
        for name, count in (("train", 300), ("dev", 50), ("test", 400))
    }
    states = {name: found[0] for name, found in splits.items()}
    data = word_data(*(found[1] for found in splits.values()))
    return run_probe(states, data, WordTask.POS, settings)


def test_what_is_separable_is_learnt_and_noise_is_not() -> None:
    settings = ProbeSettings(steps=400, lr=1e-2)
    learnt = toy_run(told=True, settings=settings)
    assert (learnt["dev"].accuracy, learnt["test"].accuracy) == (1.0, 1.0)
    chance = toy_run(told=False, settings=settings)["test"]
    # Four labels alike often, some 1,200 words: 0.25 with a standard error of 0.0125.
    assert 0.2 < chance.accuracy < 0.3


def test_equal_runs_are_equal_and_leave_other_random_numbers_alone() -> None:
    settings = ProbeSettings(steps=60)
    torch.manual_seed(5)
    first = toy_run(told=False, settings=settings)["test"]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    second = toy_run(told=False, settings=settings)["test"]
    assert np.array_equal(first.correct, second.correct)
    third = toy_run(told=False, settings=ProbeSettings(steps=60, seed=1))["test"]
    assert not np.array_equal(first.correct, third.correct)


def test_the_rate_falls_to_zero_at_the_last_step() -> None:
    states, _ = toy([[0, 1, 2, 3]] * 8, seed=0, told=True)
    labels = [np.asarray([0, 1, 2, 3])] * 8

    def moved(steps: int) -> float:
        torch.manual_seed(42)
        begun = torch.nn.Linear(8, 4).weight.detach()
        settings = ProbeSettings(steps=steps, lr=0.01, dropout=0.0, clip=1e9)
        return float((train_classifier(states, labels, 4, settings).weight.detach() - begun).abs().max())

    # One step of Adam moves every weight by the rate; the second of two has half of it, the second of four 3/4.
    assert moved(1) == pytest.approx(0.01, rel=1e-3)
    assert moved(2) == pytest.approx(0.015, rel=0.02)
    assert moved(4) == pytest.approx(0.025, rel=0.02)


def test_a_label_that_training_has_not_is_wrong_and_words_without_state_do_not_count() -> None:
    states, train = toy([[0, 1]] * 20, seed=1, told=True)
    test_states, _ = toy([[0, 1], [0, 1]], seed=2, told=True)
    test = [sentence("a b c", ["L0", "L1", "L0"]), sentence("a b", ["new", "L1"])]
    test_states = WordStates(
        blocks=test_states.blocks,
        starts=test_states.starts,
        kept=[np.asarray([True, True, False]), np.asarray([True, True])],
    )
    data = word_data(train, train, test)
    found = run_probe(
        {"train": states, "dev": states, "test": test_states}, data, WordTask.NER, ProbeSettings(steps=200, lr=0.01)
    )
    assert found["dev"].accuracy == 1.0
    assert (found["test"].correct.tolist(), found["test"].words.tolist()) == ([2, 1], [2, 2])
    assert found["test"].accuracy == 0.75


def test_a_split_without_a_state_is_an_error() -> None:
    states, train = toy([[0, 1]], seed=1, told=True)
    nothing = WordStates(
        blocks=[np.empty((0, 8), dtype=np.float16)], starts=np.zeros(2, dtype=np.int64), kept=[np.asarray([False] * 2)]
    )
    with pytest.raises(EvaluationError, match=r"test: none of its words has a state"):
        run_probe(
            {"train": states, "dev": states, "test": nothing},
            word_data(train, train, train),
            WordTask.POS,
            ProbeSettings(steps=1),
        )


def counts(correct: Sequence[int], words: Sequence[int]) -> ProbeScore:
    return ProbeScore(correct=np.asarray(correct), words=np.asarray(words))


def test_intervals_are_those_of_independent_sentences() -> None:
    # Binomial: 1.96 * sqrt(0.25 / 400) = 0.049 with one word a sentence.
    found = accuracy_interval(counts([0, 1] * 200, [1] * 400))
    assert (found.low, found.high) == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))
    # As many words, ten to a sentence and all alike: 40 coins, 1.96 * sqrt(0.25 / 40) = 0.155.
    found = accuracy_interval(counts([0, 10] * 20, [10] * 40))
    assert (found.low, found.high) == (pytest.approx(0.345, abs=0.03), pytest.approx(0.655, abs=0.03))


def test_a_resample_is_scored_by_words_and_not_by_sentences() -> None:
    # Short sentences are all right, long ones all wrong: 100 of 1,000 words, yet half of the sentences.
    found = accuracy_interval(counts([1, 0] * 100, [1, 9] * 100))
    assert found.low < 0.1 < found.high < 0.15


def test_a_difference_is_paired() -> None:
    base = [0, 3, 1, 2] * 25
    words = [4] * 100
    better = accuracy_interval(counts([one + 1 for one in base], words), counts(base, words))
    assert (better.low, better.high) == (0.25, 0.25)
    with pytest.raises(EvaluationError, match="different words"):
        accuracy_interval(counts(base, words), counts(base, [5] * 100))


def test_sentences_without_a_state_change_no_interval() -> None:
    plain = accuracy_interval(counts([1, 0, 1, 1], [1, 1, 1, 1]))
    assert plain == accuracy_interval(counts([1, 0, 0, 1, 0, 1], [1, 0, 1, 1, 0, 1]))
