"""`searchctl train` as a person uses it: a tiny model through all stages, interrupted and resumed, and its mistakes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

from searchctl.encoder.config import EncoderConfig, Precision
from searchctl.encoder.export.check import LEAST_COSINE
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.training.errors import TrainingError

RECIPE = """
source = "this test"
[mntp]
batch = 4
length = 32
[mntp.schedule]
steps = {steps}
[simcse]
batch = 8
length = 32
[simcse.schedule]
steps = 3
[supervised]
batch = 8
length = 32
[supervised.schedule]
steps = 3
warmup_steps = 1
"""


@pytest.fixture
def work(shell: Any, tiny_folder: Path) -> Any:
    words = ("wool", "iron", "bread", "river", "paper")
    texts = [{"text": f"Sentence {i} of 200 tells of {words[i % 5]} and more."} for i in range(200)]
    pairs = [{"query": f"what is thing {i}", "positive": f"thing {i} is {words[i % 5]}"} for i in range(60)]
    shell.write("data/texts.jsonl", "".join(json.dumps(row) + "\n" for row in texts))
    shell.write("data/pairs.jsonl", "".join(json.dumps(row) + "\n" for row in pairs))
    shell.write("recipe.toml", RECIPE.format(steps=3))
    for path in ("dev.jsonl", "again/dev.jsonl", "loss.jsonl"):
        shell.write(path, '{"a": "wool", "b": "wool is warm", "score": 5}\n{"a": "iron", "b": "a river", "score": 1}\n')
    return shell


def options(tiny_folder: Path, *more: str) -> list[str]:
    given = [
        "--model",
        str(tiny_folder),
        "--stages",
        "mntp,simcse,supervised",
        "--data",
        "data",
        "--recipe",
        "recipe.toml",
    ]
    return ["train", *given, "-o", "out", "--precision", "fp32", *more]


@pytest.mark.timeout(60)
def test_all_stages_end_in_a_folder_that_is_a_model(work: Any, tiny_folder: Path) -> None:
    ended = work(*options(tiny_folder, "--dev", "dev.jsonl", "--evaluate-every", "3"))
    assert ended.code == 0, ended.err
    assert ended.out == f"{work.folder / 'out'}\n"
    assert "searchctl index PATH --model" in ended.err
    assert "supervised     3/3  held out: loss" in ended.err
    embedded = work("embed", "--model", "out", "-f", "jsonl", stdin="wool is warm\n")
    plain = work("embed", "--model", tiny_folder, "-f", "jsonl", stdin="wool is warm\n")
    assert embedded.code == 0, embedded.err
    assert embedded.out != plain.out
    manifest = json.loads((work.folder / "out" / "manifest.json").read_text())
    assert set(manifest["stages"]) == {"mntp", "simcse", "supervised"}


def test_what_was_trained_has_the_same_vectors_in_sentence_transformers(work: Any, tiny_folder: Path) -> None:
    # At a rate that moves the vectors, so that an export without the adapters is another model.
    work.write("recipe.toml", RECIPE.format(steps=3) + "learning_rate = 0.05\n")
    assert work(*options(tiny_folder)).code == 0
    ended = work("models", "export", "out", "-o", "st", "--format", "sentence-transformers")
    assert ended.code == 0, ended.err
    texts = ["wool is warm", "a river of iron", "bread"]
    stock = SentenceTransformer(str(work.folder / "st"), device="cpu").encode_document(texts, normalize_embeddings=True)

    def least_cosine(chain: int | None) -> float:
        config = EncoderConfig(model=str(work.folder / "out"), precision=Precision.FP32, device="cpu", chain=chain)
        vectors = open_encoder(config).encode(texts, role=Role.DOCUMENT)
        return float((vectors * stock).sum(axis=1).min())

    assert least_cosine(None) >= LEAST_COSINE
    assert least_cosine(0) < LEAST_COSINE


DISTILL = (
    RECIPE
    + """
