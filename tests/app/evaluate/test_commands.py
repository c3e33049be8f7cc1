"""`searchctl eval run`: the table, what is reused, what fails, and what is said about it."""

from __future__ import annotations

import json
import re
import sys
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console
from rich.text import Text

from searchctl.app.errors import ExitCode
from searchctl.app.evaluate.commands import Suite
from searchctl.app.evaluate.corpus_index import CorpusIndex
from searchctl.app.evaluate.progress import TimeLeft, _Bars, _speed, hushed
from searchctl.app.evaluate.score_table import EvalOutcome
from searchctl.app.options import SearchMode
from searchctl.app.terminal.console import Terminal
from searchctl.encoder.hashing import HashingEncoder
from searchctl.training.evaluation.measurement import EvalTask, Pulse, TaskInstructions
from searchctl.training.evaluation.runner import Pair, Planned
from searchctl.training.evaluation.tasks import SUITES

DOCUMENTS = ["the heron waits for fish", "bees dance for flowers", "bread rises with yeast", "rust frees memory"]
PAIRS = [
    ("one two three four", "one two three four", 5.0),
    ("one two three four", "one two three nine", 3.5),
    ("one two three four", "one two nine ten", 2.0),
    ("one two three four", "seven eight nine ten", 0.0),
]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(shell: Any) -> Any:
    """A shell with three local tasks: each query is a document, and pairs are as alike as their scores say."""
    corpus = [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(DOCUMENTS)]
    shell.write("data/retrieval/birds/corpus.jsonl", lines(corpus))
    queries = [{"_id": f"q{number}", "text": text} for number, text in enumerate(DOCUMENTS)]
    shell.write("data/retrieval/birds/queries.jsonl", lines(queries))
    judgements = "".join(f"q{number}\td{number}\t1\n" for number in range(len(DOCUMENTS)))
    shell.write("data/retrieval/birds/qrels/test.tsv", f"query-id\tcorpus-id\tscore\n{judgements}")
    for name in ("alike", "swapped"):
        gold = [score for _, _, score in PAIRS]
        if name == "swapped":  # of four, two neighbours: 1 - 6 * 2 / (4 * 15)
            gold[1], gold[2] = gold[2], gold[1]
        rows = [{"a": a, "b": b, "score": score} for (a, b, _), score in zip(PAIRS, gold, strict=True)]
        shell.write(f"data/sts/{name}.jsonl", lines(rows))
    return shell


ARGS = ("--local", "data", "--model", "hashing")


def results(shell: Any, folder: str = ".searchctl-eval") -> dict[Path, tuple[int, int]]:
    """Return the result files with inode and time of writing."""
    found = (shell.folder / folder).rglob("*.json")
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found}


def test_table_has_tasks_by_category_and_means_only_of_what_was_done_in_full(data: Any) -> None:
    ended = data("eval", "run", *ARGS, "--baseline", "bm25")
    assert ended.code == 0, ended.err
    assert [
        "task                   hashing   bm25",
        "Retrieval  ndcg_at_10",
        "  birds                  100.0  100.0",
        "STS  cosine_spearman",
        "  alike                  100.0      -",
        "  swapped                 80.0      -",
        "  mean                    90.0      -",
        "mean of 3                 93.3      -",
    ] == ended.out.splitlines()
    assert "scores: 4 computed, 2 not applicable" in ended.err
    assert "`searchctl eval report`" in ended.err
    assert "kept in .searchctl-eval;" in ended.err
    assert "\x1b" not in ended.err + ended.out


def test_json_is_complete(data: Any) -> None:
    document = data("eval", "run", *ARGS, "--baseline", "words=bm25", "--format", "json").json
    assert [("hashing", "encoder"), ("words", "bm25")] == [(c["label"], c["kind"]) for c in document["models"]]
    by_pair = {(score["model"], score["task"]): score for score in document["scores"]}
    swapped = by_pair["hashing", "swapped"]
    assert 0.8 == pytest.approx(swapped["score"])
    assert [5.0, 2.0, 3.5, 0.0] == swapped["samples"]["gold"]
    assert 8 == swapped["cost"]["texts"]
    assert 42 == swapped["settings"]["seed"]
    assert {"model": "words", "task": "alike"} in document["not_applicable"]
    assert {"hashing": pytest.approx(0.9), "words": None} == document["means"]["STS"]
    assert {"hashing": pytest.approx(2.8 / 3), "words": None} == document["means"]["all"]
    assert (True, []) == (document["complete"], document["failed"])


