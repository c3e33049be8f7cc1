"""`searchctl probe --depth` as a user runs it, on a tiny decoder."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr

from searchctl.app.probe.depth import depth_table
from searchctl.encoder.config import EncoderConfig, Precision
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.training.probing.depth_scan import DepthRow, DepthScan

if TYPE_CHECKING:
    from conftest import Shell  # type: ignore[import-not-found]

MakeFolder = Callable[..., Path]
WORDS = ("wool", "iron", "bread", "river", "paper", "garden")
ROWS = [
    {"a": f"The {a} of {b}.", "b": f"Some {b} and {WORDS[(i * j) % 6]}.", "score": (7 * i + 3 * j) % 6}
    for i, a in enumerate(WORDS)
    for j, b in enumerate(WORDS)
]
HOW = ("--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="session")
def deep_folder(make_folder: MakeFolder) -> Path:
    return make_folder("llama", bos=True, seed=11)


@pytest.fixture
def written(shell: Shell) -> Shell:
    """A shell with pairs and texts."""
    shell.write("pairs.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    shell.write("texts.txt", "".join(f"Line {i} is about {WORDS[i % 6]}.\n" for i in range(40)))
    return shell


def score_of(folder: Path) -> float:
    """Spearman of a model as it is searched with."""
    encoder = open_encoder(EncoderConfig(model=str(folder), precision=Precision.FP32, device="cpu"))
    first, second = (encoder.encode([row[side] for row in ROWS], role=Role.DOCUMENT) for side in "ab")
    cosines = (first.astype(np.float64) * second).sum(axis=1)
    return float(spearmanr(cosines, [row["score"] for row in ROWS]).statistic)


def depth(shell: Shell, folder: Path, *more: str | Path) -> Any:
    ended = shell("probe", folder, "--depth", "--dev", "pairs.jsonl", *HOW, *more)
    assert 0 == ended.code, ended.err
    return ended


def test_json_says_what_encoders_of_that_depth_score(written: Shell, deep_folder: Path, tmp_path: Path) -> None:
    document = depth(written, deep_folder, "--format", "json").json
    assert (1, "LlamaModel", "cpu", "float32", "bidirectional", "mean") == tuple(
        document[key] for key in ("schema", "architecture", "device", "precision", "attention", "pooling")
    )
    assert (36, None) == (document["dev"]["pairs"]["rows"], document["teacher"])
    rows = document["layers"]
    assert [(0, None), (1, None), (2, None), (3, None)] == [(row["layers"], row["mapped"]) for row in rows]
    expected = {}
    for layers in (1, 2, 3):
        folder = shutil.copytree(deep_folder, tmp_path / str(layers))
        (folder / "searchctl.json").write_text(json.dumps({"layers": layers}))
        expected[layers] = score_of(folder)
        assert expected[layers] == pytest.approx(rows[layers]["plain"]["pairs"], abs=1e-6)
        assert rows[layers]["deciding"] == rows[layers]["plain"]["pairs"]
    best = max(expected, key=lambda layers: expected[layers])
    fewest = min(layers for layers in expected if expected[layers] >= expected[best] - 0.005)
    assert (best, fewest, 0.005) == (document["best"], document["fewest"], document["within"])
    command = f"searchctl train run --model {deep_folder} --layers {fewest} --stages mntp,simcse --data FILE"
    assert command == document["command"]


def test_table_marks_the_best_and_says_what_to_do(written: Shell, deep_folder: Path) -> None:
    document = depth(written, deep_folder, "--format", "json").json
    out = depth(written, deep_folder).out
    assert "Spearman x 100 on pairs (36 pairs), by layers kept; 0 is the embeddings" in out
    highest = max(row["deciding"] for row in document["layers"])
    for row in document["layers"]:
        (line,) = re.findall(rf"^ *{row['layers']} +(-?\d+\.\d) *(.*)$", out, flags=re.M)
        assert f"{100 * row['deciding']:.1f}" == line[0]
        bar = round(20 * max(0.0, row["deciding"]) / highest)
        assert bar == line[1].count("\N{FULL BLOCK}")
        assert ("best" in line[1], "fewest" in line[1]) == (
            row["layers"] == document["best"],
            row["layers"] == document["fewest"],
        )
    best = document["layers"][document["best"]]["deciding"]
    assert f"the best is {100 * best:.1f}, at {document['best']} of 3 layers" in out
    assert document["fewest"] == 3 or f"`{document['command']}`" in out


def test_bars_and_marks_by_hand() -> None:
    scores = [None, 0.796, -0.1, 0.8]
    rows = tuple(DepthRow(layers=layers, plain={"a": score}, mapped=None) for layers, score in enumerate(scores))
    table = depth_table(DepthScan(rows=rows, best=3, fewest=1), {"a": scores})
    console = Console(width=60, file=io.StringIO(), no_color=True)
    with console.capture() as captured:
        console.print(table)
    bar = 20 * "\N{FULL BLOCK}"
    assert [
        "layers      a",
        "     0      -",
        f"     1   79.6  {bar} fewest",
        "     2  -10.0",
        f"     3   80.0  {bar} best",
    ] == [line.rstrip() for line in captured.get().splitlines()]


def test_an_adapted_model_keeps_its_adapters_in_the_command(
    written: Shell, make_folder: MakeFolder, bring_adapter: Callable[..., None]
) -> None:
    folder = make_folder("llama", bos=True, seed=5)
    bring_adapter(folder, "mntp/step-000010")
    whole = depth(written, folder, "--format", "json").json
    assert [str(folder / "mntp" / "step-000010")] == whole["adapters"]
    assert "--stages simcse" in whole["command"]
    assert score_of(folder) == pytest.approx(whole["layers"][3]["deciding"], abs=1e-6)
    bare = depth(written, folder, "--format", "json", "--chain", "0").json
    assert [] == bare["adapters"]
    assert "--stages mntp,simcse" in bare["command"]
    assert bare["layers"][3]["deciding"] != whole["layers"][3]["deciding"]


def test_teacher_adds_what_a_map_to_it_scores(written: Shell, deep_folder: Path) -> None:
    taught = ("--teacher", "hashing", "--texts", "texts.txt", "--png", "curve.png")
    out = depth(written, deep_folder, *taught).out
    assert "mapped: after a ridge map to hashing, fitted on 40 texts" in out
    assert re.search(r"^layers +pairs +mapped", out, flags=re.M)
    written.write("texts.jsonl", "".join(json.dumps({"text": f"Line {i} is about {WORDS[i % 6]}."}) + "\n"
                                         for i in range(40)))  # fmt: skip
    document = depth(written, deep_folder, *taught[:3], "texts.jsonl", "--format", "json").json
    assert ("hashing", 40) == (document["teacher"]["name"], document["teacher"]["texts"])
    assert "--stages mntp,distill --teacher hashing" in document["command"]
    shown = re.findall(r"^ *\d +(-?\d+\.\d) +(-?\d+\.\d)", out, flags=re.M)
    assert [
        (f"{100 * row['plain']['pairs']:.1f}", f"{100 * row['mapped']['pairs']:.1f}") for row in document["layers"]
    ] == shown
    assert all(row["deciding"] == row["mapped"]["pairs"] for row in document["layers"])
    picture = (written.folder / "curve.png").read_bytes()
    assert b"\x89PNG\r\n\x1a\n" == picture[:8]
    assert struct.unpack(">II", picture[16:24])[0] > 800


def test_several_files_have_a_mean(written: Shell, deep_folder: Path) -> None:
    written.write("others.jsonl", "".join(json.dumps(row | {"score": row["score"] ** 2 % 5}) + "\n" for row in ROWS))
    out = depth(written, deep_folder, "--dev", "others.jsonl").out
    assert re.search(r"^layers +pairs +others +mean", out, flags=re.M)
    for line in re.findall(r"^ *\d +(-?\d+\.\d) +(-?\d+\.\d) +(-?\d+\.\d)", out, flags=re.M):
        one, two, mean = map(float, line)
        assert mean == pytest.approx((one + two) / 2, abs=0.11)


def test_texts_that_are_cut_are_told(written: Shell, deep_folder: Path) -> None:
    whole = depth(written, deep_folder, "--format", "json")
    assert "" == whole.err
    short = depth(written, deep_folder, "--format", "json", "--max-tokens", "4")
    texts = {row[side] for row in ROWS for side in "ab"}
    assert f"{len(texts)} of {len(texts)} texts are longer than 4 tokens and were cut there" in short.err
    assert whole.json["layers"] != short.json["layers"]


PAIR = '{"a": "x", "b": "y", "score": %s}\n'


def test_mistakes_are_told_before_a_model_is_looked_for(written: Shell, subtests: pytest.Subtests) -> None:
    for options, words in [
        ("--dev pairs.jsonl", "--dev is of the scan of layers: add --depth, or leave --dev out"),
        ("--teacher hashing", "--teacher is of the scan of layers: add --depth"),
        ("--texts texts.txt", "--texts is of the scan of layers: add --depth"),
        ("--depth", "--depth needs --dev FILE"),
        ("--depth --dev pairs.jsonl --text texts.txt", "--text has no part in --depth"),
        ("--depth --dev pairs.jsonl --html page.html", "--html has no part in --depth"),
        ("--depth --dev pairs.jsonl --teacher hashing", "--teacher needs --texts FILE"),
        ("--depth --dev pairs.jsonl --texts texts.txt", "--texts needs --teacher NAME|FOLDER"),
        ("--depth --dev pairs.jsonl --teacher ' ' --texts texts.txt", "--teacher is ' ': expected a name"),
        ("--depth --dev pairs.jsonl --png nowhere/a.png", "is no folder to write to"),
        ("--depth --dev missing.jsonl", "missing.jsonl: cannot be read"),
        ("--depth --dev empty.jsonl", "empty.jsonl: is empty"),
        ("--depth --dev field.jsonl", "field.jsonl, line 1: score is missing. The line has a, b"),
        ("--depth --dev nan.jsonl", "nan.jsonl, line 1: score is NaN, expected a finite number"),
        ("--depth --dev few.jsonl", "development pairs few: 2 in the file, expected at least 3"),
        ("--depth --dev same.jsonl", "same.jsonl: every score is 1: expected different ones"),
        ("--depth --dev pairs.jsonl --dev ./pairs.jsonl", "two --dev files are called pairs"),
        ("--depth --dev pairs.jsonl --teacher hashing --texts pairs.jsonl", "pairs.jsonl, line 1: text is missing"),
        ("--depth --dev pairs.jsonl --teacher hashing --texts train.jsonl", "--texts is train.jsonl, which holds pai"),
        ("--depth --dev pairs.jsonl --teacher hashing --texts few.txt", "--texts has 2 different texts that are not"),
        ("--depth --dev pairs.jsonl --teacher hashing --texts gone.txt", "gone.txt: no such file"),
        ("--depth --dev pairs.jsonl", "no model is called 'no-such-model'"),
        ("--depth --dev pairs.jsonl --teacher nowhere --texts texts.txt", "'nowhere'"),
    ]:
        with subtests.test(options=options, words=words):
            written.write("empty.jsonl", "")
            written.write("field.jsonl", '{"a": "x", "b": "y"}\n')
            written.write("nan.jsonl", PAIR % "NaN")
            written.write("few.jsonl", PAIR % 1 + PAIR % 2)
            written.write("same.jsonl", 3 * (PAIR % 1))
            written.write("train.jsonl", '{"query": "x", "positive": "y"}\n')
            written.write("few.txt", "one\ntwo\none\n")
            ended = written("probe", "no-such-model", *shlex.split(options))
            assert 2 == ended.code
            assert words in ended.err
            assert "" == ended.out


def test_hashing_has_no_layers(written: Shell) -> None:
    ended = written("probe", "hashing", "--depth", "--dev", "pairs.jsonl")
    assert (2, "") == (ended.code, ended.out)
    assert "hashing has no layers to look into" in ended.err
