"""The report pages in a real browser without a network: their numbers are the report's, and all of them works.

One test belongs to the default run; the others are slow.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.cluster import page as cluster_page
from searchctl.app.dedup import page as dedup_page
from searchctl.app.terminal.console import harmless

BLOCKED = ["--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9"]
PATIENCE_S = 90
EVIL = "</script><script>window.taken=1</script><img src=x onerror='window.taken=1'>\x07\u202e &amp; \ud800"
WIDE, PHONE = (1280, 900), (390, 844)


def missing(reason: str) -> None:
    """Skip; where the gate has found a browser, fail."""
    if os.environ.get("SEARCHCTL_TEST_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """One chromium for all tests, and the page that it shows."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, text: str, *, size: tuple[int, int] = WIDE, dark: bool = False) -> None:
        """Show a page again, and what was before is forgotten."""
        path = self.folder / "report.html"
        path.write_text(text, encoding="utf-8")
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        told = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(path.as_uri())

    def js(self, code: str, *args: Any) -> Any:
        return self.driver.execute_script(code, *args)

    def wait(self, code: str, *args: Any) -> Any:
        """Return what the code returns once that is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: self.js(code, *args), code)

    def all(self, selector: str, of: str = "each.textContent") -> list[Any]:
        found: list[Any] = self.js(f"return [...document.querySelectorAll(arguments[0])].map((each) => {of})", selector)
        return found

    def click(self, selector: str) -> None:
        self.js("document.querySelector(arguments[0]).click()", selector)

    def type(self, selector: str, text: str) -> None:
        from selenium.webdriver.common.by import By

        field = self.driver.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)

    def number(self, key: str) -> float:
        return float(self.js("return document.getElementById(arguments[0]).value", key))

    def rows(self, prefix: str, name: str) -> list[float | None]:
        """Return a column of a table, in its order, as exact numbers."""
        values = self.all(f"tr[id^='{prefix}-']:not(.detail) data[data-name='{name}']", "each.value")
        return [float(value) if value else None for value in values]

    def order(self, prefix: str) -> list[str]:
        ids = self.all(f"tr[id^='{prefix}-']:not(.detail)", "each.id")
        return [key.removeprefix(f"{prefix}-") for key in ids]

    def check_quiet(self) -> None:
        """Fail where the console has a word or anything but the page was asked for."""
        assert [] == [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }
        assert {(self.folder / "report.html").as_uri()} == asked
        assert [] == self.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed: pip install 'searchctl[test]'")
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        missing("chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = str(program)
    profile = f"--user-data-dir={folder / 'profile'}"
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", profile]
    for argument in (*quiet, *BLOCKED):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(folder))
    service = webdriver.ChromeService(str(driver_program), env=os.environ | homes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(PATIENCE_S)
        driver.set_script_timeout(PATIENCE_S)
        yield Browser(driver, folder)
        driver.quit()


@pytest.fixture
def browser(session: Browser) -> Iterator[Browser]:
    """The browser; what a test did in it must leave nothing in the console and have asked for nothing."""
    yield session
    session.check_quiet()


@pytest.fixture(scope="module")
def dedup(made_up: Any) -> dict[str, Any]:
    report: dict[str, Any] = made_up.dedup_report(groups=70, items=900)
    for item in (report["groups"][1]["kept"], report["groups"][1]["dropped"][0]):
        item["text"] = f"{EVIL} {item['text']}"
        item["path"] = item["place"] = f"notes/{EVIL}"
        item["title"] = EVIL
    return report


@pytest.fixture(scope="module")
def cluster(made_up: Any) -> dict[str, Any]:
    report: dict[str, Any] = made_up.cluster_report(items=400, clusters=9)
    report["clusters"][0] |= {"title": EVIL, "keywords": [[EVIL, 2.5], ["word", 1.25]]}
    report["assignments"][0] |= {
        "text": f"{EVIL} wombat",
        "place": EVIL,
        "path": EVIL,
        "title": EVIL,
        "x": 0.0,
        "y": 0.0,
    }
    return report


def test_dedup_numbers_are_the_reports(browser: Browser, dedup: dict[str, Any]) -> None:
    browser.open(dedup_page.page(dedup, command="searchctl dedup"))
    summary = dedup["summary"]

    told = {key: dedup[key] for key in ("items", "documents", "bytes")}
    told |= {"groups-count": summary["groups"], "kept": summary["kept"], "dropped": summary["dropped"]}
    told |= {"bytes-saved": summary["bytes_saved"]}
    for tier, counts in summary["tiers"].items():
        told |= {f"{tier}-{key}": value for key, value in counts.items()}
    assert told == {key: browser.number(key) for key in told}
    assert f"{dedup['items']:,}" == browser.js("return document.getElementById('items').textContent")

    browser.click("#groups ~ div + .steps .more")  # the first 50 are shown, then all
    for name in ("size", "lowest", "bytes_saved"):
        assert [group[name] for group in dedup["groups"]] == browser.rows("group", name)
    for tier in ("exact", "near", "semantic"):
        assert [group["tiers"][tier] for group in dedup["groups"]] == browser.rows("group", tier)

    browser.js("for (const fold of document.querySelectorAll('details.numbers')) fold.open = true")
    browser.wait("return document.querySelectorAll('.numbers table').length === 3")
    curve = [
        [f"{at['threshold']:.2f}", *(f"{at[key]:,}" for key in ("pairs", "groups", "dropped", "bytes_saved"))]
        for at in dedup["curve"]
    ]
    assert curve == browser.all("#curve-numbers tbody tr", "[...each.cells].map((cell) => cell.textContent)")
    counts = dedup["histogram"]["counts"]
    first = next(at for at, count in enumerate(counts) if count)
    assert counts[first:] == browser.all("#cosines .bar", "Number(each.dataset.value)")
    assert len(dedup["groups"]) == sum(browser.all("#sizes .bar", "Number(each.dataset.value)"))
    for key, name in (("pairs", "pairs"), ("dropped", "dropped"), ("bytes", "bytes_saved")):
        assert [at[name] for at in dedup["curve"]] == browser.all(f"#curve-{key} .dot", "Number(each.dataset.value)")

    pairs = [pair["cosine"] for pair in dedup["border"]["accepted"][:5]]
    assert pairs == [float(v) for v in browser.all("#accepted data[data-name='cosine']", "each.value")]


@pytest.mark.slow
def test_groups_sort_filter_and_grow(browser: Browser, dedup: dict[str, Any]) -> None:
    browser.open(dedup_page.page(dedup, command="searchctl dedup"))
    groups = dedup["groups"]
    assert [str(group["id"]) for group in groups[:50]] == browser.order("group")
    assert "50 of 70 groups shown" == browser.js("return document.getElementById('group-status').textContent")

    for ascending in (False, True):
        browser.click("button[data-by='lowest']")
        expected = sorted((group["lowest"] for group in groups), reverse=not ascending)
        assert expected[:50] == browser.rows("group", "lowest")
        named = "ascending" if ascending else "descending"
        assert [named] == browser.all("#group-table th[aria-sort]", "each.getAttribute('aria-sort')")

    browser.js(
        "const tier = document.getElementById('group-tier'); tier.value = 'near';"
        "tier.dispatchEvent(new Event('change'))"
    )
    near = [group for group in groups if group["tiers"]["near"]]
    browser.wait("return document.getElementById('group-status').dataset.match === arguments[0]", str(len(near)))
    assert {str(group["id"]) for group in near} >= set(browser.order("group"))

    browser.type("#group-text", "ARCHIVE/07")
    both = [g for g in near if any("archive/07" in item["path"] for item in (g["kept"], *g["dropped"]))]
    browser.wait("return document.getElementById('group-status').dataset.match === arguments[0]", str(len(both)))
    assert 0 < len(both) < len(near)
    by_lowest = sorted(both, key=lambda group: group["lowest"])
    assert [str(group["id"]) for group in by_lowest][:50] == browser.order("group")


@pytest.mark.slow
def test_group_opens_to_its_texts_and_their_difference(browser: Browser, dedup: dict[str, Any]) -> None:
    browser.open(dedup_page.page(dedup, command="searchctl dedup"))
    group = dedup["groups"][1]
    assert len(group["dropped"]) > 20
    browser.click("#group-2 .opener")
    assert "true" == browser.js("return document.querySelector('#group-2 .opener').ariaExpanded")
    assert 20 == len(browser.all("#group-2-detail .items > .item"))
    browser.click("#group-2-detail .more")
    while browser.js("return document.querySelector('#group-2-detail .fold')") is not None:
        browser.js("for (const fold of document.querySelectorAll('#group-2-detail .fold')) fold.click()")

    kept = harmless(group["kept"]["text"])
    assert [kept] == browser.all("#group-2-detail .kept .passage")
    expected = [harmless(item["text"]) for item in group["dropped"]]
    without = (
        "(() => { const copy = each.cloneNode(true); for (const mark of copy.querySelectorAll('{}')) mark.remove();"
        "return copy.textContent; })()"
    )
    items = "#group-2-detail .items .passage"
    assert expected == browser.all(items, without.replace("{}", "del"))
    # Between words that both have, the space is that of the dropped item.
    assert ["".join(kept.split())] * len(expected) == [
        "".join(text.split()) for text in browser.all(items, without.replace("{}", "ins"))
    ]
    scores = [item["score"] for item in group["dropped"]]
    assert scores == [float(v) for v in browser.all("#group-2-detail data[data-name='score']", "each.value")]
    same = [item["tier"] == "exact" for item in group["dropped"][1:]]
    assert any(same)
    for marks, text, equal in zip(
        browser.all(items, "each.querySelectorAll('ins, del').length")[1:],
        expected[1:],
        (text == kept for text in expected[1:]),
        strict=True,
    ):
        assert (marks == 0) == equal, text

    browser.click("#group-2 .opener")
    assert [] == browser.all("#group-2-detail")
    assert browser.js("return window.taken") is None
    assert [] == browser.all("img")


@pytest.mark.slow
def test_diff_of_long_texts_is_true(browser: Browser, dedup: dict[str, Any], words: Callable[[int, int], str]) -> None:
    """Texts too long for a table of all words by all words are split at words that both have once."""
    left = [f"left{n}" if n % 50 == 0 else f"w{n}" for n in range(2600)]
    right = [f"right{n}" if n % 90 == 0 else f"w{n}" for n in range(2600)]
    pair = dedup["border"]["accepted"][0]
    first = pair | {"a": pair["a"] | {"text": " ".join(left)}, "b": pair["b"] | {"text": " ".join(right)}}
    border = {"accepted": [first], "rejected": []}
    browser.open(dedup_page.page(dedup | {"border": border}, command="searchctl dedup"))

    sides = "#accepted .sides .passage"
    assert [" ".join(left), " ".join(right)] == browser.all(sides)
    marked = browser.all(
        sides, "[...each.querySelectorAll('del, ins')].flatMap((m) => m.textContent.trim().split(/ +/))"
    )
    shared = set(left) & set(right)
    assert [[word for word in side if word not in shared] for side in (left, right)] == marked


@pytest.mark.slow
def test_curve_is_pointed_at_with_keys_and_pointer(browser: Browser, dedup: dict[str, Any]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(dedup_page.page(dedup, command="searchctl dedup"))
    said = "return document.getElementById('curve-values').textContent"
    own = next(at for at in dedup["curve"] if at["threshold"] == dedup["threshold"])
    assert browser.js(said).startswith(f"Cosine 0.95: {own['pairs']:,} pairs, {own['groups']:,} groups")

    picture = browser.driver.find_element(By.CSS_SELECTOR, "#curve-pairs svg")
    picture.send_keys(Keys.ARROW_RIGHT)
    picture.send_keys(Keys.ARROW_RIGHT)
    at = dedup["curve"][1]
    assert f"Cosine {at['threshold']:.2f}: {at['pairs']:,} pairs" in browser.js(said)
    ActionChains(browser.driver).move_to_element_with_offset(picture, picture.size["width"] // 2 - 12, 0).perform()
    assert browser.js(said).startswith("Cosine 1.00")
    assert [str(len(dedup["curve"]) - 1)] * 3 == browser.all(".charts:not(.two) figure", "each.dataset.point")


@pytest.mark.slow
def test_leaks_are_called_leaks(browser: Browser, made_up: Any) -> None:
    report = made_up.dedup_report(groups=8, items=200, against="train")
    browser.open(dedup_page.page(report, command="searchctl dedup"))

    assert ["Leaks of notes into train"] == browser.all("h1")
    assert report["against_items"] == browser.number("against-items")
    assert report["summary"]["dropped"] == browser.number("dropped")
    browser.click("#group-1 .opener")
    assert ["in train"] == browser.all("#group-1-detail .kept .badge")
    assert not {"kept", "dropped", "saved"} & set(
        " ".join(browser.all("header, .tiles, figcaption, th")).lower().split()
    )


@pytest.mark.parametrize("empty", ["dedup", "cluster"])
@pytest.mark.slow
def test_nothing_found_is_a_whole_page_too(browser: Browser, made_up: Any, empty: str) -> None:
    if empty == "dedup":
        report = made_up.dedup_report(groups=1, items=3)
        nothing = {"pairs": 0, "dropped": 0, "bytes": 0}
        report |= {"groups": [], "curve": [], "border": {"accepted": [], "rejected": []}}
        report["histogram"]["counts"] = [0] * 200
        report["summary"] = {
            "groups": 0,
            "kept": 0,
            "dropped": 0,
            "bytes_saved": 0,
            "tiers": dict.fromkeys(("exact", "near", "semantic"), nothing),
        }
        browser.open(dedup_page.page(report, command="x"))
        assert 0 == browser.number("groups-count")
    else:
        report = made_up.cluster_report(items=5, clusters=1)
        report |= {"clusters": [], "noise": {"size": 5}}
        report["quality"] = {"silhouette": None, "choice": None, "noise_share": 1.0}
        for one in report["assignments"]:
            one |= {"cluster": None, "to_center": None, "x": 0.5, "y": 0.5}
        browser.open(cluster_page.page(report, command="x"))
        assert 5 == browser.number("noise")
        browser.wait("return document.getElementById('map').dataset.frames > 0")
        assert ["noise"] == browser.order("cluster")


@pytest.mark.parametrize("kind", ["dedup", "cluster"])
@pytest.mark.slow
def test_page_fits_a_phone_and_turns_dark(browser: Browser, dedup: Any, cluster: Any, kind: str) -> None:
    page = dedup_page.page(dedup, command="x") if kind == "dedup" else cluster_page.page(cluster, command="x")
    browser.open(page, size=PHONE, dark=True)
    browser.click("tbody .opener")

    assert PHONE[0] == browser.js("return document.documentElement.scrollWidth")
    assert all(width > 120 for width in browser.all("tbody tr:not(.detail) > td:first-child", "each.clientWidth"))
    assert ["Light colours"] == browser.all(".theme")
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.js(ground)
    browser.click(".theme")
    assert ("light", ["Dark colours"]) == (
        browser.js("return document.documentElement.dataset.theme"),
        browser.all(".theme"),
    )
    light = browser.js(ground)
    assert light != dark
    if kind == "cluster":  # the map is drawn again in the colours of the page
        corner = (
            "const map = document.getElementById('map');"
            "const [r, g, b] = map.getContext('2d').getImageData(2, map.height - 3, 1, 1).data;"
            "return `rgb(${r}, ${g}, ${b})` === arguments[0]"
        )
        browser.wait(corner, light)


@pytest.mark.slow
def test_cluster_numbers_are_the_reports(browser: Browser, cluster: dict[str, Any]) -> None:
    browser.open(cluster_page.page(cluster, command="searchctl cluster"))
    quality, clusters = cluster["quality"], cluster["clusters"]
    told = {"clusters-count": len(clusters), "items": cluster["items"], "documents": cluster["documents"]}
    told |= {"silhouette": quality["silhouette"], "noise": cluster["noise"]["size"]}
    told |= {"noise-share": quality["noise_share"]}
    assert told == {key: browser.number(key) for key in told}

    assert [*(str(one["id"]) for one in clusters), "noise"] == browser.order("cluster")
    for name, noise in (("size", cluster["noise"]["size"]), ("share", quality["noise_share"]), ("cohesion", None)):
        assert [*(one[name] for one in clusters), noise] == browser.rows("cluster", name)
    assert (
        sorted((one["size"] for one in clusters), reverse=True)
        == browser.all("#sizes .bar", "Number(each.dataset.value)")[:-1]
    )
    assert [at["silhouette"] for at in quality["choice"]] == browser.all("#choice .dot", "Number(each.dataset.value)")
    assert [f"{len(clusters)} clusters"] == browser.all("#choice .mark-name")

    browser.click("button[data-by='cohesion']")
    cohesions = sorted((one["cohesion"] for one in clusters), reverse=True)
    assert [*cohesions, None] == browser.rows("cluster", "cohesion")  # noise has none and stays last
    browser.click("button[data-by='cohesion']")
    assert [*cohesions[::-1], None] == browser.rows("cluster", "cohesion")


@pytest.mark.slow
def test_cluster_opens_to_words_examples_and_all_passages(browser: Browser, cluster: dict[str, Any]) -> None:
    browser.open(cluster_page.page(cluster, command="searchctl cluster"))
    largest = cluster["clusters"][0]
    detail = f"#cluster-{largest['id']}-detail"
    browser.click(f"#cluster-{largest['id']} .opener")

    assert [harmless(word) for word, _ in largest["keywords"]] == browser.all(f"{detail} .keywords bdi")
    weights = [weight for _, weight in largest["keywords"]]
    assert weights == [float(v) for v in browser.all(f"{detail} data[data-name='weight']", "each.value")]
    examples = [harmless(item["text"]) for item in largest["representatives"]]
    assert examples == browser.all(f"{detail} .item:not([data-point]) .passage")
    own = [one for one in cluster["assignments"] if one["cluster"] == largest["id"]]
    assert 20 == len(browser.all(f"{detail} [data-point]"))
    while browser.js("return !document.querySelector(arguments[0]).hidden", f"{detail} .more"):
        browser.click(f"{detail} .more")
    near = sorted((round(one["to_center"], 5) for one in own), reverse=True)
    assert near == [float(v) for v in browser.all(f"{detail} data[data-name='to_center']", "each.value")]
    shown = browser.all(f"{detail} [data-point] .passage")
    assert sorted(harmless(one["text"]) for one in own) == sorted(shown)
    assert browser.js("return window.taken") is None


STATE = "return {...document.getElementById('map').dataset}"


def settled(browser: Browser, differs: dict[str, str], *keys: str) -> dict[str, str]:
    """Return the map's state once each of `keys` is other than it was."""
    code = "const now = document.getElementById('map').dataset;"
    code += "return arguments[1].every((key) => now[key] !== arguments[0][key])"
    browser.wait(code, differs, list(keys))
    state: dict[str, str] = browser.js(STATE)
    return state


