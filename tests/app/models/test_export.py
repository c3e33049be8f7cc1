"""`searchctl models export` as a person types it: streams, the card, a trained folder, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from searchctl.app.models.export import origin_of
from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models import registry
from searchctl.encoder.models.resolve import SHIPPED, resolve
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar

FORM = ("--format", "sentence-transformers")
MERGED = ("--format", "merged")


@pytest.fixture
def model(shell, make_folder: Callable[..., Path]) -> Path:
    folder = shell.folder / "tiny"
    make_folder().rename(folder)
    write_sidecar(folder, Sidecar(max_tokens=64))
    return folder


@pytest.fixture
def trained(shell, model: Path) -> Path:
    """A folder as `searchctl train` leaves it: an adapter, the sidecar that names its base, and the manifest."""
    folder = shell.folder / "trained"
    torch.manual_seed(0)
    peft = get_peft_model(AutoModel.from_pretrained(model), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder / "mntp")
    write_sidecar(folder, Sidecar(base=str(model), adapters=("mntp",), max_tokens=64))
    manifest = {
        "base": str(model),
        "base_revision": "abc123",
        "base_licence": "MIT",
        "stages": {"mntp": {}},
        "data": {"wiki": {"blake3": "0", "rows": 3, "licence": "CC-BY-SA-4.0"}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_folder_is_on_stdout_and_the_lines_that_load_it_on_stderr(shell, model: Path) -> None:
    ended = shell("models", "export", "tiny", "-o", "out", *FORM)
    folder = shell.folder / "out"
    assert (0, f"{folder}\n") == (ended.code, ended.out), ended.err
    lines = [line.strip() for line in ended.err.splitlines()]
    at = lines.index("it is loaded by:")
    assert "from sentence_transformers import SentenceTransformer" == lines[at + 1]
    assert f'model = SentenceTransformer("{folder}")' == lines[at + 2]
    assert any(line.startswith("checked: the least cosine to the encoder's own vectors is 1.0000") for line in lines)

    said: dict[str, object] = {}
    exec("\n".join(lines[at + 1 : at + 3]), said)
    assert (1, 32) == said["model"].encode(["a text"]).shape  # type: ignore[attr-defined]


def test_a_trained_folder_becomes_a_model_that_model_opens(shell, trained: Path) -> None:
    ended = shell("models", "export", "trained", "-o", "out", *MERGED)
    assert 0 == ended.code, ended.err
    assert "1 adapter merged" in ended.err
    assert "model = AutoModel.from_pretrained(" in ended.err
    shell.write("texts.txt", "first text\nsecond text, a longer one\n")
    vectors = {}
    for name in ("trained", "out", "tiny"):
        made = shell("embed", "texts.txt", "--model", name, "-o", f"{name}.npy", "--precision", "fp32")
        assert 0 == made.code, made.err
        vectors[name] = np.load(shell.folder / f"{name}.npy")
    assert np.allclose(vectors["trained"], vectors["out"], atol=1e-5)
    assert not np.allclose(vectors["trained"], vectors["tiny"], atol=1e-2)

    card = (shell.folder / "out/README.md").read_text()
    for fact in ("license: mit", "| base | tiny |", "| adapters | mntp |", "abc123", "wiki (CC-BY-SA-4.0)"):
        assert fact in card
    assert "searchctl models export trained -o out --format merged" in card
    assert str(shell.folder) not in card


def test_a_bare_adapter_is_not_called_the_base(shell, model: Path, trained: Path) -> None:
    for name in ("trained/mntp", "trained"):
        (shell.folder / "trained/manifest.json").unlink(missing_ok=True)
        out = name.replace("/", "-")
        ended = shell("models", "export", name, "-o", f"{out}-out", *MERGED)
        assert 0 == ended.code, ended.err
        card = (shell.folder / f"{out}-out/README.md").read_text()
        for fact in (
            "made from the decoder tiny with the adapters mntp merged",
            "| base | tiny |",
            "| adapters | mntp |",
        ):
            assert fact in card
        assert str(shell.folder) not in card


def test_a_stage_of_a_trained_folder_brings_what_it_was_trained_on(shell, trained: Path) -> None:
    assert 0 == shell("models", "export", "trained/mntp", "-o", "out", *MERGED).code
    card = (shell.folder / "out/README.md").read_text()
    for fact in ("license: mit", "abc123", "wiki (CC-BY-SA-4.0)"):
        assert fact in card


def test_the_shipped_encoder_brings_the_licences_of_its_data(
    shell, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`models export smollm2-135m`, the weights aside; a folder of that name in the working directory is another."""
    entry = registry.find("smollm2-135m")
    adapters = tuple(SHIPPED / "smollm2-135m" / name for name in ("mntp", "supervised"))
    shell.write("smollm2-135m/manifest.json", '{"stages": {}, "base": "wrong", "data": {"wrong": {"licence": "no"}}}')
    monkeypatch.chdir(shell.folder)
    plain = resolve(EncoderConfig(model=str(model)))
    origin = origin_of("smollm2-135m", replace(plain, entry=entry, adapters=adapters, revision="0.1.2"))
    assert ("smollm2-135m", "0.1.2", ("mntp", "supervised")) == (origin.base, origin.revision, origin.adapters)
    assert {("snli-triples", "CC BY-SA 4.0"), ("medquad", "CC BY 4.0")} <= set(origin.data)
    assert "wrong" not in dict(origin.data)