def test_second_run_encodes_nothing_and_again_everything(data: Any) -> None:
    first = data("eval", *ARGS, "--format", "json").json
    before = results(data)
    second = data("eval", *ARGS, "--format", "json").json
    assert [False] * 3 == [score["reused"] for score in first["scores"]]
    assert [True] * 3 == [score["reused"] for score in second["scores"]]
    assert before == results(data)
    without = [
        [{k: v for k, v in score.items() if k != "reused"} for score in run["scores"]] for run in (first, second)
    ]
    assert without[0] == without[1]

    again = data("eval", *ARGS, "--again", "--format", "json").json
    assert [False] * 3 == [score["reused"] for score in again["scores"]]
    assert [score["metrics"] for score in first["scores"]] == [score["metrics"] for score in again["scores"]]
    after = results(data)
    assert before.keys() == after.keys()
    assert all(before[file] != after[file] for file in before)


def test_only_what_is_new_is_computed(data: Any) -> None:
    data("eval", "alike", *ARGS)
    said = data("eval", "alike", "birds", *ARGS, "--baseline", "bm25").err
    assert "scores: 2 computed, 1 reused, 1 not applicable" in said


def test_instructions_count_and_contradictions_are_refused(data: Any) -> None:
    data.write("table.toml", '[type.STS]\nquery = "Same meaning"\n')
    given = data("eval", "alike", *ARGS, "--instructions", "table.toml", "--format", "json").json["scores"][0]
    none = data("eval", "alike", *ARGS, "--no-instructions", "--format", "json").json["scores"][0]
    assert {"query": "Same meaning", "document": "Same meaning"} == given["settings"]["instructions"]
    assert {"query": "", "document": ""} == none["settings"]["instructions"]
    assert none["reused"] is False
    both = data("eval", "alike", *ARGS, "--instructions", "table.toml", "--no-instructions")
    assert (2, True) == (both.code, "contradict" in both.err)


def test_tasks_of_the_instructions_that_are_not_run_are_named(data: Any) -> None:
    data.write("table.toml", '[task.alike]\nquery = "Same"\n[task.aliek]\nquery = "Same"\n[task.x]\nquery = "y"\n')
    said = data("eval", "alike", *ARGS, "--instructions", "table.toml").err
    assert "note: --instructions names what is no task of this run and changes nothing: aliek, x\n" in said
    data.write("table.toml", '[task.alike]\nquery = "Same"\n')
    assert "--instructions" not in data("eval", "alike", *ARGS, "--instructions", "table.toml").err


def test_the_report_is_of_what_the_last_run_showed_also_where_it_computed_nothing(data: Any, tiny_folder: Path) -> None:
    def reported() -> dict[str, float]:
        [group] = data("eval", "report", "--format", "json").json["categories"]
        return {label: cell["score"] for label, cell in group["tasks"][0]["scores"].items()}

    path = data.folder / "data/sts/alike.jsonl"
    both = ("eval", "alike", *ARGS, "--baseline", f"tiny={tiny_folder}")
    old = path.read_text()
    data(*both)
    first = reported()
    path.write_text("".join(reversed(old.splitlines(keepends=True))).replace('"score": ', '"score": -'))
    data("eval", "alike", *ARGS)
    assert ["hashing"] == list(reported())
    assert reported()["hashing"] != first["hashing"]
    path.write_text(old)
    said = data(*both).err
    assert "scores: 2 reused" in said
    assert first == reported()
    assert 2 == len(first)


def test_equal_documents_rank_alike_by_bm25_and_by_the_search(data: Any) -> None:
    """Both in the order of the corpus; mteb would order equal scores by id."""
    rows = [{"_id": f"d{number}", "title": "", "text": "the same words"} for number in range(4)]
    data.write("data/retrieval/birds/corpus.jsonl", lines(rows))
    data.write("data/retrieval/birds/queries.jsonl", lines([{"_id": "q", "text": "same words"}]))
    data.write("data/retrieval/birds/qrels/test.tsv", "q\td0\t1\n")
    found = data(
        "eval", "birds", *ARGS, "--baseline", "bm25", "--baseline", "lexical", "--only-baselines", "--format", "json"
    )
    assert [1.0, 1.0] == [score["score"] for score in found.json["scores"]], found.err