@pytest.mark.slow
def test_map_pans_and_zooms_by_all_means(browser: Browser, cluster: dict[str, Any]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(cluster_page.page(cluster, command="searchctl cluster"))
    canvas = browser.driver.find_element(By.ID, "map")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    browser.wait("return document.getElementById('map').dataset.frames > 0")
    home = browser.js(STATE)
    assert "1.0000" == home["zoom"]
    assert int(home["labels"]) > 0

    browser.click("#zoom-in")
    near = settled(browser, home, "zoom")
    assert 1.5 == float(near["zoom"])
    ActionChains(browser.driver).drag_and_drop_by_offset(canvas, 90, 40).perform()
    dragged = settled(browser, near, "x", "y")
    assert float(dragged["x"]) < float(near["x"])
    assert float(dragged["y"]) > float(near["y"])
    assert "-1" == dragged["pin"]  # a drag is no click

    wheel = ScrollOrigin.from_element(canvas, 60, 30)
    ActionChains(browser.driver).scroll_from_origin(wheel, 0, -120).perform()
    wheeled = settled(browser, dragged, "zoom", "x", "y")
    assert float(wheeled["zoom"]) > 1.5
    canvas.send_keys("+")
    keyed = settled(browser, wheeled, "zoom")
    canvas.send_keys(Keys.ARROW_RIGHT)
    moved = settled(browser, keyed, "x")
    assert float(moved["x"]) > float(keyed["x"])
    canvas.send_keys("-")
    assert float(settled(browser, moved, "zoom")["zoom"]) < float(moved["zoom"])
    canvas.send_keys("0")
    browser.wait("return document.getElementById('map').dataset.zoom === '1.0000'")

    box = browser.js(
        "const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", canvas
    )
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 120), ("touchEnd", None)):
        places = [{"x": box[0] + side * apart, "y": box[1], "id": side + 1} for side in (-1, 1)] if apart else []
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
    browser.wait("return Number(document.getElementById('map').dataset.zoom) > 2")
    browser.click("#zoom-home")
    browser.wait("return document.getElementById('map').dataset.zoom === '1.0000'")
    assert home["x"] == browser.js(STATE)["x"]


