"""`searchctl models promote`: another encoder for what is stored, and back again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.collection.encoder_choice import EncoderChoice, collection_encoder
from searchctl.app.collection.generations import kept_generation, unfinished_promotion
from searchctl.app.collection.indexing import IndexHooks, IndexProgress
from searchctl.app.collection.opening import open_collection
from searchctl.app.collection.promote_report import run_promotion, run_rollback
from searchctl.app.collection.promotion import Promotion
from searchctl.app.collection.rollback import roll_back
from searchctl.app.collection.swap import is_collection, previous_folder, promote_folder, swap_keeping
from searchctl.app.collection.talk import Talk
from searchctl.app.options import ReportFormat, SearchMode
from searchctl.app.search.hits import Question, SearchRequest
from searchctl.app.search.searcher import Searcher
from searchctl.app.terminal.console import Terminal
from searchctl.encoder.config import Precision
from searchctl.encoder.models.cache import folder_bytes
from searchctl.encoder.models.projection import save_projection
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.index.collection import FolderCollection
from searchctl.index.lock import write_lock

NARROW = EncoderChoice(model="hashing", dim=64)
QUERIES = ("heron water", "what survives a power cut", "bees dance", "height of the tide")


def at(shell: Any) -> Path:
    folder: Path = shell.folder / ".searchctl"
    return folder


def names(shell: Any) -> list[str]:
    """Return what lies in the working folder and is searchctl's."""
    return sorted(path.name for path in shell.folder.iterdir() if "searchctl" in path.name)


def ranks(shell: Any, *options: str) -> list[Any]:
    """Return the hits of a few queries in both modes, with scores."""
    found = []
    for query in QUERIES:
        for mode in ("dense", "hybrid"):
            hits = shell.hits(query, "--mode", mode, "-k", "50", *options)
            found.append([(hit["path"], hit["chunk"], hit["score"]) for hit in hits])
    return found


def content(folder: Path) -> dict[str, list[Any]]:
    """Return all rows of a catalogue by table, and the other files by their hash."""
    connection = sqlite3.connect(f"file:{folder / 'catalogue.db'}?mode=ro", uri=True)
    connection.create_function("search_text", 1, lambda text: text)
    tables = ("meta", "documents", "chunks", "vectors", "skipped", "chunk_fts_data", "sqlite_sequence")
    held = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}
    connection.close()
    for file in (*folder.glob("vectors-*"), folder / "sources.json"):
        held[file.name] = [hashlib.sha256(file.read_bytes()).hexdigest()]
    return held