[distill]
batch = 8
length = 64
[distill.schedule]
steps = 3
warmup_steps = 1
[dev.dev]
instruction = "Retrieve semantically similar text."
"""
)


def test_distillation_from_another_encoder(work: Any, tiny_folder: Path, make_folder: Callable[..., Path]) -> None:
    teacher = make_folder(seed=3, hidden_size=48)
    work.write("recipe.toml", DISTILL.format(steps=3))
    given = ["--stages", "distill", "--teacher", str(teacher), "--dev", "dev.jsonl"]
    ended = work(*options(tiny_folder, *given))
    assert ended.code == 0, ended.err
    assert f"teacher {teacher}: 48 dimensions, licence not said" in ended.err
    assert "distill     3/3  held out: loss" in ended.err
    assert "spearman" in ended.err
    assert (work.folder / "out" / "report.html").is_file()
    assert "no report was written" not in ended.err
    manifest = json.loads((work.folder / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["distill"]["teacher"] == [str(teacher)]
    said = manifest["stages"]["distill"]
    assert (said["teacher"]["dim"], said["teacher"]["licence"]) == (48, None)
    assert said["dev"]["dev"]["instruction"] == "Retrieve semantically similar text."
    again = work(*options(tiny_folder, "--stages", "distill", "--teacher", "hashing", "--resume"))
    assert again.code == 2
    assert "the teacher is another" in again.err


def test_an_earlier_run_is_neither_overwritten_nor_resumed_unasked(work: Any, tiny_folder: Path) -> None:
    first = work(*options(tiny_folder, "--max-minutes", "0.00001"))
    assert first.code == 3, first.err
    again = work(*options(tiny_folder))
    assert again.code == 2
    assert "--resume" in again.err
    assert work(*options(tiny_folder, "--resume")).code == 0


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_goes_on(work: Any, tiny_folder: Path) -> None:
    work.write("recipe.toml", RECIPE.format(steps=60))
    running = work.start(*options(tiny_folder, "--save-every", "50"))
    log = work.folder / "out" / "train.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 3, said
    assert "saved" in said
    assert "--resume" in said
    assert f"the report is {work.folder / 'out' / 'report.html'}" in said
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert 2 < max(steps) < 60
    # The last step that was told of is the one that was saved.
    newest = max((work.folder / "out" / "checkpoints" / "mntp").glob("step-*"))
    assert int(newest.name.removeprefix("step-")) == max(steps)
    again = work(*options(tiny_folder, "--save-every", "50", "--resume"))
    assert again.code == 0, again.err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = {
        name: [line["step"] for line in lines if line["stage"] == name] for name in ("mntp", "simcse", "supervised")
    }
    assert told == {"mntp": list(range(61)), "simcse": [0, 1, 2, 3], "supervised": [0, 1, 2, 3]}


def test_mistakes_are_said_before_anything_is_made(work: Any, tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for more, said in [
        (["--stages", "simcse,mntp"], "in this order"),
        (["--recipe", "nowhere"], "--recipe is 'nowhere': expected a TOML file, or one of"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
        (["--resume"], "holds no training run"),
        (["--max-minutes", "-1"], "--max-minutes is -1: expected a number of minutes above 0"),
        (["--max-minutes", "nan"], "--max-minutes is nan: expected a number of minutes above 0"),
        (["--model", "hashing"], "hashing"),
        (["--stages", "mntp,distill"], "the distill stage has no teacher: expected --teacher NAME|FOLDER"),
        (["--stages", "distill", "--teacher", "nowhere"], "the teacher is 'nowhere': no model is called 'nowhere'"),
        (["--stages", "distill", "--teacher", " "], "--teacher is ' ': expected"),
        (["--dev", "dev.jsonl", "--dev", "again/dev.jsonl"], "two --dev files are called dev: expected names of their"),
        (["--dev", "loss.jsonl"], "a --dev file is called loss, which is a held-out score of training itself"),
        (["--teacher", "hashing"], "--teacher is hashing, but --stages mntp,simcse,supervised has no distill"),
    ]:
        with subtests.test(more=more, said=said):
            ended = work(*options(tiny_folder, *more))
            assert ended.code == 2, ended.err
            assert said in ended.err
            assert "bug" not in ended.err
            assert not (work.folder / "out").exists()


def test_bad_data_has_file_and_line(work: Any, tiny_folder: Path) -> None:
    work.write("data/bad.jsonl", '{"text": "fine"}\n{"text": 3}\n')
    ended = work(*options(tiny_folder))
    assert ended.code == 2
    assert "bad.jsonl, line 2: text is 3" in ended.err


@pytest.mark.parametrize("given", [(), ("--gradient-checkpointing",)])
def test_gradient_checkpointing_reaches_the_request(
    given: tuple[str, ...], work: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []

    def listening(request: Any, *_: Any, **__: Any) -> Any:
        requests.append(request)
        raise TrainingError("enough")

    monkeypatch.setattr("searchctl.training.chain.run.train", listening)
    ended = work(*options(tiny_folder, *given))
    assert (ended.code, "enough" in ended.err) == (2, True), ended.err
    assert [request.checkpointing for request in requests] == [bool(given)]
