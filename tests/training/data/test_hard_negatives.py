"""Hard negatives of a file of pairs: what is kept, what is never taken, and the two ways to score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import EncodeProgress, EncoderInfo, ProgressCallback, Role, Vectors
from searchctl.training.data.corpus import Pair
from searchctl.training.data.hard_negatives import (
    MiningCounts,
    MiningSettings,
    corpus_of,
    dense_scores,
    lexical_scores,
    mine_pairs,
)
from searchctl.training.data.mining import Mined, Scores, mine_scored
from searchctl.training.evaluation.vector_cache import CachedEncoder

CORPUS = ["own", "too near", "hard", "harder", "far"]


def fixed(*rows: Sequence[float]) -> Scores:
    """Return scores that are what they are."""
    return lambda block: torch.tensor([rows[at] for at in block], dtype=torch.float32)


def test_scores_and_the_number_rejected_come_with_the_rows() -> None:
    (found,) = mine_scored(["q"], [0], CORPUS, fixed([8.0, 7.75, 5.0, 7.0, 1.0]), count=2)
    assert found == Mined(rows=(3, 2), scores=(7.0, 5.0), positive=8.0, rejected=1)
    # What is skipped is not rejected, and neither is what is taken already.
    (found,) = mine_scored(["q"], [0], CORPUS, fixed([8.0, 7.75, 5.0, 7.0, 1.0]), count=2, skip_top=1)
    assert found.rejected == 0
    taken = [["too near", "hard", "of another corpus"]]
    (found,) = mine_scored(["q"], [0], CORPUS, fixed([8.0, 7.75, 5.0, 7.0, 1.0]), count=2, taken=taken)
    assert found == Mined(rows=(3, 4), scores=(7.0, 1.0), positive=8.0, rejected=0)


def test_a_text_at_the_least_score_is_none(subtests: pytest.Subtests) -> None:
    for least, expected in [(None, (3, 2, 4)), (0.0, (3, 2)), (5.0, (3,))]:
        with subtests.test(least=least, expected=expected):
            (found,) = mine_scored(["q"], [0], CORPUS, fixed([8.0, 7.75, 5.0, 7.0, 0.0]), count=9, least=least)
            assert found.rows == expected
            # A positive that has nothing of the query leaves no text below it.
            (found,) = mine_scored(["q"], [0], CORPUS, fixed([0.0, 7.75, 5.0, 7.0, 0.0]), count=9, least=0.0)
            assert (found.rows, found.rejected) == ((), 3)


def test_own_negatives_come_first_and_are_filled_up() -> None:
    pairs = [Pair("q", "own"), Pair("r", "own", ("hard", "mine")), Pair("s", "own", ("a", "b", "c", "d"))]
    row = [8.0, 7.75, 5.0, 7.0, 1.0]
    mined = list(mine_pairs(pairs, CORPUS, fixed(row, row, row), MiningSettings(count=3)))
    assert [each.pair.negatives for each in mined] == [
        ("harder", "hard", "far"),
        ("hard", "mine", "harder"),
        ("a", "b", "c", "d"),
    ]
    assert [(each.pair.query, each.pair.positive, each.own) for each in mined] == [
        ("q", "own", 0),
        ("r", "own", 2),
        ("s", "own", 4),
    ]
    counts = MiningCounts()
    for each in mined:
        counts.add(each)
    assert (counts.pairs, counts.own, counts.mined, counts.rejected, counts.with_rejected) == (3, 6, 4, 3, 3)
    assert counts.by_negatives == {3: 2, 4: 1}


def test_pairs_are_mined_in_blocks_and_in_order() -> None:
    rng = np.random.default_rng(3)
    pairs = [Pair(f"q{n}", f"p{n}") for n in range(50)]
    scores = rng.random((50, 50)).astype(np.float32).tolist()
    settings = MiningSettings(count=3, margin=0.8)
    corpus = corpus_of(pairs)
    whole = list(mine_pairs(pairs, corpus, fixed(*scores), settings))
    asked: list[range] = []

    def watched(block: range) -> Tensor:
        asked.append(block)
        return fixed(*scores)(block)

    assert list(mine_pairs(pairs, corpus, watched, settings, block_scores=7 * 50)) == whole
    assert [len(block) for block in asked] == [7] * 7 + [1]


def test_the_corpus_is_the_positives_and_more() -> None:
    pairs = [Pair("q", "b"), Pair("r", "a"), Pair("s", "b")]
    assert corpus_of(pairs, ["c", "a", "c"]) == ["b", "a", "c"]


PAIRS = [
    Pair("how herons wait for fish", "herons wait in shallow water for fish"),
    Pair("where bees dance", "bees dance in the hive to tell where flowers bloom"),
    Pair("how herons build", "herons build nests of sticks"),
]


def test_lexical_negatives_share_words_and_stay_below_the_margin() -> None:
    pytest.importorskip("bm25s")
    corpus = corpus_of(PAIRS, ["herons fly over water", "nothing in common"])
    scores = lexical_scores(PAIRS, corpus)
    table = scores(range(3))
    assert tuple(table.shape) == (3, 5)
    assert torch.equal(scores(range(1, 3)), table[1:])
    mined = list(mine_pairs(PAIRS, corpus, scores, MiningSettings(count=5), least=0.0))
    for at, each in enumerate(mined):
        own = float(table[at, at])
        expected = [
            corpus[row]
            for row in sorted(range(5), key=lambda row, at=at: (-table[at, row], row))
            if row != at and 0 < table[at, row] <= 0.95 * own
        ]
        assert list(each.pair.negatives) == expected
    assert [len(each.pair.negatives) for each in mined] == [2, 0, 2]


PLAIN = {"instruction": None, "symmetric": False, "device": torch.device("cpu")}


class Watched:
    """The hashing encoder, and what it was asked."""

    def __init__(self, stop_after: int = 10**9, **options: int) -> None:
        self._encoder = HashingEncoder(**options)
        self._stop_after = stop_after
        self.asked: list[tuple[str, Role, str | None]] = []

    @property
    def info(self) -> EncoderInfo:
        return self._encoder.info

    @property
    def tokenizer(self) -> object:
        return self._encoder.tokenizer

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        if len(self.asked) >= self._stop_after:
            raise KeyboardInterrupt
        self.asked += [(text, role, instruction) for text in texts]
        return self._encoder.encode(texts, role=role, instruction=instruction, progress=progress)


def test_queries_have_the_instruction_and_documents_only_in_a_symmetric_source(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for symmetric in [False, True]:
        with subtests.test(symmetric=symmetric):
            tmp_path = tmp_path_factory.mktemp("row")
            pairs = [*PAIRS, Pair(PAIRS[0].query, "herons wait for frogs")]
            corpus = corpus_of(pairs)
            encoder, heard = Watched(), list[tuple[int, int]]()

            def told(done: int, of: int, progress: EncodeProgress) -> None:
                heard.append((done + progress.texts_done, of))

            scores, cut = dense_scores(
                pairs,
                corpus,
                encoder,
                tmp_path,
                instruction="find birds",
                symmetric=symmetric,
                device=torch.device("cpu"),
                told=told,
                slice_texts=2,
            )
            asked = [(pair.query, Role.QUERY, "find birds") for pair in PAIRS]
            side = (Role.QUERY, "find birds") if symmetric else (Role.DOCUMENT, None)
            assert encoder.asked == asked + [(text, *side) for text in corpus]
            plain = HashingEncoder()
            queries = plain.encode([pair.query for pair in pairs], role=Role.QUERY, instruction="find birds")
            documents = plain.encode(corpus, role=side[0], instruction=side[1])
            np.testing.assert_allclose(scores(range(1, 4)).numpy(), queries[1:4] @ documents.T, atol=1e-6)
            assert cut == 0
            assert heard[-1] == (7, 7)
            assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def kept(encoder: Watched, folder: Path) -> tuple[Scores, int]:
    """Score PAIRS with an encoder whose vectors outlive a kill."""
    cached = CachedEncoder(encoder, folder / "vectors.sqlite", kind="one encoder", block_chars=1)
    try:
        return dense_scores(PAIRS, corpus_of(PAIRS), cached, folder, **PLAIN)
    finally:
        cached.close()


def test_vectors_outlive_a_kill(tmp_path: Path) -> None:
    killed = Watched(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        kept(killed, tmp_path)
    again = Watched()
    scores, _ = kept(again, tmp_path)
    assert len(killed.asked) == 4
    assert len(again.asked) == 2
    assert not set(killed.asked) & set(again.asked)
    whole = dense_scores(PAIRS, corpus_of(PAIRS), Watched(), tmp_path, **PLAIN)[0]
    assert torch.equal(scores(range(3)), whole(range(3)))


def test_cut_texts_are_told_after_a_kill_too(tmp_path: Path) -> None:
    expected = sum(len(text.split()) > 3 for text in [*corpus_of(PAIRS), *(pair.query for pair in PAIRS)])
    with pytest.raises(KeyboardInterrupt):
        kept(Watched(stop_after=4, max_tokens=3), tmp_path)
    assert expected == kept(Watched(max_tokens=3), tmp_path)[1] > 0
