"""`searchctl eval report`: every format carries the same numbers, computed by hand from a folder of made-up results."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from searchctl.training.evaluation.measurement import Cost, Identity, Samples, TaskScore
from searchctl.training.evaluation.results import ResultStore

BASE = (0.1, 0.3, 0.5, 0.7) * 5
"""Mean .4."""
BETTER = tuple(value + 0.125 for value in BASE)
"""Each item .125 above: the interval has no width."""
NOISY = tuple(value + sign * 0.1 for value, sign in zip(BASE, (1, -1, -1, 1) * 5, strict=True))
"""Mean .4 again."""


def encoder(label: str, *, name: str = "smollm2-135m", fingerprint: str = "", **details: Any) -> Identity:
    plain = {"attention": "bidirectional", "method": "plain", "pooling": "mean", "chain": [], "dim": 576}
    return Identity(
        label=label, kind="encoder", name=name, fingerprint=fingerprint or f"fp-{label}", details=plain | details
    )


UNI = encoder("uni", attention="causal", pooling="weighted_mean")
BI = encoder("bi")
BM25 = Identity(label="bm25", kind="bm25", name="bm25", fingerprint="fp-bm25", details={"k1": 1.2})


def result(
    task: str,
    who: Identity,
    score: float,
    *,
    kind: str = "Retrieval",
    values: Sequence[float] = (),
    tokens: int = 600,
    settings: Mapping[str, Any] | None = None,
) -> TaskScore:
    ids = tuple(f"q{number}" for number in range(len(values)))
    return TaskScore(
        task=task,
        task_type=kind,
        data="digest-of-data",
        who=who,
        settings=settings or {"instructions": {"query": "Find it", "document": None}, "seed": 42},
        metric={"Retrieval": "ndcg_at_10", "STS": "cosine_spearman"}.get(kind, "accuracy"),
        score=score,
        metrics={},
        samples=Samples(kind="mean", ids=ids, values=tuple(values)) if values else None,
        cost=Cost(texts=1000, tokens=tokens, truncated=7, empty=1, encode_s=0.5, total_s=2.0),
        versions={"searchctl": "1.2.3", "mteb": "2.26.1"},
        machine="A machine, 2 threads",
        finished="2026-11-23T12:00:00+00:00",
    )


RESULTS = (
    result("quest", UNI, 0.4, values=BASE),
    result("quest", BI, 0.525, values=BETTER),
    result("quest", BM25, 0.4, values=NOISY, tokens=0),
    result("likeness", UNI, 0.5, kind="STS"),
    result("likeness", BI, 0.475, kind="STS"),
)
BM25_RANGE = r"\[-\d\.\d, \+\d\.\d\]"


@pytest.fixture
def measured(shell: Any) -> Any:
    """A shell with results in the default folder."""
    store = ResultStore(shell.folder / ".searchctl-eval")
    for score in RESULTS:
        store.save(score)
    return shell


def test_the_table_has_scores_differences_means_steps_and_costs(measured: Any) -> None:
    ended = measured("eval", "report")
    assert 0 == ended.code, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "task uni bi bm25" in lines
    assert "Retrieval (nDCG@10)" in lines
    (quest,) = [line for line in lines if line.startswith("quest")]
    assert re.fullmatch(rf"quest 40\.0 52\.5 \+12\.5 \[\+12\.5, \+12\.5\] \* 40\.0 \+0\.0 {BM25_RANGE}", quest)
    assert "likeness 50.0 47.5 -2.5 -" in lines
    assert "mean of 2 45.0 50.0 +5.0 -" in lines
    assert ["Uni - 45.0", "Bi 50.0 -"] == [line for line in lines if line.startswith(("Uni", "Bi "))]
    assert "uni 2 2,000 1,200 1,200 14 2 1.0 s 4.0 s" in lines
    assert "bm25 1 1,000 0 - 7 1 0.5 s 2.0 s" in lines
    assert "note: bm25 has no mean over all tasks: not measured on STS\n" == ended.err


def test_json_has_the_same_numbers_unrounded(measured: Any) -> None:
    found = measured("eval", "report", "--format", "json").json
    assert (1, "uni", ".searchctl-eval") == (found["schema"], found["baseline"], found["results"])
    retrieval, sts = found["categories"]
    assert ("Retrieval", "STS") == (retrieval["category"], sts["category"])
    bi = retrieval["tasks"][0]["scores"]["bi"]
    assert (0.525, True) == (bi["score"], bi["difference"]["significant"])
    assert [0.125] * 3 == [pytest.approx(bi["difference"][name]) for name in ("value", "low", "high")]
    assert not retrieval["tasks"][0]["scores"]["bm25"]["difference"]["significant"]
    assert {"value": -0.025, "low": None, "high": None, "significant": None} == {
        name: value if value is None else pytest.approx(value)
        for name, value in sts["tasks"][0]["scores"]["bi"]["difference"].items()
    }
    assert {"uni": 0.45, "bi": 0.5} == {
        label: pytest.approx(cell["score"]) for label, cell in found["overall"]["scores"].items()
    }
    assert 1200.0 == found["models"][0]["cost"]["tokens_per_s"]
    assert "fp-bi" == found["models"][1]["fingerprint"]
    assert [("uni", 0.45), ("bi", 0.5)] == [
        (row["step"], pytest.approx(next(iter(row["scores"].values())))) for row in found["ablations"][0]["steps"]
    ]
    assert found["paper"] is None
    assert ["bm25 has no mean over all tasks: not measured on STS"] == found["notes"]


def test_csv_has_one_line_for_each_number(measured: Any) -> None:
    ended = measured("eval", "report", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    found = {(row["kind"], row["category"], row["task"], row["model"]): row for row in rows}
    bi = found["task", "Retrieval", "quest", "bi"]
    assert 0.525 == float(bi["score"])
    assert [0.125] * 3 == [
        pytest.approx(float(bi[name])) for name in ("difference", "difference_low", "difference_high")
    ]
    assert ("True", "1000", "600", "1200.0", "7", "1") == tuple(
        bi[name] for name in ("significant", "texts", "tokens", "tokens_per_s", "truncated", "empty")
    )
    assert "" == found["task", "STS", "likeness", "bm25"]["score"]
    assert 0.5 == pytest.approx(float(found["overall", "", "", "bi"]["score"]))
    assert 0.45 == pytest.approx(float(found["step", "", "uni", "uni"]["score"]))
    # Two tasks, two categories and the mean of all, for three models; two steps.
    assert 5 * 3 + 2 == len(rows)


def test_markdown_has_all_tables(measured: Any) -> None:
    ended = measured("eval", "report", "--format", "md")
    assert (
        "| task | uni | bi | bm25 |\n| --- | ---: | ---: | ---: |\n| **Retrieval (nDCG@10)** |  |  |  |\n" in ended.out
    )
    assert "| **52.5 +12.5 [+12.5, +12.5] \\*** |" in ended.out
    assert "| likeness | **50.0** | 47.5 -2.5 | - |" in ended.out
    assert "| mean of 2 | 45.0 | **50.0 +5.0** | - |" in ended.out
    assert "| Uni | - | 45.0 |" in ended.out
    assert "| uni | 2 | 2,000 | 1,200 | 1,200 | 14 | 2 | 1.0 s | 4.0 s |" in ended.out
    assert "- bm25 has no mean over all tasks: not measured on STS\n" in ended.out
    assert (
        "- bi: encoder, smollm2-135m, `fp-bi`\n- bm25: bm25, bm25, `fp-bm25`\n- machine: A machine, 2 threads\n"
        in ended.out
    )
    widths = {line.count(" | ") for line in ended.out.split("\n\n")[1].splitlines()}
    assert {3} == widths


VOID = {"meta", "br"}


class Page(HTMLParser):
    """Reads a page: its tables as text, and that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.scripts = 0
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop(), tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page_of(shell: Any, *args: str) -> str:
    ended = shell("eval", "report", "--html", "report.html", *args)
    assert 0 == ended.code, ended.err
    assert "wrote report.html" in ended.err
    text: str = (shell.folder / "report.html").read_text(encoding="utf-8")
    return text


