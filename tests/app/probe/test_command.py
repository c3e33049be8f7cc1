"""`searchctl probe` as a user runs it, on tiny decoders."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from searchctl.app.probe.run import ProbeWords
from searchctl.app.probe.table import heat_map
from searchctl.training.probing.prefix_test import read_triples
from searchctl.training.probing.probe import PARTS, ProbeProgress
from searchctl.training.probing.tolerance import Tolerance

if TYPE_CHECKING:
    from conftest import Shell  # type: ignore[import-not-found]

MakeFolder = Callable[..., Path]
TEXT = "Prices in $ rise & fall;\n<b>nobody</b> knows why.\n"


@pytest.fixture(scope="session")
def flat_folder(make_folder: MakeFolder) -> Path:
    """One layer: all triples in a second."""
    return make_folder("llama", bos=True, num_hidden_layers=1)


@pytest.fixture
def probed(shell: Shell, flat_folder: Path) -> Any:
    """The shell after one run that wrote everything."""
    shell.write("text.txt", TEXT)
    ended = shell(
        *("probe", flat_folder, "--text", "text.txt", "--precision", "fp32", "--device", "cpu"),
        *("--html", "probe.html", "--png", "map.png", "--format", "json"),
    )
    assert 0 == ended.code, ended.err
    return ended


def test_json_holds_everything(probed: Any, shell: Shell) -> None:
    document = probed.json
    assert 1 == document["schema"]
    assert ("LlamaModel", "cpu", "float32") == tuple(document[key] for key in ("architecture", "device", "precision"))
    assert document["verdict"]["answer"] in ("needs-mntp", "tolerates", "unclear")
    assert {"near_one": 0.9, "low": 0.7, "auc_separated": 0.75, "auc_mixed": 0.6, "p_value": 0.05} == document[
        "verdict"
    ]["thresholds"]
    proof = document["proof"]
    assert (True, []) == (proof["passed"], proof["failures"])
    assert [("layers.0", True)] == [(layer["name"], layer["passed"]) for layer in proof["layers"]]
    tolerance = document["tolerance"]
    assert " ".join(TEXT.split()) == tolerance["text"]
    assert ["embedding", "layers.0"] == tolerance["rows"]
    cosines = np.array(tolerance["cosines"])
    assert (2, len(tolerance["tokens"])) == cosines.shape
    assert pytest.approx(cosines[1].mean()) == tolerance["last_layer"]
    assert pytest.approx(cosines[1, 1:].mean()) == tolerance["similarity"]
    test = document["prefix_test"]
    assert len(read_triples()) == len(test["triples"])
    assert len(read_triples()) == test["causal"]["undecided"]
    assert len(read_triples()) == sum(test["bidirectional"]["histogram"]["positive"])
    assert 16 == len(test["bidirectional"]["histogram"]["edges"])


class Page(HTMLParser):
    """Collects what a page asks for from elsewhere, its tags and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.foreign.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_stands_alone_and_says_the_same(probed: Any, shell: Shell) -> None:
    content = (shell.folder / "probe.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(content)
    assert [] == page.foreign
    assert "@import" not in content
    assert 2 == page.tags.count("svg")
    assert {"script", "link", "b"} & set(page.tags) <= {"b"}
    assert "<b>nobody</b> knows why." in page.text  # of the text, escaped
    assert "prefers-color-scheme: dark" in content
    document = probed.json
    assert document["verdict"]["sentence"][1:].replace("`", "") in page.text
    assert f"{document['tolerance']['similarity']:.3f}" in page.text
    assert f"{document['prefix_test']['bidirectional']['auc']:.3f}" in page.text
    assert all(triple["prefix"] in page.text for triple in document["prefix_test"]["triples"])


def test_pages_go_through_pipes_and_links(probed: Any, shell: Shell, flat_folder: Path) -> None:
    pipe, link = shell.folder / "pipe", shell.folder / "link.png"
    os.mkfifo(pipe)
    link.symlink_to("real.png")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    how = ("--text", "text.txt", "--precision", "fp32", "--device", "cpu")
    assert 0 == shell("probe", flat_folder, *how, "--html", "pipe", "--png", "link.png").code
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(10)
    assert (shell.folder / "probe.html").read_bytes() == got[0]
    assert link.is_symlink()
    assert (shell.folder / "map.png").read_bytes() == (shell.folder / "real.png").read_bytes()


def test_png_is_a_picture(probed: Any, shell: Shell) -> None:
    content = (shell.folder / "map.png").read_bytes()
    assert b"\x89PNG\r\n\x1a\n" == content[:8]
    width, height = struct.unpack(">II", content[16:24])
    assert width > 800
    assert height > 250
    assert ["map.png", "probe.html", "text.txt"] == sorted(path.name for path in shell.folder.iterdir())


def test_table_for_a_person(shell: Shell, flat_folder: Path) -> None:
    ended = shell("probe", flat_folder, "--device", "cpu", "--max-tokens", "120")
    assert 0 == ended.code, ended.err
    assert re.search(r"^layers\.0 +LlamaDecoderLayer .* yes ", ended.out, flags=re.M)
    assert re.search(r"^embedding  9{89}$", ended.out, flags=re.M)  # 120 tokens in what 100 columns leave
    assert re.search(r"^causal: 0 of \d+ right, 0 wrong, (\d+) undecided; AUC 0\.500", ended.out, flags=re.M)
    assert "Rule after LLM2Vec" in ended.out
    assert "\x1b" not in ended.out
    assert re.search(r"the text is \d+ tokens longer than 120 and was cut there", ended.err)


def test_a_model_that_fails_the_proof_ends_with_0(shell: Shell, make_folder: MakeFolder) -> None:
    folder = make_folder("lfm2", num_hidden_layers=2, layer_types=["full_attention", "conv"])
    shell.write("text.txt", TEXT)
    ended = shell("probe", folder, "--text", "text.txt", "--device", "cpu")
    assert 0 == ended.code, ended.err
    assert re.search(r"^layers\.1 +Lfm2DecoderLayer, conv .* does not see the future", ended.out, flags=re.M)
    assert "cannot be bidirectional: 1 of 2 layers fail the proof" in ended.out


@pytest.fixture(scope="session")
def adapted_folder(make_folder: MakeFolder, bring_adapter: Callable[..., None]) -> Path:
    """A base that brings an adapter of MNTP, which changes its states."""
    folder = make_folder("llama", bos=True, num_hidden_layers=1, seed=5)
    bring_adapter(folder, "mntp/step-000010")
    return folder


def test_with_adapters_the_verdict_names_them_and_how_to_probe_the_base(
    shell: Shell, adapted_folder: Path, flat_folder: Path
) -> None:
    common = ("--text", "text.txt", "--precision", "fp32", "--device", "cpu", "--format", "json")
    shell.write("text.txt", TEXT)
    ended = shell("probe", adapted_folder, *common, "--html", "probe.html")
    verdict = ended.json["verdict"]
    assert "adapted" == verdict["answer"]
    assert verdict["sentence"].startswith("with the adapter mntp applied, causal and bidirectional states have a simi")
    bare = f"searchctl probe {adapted_folder} --chain 0"
    assert verdict["sentence"].endswith(f"This says nothing about the bare base: `{bare}` probes it")
    page = (shell.folder / "probe.html").read_text()
    assert '<section class="verdict adapted">' in page
    assert f"<code>{bare}</code>" in page
    base = shell("probe", adapted_folder, *common, "--chain", "0").json
    assert base["verdict"]["answer"] in ("needs-mntp", "tolerates", "unclear")
    assert "`searchctl probe" not in base["verdict"]["sentence"]
    assert base["tolerance"]["similarity"] != ended.json["tolerance"]["similarity"]
    # An adapter that was given and is not the model's own goes when it is not given.
    given = shell("probe", flat_folder, *common, "--adapter", adapted_folder / "mntp" / "step-000010").json
    assert given["verdict"]["sentence"].endswith(f"`searchctl probe {flat_folder}` probes it")


def test_mistakes_are_told(new_shell: Any, flat_folder: Path, subtests: pytest.Subtests) -> None:
    for options, words in [
        (["no-such-model"], "no model is called 'no-such-model'"),
        (["hashing"], "hashing has no layers to look into"),
        (["FOLDER", "--text", "missing.txt"], "missing.txt: No such file"),
        (["FOLDER", "--text", "empty.txt"], "--text is empty.txt, which holds no text"),
        (["FOLDER", "--text", "binary.txt"], "--text is binary.txt, which is not UTF-8 (byte 1)"),
        (["FOLDER", "--html", "."], "--html is ., a folder"),
        (["FOLDER", "--png", "nowhere/map.png"], "is no folder to write to"),
        (["FOLDER", "--chain", "1"], "chain is 1"),
        (["FOLDER", "--adapter", "nowhere"], "--adapter is nowhere: no such folder"),
    ]:
        with subtests.test(options=options, words=words):
            shell = new_shell()
            shell.write("empty.txt", " \n")
            shell.write("binary.txt", b"a\xff\xfe")
            ended = shell("probe", *[str(flat_folder) if word == "FOLDER" else word for word in options])
            assert 2 == ended.code
            assert words in ended.err
            assert "" == ended.out


def test_pictures_need_the_extra(shell: Shell, flat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = shell("probe", flat_folder, "--html", "probe.html")
    assert 2 == ended.code
    assert "--html needs the extra eval: `pip install 'searchctl[eval]'`" in ended.err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from searchctl.app.cli import run; run(['probe', '--help']); "
        "heavy = {'torch', 'transformers', 'numpy', 'matplotlib', 'mteb', 'faiss', 'peft', 'tokenizers'}; "
        "sys.exit(sorted(heavy & set(sys.modules)).__repr__() if heavy & set(sys.modules) else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (0, "") == (ended.returncode, ended.stderr)


def tolerance_of(cosines: list[list[float]]) -> Tolerance:
    values = np.array(cosines)
    return Tolerance(
        text="",
        tokens=tuple("abcdefgh"[: values.shape[1]]),
        cut=0,
        rows=("embedding", *(f"layers.{number}" for number in range(len(values) - 1))),
        cosines=values,
        last_before_norm=values[-1],
    )


def test_the_bar_says_what_is_done_of_what_and_the_time_left() -> None:
    clock = [0.0]
    said: list[tuple[float, str]] = []
    words = ProbeWords(lambda share, text: said.append((share, text)), now=lambda: clock[0])
    for at, part, done in ((0, 0, 0), (50, 1, 0), (60, 2, 0), (70, 2, 10), (90, 3, 30)):
        clock[0] = at
        words.told(ProbeProgress(part=PARTS[part], triples_done=done, triples_total=40))
    assert [
        (0.0, "1 of 4, proof"),
        (0.05, "2 of 4, tolerance"),
        (0.1, "3 of 4, prefix test, causal"),
        (0.325, "3 of 4, prefix test, causal: 10 of 40 triples, 30 s left"),
        (0.775, "4 of 4, prefix test, bidirectional: 30 of 40 triples, 10 s left"),
    ] == [(pytest.approx(share), text) for share, text in said]


def test_digits_of_the_heat_map_by_hand() -> None:
    shown = heat_map(tolerance_of([[1.0, 1.0, 1.0, 1.0], [0.95, 0.3, 0.29, -0.2]]), width=100, colored=False)
    assert ["embedding  9999", "layers.0   932-"] == shown.plain.splitlines()[:2]
    # Two columns for four tokens: the means of (0.95, 0.3) and (0.29, -0.2).
    narrow = heat_map(tolerance_of([[1.0, 1.0, 1.0, 1.0], [0.95, 0.3, 0.29, -0.2]]), width=13, colored=False)
    assert ["embedding  99", "layers.0   60"] == narrow.plain.splitlines()[:2]


def test_colours_of_the_heat_map() -> None:
    """Two layers a line, upper and lower half; an odd last one has nothing below it."""
    shown = heat_map(tolerance_of([[1.0, 1.0], [0.0, 0.5], [1.0, -1.0]]), width=100, colored=True)
    assert [
        "embedding  \N{UPPER HALF BLOCK}\N{UPPER HALF BLOCK}",
        "layers.1   \N{UPPER HALF BLOCK}\N{UPPER HALF BLOCK}",
    ] == (shown.plain.splitlines()[:2])
    styles = [span.style for span in shown.spans if not isinstance(span.style, str)][:4]
    yellow, violet, teal = (253, 231, 37), (68, 1, 84), (33, 144, 141)  # viridis at 1, 0 and 0.5
    assert [yellow, yellow, yellow, violet] == [tuple(style.color.triplet) for style in styles]
    assert [violet, teal, None, None] == [style.bgcolor and tuple(style.bgcolor.triplet) for style in styles]


def test_an_unknown_model_is_said_before_torch_is_imported(shell: Any) -> None:
    script = (
        "import sys; from searchctl.app.cli import run; code = run(['probe', 'nosuch', '--format', 'json']);"
        "sys.exit(f'{code}' if code != 2 or 'torch' in sys.modules else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=shell.folder, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stderr)["type"] == "UnknownModelError"
