"""Vectors of an unfinished evaluation: read back, never mixed up, and the same after a kill as without one."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from searchctl.encoder.errors import EmptyTextError
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import EncodeProgress, ProgressCallback, Role, Vectors
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.vector_cache import CachedEncoder

TEXTS = ["a bb ccc", "dd", "eeee ffff gggg hhhh", "dd", "i j", "kkkkk lllll"]


class Recorder(HashingEncoder):
    """Keeps what it was asked; stops like a killed process at the call after `calls_left`."""

    def __init__(self, dim: int = 16, calls_left: int = 1000, max_tokens: int = 512) -> None:
        super().__init__(dim=dim, max_tokens=max_tokens)
        self.blocks: list[list[str]] = []
        self.calls_left = calls_left

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        self.blocks.append(list(texts))
        return super().encode(texts, role=role, instruction=instruction, progress=progress)


def cached(encoder: HashingEncoder, path: Path, *, kind: str = "fp32 512", block_chars: int = 64_000) -> CachedEncoder:
    return CachedEncoder(encoder, path, kind=kind, block_chars=block_chars)


def test_vectors_are_those_of_the_encoder_and_equal_texts_are_encoded_once(tmp_path: Path) -> None:
    encoder = Recorder()
    vectors = cached(encoder, tmp_path / "v").encode(TEXTS, role=Role.QUERY)
    assert np.array_equal(HashingEncoder(dim=16).encode(TEXTS, role=Role.QUERY), vectors)
    assert [sorted(set(TEXTS))] == [sorted(block) for block in encoder.blocks]


def test_vectors_survive_and_nothing_is_encoded_twice(tmp_path: Path) -> None:
    first = cached(Recorder(), tmp_path / "v")
    expected = first.encode(TEXTS, role=Role.QUERY, instruction="x")
    first.close()
    encoder = Recorder()
    again = cached(encoder, tmp_path / "v")
    assert np.array_equal(expected, again.encode(TEXTS, role=Role.QUERY, instruction="x"))
    assert [] == encoder.blocks
    again.encode(["dd", "new"], role=Role.QUERY, instruction="x")
    assert [["new"]] == encoder.blocks


def test_role_and_instruction_are_part_of_the_key(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for role, instruction in [(Role.DOCUMENT, "x"), (Role.QUERY, "y"), (Role.QUERY, None)]:
        with subtests.test(role=role, instruction=instruction):
            tmp_path = tmp_path_factory.mktemp("row")
            encoder = Recorder()
            cache = cached(encoder, tmp_path / "v")
            cache.encode(["dd"], role=Role.QUERY, instruction="x")
            cache.encode(["dd"], role=role, instruction=instruction)
            assert 2 == len(encoder.blocks)


def test_no_instruction_and_the_empty_one_are_two_things(tmp_path: Path) -> None:
    encoder = Recorder()
    cache = cached(encoder, tmp_path / "v")
    cache.encode(["dd"], role=Role.QUERY, instruction=None)
    cache.encode(["dd"], role=Role.QUERY, instruction="")
    assert 2 == len(encoder.blocks)


def test_a_killed_call_goes_on_with_the_blocks_that_an_unbroken_one_has(tmp_path: Path) -> None:
    unbroken = Recorder()
    cached(unbroken, tmp_path / "whole", block_chars=8).encode(TEXTS, role=Role.QUERY)
    assert 4 == len(unbroken.blocks)
    killed = Recorder(calls_left=2)
    cache = cached(killed, tmp_path / "v", block_chars=8)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, role=Role.QUERY)
    cache.close()
    resumed = Recorder()
    vectors = cached(resumed, tmp_path / "v", block_chars=8).encode(TEXTS, role=Role.QUERY)
    assert unbroken.blocks == killed.blocks + resumed.blocks
    assert np.array_equal(HashingEncoder(dim=16).encode(TEXTS, role=Role.QUERY), vectors)


def test_blocks_hold_texts_of_similar_length_longest_first(tmp_path: Path) -> None:
    encoder = Recorder()
    cached(encoder, tmp_path / "v", block_chars=12).encode(TEXTS, role=Role.QUERY)
    assert [["eeee ffff gggg hhhh"], ["kkkkk lllll", "a bb ccc"], ["i j", "dd"]] == encoder.blocks


def test_a_file_of_another_encoder_or_kind_is_refused(tmp_path: Path) -> None:
    cached(Recorder(), tmp_path / "v").close()
    for encoder, kind in ((Recorder(dim=8), "fp32 512"), (Recorder(), "bf16 512")):
        with pytest.raises(EvaluationError, match="another encoder"):
            cached(encoder, tmp_path / "v", kind=kind)
    cached(Recorder(), tmp_path / "v").close()


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"no database" * 1000)
    with pytest.raises(EvaluationError, match=r"v: .*Remove the file"):
        cached(Recorder(), tmp_path / "v")


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    cache = cached(Recorder(dim=4096), tmp_path / "v")
    cache._db.execute("PRAGMA max_page_count=3")
    with pytest.raises(EvaluationError, match=r"v: .*full"):
        cache.encode([f"text {i}" for i in range(100)], role=Role.QUERY)


def test_the_older_layout_is_read_and_written(tmp_path: Path) -> None:
    encoder = Recorder()
    with sqlite3.connect(tmp_path / "v") as db:
        db.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        db.execute("CREATE TABLE mark (mark TEXT)")
        db.execute("INSERT INTO mark VALUES (?)", (f"{encoder.info.fingerprint} fp32 512",))
    db.close()
    cache = cached(encoder, tmp_path / "v")
    expected = cache.encode(TEXTS, role=Role.QUERY)
    assert np.array_equal(expected, cache.encode(TEXTS, role=Role.QUERY))
    assert 1 == len(encoder.blocks)


def cut_in(cache: CachedEncoder, texts: Sequence[str]) -> int:
    events: list[EncodeProgress] = []
    cache.encode(texts, role=Role.QUERY, progress=events.append)
    counts = [event.texts_truncated for event in events]
    assert sorted(counts) == counts
    return counts[-1]


def test_every_cut_text_counts_also_equal_ones_and_those_read_back(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    """With two tokens: "a bb ccc" and twice "eeee ffff gggg hhhh" of seven texts."""
    for block_chars in [1, 12, 64_000]:
        with subtests.test(block_chars=block_chars):
            tmp_path = tmp_path_factory.mktemp("row")
            texts = [*TEXTS, "eeee ffff gggg hhhh"]
            first = cached(Recorder(max_tokens=2), tmp_path / "v", block_chars=block_chars)
            assert 3 == cut_in(first, texts)
            first.close()
            encoder = Recorder(max_tokens=2)
            again = cached(encoder, tmp_path / "v", block_chars=block_chars)
            assert 3 == cut_in(again, texts)
            assert [] == encoder.blocks
            assert 1 == cut_in(again, ["a bb ccc", "dd", "i j"])
            assert 0 == cut_in(again, ["kkkkk lllll", "dd"])
            assert 3 == cut_in(again, ["new and long", *TEXTS])


def test_cut_texts_of_a_killed_call_are_counted_by_the_next(tmp_path: Path) -> None:
    killed = cached(Recorder(max_tokens=2, calls_left=1), tmp_path / "v", block_chars=8)
    with pytest.raises(KeyboardInterrupt):
        killed.encode(TEXTS, role=Role.QUERY)
    killed.close()
    assert 2 == cut_in(cached(Recorder(max_tokens=2), tmp_path / "v", block_chars=8), TEXTS)


def test_vectors_of_a_file_that_does_not_say_what_was_cut_are_encoded_anew(tmp_path: Path) -> None:
    encoder = Recorder(max_tokens=2)
    expected = cached(encoder, tmp_path / "new").encode(TEXTS, role=Role.QUERY)
    with sqlite3.connect(tmp_path / "new") as db:
        rows = db.execute("SELECT key, vector FROM vectors").fetchall()
    db.close()
    with sqlite3.connect(tmp_path / "v") as db:
        db.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB)")
        db.executemany("INSERT INTO vectors VALUES (?, ?)", rows)
        db.execute("CREATE TABLE mark (mark TEXT)")
        db.execute("INSERT INTO mark VALUES (?)", (f"{encoder.info.fingerprint} fp32 512",))
    db.close()
    cache = cached(encoder, tmp_path / "v")
    assert 2 == cut_in(cache, TEXTS)
    assert 2 == len(encoder.blocks)
    cache.close()
    again = cached(encoder, tmp_path / "v")
    assert 2 == cut_in(again, TEXTS)
    assert np.array_equal(expected, again.encode(TEXTS, role=Role.QUERY))
    assert 2 == len(encoder.blocks)


def test_errors_of_the_protocol_name_the_row_of_the_whole_call(tmp_path: Path) -> None:
    cache = cached(Recorder(), tmp_path / "v", block_chars=4)
    with pytest.raises(EmptyTextError, match="text 2 "):
        cache.encode(["aaaa", "bbbb", " "], role=Role.QUERY)
    with pytest.raises(TypeError, match="sequence of strings"):
        cache.encode("hello", role=Role.QUERY)


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    assert (0, 16) == cached(Recorder(), tmp_path / "v").encode([], role=Role.QUERY).shape


def test_progress_ends_complete_counts_texts_read_back_and_never_goes_back(tmp_path: Path) -> None:
    cache = cached(Recorder(), tmp_path / "v", block_chars=8)
    cache.encode(["a bb ccc", "dd"], role=Role.QUERY)
    events: list[EncodeProgress] = []
    cache.encode(TEXTS, role=Role.QUERY, progress=events.append)
    done = [event.texts_done for event in events]
    # "a bb ccc" and twice "dd" are there; the other three texts have 4 + 2 + 2 words.
    assert (4, 6) == (done[0], done[-1])
    assert sorted(done) == done
    assert {6} == {event.texts_total for event in events}
    assert 8 == events[-1].tokens_done == events[-1].tokens_total


def test_progress_is_weighed_by_characters_as_the_longest_go_first(tmp_path: Path) -> None:
    texts = ["word " * 30, *(f"w{number:03}" for number in range(30))]
    events: list[EncodeProgress] = []
    cached(Recorder(), tmp_path / "v", block_chars=100).encode(texts, role=Role.QUERY, progress=events.append)
    assert (1, 30) == (events[0].texts_done, events[0].tokens_done)
    assert events[0].share == pytest.approx(150 / 270, abs=0.02)
    assert (1.0, 60) == (events[-1].share, events[-1].tokens_total)


def test_progress_tells_what_was_read_back_and_how_much_is_to_be_encoded(tmp_path: Path) -> None:
    texts = [f"word{number:02}" for number in range(20)]
    cache = cached(Recorder(), tmp_path / "v", block_chars=1)
    cache.encode(texts[:15], role=Role.QUERY)
    events: list[EncodeProgress] = []
    cache.encode(texts, role=Role.QUERY, progress=events.append)
    assert {15} == {event.texts_known for event in events}
    assert [16 / 20, 17 / 20, 18 / 20, 19 / 20, 1.0, 1.0] == [event.share for event in events]
    assert [(1, 5), (2, 5)] == [(event.tokens_done, event.tokens_total) for event in events[:2]]


def test_progress_of_what_is_all_there_is_complete(tmp_path: Path) -> None:
    cache = cached(Recorder(), tmp_path / "v")
    cache.encode(TEXTS, role=Role.QUERY)
    events: list[EncodeProgress] = []
    cache.encode(TEXTS, role=Role.QUERY, progress=events.append)
    assert [(1.0, 6, 0)] == [(event.share, event.texts_done, event.tokens_total) for event in events]


def test_discarding_removes_every_file(tmp_path: Path) -> None:
    cache = cached(Recorder(), tmp_path / "v")
    cache.encode(TEXTS, role=Role.QUERY)
    cache.close(discard=True)
    assert [] == list(tmp_path.iterdir())