def rows(folder: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{folder / 'catalogue.db'}?mode=ro", uri=True)
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def promote(shell: Any, *args: str | Path) -> Any:
    """Promote and return the JSON document."""
    ended = shell("models", "promote", *args, "--format", "json")
    assert ended.code == 0, ended.err
    return ended.json


class StopError(Exception):
    """Ends a promotion where a test wants it."""


def stopped_promotion(shell: Any, choice: EncoderChoice = NARROW, *, at_step: str = "commit:done") -> None:
    """Promote until the first such step."""

    def step(name: str) -> None:
        if name == at_step:
            raise StopError

    with pytest.raises(StopError):
        Promotion(at(shell), Talk(step=step)).promote(choice, IndexHooks())


def test_ranks_are_those_of_an_index_built_freshly_and_no_file_is_read(library: Any) -> None:
    fresh = ("--collection", ".fresh")
    library("index", "docs", "code", "--model", "hashing", "--dim", "64", *fresh)
    expected = ranks(library, *fresh)
    before = FolderCollection.open(at(library)).files()
    for folder in ("docs", "code"):
        shutil.move(library.folder / folder, library.folder.parent / folder)
    made = promote(library, "hashing", "--dim", "64")
    assert (made["changed"], made["chunks_embedded"], made["vectors_reused"]) == (True, made["chunks_embedded"], 0)
    for folder in ("docs", "code"):
        shutil.move(library.folder.parent / folder, library.folder / folder)
    assert ranks(library) == expected
    assert any(expected)
    other = library.folder / ".fresh"
    for table in ("chunks", "vectors"):
        assert rows(at(library), f"SELECT * FROM {table}") == rows(other, f"SELECT * FROM {table}")
    collection = FolderCollection.open(at(library))
    assert collection.files() == before
    assert collection.status().complete
    assert len(rows(at(library), "SELECT 1 FROM vectors")) == made["chunks_embedded"]
    assert library("verify").code == 0
    again = library("index", "--format", "json").json
    assert (again["unchanged"], again["added"], again["chunks_embedded"]) == (5, 0, 0)


def test_what_is_kept_is_said_and_shown(library: Any) -> None:
    before = content(at(library))
    told = library("models", "promote", "hashing", "--dim", "64")
    assert names(library) == [".searchctl", ".searchctl.previous"]
    assert content(previous_folder(at(library))) == before
    assert "`searchctl models promote --rollback` goes back" in told.err
    status = library("status", "--format", "json").json
    assert (status["kept"]["encoder"], status["kept"]["dim"], status["promotion"]) == ("hashing", 256, None)
    kept = folder_bytes(previous_folder(at(library)))
    assert 0 < status["kept"]["bytes"] == kept
    shown = library("status").out
    assert "256 dimensions, fingerprint" in shown
    assert "models promote --rollback" in shown


def test_rollback_restores_bit_for_bit_and_embeds_nothing(library: Any) -> None:
    first, first_ranks = content(at(library)), ranks(library)
    promote(library, "hashing", "--dim", "64")
    second, second_ranks = content(at(library)), ranks(library)
    assert second_ranks != first_ranks
    for expected, expected_ranks in ((first, first_ranks), (second, second_ranks), (first, first_ranks)):
        back = promote(library, "--rollback")
        assert (back["chunks_embedded"], back["vectors_reused"], back["kept"]["folder"]) == (
            0, 0, str(previous_folder(at(library))),
        )  # fmt: skip
        assert content(at(library)) == expected
        assert ranks(library) == expected_ranks
        assert names(library) == [".searchctl", ".searchctl.previous"]
        assert not (previous_folder(at(library)) / "owner.json").exists()


def test_rollback_does_not_load_the_encoder(library: Any) -> None:
    promote(library, "hashing", "--dim", "64")

    def loading(name: str) -> Any:
        pytest.fail(f"{name} was loaded")

    roll_back(at(library), Talk(loading=loading), IndexHooks())
    assert FolderCollection.open(at(library)).status().settings.dim == 256  # type: ignore[union-attr]


def test_readers_see_the_old_one_until_the_switch(library: Any) -> None:
    expected = ranks(library)
    request = SearchRequest(mode=SearchMode.DENSE, k=50)

    def asked() -> list[Any]:
        collection = open_collection(at(library), Talk())
        searcher = Searcher(collection, collection_encoder(collection.settings, EncoderChoice(), Talk()))
        (answer,) = searcher.search([Question(text="heron water")], request).answers
        collection.close()
        assert collection is not None
        return [(hit.chunk.path, hit.chunk.ordinal, hit.score.total) for hit in answer.hits]

    before = asked()
    seen: list[str] = []

    def step(name: str) -> None:
        # Between the renames the collection's name is free for an instant, and readers wait for the swap.
        if not name.startswith("swap:"):
            seen.append(name)
            assert asked() == before

    Promotion(at(library), Talk(step=step)).promote(NARROW, IndexHooks())
    assert {"commit:stored", "finish:committed", "publish:renamed", "publish:cleaned"} <= set(seen)
    assert asked() != before
    promote(library, "--rollback")
    assert ranks(library) == expected


def test_a_stopped_promotion_goes_on_and_is_shown_until_then(library: Any) -> None:
    stopped_promotion(library, at_step="publish:write")
    begun = unfinished_promotion(at(library))
    assert begun is not None
    assert begun.vectors > 0
    status = library("status", "--format", "json").json
    assert (status["settings"]["dim"], status["kept"], status["complete"]) == (256, None, True)
    assert (status["promotion"]["dim"], status["promotion"]["vectors"]) == (64, begun.vectors)
    assert "`searchctl models promote hashing --dim 64` goes on" in library("status").out
    ended = library("models", "promote", "hashing", "--dim", "64", "--format", "json")
    assert (ended.json["chunks_embedded"], ended.json["vectors_reused"]) == (0, begun.vectors)
    assert "going on with a promotion begun before" in ended.err
    assert "changed since" not in ended.err
    assert names(library) == [".searchctl", ".searchctl.previous"]
    assert not (at(library) / "promotion.json").exists()
    assert library("status", "--format", "json").json["promotion"] is None


def test_a_promotion_that_embedded_nothing_is_neither_shown_nor_in_the_way(library: Any) -> None:
    """A model that is refused at load leaves an empty folder."""
    stopped_promotion(library, at_step="commit:begin")
    assert promote_folder(at(library)).is_dir()
    assert library("status", "--format", "json").json["promotion"] is None
    assert promote(library, "hashing", "--dim", "32")["changed"] is True


def test_a_rollback_leaves_an_unfinished_promotion(library: Any) -> None:
    first = content(at(library))
    promote(library, "hashing", "--dim", "32")
    stopped_promotion(library)
    begun = unfinished_promotion(at(library))
    assert begun is not None
    promote(library, "--rollback")
    assert content(at(library)) == first
    made = promote(library, "hashing", "--dim", "64")
    assert made["vectors_reused"] == begun.vectors > 0
    assert library("verify").code == 0


def test_changes_of_the_collection_during_a_promotion_are_brought_over(library: Any) -> None:
    stopped_promotion(library, at_step="publish:write")
    library.write("docs/new.md", "# New\n\nA platypus lays eggs.\n")
    library.write("docs/query.md", "# Searching\n\nA query finds nothing at all.\n")
    (library.folder / "docs/animals/bees.txt").unlink()
    (library.folder / "docs/crash.md").rename(library.folder / "docs/broken.md")
    assert library.index("docs")["moved"] == 1  # the promotion does not keep a run out once it has ended
    ended = library("models", "promote", "hashing", "--dim", "64", "--format", "json")
    assert ended.json["chunks_embedded"] == 2  # the new file's and the changed one's
    assert "the collection has changed since then" in ended.err
    fresh = ("--collection", ".fresh")
    library("index", "docs", "code", "--model", "hashing", "--dim", "64", *fresh)

    def as_set(found: list[Any]) -> list[Any]:
        return [sorted(hits) for hits in found]

    assert as_set(ranks(library)) == as_set(ranks(library, *fresh))
    other = library.folder / ".fresh"
    sql = "SELECT hash, vector FROM vectors ORDER BY hash"
    assert rows(at(library), sql) == rows(other, sql)  # nothing of the removed texts is left
    assert library("status", "--check-ready").code == 0
    assert library("verify").code == 0


def test_rebuild_during_a_promotion_is_brought_over_too(library: Any) -> None:
    """The rebuilt collection counts its changes again: nothing but the documents themselves tells what is stale."""
    stopped_promotion(library, at_step="publish:write")
    library.write("docs/query.md", "# Searching\n\nA query finds nothing at all.\n")
    assert library("index", "--rebuild").code == 0
    assert promote_folder(at(library)).is_dir()
    assert promote(library, "hashing", "--dim", "64")["chunks_embedded"] == 1
    assert library.hits("finds nothing at all", "-k", "1")[0]["path"] == "docs/query.md"
    assert library("verify").code == 0


def test_rebuild_leaves_the_kept_generation(library: Any) -> None:
    before = content(at(library))
    promote(library, "hashing", "--dim", "64")
    assert library("index", "--rebuild").code == 0
    promote(library, "--rollback")
    assert content(at(library)) == before


def test_an_incomplete_collection_stays_incomplete(library: Any) -> None:
    """What a killed run had begun is still to be done by `index`, with the places it was begun with."""
    unfinished = json.loads((at(library) / "sources.json").read_text())
    unfinished["unfinished"] = unfinished["sources"][:1]
    (at(library) / "sources.json").write_text(json.dumps(unfinished))
    connection = sqlite3.connect(at(library) / "catalogue.db")
    connection.execute("UPDATE meta SET value = '0' WHERE key = 'complete'")
    connection.commit()
    connection.close()
    promote(library, "hashing", "--dim", "64")
    status = library("status", "--format", "json").json
    assert (status["complete"], status["documents"]) == (False, 5)
    assert json.loads((at(library) / "sources.json").read_text()) == unfinished
    assert library("index").code == 0
    assert library("status", "--format", "json").json["complete"] is True


def test_rollback_refuses_what_would_go_missing_and_names_both_ways(library: Any) -> None:
    promote(library, "hashing", "--dim", "64")
    library.write("docs/new.md", "# New\n\nA platypus lays eggs.\n")
    library.write("docs/query.md", "# Searching\n\nA query finds nothing at all.\n")
    (library.folder / "docs/animals/bees.txt").unlink()
    library.index("docs", "--dim", "64")
    now = content(at(library))
    refused = library("models", "promote", "--rollback", "--format", "json")
    assert refused.code == 2
    told = json.loads(refused.err)
    assert "1 document added, 1 document changed, 1 document removed" in told["error"]
    assert content(at(library)) == now

    # The first way keeps the changes, and embeds just these.
    kept = shlex.split(told["hint"])
    assert kept == ["searchctl", "models", "promote", "hashing"]
    back = library(*kept[1:], "--format", "json").json
    assert (back["chunks_embedded"], back["encoder"]["dim"]) == (2, 256)
    assert library.hits("platypus", "-k", "1")[0]["path"] == "docs/new.md"

    # The second is what was then, and forth again is today.
    now = content(at(library))
    library.write("docs/newer.md", "# Newer\n\nAn echidna too.\n")
    library.index("docs")
    assert library("models", "promote", "--rollback").code == 2
    assert promote(library, "--rollback", "--yes")["encoder"]["dim"] == 64
    assert "docs/newer.md" not in FolderCollection.open(at(library)).files()
    promote(library, "--rollback", "--yes")
    assert "docs/newer.md" in FolderCollection.open(at(library)).files()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--chunk-overlap", "64"), "chunks of 256 tokens (64 shared) in place of 256 (32 shared)"),
        (("--model", "hashing", "--dim", "32"), ", 32 dimensions) in place of hashing ("),
    ],
)
def test_rollback_refuses_when_the_collection_was_made_anew_otherwise(
    library: Any, options: tuple[str, ...], said: str
) -> None:
    promote(library, "hashing", "--dim", "64")
    assert library("index", "--rebuild", *options).code == 0
    now = content(at(library))
    refused = library("models", "promote", "--rollback")
    assert refused.code == 2
    assert said in refused.err
    assert "hint: searchctl models promote hashing" in refused.err
    assert content(at(library)) == now
    # Said to be meant, it goes back; and forth again without a question, as nothing has changed since.
    assert promote(library, "--rollback", "--yes")["encoder"]["dim"] == 256
    assert promote(library, "--rollback")["changed"] is True
    assert content(at(library)) == now