def test_pooling_last_for_sentence_transformers_is_not_taken_for_an_encoder_of_ours(shell, model: Path) -> None:
    ended = shell("models", "export", "tiny", "-o", "out", *FORM, "--pooling", "last")
    assert 0 == ended.code, ended.err
    assert "note: searchctl itself does not open this folder with --model" in ended.err
    shell.write("texts.txt", "a text\n")
    ended = shell("embed", "texts.txt", "--model", "out", "-o", "vectors.npy")
    assert 2 == ended.code
    assert "out is a sentence-transformers folder (modules.json) without searchctl.json" in ended.err
    assert not (shell.folder / "vectors.npy").exists()


def test_an_adapter_on_a_base_and_own_settings(shell, model: Path, trained: Path) -> None:
    ended = shell(
        *("models", "export", "tiny", "--adapter", "trained/mntp", "-o", "out", *FORM),
        *("--pooling", "last", "--max-tokens", "32", "--dim", "8", "--precision", "bf16"),
    )
    assert 0 == ended.code, ended.err
    assert 32 == json.loads((shell.folder / "out/sentence_bert_config.json").read_text())["max_seq_length"]
    assert "note: sentence-transformers cuts vectors to 8 components" in ended.err
    card = (shell.folder / "out/README.md").read_text()
    assert "--adapter mntp --pooling last --dim 8 --max-tokens 32" in card
    # What the adapter was trained on is told with it; of the base only what is known of the one it is merged into.
    assert "wiki (CC-BY-SA-4.0)" in card
    assert "abc123" not in card


def test_quiet_leaves_the_folder_alone_on_the_streams(shell, model: Path) -> None:
    ended = shell("models", "export", "tiny", "-o", "out", *MERGED, "--quiet")
    assert (0, f"{shell.folder / 'out'}\n", "") == (ended.code, ended.out, ended.err)


def test_mistakes_end_with_2_and_write_nothing(shell, model: Path, subtests: pytest.Subtests) -> None:
    for args, said in [
        (("hashing", "-o", "out", *MERGED), "hashing is part of searchctl and has no weights"),
        (("nothing", "-o", "out", *MERGED), "no model is called 'nothing'"),
        (("", "-o", "out", *MERGED), "the model is ''"),
        (("tiny", "-o", "tiny", *MERGED), "is not empty, and an export overwrites nothing"),
        (("tiny", "-o", "tiny/config.json", *MERGED), "is a file: expected a new folder"),
        (("tiny", "-o", "out", "--adapter", "nowhere", *MERGED), "--adapter is nowhere: no such folder"),
        (("tiny", "-o", "out", "--dim", "33", *FORM), "tiny has 32 components, expected at most that"),
        (("tiny", "-o", "out", "--max-tokens", "300", *FORM), "tiny was made for at most 256"),
        (("tiny", "-o", "out"), "Missing option '--format'"),
        (("tiny", *MERGED), "Missing option '--output'"),
    ]:
        with subtests.test(args=args, said=said):
            before = sorted(shell.folder.rglob("*"))
            ended = shell("models", "export", *args)
            assert 2 == ended.code
            assert said in " ".join(ended.err.replace("│", " ").split())
            assert "" == ended.out
            assert before == sorted(shell.folder.rglob("*"))


def test_a_template_that_sentence_transformers_cannot_have_names_what_works(shell, model: Path) -> None:
    shell.write("tiny/searchctl.json", json.dumps({"prompt": {"prefix": "[INST] ", "suffix": " [/INST]"}}))
    ended = shell("models", "export", "tiny", "-o", "out", *FORM)
    assert 2 == ended.code
    assert "puts ' [/INST]' after each text" in ended.err and "--format merged" in ended.err
    assert 0 == shell("models", "export", "tiny", "-o", "out", *MERGED).code
