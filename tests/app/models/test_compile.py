"""`models compile`, what `models info` says of the runtime, and commands without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.errors import ExitCode, explain
from searchctl.encoder.compiled import compare
from searchctl.encoder.compiled.compare import require_same, sample_texts
from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.errors import EncoderError
from searchctl.encoder.hashing import hashing_encoder
from searchctl.encoder.tokenize import load_tokenizer

Make = Callable[..., Path]


def test_compile_proves_and_compares(shell: Any, tiny_folder: Path) -> None:
    before = shell("models", "info", tiny_folder, "--format", "json").json
    assert (before["runtime"]["name"], before["compiled"]) == ("compiled", None)
    made = shell("models", "compile", tiny_folder, "--format", "json").json
    assert made["least_cosine"] > 0.99999
    assert len(made["proof"]["influences"]) == 3
    assert made["bytes"] == sum(path.stat().st_size for path in Path(made["folder"]).iterdir())
    after = shell("models", "info", tiny_folder, "--format", "json").json
    assert after["compiled"] == {key: made[key] for key in ("folder", "bytes", "proof")}
    assert after["encoder"]["fingerprint"] == made["fingerprint"]
    assert shell("models", "compile", tiny_folder).out == f"{made['folder']}\n"


def test_a_model_that_torch_runs_says_why(shell: Any, make_folder: Make) -> None:
    folder = make_folder("gpt2")
    told = shell("models", "info", folder, "--format", "json").json["runtime"]
    assert told["name"] == "torch"
    assert "gpt2" in told["reason"]
    assert shell("models", "compile", folder).code == ExitCode.ERROR


def test_samples_have_every_length_and_no_empty_text(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    texts = sample_texts(tokenizer, 64)
    assert len(texts) == 200
    assert all(text.strip() for text in texts)
    assert texts == sample_texts(tokenizer, 64)
    lengths = [len(tokenizer.encode(text).ids) for text in texts]
    assert min(lengths) == 1
    assert max(lengths) > 40


def test_other_vectors_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "sample_texts", lambda *_: ["cold", "start"])
    first = hashing_encoder(EncoderConfig(model="hashing"))
    assert require_same(first, first) == pytest.approx(1)
    with pytest.raises(EncoderError, match="cosine"):
        require_same(first, _Turned())


class _Turned:
    def encode(self, texts: list[str], **_: object) -> Any:
        return hashing_encoder(EncoderConfig(model="hashing")).encode([text + "x" for text in texts], **_)  # type: ignore[arg-type]


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("peft.utils", "torch"), ("sklearn", "cluster")])
def test_a_package_that_is_not_installed_names_the_extra(package: str, extra: str) -> None:
    failure = explain(ModuleNotFoundError(f"No module named {package!r}", name=package))
    assert failure.code == ExitCode.ERROR
    assert f"searchctl[{extra}]" in failure.error
    assert "bug" not in failure.error


BLOCKED = """
import sys
for name in ("torch", "transformers", "peft", "sklearn", "scipy", "mteb"):
    sys.modules[name] = None  # as if it were not installed
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if sys.modules.get(name, 1) is None else found(name, *rest)
from searchctl.app.cli import main
main()
"""


def test_index_query_and_cluster_without_torch(shell: Any, tiny_folder: Path) -> None:
    """What the base installation has not is not imported, from the first index on."""
    for number in range(12):
        shell.write(f"notes/{number}.txt", f"The capital of France is Paris, number {number}.\n\nBread rises.\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BLOCKED, *words]
        return subprocess.run(command, cwd=shell.folder, capture_output=True, text=True, check=False, timeout=120)

    assert run("index", "notes", "--model", str(tiny_folder)).returncode == 0
    found = run("query", "Paris", "--format", "json", "--mode", "dense")
    assert found.returncode == 0, found.stderr
    assert run("cluster").returncode == 0
    assert run("dedup").returncode == 0
    refused = run("query", "Paris", "--runtime", "torch")
    assert refused.returncode == ExitCode.ERROR
    assert "searchctl[torch]" in refused.stderr
