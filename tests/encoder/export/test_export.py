"""Exports: equal vectors in stock sentence-transformers and transformers, whole folders, and refusals with reasons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, processors
from transformers import AutoModel

from searchctl.encoder.config import Attention, EncoderConfig, ExportFormat, Pooling, Precision
from searchctl.encoder.errors import ExportError, ModelFilesError
from searchctl.encoder.export.check import LEAST_COSINE, sentence_transformers_loader
from searchctl.encoder.export.export import Exported, ExportRequest, export_model
from searchctl.encoder.export.model_card import Origin, stated_licence
from searchctl.encoder.models.sidecar import Sidecar, read_sidecar, write_sidecar
from searchctl.encoder.open import open_encoder
from searchctl.encoder.prompts import PromptFormat
from searchctl.encoder.protocol import Encoder, Role, Vectors

ST, MERGED = ExportFormat.SENTENCE_TRANSFORMERS, ExportFormat.MERGED
TEXTS = [
    "A short one.",
    "Bread rises because yeast turns sugar into carbon dioxide.",
    "M\u00fcnchen liegt an der Isar; \u6771\u4eac is the capital of Japan \U0001f5fc",
    "7 mice (and <s>one</s> cat): def f(x):\n    return x",
    "the dough holds alcohol and sugar, which yeast turns into more of it " * 12 + "end",  # cut
]
ORIGIN = Origin(base="tiny", source=None, hub_base=None, revision="local", licence="Apache-2.0", adapters=())
# Ends in a special token, so that no text can share a token with it.
CLEAN = PromptFormat(instruction="Instruct: {instruction}</s>", query_instruction="find what answers")


def write(model: Path, output: Path, form: ExportFormat = ST, **changes: Any) -> Exported:
    settings: dict[str, Any] = {
        "config": EncoderConfig(model=str(model), precision=Precision.FP32),
        "output": output,
        "form": form,
        "describe": lambda resolved: ORIGIN,
        "command": "searchctl models export tiny",
        "versions": {"searchctl": "0"},
        "loader": sentence_transformers_loader(),
    }
    return export_model(ExportRequest(**settings | changes), told=lambda message: None)


def ours(model: Path, **changes: Any) -> Encoder:
    config = EncoderConfig(model=str(model), precision=Precision.FP32, device="cpu", **changes)
    return open_encoder(config)


def least_cosine(mine: Vectors, other: Any) -> float:
    assert mine.shape == other.shape
    return float(np.min(np.einsum("nd,nd->n", mine, other) / np.linalg.norm(other, axis=1)))


def require_equal(encoder: Encoder, folder: Path) -> SentenceTransformer:
    """Compare with stock sentence-transformers: both sides, in a batch and alone, and without a prompt's name."""
    model = SentenceTransformer(str(folder), device="cpu")
    queries, documents = (encoder.encode(TEXTS, role=role) for role in (Role.QUERY, Role.DOCUMENT))
    for expected, found in (
        (queries, model.encode(TEXTS, prompt_name="query")),
        (queries, model.encode_query(TEXTS)),
        (queries, np.stack([model.encode_query(text) for text in TEXTS])),
        (documents, model.encode(TEXTS)),
        (documents, model.encode_document(TEXTS)),
        (documents, np.stack([model.encode(text) for text in TEXTS])),
    ):
        assert least_cosine(expected, found) >= LEAST_COSINE
    return model


Make = Callable[..., Path]


@pytest.fixture
def make(make_folder: Make, tmp_path: Path) -> Make:
    """Write a tiny model that cuts at 64 tokens, with the settings given."""

    def made(*, bos: bool = False, max_tokens: int = 64, **sidecar: Any) -> Path:
        folder = make_folder(bos=bos)
        write_sidecar(folder, Sidecar(max_tokens=max_tokens, **sidecar))
        return folder

    return made


def set_tokenizer(folder: Path, change: Callable[[Tokenizer], None]) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))


