"""The search path as something to measure ranks exactly as `searchctl index` and `searchctl query` do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from searchctl.app.collection.encoder_choice import LazyEncoder
from searchctl.app.collection.indexer import chunk_sizes
from searchctl.app.collection.talk import Talk
from searchctl.app.evaluate.corpus_index import CorpusIndex, FillProgress, Passage
from searchctl.app.evaluate.search_model import search_model
from searchctl.app.options import SearchMode
from searchctl.encoder import load
from searchctl.encoder.config import EncoderConfig, Runtime
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.measurement import EvalTask, Pulse, TaskInstructions
from searchctl.training.evaluation.scoring import measure

HASHING = EncoderConfig(model="hashing")
ROWS = [
    {"_id": "heron", "title": "Birds", "text": "The heron stands in shallow water and waits for fish."},
    {"_id": "bees", "title": "", "text": "Bees dance to tell others where flowers bloom."},
    {"_id": "tide", "title": "The  tide\ntable", "text": "The moon pulls the water twice a day. \n\n"},
    {"_id": "only-title", "title": "Fish ladders", "text": ""},
    {"_id": "empty", "title": " ", "text": "\n"},
    {"_id": "twin-1", "title": "", "text": "Water and fish, fish and water."},
    {"_id": "twin-2", "title": "", "text": "Water and fish, fish and water."},
]
QUERIES = {"q1": "where do fish wait in water", "q2": "how bees dance", "q3": "zzzzyx"}


def talk() -> Talk:
    return Talk()


@pytest.fixture
def rows(words: Callable[[int, int], str]) -> list[dict[str, str]]:
    """The hand-made documents among longer ones, some of several chunks that share words with each other."""
    long = [
        {"_id": f"long-{seed}", "title": f"word{seed}", "text": words(seed, 40 + 130 * (seed % 5)) + " fish water"}
        for seed in range(25)
    ]
    return ROWS[:3] + long + ROWS[3:]


def queries(words: Callable[[int, int], str]) -> dict[str, str]:
    return QUERIES | {f"long-{seed}": words(seed + 3, 9) for seed in range(8)}


def dataset(rows: list[dict[str, str]]) -> Dataset:
    return Dataset.from_list([{"id": row["_id"], "title": row["title"], "text": row["text"]} for row in rows])


def task(make: Callable[[], Any] | None = None, **instructions: str) -> EvalTask:
    def nothing() -> Any:
        raise AssertionError

    return EvalTask(
        name="fish",
        task_type="Retrieval",
        data="digest",
        instructions=TaskInstructions(**instructions),
        make=make or nothing,
    )


class _Meta:
    name = "fish"


def by_commands(
    shell: Any, rows: list[dict[str, str]], asked: dict[str, str], mode: str, k: int
) -> dict[str, list[str]]:
    """Rank by the commands a person types: documents by their best chunk."""
    shell.write("corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    shell.write("asked.json", "".join(json.dumps({"id": id_, "query": text}) + "\n" for id_, text in asked.items()))
    shell.index("corpus.jsonl")
    ended = shell(
        "query", "--queries", "asked.json", "--mode", mode, "-k", 1000, "--no-snippet", "--format", "jsonl"
    )  # fmt: skip
    ranking: dict[str, list[str]] = {id_: [] for id_ in asked}
    for line in ended.out.splitlines():
        hit = json.loads(line)
        id_ = rows[hit["lines"][0] - 1]["_id"]
        if id_ not in ranking[hit["id"]]:
            ranking[hit["id"]].append(id_)
    return {id_: found[:k] for id_, found in ranking.items()}


@pytest.mark.parametrize("mode", list(SearchMode))
def test_ranks_as_the_commands_do(
    shell: Any, tmp_path: Path, rows: list[dict[str, str]], words: Callable[[int, int], str], mode: SearchMode
) -> None:
    asked = queries(words)
    expected = by_commands(shell, rows, asked, mode.value, 12)
    model = search_model(mode, config=HASHING, label="search", talk=talk())
    with model.open(task(), tmp_path / "w") as opened:
        where = {"task_metadata": _Meta, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
        opened.model.index(dataset(rows), num_proc=None, **where)
        asked_rows = Dataset.from_list([{"id": id_, "text": text} for id_, text in asked.items()])
        found = opened.model.search(asked_rows, top_k=12, num_proc=None, **where)
    # As mteb reads it: by score, ties by descending id, so that there must be none.
    ranked = {id_: sorted(scores, key=lambda i: (scores[i], i), reverse=True) for id_, scores in found.items()}
    assert expected == ranked
    assert (ranked["q3"] == []) == (mode is SearchMode.LEXICAL)
    assert all(len(found) == 12 for id_, found in ranked.items() if mode is not SearchMode.LEXICAL)
    assert "empty" not in {id_ for ranking in ranked.values() for id_ in ranking}


def test_scores_through_mteb_are_the_ndcg_of_that_ranking(
    shell: Any, tmp_path: Path, rows: list[dict[str, str]], words: Callable[[int, int], str]
) -> None:
    asked = queries(words)
    relevant = {
        "q1": {"heron": 1, "twin-2": 1, "twin-1": 1},
        "q2": {"bees": 1},
        "q3": {"tide": 1},
        **{f"long-{seed}": {f"long-{seed + 3}": 2, f"long-{seed + 4}": 1} for seed in range(8)},
    }
    ranking = by_commands(shell, rows, asked, "hybrid", 10)
    expected = [_ndcg(ranking[id_], relevant[id_]) for id_ in asked]
    model = search_model(SearchMode.HYBRID, config=HASHING, label="search", talk=talk())
    pulses: list[Pulse] = []
    made = _mteb_task(rows, asked, relevant)
    with model.open(task(), tmp_path / "w") as opened:
        opened.meter.pulse = pulses.append
        measured = measure(made, opened.model, tmp_path / "w")
        meter = opened.meter
    assert measured.samples is not None
    scores = dict(zip(measured.samples.ids, measured.samples.values, strict=True))
    assert [scores[id_] for id_ in asked] == pytest.approx(expected, abs=1e-6)
    assert measured.score == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert 0.2 < measured.score < 0.95
    assert (meter.texts, meter.empty, meter.truncated) == (len(rows) + len(asked), 1, 0)
    assert meter.encode_s > 0
    assert meter.tokens > sum(len(text.split()) for text in asked.values())
    assert (pulses[-1].share, pulses[-1].texts_total) == (1.0, len(rows))


def _ndcg(ranking: list[str], judged: dict[str, int]) -> float:
    def gain(values: list[int]) -> float:
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values))

    return gain([judged.get(id_, 0) for id_ in ranking[:10]]) / gain(sorted(judged.values(), reverse=True))


def _mteb_task(rows: list[dict[str, str]], asked: dict[str, str], relevant: dict[str, dict[str, int]]) -> Any:
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.mocks.mock_tasks import MockRetrievalTask

    class Fish(AbsTaskRetrieval):
        metadata = MockRetrievalTask.metadata.model_copy(update={"eval_splits": ["test"]})

        def load_data(self, **kwargs: Any) -> None:
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": dataset(rows),
                        "queries": Dataset.from_list([{"id": id_, "text": text} for id_, text in asked.items()]),
                        "relevant_docs": relevant,
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    made = Fish()
    made.load_data()
    return made


def test_identity_follows_what_decides_a_ranking(tiny_folder: Path, make_folder: Callable[..., Path]) -> None:
    other = make_folder(seed=1)  # other weights, the same tokenizer

    def print_of(mode: SearchMode, folder: Path, chunk_tokens: int | None = None) -> str:
        config = EncoderConfig(model=str(folder))
        made = search_model(mode, config=config, label="x", talk=talk(), chunk_tokens=chunk_tokens)
        identity = made.identify()
        assert (identity.kind, identity.details["mode"]) == ("search", mode.value)
        return identity.fingerprint

    prints = {mode: print_of(mode, tiny_folder) for mode in SearchMode}
    assert len(set(prints.values())) == 3
    assert print_of(SearchMode.LEXICAL, other) == prints[SearchMode.LEXICAL]
    assert print_of(SearchMode.DENSE, other) != prints[SearchMode.DENSE]
    assert print_of(SearchMode.HYBRID, other) != prints[SearchMode.HYBRID]
    for mode in SearchMode:
        assert print_of(mode, tiny_folder, 64) != prints[mode]


def test_lexical_loads_no_weights(tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="searchctl")
    seen = Talk(loading=lambda name: pytest.fail(f"{name} was loaded"))
    model = search_model(SearchMode.LEXICAL, config=EncoderConfig(model=str(tiny_folder)), label="words", talk=seen)
    with model.open(task(), tmp_path) as opened:
        where = {"task_metadata": _Meta, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
        opened.model.index(dataset(ROWS), num_proc=None, **where)
        found = opened.model.search(Dataset.from_list([{"id": "q", "text": "bees"}]), top_k=3, num_proc=None, **where)
        assert (opened.meter.texts, opened.meter.tokens, opened.meter.encode_s) == (len(ROWS) + 1, 0, 0.0)
    assert list(found["q"]) == ["bees"]
    assert caplog.messages == []


def test_a_precision_that_fell_back_is_refused_before_anything_is_embedded(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = search_model(
        SearchMode.DENSE,
        config=EncoderConfig(model=str(tiny_folder), device="cpu", runtime=Runtime.TORCH),
        label="mine:dense",
        talk=talk(),
    )
    truth = load._cpu_has_bf16()
    with monkeypatch.context() as patch:
        patch.setattr(load, "_cpu_has_bf16", lambda: not truth)
        expected = model.identify().details["precision"]
    with model.open(task(), tmp_path) as opened:
        with pytest.raises(EvaluationError, match=rf"^mine:dense: loaded in \w+, expected {expected}: free the GPU"):
            opened.model.index(dataset(ROWS), num_proc=None, task_metadata=_Meta, hf_split="", hf_subset="")
        assert opened.meter.tokens == 0


def test_only_retrieval_without_candidates_and_without_document_instructions(tmp_path: Path) -> None:
    model = search_model(SearchMode.DENSE, config=HASHING, label="x", talk=talk())
    assert [model.supports(kind) for kind in ("Retrieval", "Reranking", "STS")] == [True, False, False]
    with (
        pytest.raises(EvaluationError, match="documents the instruction 'Passage'"),
        model.open(task(document="Passage"), tmp_path),
    ):
        pass
    with model.open(task(), tmp_path) as opened, pytest.raises(EvaluationError, match="candidates"):
        opened.model.search(
            Dataset.from_list([{"id": "q", "text": "bees"}]), task_metadata=_Meta, hf_split="", hf_subset="", top_k=3,
            encode_kwargs={}, num_proc=None, top_ranked={"q": ["bees"]},
        )  # fmt: skip


def test_no_instructions_is_refused_where_the_index_would_give_one(
    make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    """`index` embeds documents as the model says: a result that claims none would be another's."""
    for mode in list(SearchMode):
        with subtests.test(mode=mode):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = make_folder()
            model = search_model(mode, config=EncoderConfig(model=str(folder)), label="x", talk=talk())
            with model.open(task(document=""), tmp_path / "plain"):
                pass  # the model has none itself
            write_sidecar(folder, Sidecar(prompt=PromptFormat(document_instruction="Passage")))
            model = search_model(mode, config=EncoderConfig(model=str(folder)), label="x", talk=talk())
            with model.open(task(), tmp_path / "own"):
                pass
            if mode is SearchMode.LEXICAL:
                with model.open(task(document=""), tmp_path / "words"):
                    pass
                continue
            with (
                pytest.raises(
                    EvaluationError, match=r"task fish gives documents no instruction: .*'Passage'.*--no-instr"
                ),
                model.open(task(document=""), tmp_path / "none"),
            ):
                pass