def test_results_folder_of_option_and_variable(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = data("eval", "alike", *ARGS, "--results", "there").err
    assert "`searchctl eval report --results there`" in said
    monkeypatch.setenv("SEARCHCTL_RESULTS", "elsewhere")
    data("eval", "alike", *ARGS)
    assert [1, 1, 0] == [len(results(data, folder)) for folder in ("there", "elsewhere", ".searchctl-eval")]


def test_results_folder_that_is_a_file_is_an_error_before_the_work(data: Any) -> None:
    data.write("taken", "")
    ended = data("eval", "alike", *ARGS, "--results", "taken")
    assert (2, "") == (ended.code, ended.out)
    assert "error: --results is taken: File exists. Expected a folder that can be written to" in ended.err
    assert "bug" not in ended.err


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ("nosuch", "error: --local nosuch: is no file or folder. Expected a folder with retrieval/"),
        ("x" * 300, f"error: --local {'x' * 300}: File name too long. Expected a folder that can be read, with retr"),
    ],
)
def test_local_data_that_are_not_there_are_named_with_the_option(local: str, said: str, data: Any) -> None:
    ended = data("eval", "--local", local, "--model", "hashing")
    assert (2, "") == (ended.code, ended.out)
    assert said in ended.err


def test_baseline_that_is_the_model_itself_has_its_own_column_and_the_model_its_name(
    data: Any, tiny_folder: Path
) -> None:
    """An untrained base with attention both ways is what `bi` means."""
    args = ("eval", "alike", "--local", "data", "--model", tiny_folder)
    ended = data(*args, "--baseline", "bi")
    assert 0 == ended.code, ended.err
    name = tiny_folder.name
    assert 1 == ended.err.count(f"bi is the same encoder as {name}: measured once")
    assert "scores: 1 computed;" in ended.err
    head, _, row = ended.out.splitlines()
    assert ["task", name, "bi"] == head.split()
    [task, *values] = row.split()
    assert ("alike", 2, 1) == (task, len(values), len(set(values)))
    assert "-" not in values
    before = results(data)
    assert 1 == len(before)
    document = data(*args, "--baseline", "bi", "--format", "json").json
    assert [(name, True), ("bi", True)] == [(score["model"], score["reused"]) for score in document["scores"]]
    assert document["means"]["all"][name] == document["means"]["all"]["bi"]
    assert before == results(data)
    assert 0 == data("eval", "report", "--baseline", name).code
    unknown = data("eval", "report", "--baseline", "bi")
    assert 2 == unknown.code
    assert f"--baseline bi: no result of that model, among those shown, expected one of {name}" in unknown.err


def test_failure_of_equal_models_is_said_once_and_shown_for_both(data: Any) -> None:
    data.write("table.toml", '[type.Retrieval]\ndocument = "A fact"\n')
    baselines = ("--baseline", "one=dense", "--baseline", "two=dense", "--instructions", "table.toml")
    ended = data("eval", "birds", "alike", *ARGS, *baselines)
    assert 3 == ended.code
    assert "two is the same search as one: measured once" in ended.err
    assert "  birds                  100.0  failed  failed" in ended.out.splitlines()
    assert "scores: 2 computed, 1 not applicable, 1 failed" in ended.err


def test_categories_are_in_the_order_of_reports_and_unknown_ones_by_name(tmp_path: Path) -> None:
    def task(kind: str) -> EvalTask:
        return EvalTask(name=kind, task_type=kind, data="d", instructions=TaskInstructions(), make=lambda: None)  # type: ignore[arg-type, return-value]

    kinds = ["STS", "Zoo", *(f"Kind{letter}" for letter in "hgfedcba"), "Retrieval"]
    outcome = EvalOutcome(
        folder=tmp_path,
        models=(),
        tasks=tuple(map(task, kinds)),
        scores=(),
        computed=frozenset(),
        not_applicable=(),
        failed=(),
        seconds=0.0,
    )
    assert ["Retrieval", "STS", *(f"Kind{letter}" for letter in "abcdefgh"), "Zoo"] == list(outcome.categories)