def test_newly_indexed_place_without_files_is_a_change_too(library: Any) -> None:
    promote(library, "hashing", "--dim", "64")
    (library.folder / "empty").mkdir()
    library("index", "empty")
    assert "1 path indexed for the first time" in library("models", "promote", "--rollback").err


def test_another_unfinished_promotion_is_not_dropped_silently(library: Any) -> None:
    stopped_promotion(library)
    begun = unfinished_promotion(at(library))
    refused = library("models", "promote", "hashing", "--dim", "32")
    assert refused.code == 2
    assert "hint: searchctl models promote hashing --dim 64\n" in refused.err
    assert unfinished_promotion(at(library)) == begun
    assert promote(library, "hashing", "--dim", "32", "--yes")["encoder"]["dim"] == 32
    assert names(library) == [".searchctl", ".searchctl.previous"]


def test_first_run_killed_before_its_catalogue_was_made_is_no_lock(new_shell: Any, subtests: pytest.Subtests) -> None:
    """The file is there and empty: opening it makes the tables, under the lock that a promotion takes itself."""
    for args in [("hashing", "--dim", "64"), ("--rollback",)]:
        with subtests.test(args=args):
            shell = new_shell()
            shell.write(".searchctl/catalogue.db", "")
            ended = shell("models", "promote", *args)
            assert ended.code == 2, ended.err
            assert ("holds nothing yet" if args[0] == "hashing" else "no generation is kept") in ended.err


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_during_the_switch_says_that_it_is_done(
    library: Any, capsys: pytest.CaptureFixture[str], presses: int
) -> None:
    """The first waits for the end of the switch, a second ends it in the middle: both are past turning back."""

    def press(name: str) -> None:
        if name == "swap:decided":
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)

    terminal = Terminal(collection=at(library))
    with pytest.raises(KeyboardInterrupt):
        run_promotion(terminal, NARROW, at(library), confirmed=False, form=ReportFormat.TABLE, step=press)
    told = capsys.readouterr().err
    assert "hashing is the collection's encoder now" in told
    assert f"`searchctl models promote --rollback --collection {at(library)}` goes back" in told
    assert "the encoder it had" not in told
    assert library("status", "--format", "json").json["settings"]["dim"] == 64

    with pytest.raises(KeyboardInterrupt):
        run_rollback(terminal, at(library), confirmed=False, form=ReportFormat.TABLE, step=press)
    assert "has gone back to the encoder before" in capsys.readouterr().err
    assert library("status", "--format", "json").json["settings"]["dim"] == 256


