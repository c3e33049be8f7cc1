"""False negatives of a batch, and work that a step must not do twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.protocol import Role
from searchctl.encoder.tokenize import TextTokenizer, TokenRow, load_tokenizer
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.distributed import Ranks
from searchctl.training.objectives import contrastive as contrastive_objective
from searchctl.training.objectives.contrastive import SimcseTraining, SupervisedTraining, evaluation_pairs
from searchctl.training.objectives.contrastive_loss import info_nce, same_texts
from searchctl.training.objectives.embedding import TokenCache
from searchctl.training.recipe import LoraSettings, Schedule, SimcseStage, SourceSettings, SupervisedStage
from searchctl.training.trainable import Trainable, load_trainable

TEXTS = [f"Sentence number {i} tells of rivers and of bread." for i in range(30)]


class Counting:
    """A tokenizer that keeps what it was asked for."""

    def __init__(self, folder: Path, length: int = 48) -> None:
        prompt = resolve(EncoderConfig(model=str(folder))).sidecar.prompt
        self.inner = TextTokenizer(tokenizer=load_tokenizer(folder), prompt=prompt, max_tokens=length)
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str], *, role: Role, instruction: str | None) -> list[TokenRow]:
        self.asked += texts
        return self.inner(texts, role=role, instruction=instruction)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Trainable:
    resolved = resolve(EncoderConfig(model=str(tiny_folder)))
    lora = LoraSettings(rank=4, alpha=8)
    return load_trainable(resolved, (), lora, device=torch.device("cpu"), dtype=torch.float32)


def source(name: str, pairs: Sequence[Pair]) -> PairSource:
    return PairSource(name=name, digest="", pairs=tuple(pairs))


def numbered(count: int, first: int = 0) -> list[Pair]:
    return [Pair(f"what is thing {i}", f"thing {i} is wool") for i in range(first, first + count)]


def test_another_positive_of_the_same_query_is_no_negative() -> None:
    queries, positives = ["list files", "stop", "list files"], ["ls", "kill 1", "ls -l"]
    found = same_texts(queries, positives, [*positives, "rm", "stop"])
    assert found.tolist() == [
        [True, False, True, False, False],
        [False, True, False, False, True],
        [True, False, True, False, False],
    ]


def test_pairs_of_other_processes_are_known_too() -> None:
    # This process has the first pair; "ls -l" is a candidate of the other, and answers the same query there.
    candidates = ["ls", "ls -l", "rm", "dir"]
    other = [("list files", "ls -l"), ("remove", "rm"), ("remove", "dir")]
    assert same_texts(["list files"], ["ls"], candidates).tolist() == [[True, False, False, False]]
    assert same_texts(["list files"], ["ls"], candidates, known=other).tolist() == [[True, True, False, False]]


def test_a_hard_negative_of_the_same_query_stays_a_negative() -> None:
    known = [("q", "p1"), ("q", "p2")]
    assert same_texts(["q", "q"], ["p1", "p2"], ["p1", "p2", "n1", "n2"], known=known).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
    ]


def test_the_own_positive_stays_whatever_the_data_say() -> None:
    # The positive is the query's own text: it is excluded as a candidate, and yet the target.
    excluded = same_texts(["a", "b"], ["a", "y"], ["a", "y"])
    assert excluded.tolist() == [[True, False], [False, True]]
    torch.manual_seed(0)
    queries, candidates = torch.randn(2, 4), torch.randn(2, 4)
    expected = info_nce(queries, candidates, temperature=0.1)
    torch.testing.assert_close(info_nce(queries, candidates, temperature=0.1, excluded_BC=excluded), expected)


def test_many_texts_against_a_search_by_hand() -> None:
    queries = [f"query {i % 37}" for i in range(80)]
    positives = [f"text {i % 23}" for i in range(80)]
    candidates = [*positives, *(f"text {i}" for i in range(40)), "query 5"]
    right = {(q, p) for q, p in zip(queries, positives, strict=True)} | {(q, q) for q in queries}
    expected = [[(query, candidate) in right for candidate in candidates] for query in queries]
    assert expected == same_texts(queries, positives, candidates).tolist()


class Compared(str):
    """A text that counts how often one is compared with another."""

    __slots__ = ()
    __hash__ = str.__hash__
    count = 0

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return str.__eq__(self, other)


def test_a_full_batch_is_not_compared_text_by_text() -> None:
    queries = [Compared(f"what does command {i % 400} do with the file") for i in range(512)]
    positives = [Compared(f"it does thing number {i}") for i in range(512)]
    candidates = [*positives, *(Compared(f"it does not do {i}") for i in range(512))]
    known = list(zip(queries, positives, strict=True))
    Compared.count = 0
    same_texts(queries, positives, candidates, known=known)
    # A text is looked up by its hash, and then compared with the one that is there: half a million pairs are not.
    assert 0 < Compared.count <= 2 * (len(candidates) + 4 * 512)


def test_the_cache_gives_the_rows_of_the_tokenizer_and_asks_it_once(tiny_folder: Path) -> None:
    counting = Counting(tiny_folder)
    cache = TokenCache(counting)  # type: ignore[arg-type]
    wanted = [TEXTS[2], TEXTS[0], TEXTS[2]]
    for instruction in (None, "Find it", None):
        rows = cache(wanted, role=Role.QUERY, instruction=instruction)
        expected = counting.inner(wanted, role=Role.QUERY, instruction=instruction)
        assert [row.ids.tolist() for row in rows] == [row.ids.tolist() for row in expected]
        assert [(row.start, row.end) for row in rows] == [(row.start, row.end) for row in expected]
    assert counting.asked == [TEXTS[2], TEXTS[0]] * 2  # once with the instruction and once without


def test_the_cache_holds_no_more_than_its_limit(tiny_folder: Path) -> None:
    counting = Counting(tiny_folder)
    cache = TokenCache(counting, limit_bytes=1000)  # type: ignore[arg-type]
    for _ in range(2):
        rows = cache(TEXTS[:6], role=Role.DOCUMENT, instruction=None)
    expected = counting.inner(TEXTS[:6], role=Role.DOCUMENT, instruction=None)
    assert [row.ids.tolist() for row in rows] == [row.ids.tolist() for row in expected]
    kept = [text for text in TEXTS[:6] if counting.asked.count(text) == 1]
    assert kept == TEXTS[:2]  # a row takes 300 bytes and its tokens, four bytes each


def simcse(model: Trainable, tokenizer: Counting) -> SimcseTraining:
    stage = SimcseStage(batch=6, length=48, schedule=Schedule(steps=20), sentences=False)
    return SimcseTraining(model, stage, tokenizer, texts=TEXTS[:24], held_out=TEXTS[24:], seed=1)  # type: ignore[arg-type]


def test_simcse_tokenises_a_text_once_in_all_its_epochs(model: Trainable, tiny_folder: Path) -> None:
    counting = Counting(tiny_folder)
    objective = simcse(model, counting)
    for number in range(8):  # two epochs of four batches
        objective.step(number)
        if number % 4 == 3:
            objective.held_out()
    assert sorted(counting.asked) == sorted(TEXTS)


def test_simcse_draws_a_batch_once_a_step(model: Trainable, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = simcse(model, Counting(tiny_folder))
    sampled: list[int] = []
    real = contrastive_objective.batch_rows
    monkeypatch.setattr(
        contrastive_objective,
        "batch_rows",
        lambda count, size, number, seed: (sampled.append(number), real(count, size, number, seed))[1],
    )
    objective.step(3)
    assert sampled == [3]


def supervised(
    model: Trainable, tokenizer: Counting, seen: Sequence[PairSource], **options: object
) -> SupervisedTraining:
    stage = SupervisedStage(
        batch=6,
        length=48,
        schedule=Schedule(steps=20),
        sources={"asked": SourceSettings(instruction="Find it", symmetric=True)},
    )
    held_out = options.pop("held_out", [source("plain", numbered(5, 100)), source("asked", numbered(5, 200))])
    return SupervisedTraining(model, stage, tokenizer, sources=seen, held_out=held_out, seed=1, **options)  # type: ignore[arg-type]


def test_supervised_tokenises_each_side_once_in_all_its_epochs(model: Trainable, tiny_folder: Path) -> None:
    counting = Counting(tiny_folder)
    objective = supervised(model, counting, [source("plain", numbered(12)), source("asked", numbered(12, 50))])
    for number in range(12):
        objective.step(number)
    first, second = objective.held_out(), objective.held_out()
    assert first == second
    assert len(counting.asked) == len(set(counting.asked)) == 2 * (12 + 12 + 5 + 5)


def test_evaluation_pairs_are_capped_over_all_sources(subtests: pytest.Subtests) -> None:
    for sources, most, each in [(1, 1024, 256), (4, 1024, 256), (8, 1024, 128), (100, 1024, 10), (4, 40, 10)]:
        with subtests.test(sources=sources, most=most, each=each):
            many = [source(f"s{i}", numbered(300)) for i in range(sources)]
            taken = evaluation_pairs(many, most)
            assert [len(pairs) for _, pairs in taken] == [each] * sources
            assert all(pairs == whole.pairs[:each] for whole, pairs in taken)
            assert sum(len(pairs) for _, pairs in taken) <= most


def test_a_source_with_few_pairs_gives_all_it_has() -> None:
    few = source("few", numbered(3))
    assert evaluation_pairs([few], 1024) == [(few, few.pairs)]


def test_accuracy_counts_no_other_right_answer_as_wrong(model: Trainable, tiny_folder: Path) -> None:
    # Two queries of one text with two positives: each has its own nearest once the other's is left out.
    held_out = [source("plain", [Pair("list files", "ls"), Pair("list files", "list all files now")])]
    objective = supervised(model, Counting(tiny_folder), [source("plain", numbered(12))], held_out=held_out)
    assert objective.held_out()["accuracy"] == 1.0


def test_each_process_excludes_what_the_others_pairs_say(model: Trainable, tiny_folder: Path) -> None:
    pairs = [Pair("list files", f"answer {i}") if i < 2 else pair for i, pair in enumerate(numbered(6))]
    objective = supervised(model, Counting(tiny_folder), [source("plain", pairs)], ranks=Ranks(rank=1, count=2))
    batch = objective._contrast("plain", [pairs[:1] + pairs[2:4], pairs[1:2] + pairs[4:]], 0, Ranks(rank=1, count=2))
    # Candidates: three of the first process, then this one's. Query 0 here asks what query 0 there asks.
    assert batch.excluded.tolist() == [
        [True, False, False, True, False, False],
        [False, False, False, False, True, False],
        [False, False, False, False, False, True],
    ]