def test_baselines_alone_and_labels(data: Any) -> None:
    ended = data("eval", "birds", *ARGS, "--only-baselines", "--baseline", "words=lexical", "--format", "json")
    assert ["words"] == [who["label"] for who in ended.json["models"]]
    folder = data.folder / "made=hybrid"
    folder.mkdir()
    place = data("eval", "birds", *ARGS, "--baseline", "made=hybrid")
    assert (2, True) == (place.code, "made=hybrid" in place.err)  # a folder, of no model
    unnamed = data("eval", "birds", *ARGS, "--baseline", "=lexical")
    assert (2, True) == (unnamed.code, "expected LABEL=NAME" in unnamed.err)
    nobody = data("eval", "birds", *ARGS, "--only-baselines")
    assert (2, True) == (nobody.code, "--baseline" in nobody.err)
    twice = data("eval", "birds", *ARGS, "--baseline", "a=bm25", "--baseline", "a=lexical")
    assert (2, True) == (twice.code, "'a'" in twice.err)


def test_failed_task_is_named_and_the_rest_is_done(data: Any) -> None:
    """The product's search embeds documents without an instruction, and says so."""
    data.write("table.toml", '[type.Retrieval]\ndocument = "A fact"\n')
    args = ("eval", "birds", "alike", *ARGS, "--baseline", "dense", "--instructions", "table.toml")
    ended = data(*args)
    assert 3 == ended.code
    assert "  birds                  100.0  failed" in ended.out.splitlines()
    assert "scores: 2 computed, 1 not applicable, 1 failed" in ended.err
    assert "error: birds, dense: task birds gives documents the instruction" in ended.err
    assert "the same command again computes what failed" in ended.err
    quiet = data(*args, "--quiet")
    assert quiet.err.startswith("error: birds, dense: ")
    assert 1 == len(quiet.err.splitlines())
    assert "Traceback" not in ended.err
    debugged = data(*args, "--format", "json", "--debug")
    assert "Traceback" in debugged.err
    document = debugged.json
    assert [("dense", "birds", "EvaluationError")] == [
        (failed["model"], failed["task"], failed["type"]) for failed in document["failed"]
    ]
    assert document["complete"] is False


def test_malformed_data_are_named_by_file_and_line_before_anything_is_encoded(data: Any) -> None:
    data.write("data/sts/zebra.jsonl", '{"a": "x", "b": "y", "score": 1}\n{"a": "x", "score": 1}\n')
    ended = data("eval", *ARGS)
    assert (2, "") == (ended.code, ended.out)
    assert "zebra.jsonl, line 2" in ended.err
    assert {} == results(data)


def test_mistake_is_said_with_what_was_meant(data: Any, subtests: pytest.Subtests) -> None:
    for args, said in [
        (("alik", *ARGS), "alike"),
        (("--model", "hashing"), "--local"),
        (("alike", *ARGS, "--baseline", "bm52"), "bm25"),
        (("alike", *ARGS, "--baseline", "hybird"), "Did you mean hybrid? Expected model, uni"),
        (("--suite", "paper51"), "paper15"),
        ((*ARGS, "--suite", "local", "--model", ""), "models list"),
    ]:
        with subtests.test(args=args, said=said):
            ended = data("eval", "run", *args)
            assert (2, "") == (ended.code, ended.out)
            assert said in ended.err
            assert "bug" not in ended.err
            assert {} == results(data)


def test_damaged_result_is_named_and_removing_it_mends(data: Any) -> None:
    data("eval", "alike", *ARGS)
    [file] = results(data)
    file.write_text(file.read_text()[:-20])
    ended = data("eval", "alike", *ARGS)
    assert (2, "") == (ended.code, ended.out)
    assert str(file.name) in ended.err
    assert "Remove the file" in ended.err
    file.unlink()
    assert 0 == data("eval", "alike", *ARGS).code


def test_quiet_says_nothing_but_the_result(data: Any) -> None:
    ended = data("eval", "alike", *ARGS, "--quiet")
    assert (0, "") == (ended.code, ended.err)
    assert "alike" in ended.out