def test_a_second_writer_is_refused_in_both_directions(library: Any) -> None:
    refused: list[Any] = []

    def step(name: str) -> None:
        if name == "commit:done":
            refused.extend((library("index", "docs"), library("models", "promote", "hashing", "--dim", "32")))

    Promotion(at(library), Talk(step=step)).promote(NARROW, IndexHooks())
    assert [ended.code for ended in refused] == [4, 4]
    assert all(str(os.getpid()) in ended.err for ended in refused)
    with write_lock(at(library)):
        assert library("models", "promote", "--rollback").code == 4
        assert library("models", "promote", "hashing").code == 4


def test_lock_of_the_new_collection_keeps_its_owner(library: Any) -> None:
    """A writer that comes right after the swap is still known by name when the promotion lets go of its own lock."""
    with write_lock(at(library)):
        shutil.copytree(at(library), promote_folder(at(library)))
        (promote_folder(at(library)) / "owner.json").write_text('{"pid": 1, "host": "h", "started": "s"}')
        swap_keeping(at(library), promote_folder(at(library)))
    assert (at(library) / "owner.json").exists()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("stop", ["swap:decided", "swap:kept-aside", "swap:kept", "swap:swapped"])
def test_swap_ended_anywhere_is_completed_by_the_next_command(library: Any, stop: str, kept: bool) -> None:
    if kept:
        promote(library, "hashing", "--dim", "32")
    elif stop == "swap:kept-aside":
        pytest.skip("there is none to set aside")
    before = content(at(library))
    stopped_promotion(library, at_step=stop)
    status = library("status", "--format", "json").json
    assert (status["settings"]["dim"], status["complete"]) == (64, True)
    assert content(previous_folder(at(library))) == before
    assert names(library) == [".searchctl", ".searchctl.previous"]
    assert promote(library, "hashing", "--dim", "64")["changed"] is False