def add_adapter(model: Path, folder: Path, *, seed: int) -> Path:
    torch.manual_seed(seed)
    peft = get_peft_model(
        AutoModel.from_pretrained(model, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]),
    )
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder)
    return folder


def test_sentence_transformers_gives_equal_vectors(
    make: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for bos in [False, True]:
        for pooling, prompt in [
            (Pooling.MEAN, PromptFormat()),
            (Pooling.MEAN, CLEAN),
            (Pooling.MEAN, replace(CLEAN, prefix="<s>", document_instruction="a passage")),
            (Pooling.LAST, PromptFormat(query_instruction="find what answers")),
            (Pooling.FIRST, PromptFormat(query_instruction="find what answers", prefix="Text: ")),
        ]:
            with subtests.test(bos=bos, pooling=pooling, prompt=prompt):
                tmp_path = tmp_path_factory.mktemp("row")
                folder = make(bos=bos, pooling=pooling, prompt=prompt)
                exported = write(folder, tmp_path / "out")
                assert exported.cosine is not None
                model = require_equal(ours(folder), tmp_path / "out")
                assert model.max_seq_length == 64
                if pooling is not Pooling.LAST:  # searchctl itself opens the folder too, with the same vectors
                    vectors = ours(folder).encode(TEXTS, role=Role.QUERY)
                    assert least_cosine(vectors, ours(tmp_path / "out").encode(TEXTS, role=Role.QUERY)) >= LEAST_COSINE


def test_a_begin_token_among_other_steps_of_the_tokenizer_is_moved_too(make: Make, tmp_path: Path) -> None:
    folder = make(prompt=CLEAN)
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    steps = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    set_tokenizer(folder, lambda it: setattr(it, "post_processor", steps))
    assert write(folder, tmp_path / "out").limits[0].startswith("Begin a prompt of your own with <s>")
    require_equal(ours(folder), tmp_path / "out")


def test_a_folder_that_searchctl_would_pool_otherwise_is_not_opened_by_it(make: Make, tmp_path: Path) -> None:
    exported = write(make(pooling=Pooling.LAST), tmp_path / "out")
    assert any("does not open this folder with --model" in limit for limit in exported.limits)
    with pytest.raises(ModelFilesError, match="sentence-transformers folder") as caught:
        ours(tmp_path / "out")
    assert caught.value.next_command == ("eval", "run", "--baseline", str(tmp_path / "out"))


def test_weighted_mean_without_prompts_is_equal(make: Make, tmp_path: Path) -> None:
    folder = make(pooling=Pooling.WEIGHTED_MEAN)
    write(folder, tmp_path / "out")
    require_equal(ours(folder), tmp_path / "out")


def test_an_instruction_given_later_is_equal_where_the_card_says_so(make: Make, tmp_path: Path) -> None:
    folder = make(bos=True, prompt=replace(CLEAN, query_instruction=None))
    write(folder, tmp_path / "out")
    prompt = "<s>Instruct: name the city</s>"
    assert 'prompt="<s>Instruct: {instruction}</s>"' in (tmp_path / "out/README.md").read_text()
    expected = ours(folder).encode(TEXTS, role=Role.QUERY, instruction="name the city")
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS, prompt=prompt)
    assert least_cosine(expected, found) >= LEAST_COSINE


def test_an_instruction_that_cannot_be_given_later_is_told(make: Make, tmp_path: Path) -> None:
    exported = write(make(), tmp_path / "out")  # the default form ends in a space
    assert ["Give no instruction of your own"] == [limit[:31] for limit in exported.limits]
    assert exported.limits[0] in (tmp_path / "out/README.md").read_text()


