"""What report pages carry: nothing in it can end it or steer a reader's screen, and it stays below its size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.cluster import page as cluster_page
from searchctl.app.dedup import page as dedup_page
from searchctl.app.pages import data as page_data
from searchctl.app.pages.data import LENGTHS, MOST_BYTES, asset, data_block, shown_text, text_limit

SCRIPTS = Path(page_data.__file__).with_name("scripts")
HOSTILE = (
    "</script><script>window.taken = 1</script><!-- <img src=x onerror='window.taken=1'> & \" \\ "
    "\x00\x1b[31m \u202e x \ud800 \u2028"
)


def carried(page: str) -> Any:
    """Return the data of a page as a browser would read it: up to the first end of a script."""
    start = page.index('id="data">') + len('id="data">')
    return json.loads(page[start : page.index("</script", start)])


def test_data_is_read_back_whole_whatever_is_in_it() -> None:
    value = {"</script>": ["<!--", "<script>", "]]>", 'a"b\\c', "\n\t"], "number": 0.1}
    block = data_block(value)

    assert value == carried(block)
    assert 1 == block.count("</script")
    assert "<!--" not in block


def test_limit_is_the_largest_that_fits(subtests: pytest.Subtests) -> None:
    for room in [0, 90, 1_000, 10_000, 10**9]:
        with subtests.test(room=room):
            texts = ["line\n" * 700, '<"' * 300, "\N{SNOWMAN}" * 500, ""]

            def taken(limit: int) -> int:
                return len(data_block([text[:limit] for text in texts]).encode()) - len(data_block([]).encode()) - 1

            fitting = [limit for limit in LENGTHS if taken(limit) <= room]
            limit = text_limit(texts, room)

            assert (max(fitting) if fitting else 0) == limit


def test_cut_text_tells_its_whole_length() -> None:
    assert ("abc", 5) == shown_text("abcde", 3)
    assert ("abcde", 0) == shown_text("abcde", 5)


def test_assets_are_small_and_cannot_end_their_element(subtests: pytest.Subtests) -> None:
    for path in sorted(SCRIPTS.iterdir()):
        with subtests.test(path=path):
            text = asset(path.name)

            assert len(text.splitlines()) <= 300
            assert not re.search(r"</(script|style)|<!--", text, flags=re.IGNORECASE)
            assert not re.search(
                r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML|insertAdjacentHTML|eval\(", text
            )


def hostile(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with each text, title and name replaced by one that would like to be more than text."""
    names = {"path", "place", "title", "text", "collection", "instruction"}

    def visit(value: Any, key: str | None = None) -> Any:
        if isinstance(value, dict):
            return {name: visit(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [visit(inner, key) for inner in value]
        return HOSTILE + value if key in names and isinstance(value, str) else value

    changed: dict[str, Any] = visit(report)
    return changed


def test_nothing_in_a_report_is_more_than_text(made_up: Any, subtests: pytest.Subtests) -> None:
    for kind in ["dedup", "leaks", "cluster"]:
        with subtests.test(kind=kind):
            if kind == "cluster":
                report, module = made_up.cluster_report(items=40, clusters=3), cluster_page
            else:
                report, module = (
                    made_up.dedup_report(groups=5, items=50, against=HOSTILE if kind == "leaks" else None),
                    dedup_page,
                )
            plain = module.page(report | {"against": "x"} if kind == "leaks" else report, command="searchctl x")
            page = module.page(hostile(report), command=f"searchctl {HOSTILE}")

            page.encode()  # half a surrogate pair could not be written
            assert plain.count("<script") == page.count("<script")
            assert plain.count("<img") == page.count("<img") == 0
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", page)
            assert "window.taken" in json.dumps(carried(page))


def test_long_texts_are_cut_and_the_page_says_so(made_up: Any, subtests: pytest.Subtests) -> None:
    for module in [dedup_page, cluster_page]:
        with subtests.test(module=module):
            long = "many words of one long text < " * 1_000
            if module is dedup_page:
                report = made_up.dedup_report(groups=300, items=1_000)
                changed = [item for group in report["groups"] for item in (group["kept"], *group["dropped"])]
            else:
                report = made_up.cluster_report(items=1_500, clusters=4)
                changed = report["assignments"]
            for item in changed:
                item["text"] = long
            assert len(long) * len(changed) > MOST_BYTES

            page = module.page(report, command="searchctl x")
            said = re.search(r'id="cut" data-limit="(\d+)" data-cut="(\d+)"', page)

            assert len(page.encode()) < 15_000_000
            assert said is not None
            limit, cut = map(int, said.groups())
            assert 0 < limit < len(long)
            assert len(changed) == cut
            data = carried(page)
            if module is dedup_page:
                kept = data["groups"][0]["kept"]
                assert (long[:limit], len(long)) == (kept["text"], kept["cut"])
            else:
                assert {long[:limit]} == set(data["points"]["text"])
                assert {len(long)} == set(data["points"]["cut"])


def test_short_texts_are_whole_and_no_cut_is_told(made_up: Any) -> None:
    report = made_up.cluster_report(items=60, clusters=3)
    page = cluster_page.page(report, command="searchctl x")

    assert [one["text"] for one in report["assignments"]] == carried(page)["points"]["text"]
    assert 'id="cut"' not in page


def test_same_report_gives_the_same_page(made_up: Any) -> None:
    for module, report in (
        (dedup_page, made_up.dedup_report(groups=9, items=90)),
        (cluster_page, made_up.cluster_report(items=50, clusters=3)),
    ):
        assert module.page(report, command="x") == module.page(json.loads(json.dumps(report)), command="x")