@pytest.mark.slow
def test_map_search_legend_hover_and_pin(browser: Browser, cluster: dict[str, Any]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(cluster_page.page(cluster, command="searchctl cluster"))
    canvas = browser.driver.find_element(By.ID, "map")
    browser.wait("return document.getElementById('map').dataset.frames > 0")
    match = "return document.getElementById('search-status').dataset.match === arguments[0]"

    browser.type("#search", "WOMBAT")  # the first item alone has it, behind all the rest of its text
    browser.wait(match, "1")
    assert ["wombat"] == browser.all("#results mark")
    browser.click("#results .act")
    pinned = browser.wait("const d = document.getElementById('map').dataset; return d.pin === '0' && {...d}")
    assert ("0.00000", "0.00000", "4.0000") == (pinned["x"], pinned["y"], pinned["zoom"])
    first = cluster["assignments"][0]
    assert [harmless(first["text"])] == browser.all("#pin .passage")
    assert [harmless(first["place"])] == browser.all("#pin code")
    assert browser.js("return window.taken") is None

    browser.type("#search", " ")
    browser.wait(match, str(cluster["items"]))
    browser.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser.driver).move_to_element(canvas).perform()
    browser.wait("return document.getElementById('map').dataset.hover === '0'")
    assert [False] == browser.all("#tip", "each.hidden")
    assert harmless(first["text"])[:200] in browser.all("#tip .tip-text")[0]

    canvas.send_keys(Keys.ESCAPE)
    browser.wait("return document.getElementById('map').dataset.pin === '-1' && document.getElementById('pin').hidden")
    ActionChains(browser.driver).move_to_element(canvas).click().perform()
    browser.wait("return document.getElementById('map').dataset.pin === '0' && !document.getElementById('pin').hidden")

    second = cluster["clusters"][1]
    browser.click(f"#legend [data-cluster='{second['id']}']")
    browser.wait(match, str(second["size"]))
    canvas.send_keys(Keys.ESCAPE)
    for where in ((0, 0), (20, 10), (-30, 5)):  # what is filtered out is not pointed at
        ActionChains(browser.driver).move_to_element_with_offset(canvas, *where).perform()
        at = int(browser.js(STATE)["hover"])
        assert at < 0 or cluster["assignments"][at]["cluster"] == second["id"]
    browser.type("#search", "the")
    both = [
        one
        for one in cluster["assignments"]
        if one["cluster"] == second["id"] and "the" in f"{one['place']}\n{one['title']}\n{one['text']}".lower()
    ]
    browser.wait(match, str(len(both)))
    browser.click("#legend-all")
    browser.wait("return document.querySelectorAll('#legend [aria-pressed=true]').length === 0")


@pytest.mark.slow
def test_without_coordinates_there_is_no_map_but_all_else(browser: Browser, made_up: Any) -> None:
    report = made_up.cluster_report(items=90, clusters=3, mapped=False)
    browser.open(cluster_page.page(report, command="searchctl cluster"))

    assert ["This report has no coordinates, so there is no map."] == browser.all("#no-map")
    assert [] == browser.all("canvas")
    word = max(report["assignments"][0]["text"].lower().split(), key=len)
    browser.type("#search", word)
    wanted = [one for one in report["assignments"] if word in f"{one['place']}\n{one['title']}\n{one['text']}".lower()]
    assert 0 < len(wanted) < 90
    browser.wait("return document.getElementById('search-status').dataset.match === arguments[0]", str(len(wanted)))
    assert len(report["clusters"]) + 1 == len(browser.order("cluster"))