def test_a_home_in_the_environment_is_that_of_the_user(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    (data.folder / "data").rename(home / "data")
    (home / "words.toml").write_text('[task.alike]\nquery = "Be alike"\n')
    monkeypatch.setenv("SEARCHCTL_EVAL_DATA", "~/data")
    monkeypatch.setenv("SEARCHCTL_RESULTS", "~/scores")
    ended = data("eval", "run", "alike", "--model", "hashing", "--instructions", "~/words.toml")
    assert 0 == ended.code, ended.err
    (score,) = (home / "scores").glob("*/alike-*.json")
    assert "Be alike" in score.read_text()
    assert not (data.folder / "~").exists()
    assert 0 == data("eval", "report").code


def test_unfinished_work_of_other_runs_is_told_unless_a_process_is_at_it(data: Any) -> None:
    """Also what a killed run with --again left of a score that stands."""
    folder = data.folder / ".searchctl-eval" / ".unfinished"
    data("eval", "run", "alike", *ARGS)
    mine = next((data.folder / ".searchctl-eval").glob("hashing-*/alike-*.json"))
    scored = f"{mine.parent.name.removeprefix('hashing-')}-{mine.stem}"
    for name in (scored, "0a1b2c3d-scifact-00112233", "held-task-00112233"):
        (folder / name / "search").mkdir(parents=True)
        (folder / name / "search" / "vectors").write_bytes(b"x" * 3000)
    (folder / "0a1b2c3d-scifact-00112233.lock").touch()  # as a kill leaves it
    with FileLock(folder / "held-task-00112233.lock"):
        said = data("eval", "run", "alike", *ARGS).err
        assert "note: .searchctl-eval/.unfinished holds 2 unfinished tasks of other runs, 5.9 KiB: the command" in said
        assert "unfinished" not in data("eval", "run", "alike", *ARGS, "--quiet").err
    both = data("eval", "run", "alike", *ARGS).err
    assert "holds 3 unfinished tasks of other runs, 8.8 KiB" in both
    assert 3 == len([path for path in folder.iterdir() if path.is_dir()])


def test_searches_of_one_collection_fill_it_once(data: Any) -> None:
    """The second ranks what the first embedded; with --again as well, and of nothing older."""
    search = ("eval", *ARGS, "--only-baselines", "--format", "json")
    alone = {
        mode: data(*search, "--baseline", mode, "--results", mode).json["scores"][0] for mode in ("dense", "hybrid")
    }
    for more in ((), ("--again",)):
        found = data(*search, "--baseline", "dense", "--baseline", "hybrid", *more, "--results", "both").json["scores"]
        by_label = {score["model"]: score for score in found if score["task"] == "birds"}
        words = sum(len(text.split()) for text in DOCUMENTS)
        for mode, tokens in (("dense", 2 * words), ("hybrid", words)):
            assert alone[mode]["score"] == by_label[mode]["score"]
            assert alone[mode]["samples"] == by_label[mode]["samples"]
            assert (2 * words, tokens, 8) == (
                alone[mode]["cost"]["tokens"], by_label[mode]["cost"]["tokens"], by_label[mode]["cost"]["texts"]
            )  # fmt: skip
        assert [] == list((data.folder / "both" / ".unfinished").iterdir())


@pytest.mark.parametrize("failing", [SearchMode.DENSE, SearchMode.HYBRID])
def test_a_collection_stays_for_the_search_that_failed(
    failing: SearchMode, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run, which reads the other's score, ranks it and then removes it; one without that search names it."""
    search = ("eval", *ARGS, "--only-baselines", "--format", "json")
    both = (*search, "--baseline", "dense", "--baseline", "hybrid")
    other = SearchMode.HYBRID if failing is SearchMode.DENSE else SearchMode.DENSE
    rank_all = CorpusIndex.rank_all

    def broken(self: Any, queries: Any, mode: Any, *args: Any, **options: Any) -> Any:
        if mode is failing:
            raise RuntimeError("no ranking")
        return rank_all(self, queries, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(CorpusIndex, "rank_all", broken)
        failed = data(*both)
    assert failed.code == ExitCode.INCOMPLETE
    assert "no ranking" in failed.err
    assert "of other runs" not in failed.err
    assert "1 unfinished task of other runs" in data(*search, "--baseline", other.value).err
    scores = {score["model"]: score for score in data(*both).json["scores"] if score["task"] == "birds"}
    assert (True, False) == (scores[other.value]["reused"], scores[failing.value]["reused"])
    words = sum(len(text.split()) for text in DOCUMENTS)
    assert words == scores[failing.value]["cost"]["tokens"]
    assert [] == list((data.folder / ".searchctl-eval/.unfinished").iterdir())


def test_how_much_libraries_said_is_told_without_verbose(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = HashingEncoder.encode

    def loud(self: HashingEncoder, *args: Any, **options: Any) -> Any:
        for words in ("old function", "old function", "slow path"):
            warnings.warn(words, stacklevel=2)
        return whole(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HashingEncoder, "encode", loud)
        ended = data("eval", "run", "alike", *ARGS, "--results", "new")
        verbose = data("eval", "run", "alike", *ARGS, "--results", "verbose", "--verbose")
    assert "old function" not in ended.err
    assert re.search(r"^\d messages of libraries, warnings as a rule: -v shows them$", ended.err, flags=re.M)
    assert "slow path" in verbose.err
    assert "messages of libraries" not in verbose.err
    assert "of libraries" not in data("eval", "run", "alike", *ARGS, "--results", "new").err


def test_suites_of_the_option_are_those_that_there_are() -> None:
    assert [*SUITES] == [suite.value for suite in Suite]


def pair(number: int) -> Pair:
    return Pair(label="a", task="t", task_type="STS", number=number, total=9)


def test_time_left_is_by_the_size_of_the_data() -> None:
    clock = [100.0]
    left = TimeLeft(now=lambda: clock[0])
    left.plan(Planned(total=9, todo={2: 100, 5: 300}))
    assert (0.0, "1 of 2") == left.of_all()
    clock[0] = 110.0
    left.done(pair(1))  # was there already
    left.done(pair(2))
    assert (0.25, "2 of 2, about 30 s left") == left.of_all()
    clock[0] = 112.0
    assert (0.25, "2 of 2, about 28 s left") == left.of_all()


def test_time_left_counts_what_an_interrupted_run_left_as_no_work() -> None:
    clock = [100.0]
    left = TimeLeft(now=lambda: clock[0])
    left.plan(Planned(total=9, todo={2: 100, 5: 300}))
    left.read_back(pair(2), resumed(texts_total=90, share_known=0.75))
    left.read_back(pair(2), resumed(texts_total=10, share_known=0.0))  # its queries
    clock[0] = 110.0
    left.done(pair(2))
    assert (0.25, "2 of 2, about 2 min 00 s left") == left.of_all()  # 25 took 10 s
    left.read_back(pair(5), resumed(texts_total=90, share_known=0.5))
    assert (0.25, "2 of 2, about 1 min 00 s left") == left.of_all()


def resumed(*, texts_total: int = 1000, share_known: float) -> Pulse:
    """What is told 20 s after a task was taken up again: of 9,000 tokens that were left 1,000 are done."""
    share = share_known + (1 - share_known) / 9
    return Pulse(
        share=share,
        share_known=share_known,
        texts_total=texts_total,
        tokens_done=1000,
        tokens_total=9000,
        elapsed_s=20.0,
    )


def test_the_bars_of_a_task_taken_up_again_say_the_time_that_the_rest_takes() -> None:
    terminal = Terminal()
    terminal.err = Console(file=StringIO(), force_terminal=True, width=120)
    bars = _Bars(terminal)
    left = TimeLeft(now=lambda: 0.0)
    left.plan(Planned(total=9, todo={2: 100, 5: 300}))
    pulse = resumed(share_known=0.9)
    with bars.shown():
        bars.update(pair(2), pulse.share, _speed(pulse), left.of_all())
    shown = Text.from_ansi(terminal.err.file.getvalue()).plain
    # Not the 2 s that 20 s for 91 % would give.
    assert re.search(r"t  a \S+ +91% 50 tokens/s, 2 min 40 s left", shown), shown
    assert re.search(r"all .*0% 1 of 2", shown), shown


def test_time_left_of_a_task_is_said_once_it_is_known(subtests: pytest.Subtests) -> None:
    for tokens_done, elapsed_s, words in [
        (0, 30.0, ""),
        (400, 1.0, "400 tokens/s"),
        (400, 4.0, "100 tokens/s, 6.0 s left"),
        (1000, 4.0, "250 tokens/s, 0.0 s left"),
    ]:
        with subtests.test(tokens_done=tokens_done, elapsed_s=elapsed_s, words=words):
            pulse = Pulse(
                share=0.5,
                share_known=0.5,
                texts_total=9,
                tokens_done=tokens_done,
                tokens_total=1000,
                elapsed_s=elapsed_s,
            )
            assert words == _speed(pulse)


def test_time_left_is_not_guessed_where_a_size_is_unknown() -> None:
    left = TimeLeft(now=lambda: 0.0)
    left.plan(Planned(total=9, todo={2: 100, 5: None}))
    left.done(pair(2))
    assert (0.5, "2 of 2") == left.of_all()


def test_what_libraries_print_becomes_lines_and_bars_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with hushed(said.append):
        sys.stderr.write("a warn")
        sys.stderr.write("ing\n\nmore\n")
        sys.stdout.write("\r 10%\r 20%\r100%\n")
    assert ["a warning", "more"] == said
    assert ("", "") == capsys.readouterr()