def test_tasks_of_an_aggregated_one_have_collections_of_their_own(tmp_path: Path) -> None:
    """They share a workspace, and their splits and subsets are called alike."""

    class Other:
        name = "birds"

    model = search_model(SearchMode.LEXICAL, config=HASHING, label="x", talk=talk())
    where = {"hf_split": "test", "hf_subset": "default", "num_proc": None}
    folders = []
    with model.open(task(), tmp_path) as opened:
        for meta in (_Meta, Other, _Meta):
            opened.model.index(dataset(ROWS), task_metadata=meta, **where)
            folders.append({path.name for path in tmp_path.glob("search-*")})
    assert [1, 2, 2] == [len(names) for names in folders]


class _Counting:
    """A LazyEncoder of the hashing kind that says what it encodes, and may end after so many calls."""

    def __init__(self, calls_left: int = 1000) -> None:
        self._lazy = LazyEncoder(HASHING, Talk())
        self.calls_left = calls_left
        self.texts: list[str] = []
        self.info = self._lazy.info
        self.dense_weight = self._lazy.dense_weight

    def open(self) -> Any:
        return _CountingEncoder(self)


class _CountingEncoder(HashingEncoder):
    def __init__(self, owner: _Counting) -> None:
        super().__init__()
        self._owner = owner

    def encode(self, texts: Any, **options: Any) -> Any:
        if not self._owner.calls_left:
            raise KeyboardInterrupt
        self._owner.calls_left -= 1
        self._owner.texts += texts
        return super().encode(texts, **options)