@pytest.mark.parametrize("stop", ["swap:decided", "swap:kept", "swap:swapped"])
def test_rollback_ended_anywhere_is_completed_by_the_next_command(library: Any, stop: str) -> None:
    first = content(at(library))
    promote(library, "hashing", "--dim", "64")
    second = content(at(library))

    def step(name: str) -> None:
        if name == stop:
            raise StopError

    with pytest.raises(StopError):
        roll_back(at(library), Talk(step=step), IndexHooks())
    assert len(library.hits("heron")) >= 1
    assert content(at(library)) == first
    assert content(previous_folder(at(library))) == second


def test_readers_during_many_swaps_always_find_the_collection(library: Any) -> None:
    folder = at(library)
    shutil.copytree(folder, previous_folder(folder))
    seen: list[bool] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(is_collection(folder))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            swaps, end = 0, time.monotonic() + 60
            # On a busy machine the readers may not have had their turn yet.
            while swaps < 50 or (len(seen) <= 50 and time.monotonic() < end):
                swap_keeping(folder, previous_folder(folder))
                swaps += 1
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(seen) > 50
    assert all(seen)


def test_progress_counts_documents_and_what_is_left(library: Any) -> None:
    told: list[IndexProgress] = []
    Promotion(at(library), Talk()).promote(NARROW, IndexHooks(progress=told.append))
    last = told[-1]
    assert (last.files_done, last.files_total, last.share) == (5, 5, 1.0)
    assert last.tokens_done == last.tokens_seen > 0
    assert [progress.files_done for progress in told] == sorted(progress.files_done for progress in told)