def test_the_page_has_the_same_numbers(measured: Any) -> None:
    text = page_of(measured)
    rows = Page(text).rows
    assert ["task", "uni", "bi", "bm25"] == rows[0]
    (quest,) = [row for row in rows if row[0] == "quest" and "+" in row[2]]
    assert ["quest", "40.0", "52.5+12.5 * [+12.5, +12.5]"] == quest[:3]
    assert re.fullmatch(rf"40\.0\+0\.0 {BM25_RANGE}", quest[3])
    assert ["likeness", "50.0", "47.5-2.5", "not measured-"] in rows
    assert ["all tasks: mean of 2", "45.0", "50.0+5.0", "not measured-"] in rows
    assert ["Uni", "-", "45.0"] in rows
    assert ["uni", "2", "2,000", "1,200", "1,200", "14", "2", "1.0 s", "4.0 s"] in rows
    assert any(row[:4] == ["bi", "encoder", "smollm2-135m", "fp-bi"] for row in rows)
    assert any(row[:5] == ["quest", "Retrieval", "nDCG@10", "digest-of-data", "Find it"] for row in rows)
    for words in ("2026-11-23", "A machine, 2 threads", "searchctl 1.2.3, mteb 2.26.1", "bm25 has no mean over all"):
        assert words in text
    assert "<code>searchctl eval report --results .searchctl-eval --html report.html</code>" in text