def index(folder: Path, encoder: Any, group: int = 10) -> CorpusIndex:
    return CorpusIndex(folder, encoder, HASHING, chunks=chunk_sizes(None, None, encoder.info().max_tokens), group=group)


def passages(count: int) -> Iterator[Passage]:
    return (Passage(id=f"p{number}", title="", text=f"text number {number} of these") for number in range(count))


def test_a_killed_filling_goes_on_and_embeds_nothing_twice(tmp_path: Path) -> None:
    ended = _Counting(calls_left=2)
    with closing(index(tmp_path, ended)) as corpus, pytest.raises(KeyboardInterrupt):
        corpus.fill(passages(200))
    assert 0 < len(ended.texts) < 200
    again = _Counting()
    with closing(index(tmp_path, again)) as corpus:
        filled = corpus.fill(passages(200))
        ranking = corpus.rank("number 137", SearchMode.LEXICAL, 1)
    assert sorted(ended.texts + again.texts) == sorted(passage.text for passage in passages(200))
    assert (filled.passages, filled.chunks_embedded) == (200, len(again.texts))
    assert ranking[0][0] == "p137"
    third = _Counting(calls_left=0)
    with closing(index(tmp_path, third)) as corpus:
        assert corpus.fill(passages(200)).chunks_embedded == 0