def test_tiny_model_counts_tokens_anew_and_says_what_it_cut(
    shell: Any, words: Any, make_folder: Callable[..., Path]
) -> None:
    shell.write("docs/long.txt", "\n\n".join(words(seed, 100) for seed in range(3)))
    shell.write("docs/short.txt", "a heron\n")
    shell.index("docs")
    first = make_folder()
    ended = shell("models", "promote", first, "--max-tokens", "32", "--precision", "fp32")
    assert ended.code == 0, ended.err
    assert "chunks embedded now were cut at the encoder's longest input, 32 tokens" in ended.err
    assert "`searchctl index --rebuild --chunk-tokens 32`" in ended.err
    collection = FolderCollection.open(at(shell))
    assert collection.settings is not None
    assert (collection.settings.encoder_name, collection.settings.chunk_tokens) == (str(first), 256)
    # Tokens of a byte-level BPE, where the old encoder counted words.
    counts = dict(rows(at(shell), "SELECT text, tokens FROM chunks"))
    assert 2 < counts["a heron"] <= len("a heron")
    assert shell.hits("a heron", "--mode", "dense", "--precision", "fp32", "-k", "1")[0]["path"] == "docs/short.txt"
    cut = next(line for line in ended.err.splitlines() if "were cut" in line)
    assert f" {len(counts) - 1} of {len(counts)} chunks embedded now" in cut

    # The folder is trained on, or goes: then there is no encoder to go back to.
    assert promote(shell, "hashing")["encoder"]["name"] == "hashing"
    kept = content(previous_folder(at(shell)))
    shutil.copy(make_folder(seed=1) / "model.safetensors", first / "model.safetensors")
    changed = shell("models", "promote", "--rollback")
    assert changed.code == 2
    assert "is another encoder now" in changed.err
    shutil.rmtree(first)
    lost = shell("models", "promote", "--rollback")
    assert lost.code == 2
    assert str(first) in lost.err
    assert content(previous_folder(at(shell))) == kept


def test_model_that_has_moved_needs_no_embedding(shell: Any, make_folder: Callable[..., Path]) -> None:
    shell.write("a.txt", "a heron\n")
    model = shutil.copytree(make_folder(), shell.folder / "model")
    assert shell("index", "a.txt", "--model", model, "--precision", "fp32").code == 0
    model.rename(shell.folder / "elsewhere")
    assert shell("query", "heron", "--mode", "dense").code == 2
    made = promote(shell, "elsewhere")
    assert (made["changed"], made["chunks_embedded"], made["vectors_reused"]) == (True, 0, 1)
    assert shell("query", "heron", "--mode", "dense").code == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no model was given"),
        (("--rollback",), "no generation is kept"),
        (("hashing", "--rollback"), "are not available with --rollback"),
        (("--rollback", "--dim", "64"), "--dim are not available with --rollback"),
        (("nosuch",), "nosuch"),
        ((" ",), "expected a name"),
    ],
)
def test_mistakes_are_named_and_change_nothing(library: Any, args: tuple[str, ...], said: str) -> None:
    before = content(at(library))
    ended = library("models", "promote", *args)
    assert ended.code == 2
    assert said in ended.err
    assert content(at(library)) == before
    assert names(library) == [".searchctl"]


def test_nothing_to_do_and_nothing_there(library: Any, shell: Any, tmp_path: Path) -> None:
    ended = library("models", "promote", "hashing")
    assert ended.code == 0
    assert "already: nothing to do" in ended.err
    assert promote(library, "hashing")["kept"] is None
    FolderCollection.create(tmp_path / "empty").close()
    ended = library("models", "promote", "hashing", "--collection", tmp_path / "empty")
    assert ended.code == 2
    assert f"hint: searchctl index PATH --model hashing --collection {tmp_path / 'empty'}\n" in ended.err
    assert library("models", "promote", "hashing", "--collection", tmp_path / "none").code == 2