def test_who_reads_no_instruction_was_told_none(shell: Any) -> None:
    store = ResultStore(shell.folder / ".searchctl-eval")
    baseline = Identity(label="st", kind="sentence-transformers", name="st", fingerprint="fp-st")
    for who in (BM25, baseline):
        store.save(result("quest", who, 0.4, settings={"seed": 42}))
    store.save(result("quest", UNI, 0.4, settings={"instructions": {"query": None, "document": ""}}))
    told = [row[4:6] for row in Page(page_of(shell)).rows if row[:2] == ["quest", "Retrieval"]]
    assert [["its own prompts, if any"] * 2, ["none", "none"], ["the model's own", "none"]] == sorted(told)


def test_plots_are_drawn_with_text_tips_and_colours_of_the_page(measured: Any) -> None:
    text = page_of(measured)
    for key in ("bars", "forest", "steps0", "speed"):
        assert f'aria-labelledby="{key}-title {key}-about"' in text
        assert f'<title id="{key}-title">' in text
    assert "<title>bi, quest: +12.5 [+12.5, +12.5] *</title>" in text
    assert "<title>bi: 1,200 tokens/s, mean 50.0</title>" in text
    assert "<title>Uni, weighted mean: 45.0</title>" in text
    plots = "".join(re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL))
    # White as a background of nothing remains of matplotlib's own colours.
    assert set() == set(re.findall(r"(?:fill|stroke): (#\w+)", plots))
    assert {"var(--s0)", "var(--s1)", "var(--s2)", "var(--ink)"} <= set(re.findall(r"var\(--\w+\)", plots))
    assert "prefers-color-scheme:dark" in text


def test_the_page_needs_nothing_from_elsewhere_and_parses(measured: Any) -> None:
    text = page_of(measured, "--compare", "paper")
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text.replace("// ", ""))
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert {"#"} == {value[0] for _, name, value in page.attributes if name in ("href", "src")}
    wanted = {value for _, name, value in page.attributes if name == "href"}
    assert {value[1:] for value in wanted} <= set(page.ids)
    assert "default-src 'none'" in text


HOSTILE = '<script>alert("1")</script> $a$ "id="x'


def test_labels_are_shown_and_never_obeyed(shell: Any) -> None:
    store = ResultStore(shell.folder / ".searchctl-eval")
    mean, looking = encoder(HOSTILE, fingerprint="f1"), encoder("a|b*", fingerprint="f2", chain=["<b>"])
    for who, score, values in ((mean, 0.4, BASE), (looking, 0.525, BETTER)):
        store.save(result("</td><img src=x>", who, score, values=values))
    text = page_of(shell)
    page = Page(text)
    assert 1 == page.scripts
    assert not [tag for tag, _, _ in page.attributes if tag == "img"]
    assert ["task", HOSTILE, "a|b*"] == page.rows[0]
    assert "&lt;script&gt;alert" in text
    markdown = shell("eval", "report", "--format", "md").out
    assert (
        "| task | \\<script>alert" in markdown and "| a\\|b\\* |" in markdown and "| \\</td>\\<img src=x> |" in markdown
    )
    assert not re.search(r"(?<!\\)<", markdown)


def test_more_models_than_colours_still_differ(shell: Any) -> None:
    store = ResultStore(shell.folder / ".searchctl-eval")
    for number in range(11):
        who = Identity(label=f"c{number:02}", kind="sentence-transformers", name="x", fingerprint=f"f{number}")
        store.save(result("quest", who, 0.4, values=BASE))
    text = page_of(shell)
    Page(text)
    bars = [
        re.search(rf'<g id="bars-bar{number}x0">.*?style="fill: ([^"]*)"', text, flags=re.DOTALL) for number in (0, 8)
    ]
    assert all(bars)
    first, ninth = (found[1] for found in bars if found)
    assert "var(--s0)" == first
    assert ninth.startswith("url(#bars-")