def test_progress_of_a_killed_filling_knows_what_was_left(tmp_path: Path) -> None:
    with closing(index(tmp_path, _Counting(calls_left=2))) as corpus, pytest.raises(KeyboardInterrupt):
        corpus.fill(passages(200))
    heard: list[FillProgress] = []
    with closing(index(tmp_path, _Counting())) as corpus:
        corpus.fill(passages(200), progress=heard.append)
    known = heard[0].known
    assert known > 0
    assert {known} == {progress.known for progress in heard}
    # The first group is read: what the others hold is reckoned from it, and nothing of what was left.
    assert heard[0].passages == known + 10
    assert heard[0].tokens_expected(200) == heard[0].tokens_seen * (200 - known) // 10
    assert heard[0].share(200) == known / 200
    assert heard[-1].share(200) == 1.0


def test_filling_follows_the_passages(tmp_path: Path) -> None:
    encoder = _Counting()
    with closing(index(tmp_path, encoder)) as corpus:
        corpus.fill(passages(35))
        encoder.texts.clear()
        changed = [*list(passages(12))[:-1], Passage(id="p11", title="", text="a heron in shallow water")]
        corpus.fill(changed)
        assert encoder.texts == ["a heron in shallow water"]
        assert [id_ for id_, _ in corpus.rank("heron", SearchMode.LEXICAL, 50)] == ["p11"]
        assert len(corpus.rank("heron", SearchMode.DENSE, 50)) == 12
        corpus.fill([])
        assert corpus.rank("heron", SearchMode.HYBRID, 50) == []


def test_ranks_do_not_depend_on_the_groups(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    given = [Passage(id=row["_id"], title=row["title"], text=row["text"]) for row in rows]
    rankings = []
    for group in (1, 7, 1000):
        with closing(index(tmp_path, _Counting(), group=group)) as corpus:
            corpus.fill(given)
            rankings.append([corpus.rank("corpus jsonl fish word3 1", mode, 40) for mode in SearchMode])
    assert rankings[0] == rankings[1] == rankings[2]


def test_the_kth_passage_is_found_behind_many_chunks(tmp_path: Path) -> None:
    """The nearest document fills the first places with its chunks; k counts documents."""
    given = [
        Passage(id="many", title="", text="\n\n".join(f"heron heron {number} " * 60 for number in range(30))),
        Passage(id="few", title="", text="heron and other birds of the shallow water in the evening"),
        Passage(id="none", title="", text="bees"),
    ]
    with closing(index(tmp_path, _Counting())) as corpus:
        corpus.fill(given)
        assert len(corpus.places) > 30
        assert [id_ for id_, _ in corpus.rank("heron", SearchMode.DENSE, 2)] == ["many", "few"]
        assert [id_ for id_, _ in corpus.rank("heron", SearchMode.LEXICAL, 3)] == ["many", "few"]


def test_bad_passages_are_refused(tmp_path: Path) -> None:
    with closing(index(tmp_path, _Counting())) as corpus:
        with pytest.raises(EvaluationError, match=r"'p3' is given twice"):
            corpus.fill([*passages(5), Passage(id="p3", title="", text="again")])
        with pytest.raises(EvaluationError, match=r"'half' is not valid Unicode at character 2"):
            corpus.fill([Passage(id="half", title="", text="ab\ud800")])