def test_a_kept_generation_that_cannot_be_read_does_not_stand_in_the_way(library: Any) -> None:
    promote(library, "hashing", "--dim", "64")
    (previous_folder(at(library)) / "catalogue.db").write_bytes(b"no database" * 1000)
    kept = kept_generation(at(library))
    assert kept is not None
    assert kept.problem is not None
    refused = library("models", "promote", "--rollback")
    assert refused.code == 2
    assert "cannot be read" in refused.err
    assert "cannot be read" in library("status").out
    assert promote(library, "hashing", "--dim", "32")["encoder"]["dim"] == 32


def test_folders_beside_a_collection_are_not_indexed(shell: Any) -> None:
    shell.write("a.txt", "alpha\n")
    where = ("--collection", "store", "--format", "json")
    shell("index", ".", "--model", "hashing", *where)
    shell("models", "promote", "hashing", "--dim", "64", *where)
    shell.write("store.previous/x.txt", "beta\n")
    shell.write("store.promote/promotion.json", "{}")
    assert shell("index", ".", "--no-ignore", "--hidden", *where).json["added"] == 0
    shell.write("store.rebuild/x.txt", "A person's own folder that has the name.\n")
    assert shell("index", ".", "--no-ignore", "--hidden", *where).json["added"] == 1


def test_status_of_a_named_collection_names_it_in_its_commands(library: Any, shell: Any) -> None:
    where = ("--collection", "other store")
    shell("index", "docs", "--model", "hashing", *where)
    shell("models", "promote", "hashing", "--dim", "64", *where)
    store = shell.folder / "other store"

    def step(name: str) -> None:
        if name == "commit:done":
            raise StopError

    with pytest.raises(StopError):
        Promotion(store, Talk(step=step)).promote(EncoderChoice(model="hashing", dim=32), IndexHooks())
    shell.write("docs/new.md", "new\n")
    shown = shell("status", *where).out
    commands = re.findall("`(searchctl [^`]+)`", shown)
    assert [command.partition(" --collection ")[0] for command in commands] == [
        "searchctl index",
        "searchctl models promote --rollback",
        "searchctl models promote hashing --dim 32",
    ]
    assert all(command.endswith(" --collection 'other store'") for command in commands)
    connection = sqlite3.connect(store / "catalogue.db")
    connection.execute("UPDATE meta SET value = '0' WHERE key = 'complete'")
    connection.commit()
    connection.close()
    assert "`searchctl index --collection 'other store'` completes it" in shell("status", *where).out
    # Typed as shown, they do what they say to that one.
    goes_on = shlex.split(commands[2])
    assert shell(*goes_on[1:], "--format", "json").json["encoder"]["dim"] == 32
    assert "--collection" not in library("status").out


def test_document_that_lost_a_vector_or_a_chunk_is_no_shorter_document(
    new_shell: Any, words: Any, subtests: pytest.Subtests
) -> None:
    """Such a collection comes of SQLite's own tools or a failing disk: what was the last chunk vanished silently."""
    for sql, said in [
        ("DELETE FROM vectors WHERE id = (SELECT min(id) FROM vectors)", "docs/a.txt: chunk 0 has no vector"),
        ("DELETE FROM vectors WHERE id = (SELECT max(id) FROM vectors)", "docs/a.txt: chunk 2 has no vector"),
        ("DELETE FROM chunks WHERE id = (SELECT max(id) FROM chunks)", "docs/a.txt: it has 2 chunks, expected 3"),
    ]:
        with subtests.test(sql=sql, said=said):
            shell = new_shell()
            shell.write("docs/a.txt", "\n\n".join(words(seed, 180) for seed in range(3)))
            assert shell.index("docs", "--collection", "store")["chunks_embedded"] == 3
            connection = sqlite3.connect(shell.folder / "store/catalogue.db")
            connection.execute(sql)
            connection.commit()
            connection.close()
            promoting = ("models", "promote", "hashing", "--dim", "64", "--collection", "store")
            ended = shell(*promoting)
            assert ended.code == 5, ended.err
            assert said in ended.err
            assert not (shell.folder / "store.previous").exists()
            assert ended.err.endswith("hint: searchctl repair --collection store\n")
            # Typed as shown, and followed as that says, it fixes the collection.
            shell("repair", "--collection", "store")
            shell("index", "--collection", "store")
            assert shell(*promoting).code == 0
            assert shell("verify", "--collection", "store").code == 0
            (count,) = rows(shell.folder / "store", "SELECT count(*) FROM chunks")
            assert count == (3,)