def test_a_single_model_has_no_differences_and_the_same_page_each_time(shell: Any) -> None:
    ResultStore(shell.folder / ".searchctl-eval").save(RESULTS[0])
    text = page_of(shell)
    assert text == page_of(shell)
    assert ["report.html"] == [path.name for path in Path(shell.folder).glob("*report*")]  # no temporary file
    assert "Differences with intervals" not in text
    assert ["quest", "40.0"] in Page(text).rows
    assert "difference" not in shell("eval", "report").out


def test_models_tasks_and_baseline_can_be_chosen(measured: Any) -> None:
    found = measured(
        "eval",
        "report",
        "--model",
        "bm25",
        "--model",
        "uni",
        "--task",
        "quest",
        "--baseline",
        "uni",
        "-f",
        "json",
    ).json
    assert ["bm25", "uni"] == [who["label"] for who in found["models"]]
    assert ["quest"] == [task["name"] for group in found["categories"] for task in group["tasks"]]
    assert "uni" == found["baseline"]


def test_the_folder_may_come_from_the_environment(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (measured.folder / ".searchctl-eval").rename(measured.folder / "elsewhere")
    monkeypatch.setenv("SEARCHCTL_RESULTS", "elsewhere")
    assert "elsewhere" == measured("eval", "report", "--format", "json").json["results"]


def test_the_paper_stands_beside_a_base_of_its_own(shell: Any) -> None:
    store = ResultStore(shell.folder / ".searchctl-eval")
    mine = encoder("mine", name="mistral-7b-instruct-v0.2", chain=["mntp", "simcse"])
    store.save(result("SciFact", mine, 0.61234, values=BASE))
    store.save(result("stsb-test", mine, 0.7, kind="STS"))
    lines = [" ".join(line.split()) for line in shell("eval", "report", "--compare", "paper").out.splitlines()]
    # Table 11 has 68.67 and table 12 has 78.86 for Mistral on SciFact.
    assert "SciFact 61.23 68.67 78.86" in lines
    assert not [line for line in lines if line.startswith("stsb-test") and "78.65" in line]
    assert "mine 61.23 (1) - - - - 70.00 (1) - 65.62 (2)" in lines
    (row,) = [line for line in lines if line.startswith("Mistral-7B-Instruct-v0.2, Bi + MNTP + SimCSE (table 1)")]
    assert row.endswith("38.05 53.99 40.63 80.94 74.07 78.50 30.19 56.80")
    assert "Bi + MNTP 26.54 53.89 48.93" in lines
    assert not [line for line in lines if "LLaMA" in line]
    assert ["SciFact", "61.23", "68.67", "78.86"] in Page(page_of(shell, "--compare", "paper")).rows
    rows = csv.DictReader(io.StringIO(shell("eval", "report", "--compare", "paper", "--format", "csv").out))
    published = {(row["model"], row["task"], row["data"]): row["score"] for row in rows if row["kind"] == "paper"}
    assert 0.6867 == pytest.approx(float(published["mistral-7b-instruct-v0.2 bi+mntp+simcse", "SciFact", "table 11"]))


def test_the_paper_is_a_reference_only_for_other_models(measured: Any) -> None:
    ended = measured("eval", "report", "--compare", "paper")
    for model in ("S-LLaMA-1.3B", "LLaMA-2-7B-chat", "Mistral-7B-Instruct-v0.2", "Meta-Llama-3-8B-Instruct"):
        assert f"{model}, Uni + supervised (table 2)" in ended.out
    assert "for reference only" in ended.out
    assert "Published scores of the same tasks" not in ended.out


def test_no_results_name_the_command_that_makes_them(new_shell: Any, subtests: pytest.Subtests) -> None:
    for make in [False, True]:
        with subtests.test(make=make):
            shell = new_shell()
            if make:
                (shell.folder / "empty").mkdir()
            ended = shell("eval", "report", "--results", "empty", "--format", "json")
            assert 2 == ended.code
            assert "" == ended.out
            assert '"hint": "searchctl eval run"' in ended.err
            assert ("no result in it" if make else "no such folder") in ended.err


def test_mistakes_are_explained(measured: Any) -> None:
    ended = measured("eval", "report", "--model", "bm52")
    assert (2, "") == (ended.code, ended.out)
    assert re.match(
        r"error: bm52: no result of that model, expected one of [bimnu25, ]+\. Did you mean bm25\?", ended.err
    )
    for target, words in (
        ("nowhere/report.html", "nowhere is no folder to write to"),
        ("full", "--html is full, a folder: expected a file"),
    ):
        (measured.folder / "full").mkdir(exist_ok=True)
        ended = measured("eval", "report", "--html", target)
        assert (2, "") == (ended.code, ended.out)
        assert words in ended.err


def test_the_page_goes_through_a_pipe_and_follows_a_link(measured: Any) -> None:
    whole = page_of(measured).replace("--html report.html", "--html TARGET")
    pipe, link = measured.folder / "pipe", measured.folder / "link.html"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert 0 == measured("eval", "report", "--html", "pipe").code
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(10)
    assert whole == got[0].decode().replace("--html pipe", "--html TARGET")
    link.symlink_to("apart/real.html")
    (measured.folder / "apart").mkdir()
    assert 0 == measured("eval", "report", "--html", "link.html").code
    assert link.is_symlink()
    assert ["real.html"] == [path.name for path in (measured.folder / "apart").iterdir()]
    assert whole == link.read_text(encoding="utf-8").replace("--html link.html", "--html TARGET")


def test_an_open_pipe_without_a_path_is_written_to(tmp_path: Path) -> None:
    """As /dev/stdout is in a pipeline: what the name leads to has no path."""
    from searchctl.app.pages.files import check_target, write_whole

    source, sink = os.pipe()
    name = Path(f"/dev/fd/{sink}")
    check_target("--html", name)
    write_whole(name, b"page")
    os.close(sink)
    with os.fdopen(source, "rb") as file:
        assert b"page" == file.read()


def test_names_in_any_script_give_no_warning(shell: Any, recwarn: pytest.WarningsRecorder) -> None:
    store = ResultStore(shell.folder / ".searchctl-eval")
    for label, fingerprint, values in (("\u6a21\u578b", "f1", BASE), ("\ubaa8\ub378", "f2", BETTER)):
        who = encoder(label, fingerprint=fingerprint, attention="causal" if fingerprint == "f1" else "bidirectional")
        store.save(result("\u691c\u7d22", who, 0.4, values=values))
    text = page_of(shell)
    assert text.count("\u691c\u7d22") > 2
    assert not [str(one.message) for one in recwarn if "Glyph" in str(one.message)]


def test_bm25_has_no_speed(shell: Any) -> None:
    """It encodes nothing, and its words are not tokens."""
    store = ResultStore(shell.folder / ".searchctl-eval")
    for who in (UNI, BI, BM25):
        store.save(result("quest", who, 0.4, values=BASE, tokens=500))
    lines = [" ".join(line.split()) for line in shell("eval", "report").out.splitlines()]
    assert "uni 1 1,000 500 1,000 7 1 0.5 s 2.0 s" in lines
    assert "bm25 1 1,000 500 - 7 1 0.5 s 2.0 s" in lines
    found = shell("eval", "report", "--format", "json").json
    assert [1000.0, 1000.0, None] == [who["cost"]["tokens_per_s"] for who in found["models"]]
    rows = csv.DictReader(io.StringIO(shell("eval", "report", "--format", "csv").out))
    speeds = {row["model"]: row["tokens_per_s"] for row in rows if row["kind"] == "task"}
    assert {"uni": "1000.0", "bi": "1000.0", "bm25": ""} == speeds
    spots = re.findall(r"<title>(\w+): [\d,]+ tokens/s", page_of(shell))
    assert ["uni", "bi"] == spots


def test_without_matplotlib_only_the_page_is_refused(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 0 == measured("eval", "report").code
    ended = measured("eval", "report", "--html", "report.html")
    assert 2 == ended.code
    assert "pip install 'searchctl[eval]'" in ended.err
    assert not (measured.folder / "report.html").exists()


def test_a_narrow_terminal_gets_the_table_in_parts() -> None:
    from searchctl.app.evaluate.report_tables import comparison_table
    from searchctl.app.terminal.tables import _parts
    from searchctl.training.evaluation.comparison import compare

    table = comparison_table(compare(RESULTS))
    (whole,) = _parts(table, 200)
    assert ["task", "uni", "bi", "bm25"] == [str(column.header) for column in whole.columns]
    parts = list(_parts(table, 60))
    assert [["task", "uni", "bi"], ["task", "bm25"]] == [[str(c.header) for c in part.columns] for part in parts]