def test_the_chain_of_adapters_is_in_the_weights(make: Make, tmp_path: Path) -> None:
    base = make()
    chain = [add_adapter(base, tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    folder = tmp_path / "trained"
    folder.mkdir()
    chain[0].rename(folder / "a")
    write_sidecar(folder, Sidecar(base=str(base), adapters=("a",), max_tokens=64))
    expected = ours(folder, adapters=(chain[1],))
    changed = expected.encode(TEXTS, role=Role.DOCUMENT)
    assert least_cosine(changed, ours(base).encode(TEXTS, role=Role.DOCUMENT)) < 0.99  # the adapters do something

    config = EncoderConfig(model=str(folder), adapters=(chain[1],), precision=Precision.FP32)
    assert 2 == write(folder, tmp_path / "st", config=config).adapters
    require_equal(expected, tmp_path / "st")
    write(folder, tmp_path / "merged", MERGED, config=config)
    assert least_cosine(changed, ours(tmp_path / "merged").encode(TEXTS, role=Role.DOCUMENT)) >= LEAST_COSINE
    assert not list((tmp_path / "merged").rglob("adapter*"))


def test_merged_keeps_everything(
    make: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for pooling in list(Pooling):
        with subtests.test(pooling=pooling):
            tmp_path = tmp_path_factory.mktemp("row")
            prompt = PromptFormat(prefix="[INST] ", suffix=" [/INST]", query_instruction="find what answers")
            folder = make(bos=True, pooling=pooling, prompt=prompt, dense_weight=0.3)
            write(folder, tmp_path / "out", MERGED)
            before, after = ours(folder), ours(tmp_path / "out")
            for role, instruction in ((Role.QUERY, None), (Role.DOCUMENT, None), (Role.QUERY, "another instruction")):
                expected = before.encode(TEXTS, role=role, instruction=instruction)
                found = after.encode(TEXTS, role=role, instruction=instruction)
                assert least_cosine(expected, found) >= LEAST_COSINE
            assert Sidecar(pooling=pooling, max_tokens=64, prompt=prompt, dense_weight=0.3) == read_sidecar(
                tmp_path / "out"
            )


def test_merged_loads_bidirectional_with_transformers_alone(make: Make, tmp_path: Path) -> None:
    write(make(), tmp_path / "out", MERGED)
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        one, other = (model(input_ids=torch.tensor([[5, 6, last]])).last_hidden_state[0, 0] for last in (7, 8))
    assert not torch.allclose(one, other)  # the first position sees the last


def test_precision_is_that_of_the_weights(
    make: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for asked, dtype in [(Precision.FP32, "float32"), (Precision.BF16, "bfloat16")]:
        for form in [ST, MERGED]:
            with subtests.test(asked=asked, dtype=dtype, form=form):
                tmp_path = tmp_path_factory.mktemp("row")
                folder = make()
                exported = write(
                    folder, tmp_path / "out", form, config=EncoderConfig(model=str(folder), precision=asked)
                )
                assert dtype == json.loads((tmp_path / "out/config.json").read_text())["dtype"]
                assert exported.cosine is not None and exported.cosine >= LEAST_COSINE
                assert any("bf16" in limit for limit in exported.limits) == (form is ST and asked is Precision.BF16)


def weights(model: Path) -> int:
    return sum(tensor.size for tensor in load_file(model / "model.safetensors").values())


def test_a_large_model_is_compared_in_bf16_with_its_rotary_frequencies_as_they_are(
    make_folder: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for form in [ST, MERGED]:
        with subtests.test(form=form):
            tmp_path = tmp_path_factory.mktemp("row")
            # Weights and texts at which rounded frequencies turn vectors further than the check allows: cosine 0.99984.
            folder = make_folder(initializer_range=0.5, max_position_embeddings=1024)
            write_sidecar(folder, Sidecar(max_tokens=1024))
            config = EncoderConfig(model=str(folder))
            # Any model is large, and any CPU computes in bf16.
            exported = write(folder, tmp_path / "out", form, config=config, fp32_limit=1, cpu_dtype=torch.bfloat16)
            assert Precision.BF16 is exported.precision
            assert exported.cosine is not None and exported.cosine >= 0.99998


def test_auto_goes_by_the_number_of_weights_and_not_by_the_bytes_of_the_files(make: Make, tmp_path: Path) -> None:
    folder = make()  # stored in fp32
    config, count = EncoderConfig(model=str(folder)), weights(folder)
    assert Precision.BF16 is write(folder, tmp_path / "at", MERGED, config=config, fp32_limit=count).precision
    assert Precision.FP32 is write(folder, tmp_path / "below", MERGED, config=config, fp32_limit=count + 1).precision


def test_adapters_of_a_model_stored_in_fp32_are_merged_in_fp32_below_the_limit(make: Make, tmp_path: Path) -> None:
    folder = make()
    adapter = add_adapter(folder, tmp_path / "a", seed=0)
    asked = EncoderConfig(model=str(folder), adapters=(adapter,), precision=Precision.BF16)
    write(folder, tmp_path / "exact", MERGED, config=replace(asked, precision=Precision.FP32))
    write(folder, tmp_path / "rounded", MERGED, config=asked, fp32_limit=weights(folder) + 1)
    exact, rounded = (load_torch(tmp_path / name / "model.safetensors") for name in ("exact", "rounded"))
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(exact[name].to(torch.bfloat16), rounded[name]) for name in exact)


def test_fewer_components_are_kept_by_sentence_transformers(make: Make, tmp_path: Path) -> None:
    folder = make()
    config = EncoderConfig(model=str(folder), dim=8, precision=Precision.FP32)
    exported = write(folder, tmp_path / "out", config=config)
    model = require_equal(ours(folder, dim=8), tmp_path / "out")
    assert 8 == model.get_embedding_dimension()
    assert any("normalize_embeddings" in limit for limit in exported.limits)
    (own,) = (limit for limit in exported.limits if limit.startswith("searchctl itself"))
    assert "all 32 components" in own and "--dim 8" in own and own in (tmp_path / "out/README.md").read_text()
    vectors = ours(folder, dim=8).encode(TEXTS, role=Role.QUERY)
    assert least_cosine(vectors, ours(tmp_path / "out", dim=8).encode(TEXTS, role=Role.QUERY)) >= LEAST_COSINE
    assert (len(TEXTS), 32) == ours(tmp_path / "out").encode(TEXTS, role=Role.QUERY).shape
    with pytest.raises(ExportError, match="Give --dim 8 to the command that opens it"):
        write(folder, tmp_path / "merged", MERGED, config=config)


def test_white_space_around_a_text_is_told_where_it_matters(make: Make, tmp_path: Path) -> None:
    folder = make()
    assert "Strip" not in "".join(write(folder, tmp_path / "plain").limits)
    set_tokenizer(folder, lambda it: setattr(it, "post_processor", processors.ByteLevel(trim_offsets=True)))
    assert write(folder, tmp_path / "trimmed").limits[0].startswith("Strip your texts")
    require_equal(ours(folder), tmp_path / "trimmed")


def end_with_eos(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])


def test_what_would_differ_is_refused(
    make: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for settings, change, why in [
        ({"prompt": PromptFormat(suffix=" [/INST]")}, None, r"puts ' \[/INST\]' after each text"),
        ({"prompt": PromptFormat(query_instruction="answer")}, None, "the query prompt .* share a token"),
        ({"prompt": PromptFormat(prefix="[INST] ")}, None, "the query prompt .* share a token"),
        ({"prompt": PromptFormat(prefix="The capita")}, None, "the query prompt .* share a token"),
        ({"pooling": Pooling.WEIGHTED_MEAN, "prompt": CLEAN}, None, "our weights begin at the text"),
        ({"pooling": Pooling.WEIGHTED_MEAN, "bos": True}, None, "begins each row with <s>"),
        ({}, end_with_eos, r"puts special tokens \(</s>\) after each text"),
    ]:
        with subtests.test(settings=settings, change=change, why=why):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = make(**settings)
            if change is not None:
                set_tokenizer(folder, change)
            with pytest.raises(ExportError, match=why) as caught:
                write(folder, tmp_path / "here" / "out")
            assert "--format merged" in str(caught.value)
            assert [] == list((tmp_path / "here").iterdir())
            write(folder, tmp_path / "merged", MERGED)  # what the message recommends works


def test_a_model_that_others_would_load_as_causal_is_refused(
    make_folder: Make, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for form in [ST, MERGED]:
        with subtests.test(form=form):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = make_folder("stablelm")  # its attention reads a flag that config.json does not set
            ours(folder)
            with pytest.raises(ExportError, match="transformers loads the exported model with causal attention"):
                write(folder, tmp_path / "here" / "out", form)
            assert [] == list((tmp_path / "here").iterdir())


def test_causal_attention_is_refused(make: Make, tmp_path: Path) -> None:
    config = EncoderConfig(model=str(make()), attention=Attention.CAUSAL)
    with pytest.raises(ExportError, match="Expected bidirectional and plain"):
        write(Path(config.model), tmp_path / "out", config=config)


def test_other_vectors_fail_the_check_and_leave_nothing(make: Make, tmp_path: Path) -> None:
    load = sentence_transformers_loader()
    assert load is not None

    def causal(folder: Path, dtype: torch.dtype) -> Any:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"is_causal": True}))
        return load(folder, dtype)

    with pytest.raises(ExportError, match="does not give the encoder's vectors: cosine 0"):
        write(make(), tmp_path / "here" / "out", loader=causal)
    assert [] == list((tmp_path / "here").iterdir())


def test_without_sentence_transformers_the_check_is_said_to_be_missing(make: Make, tmp_path: Path) -> None:
    folder = make()
    assert write(folder, tmp_path / "out", loader=None).cosine is None
    assert "were not checked" in (tmp_path / "out/README.md").read_text()
    require_equal(ours(folder), tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(make: Make, tmp_path: Path) -> None:
    folder, output = make(), tmp_path / "out"
    output.mkdir()
    write(folder, output)  # empty is as good as new
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(ExportError, match="is not empty"):
        write(folder, output, MERGED)
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is a file"):
        write(folder, tmp_path / "file")


def test_all_may_read_what_was_written(make: Make, tmp_path: Path) -> None:
    write(make(), tmp_path / "out", MERGED)
    mask = os.umask(0)
    os.umask(mask)
    assert {0o666 & ~mask} == {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert 0o777 & ~mask == (tmp_path / "out").stat().st_mode & 0o777


KILLED = """
import os, signal, sys
from pathlib import Path
from searchctl.encoder.export.new_folder import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "config.json").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_no_folder_of_that_name(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out"], check=False)
    assert -signal.SIGKILL == ended.returncode
    assert [".out.part-"] == [path.name[:10] for path in tmp_path.iterdir()]
    request = ExportRequest(
        config=EncoderConfig(model=str(make())),
        output=tmp_path / "out",
        form=MERGED,
        describe=lambda resolved: ORIGIN,
        command="",
        versions={},
        loader=None,
    )
    export_model(request, told=lambda message: None)
    assert ".out.part-" in caplog.messages[0] and "killed" in caplog.messages[0]


def test_the_card_names_the_licence_and_keeps_its_text(make: Make, tmp_path: Path) -> None:
    folder = make()
    (folder / "LICENSE").write_text("the terms")
    for licence, head in (
        ("Apache-2.0", "license: apache-2.0\n"),
        ("Own Terms", 'license: other\nlicense_name: "Own Terms"\n'),
        (None, "pipeline_tag: feature-extraction\ntags:"),
    ):
        output = tmp_path / str(licence)
        write(folder, output, MERGED, describe=lambda resolved, it=licence: replace(ORIGIN, licence=it))
        assert head in (output / "README.md").read_text()
        assert "the terms" == (output / "LICENSE").read_text()
    assert "Own Terms" == stated_licence(tmp_path / "Own Terms")
    assert "apache-2.0" == stated_licence(tmp_path / "Apache-2.0")
    assert stated_licence(tmp_path / "None") is None
    assert "not known" in (tmp_path / "None/README.md").read_text()