def test_damage_in_an_unfinished_promotion_is_embedded_again(library: Any) -> None:
    stopped_promotion(library, at_step="publish:write")
    connection = sqlite3.connect(promote_folder(at(library)) / "catalogue.db")
    connection.execute("DELETE FROM vectors WHERE id = 1")
    connection.commit()
    connection.close()
    assert promote(library, "hashing", "--dim", "64")["chunks_embedded"] == 1
    assert library("verify").code == 0


def test_promotion_goes_on_in_the_precision_it_was_begun_with(shell: Any, make_folder: Callable[..., Path]) -> None:
    """In another its vectors would be a mixture."""
    for number in range(70):
        shell.write(f"docs/{number}.txt", f"heron number {number}\n")
    shell.index("docs")
    model = make_folder()
    asked = EncoderChoice(model=str(model), precision=Precision.FP32)
    stopped_promotion(shell, asked)
    begun = unfinished_promotion(at(shell))
    assert begun is not None
    assert 0 < begun.vectors < 70
    assert f"`searchctl models promote {model} --precision fp32` goes on" in shell("status").out
    refused = shell("models", "promote", model, "--precision", "bf16")
    assert refused.code == 2
    assert "begun with --precision fp32, and this command has --precision bf16" in refused.err
    assert refused.err.endswith(f"hint: searchctl models promote {model} --precision fp32\n")
    assert unfinished_promotion(at(shell)) == begun

    # Other precisions do not reach the encoder: unsaid is as it was begun.
    ended = shell("models", "promote", model, "--verbose")
    assert ended.code == 0, ended.err
    assert "going on in precision fp32, as it was begun" in ended.err
    assert f"{model}: fp32 on cpu" in ended.err


def test_yes_begins_anew_in_the_precision_asked_for(shell: Any, make_folder: Callable[..., Path]) -> None:
    shell.write("a.txt", "a heron\n")
    shell.index("a.txt")
    model = make_folder()
    stopped_promotion(shell, EncoderChoice(model=str(model), precision=Precision.BF16))
    ended = shell("models", "promote", model, "--precision", "fp32", "--yes", "--format", "json")
    assert ended.code == 0, ended.err
    assert (ended.json["chunks_embedded"], ended.json["vectors_reused"]) == (1, 0)


def test_a_model_that_was_updated_under_its_name_is_told_with_two_ways_on(
    shell: Any, make_folder: Callable[..., Path]
) -> None:
    """What a new default encoder is for collections of the old one: other layers, a projection, another width."""
    shell.write("a.txt", "a heron\n")
    model = make_folder(seed=11)
    assert shell("index", "a.txt", "--model", model, "--precision", "fp32").code == 0
    import torch

    save_projection(model / "projection.safetensors", torch.nn.Linear(32, 8))
    write_sidecar(model, Sidecar(layers=(0, 1), projection="projection.safetensors"))
    shell.write("a.txt", "a heron, and another\n")
    for command in (("query", "heron"), ("index", "a.txt")):
        ended = shell(*command, "--format", "json")
        assert ended.code == 2, ended.err
        said = json.loads(ended.err)
        assert "it was updated since" in said["error"]
        assert shlex.split(said["hint"])[:4] == ["searchctl", "models", "promote", str(model)]
    # The words need no encoder; both ways on make the collection whole again.
    assert shell("query", "heron", "--mode", "lexical").code == 0
    assert shell("models", "promote", model, "--precision", "fp32", "--yes").code == 0
    assert FolderCollection.open(at(shell)).settings.dim == 8
    assert len(shell.hits("heron")) == 1


def test_mismatch_names_the_promotion_too(library: Any) -> None:
    ended = library("index", "docs", "--model", "hashing", "--dim", "64", "--collection", at(library))
    assert ended.code == 2
    assert ended.err.endswith(f"hint: searchctl models promote hashing --dim 64 --collection {at(library)}\n")
