"""The fingerprint: the same for the same vectors wherever the files lie, another for everything that changes them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from safetensors.numpy import load_file, save_file

from searchctl.encoder.config import Attention, EncoderConfig, Method, Pooling, Precision
from searchctl.encoder.errors import EncoderError, ModelFilesError
from searchctl.encoder.models.hash_cache import content_hash
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make_adapter(folder: Path, value: float = 1.0, **settings: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x", "lora_alpha": 32, **settings})
    )
    save_file({"lora_A": np.full((2, 2), value, dtype=np.float32)}, folder / "adapter_model.safetensors")
    return folder


def fingerprint(config: EncoderConfig, cache: Path) -> str:
    return identify(config, cache=cache).fingerprint


def of_folder(folder: Path, cache: Path) -> str:
    return fingerprint(EncoderConfig(model=str(folder)), cache)


def edit_json(name: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(data | changes))

    return edit


def change_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + np.float32(1)
    save_file(tensors, path, metadata={"format": "pt"})


def change_sidecar(sidecar: Sidecar) -> Callable[[Path], None]:
    return lambda folder: write_sidecar(folder, sidecar)


def reformat_config(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(data.items())), indent=7))


def test_files_that_change_vectors_change_the_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for change in [
        change_weight,
        edit_json("config.json", rms_norm_eps=0.1),
        edit_json("config.json", eos_token_id=7),
        edit_json("tokenizer.json", normalizer={"type": "Lowercase"}),
        change_sidecar(Sidecar(prompt=PromptFormat(prefix="[INST] "))),
        change_sidecar(Sidecar(prompt=PromptFormat(query_instruction="Find"))),
        change_sidecar(Sidecar(pooling=Pooling.LAST)),
    ]:
        with subtests.test(change=change):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            before = of_folder(folder, cache)
            change(folder)
            assert of_folder(folder, cache) != before


def test_files_that_change_no_vector_keep_the_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for change in [
        reformat_config,
        edit_json("config.json", transformers_version="9.9", _name_or_path="/else", use_cache=False, dtype="float16"),
        edit_json("config.json", is_causal=False),
        change_sidecar(Sidecar()),
        change_sidecar(Sidecar(max_tokens=64, dense_weight=0.5)),
        lambda folder: (folder / "README.md").write_text("read me"),
        lambda folder: (folder / "generation_config.json").unlink(missing_ok=True),
    ]:
        with subtests.test(change=change):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            before = of_folder(folder, cache)
            change(folder)
            assert of_folder(folder, cache) == before


def test_settings_that_change_vectors_change_the_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for setting, value in [
        ("attention", Attention.CAUSAL),
        ("method", Method.ECHO),
        ("pooling", Pooling.WEIGHTED_MEAN),
        ("dim", 16),
    ]:
        with subtests.test(setting=setting, value=value):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            config = EncoderConfig(model=str(folder))
            assert fingerprint(replace(config, **{setting: value}), cache) != fingerprint(config, cache)  # type: ignore[arg-type]


def test_settings_of_the_run_and_defaults_spelt_out_keep_the_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for setting, value in [
        ("precision", Precision.BF16),
        ("device", "cuda:1"),
        ("batch_tokens", 64),
        ("max_tokens", 64),
        ("pooling", Pooling.MEAN),
        ("dim", 32),
    ]:
        with subtests.test(setting=setting, value=value):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            config = EncoderConfig(model=str(folder))
            assert fingerprint(replace(config, **{setting: value}), cache) == fingerprint(config, cache)  # type: ignore[arg-type]


def test_moved_renamed_and_copied_folders_keep_the_fingerprint(folder: Path, cache: Path, tmp_path: Path) -> None:
    make_adapter(folder / "mntp")
    write_sidecar(folder, Sidecar(adapters=("mntp",)))
    before = of_folder(folder, cache)
    copied = shutil.copytree(folder, tmp_path / "copy")
    (folder / "mntp").rename(folder / "renamed")
    write_sidecar(folder, Sidecar(adapters=("renamed",)))
    moved = folder.rename(tmp_path / "moved")
    assert {of_folder(Path(copied), cache), of_folder(moved, tmp_path / "other-cache")} == {before}


def test_adapters_count_by_content_order_and_settings(folder: Path, cache: Path, tmp_path: Path) -> None:
    one, two = make_adapter(tmp_path / "one"), make_adapter(tmp_path / "two", 2.0)
    again = make_adapter(tmp_path / "again", base_model_name_or_path="/other/place", inference_mode=True)
    scaled = make_adapter(tmp_path / "scaled", lora_alpha=64)

    def of(*adapters: Path) -> str:
        return fingerprint(EncoderConfig(model=str(folder), adapters=adapters), cache)

    assert of(one) == of(again)
    assert len({of(), of(one), of(two), of(scaled), of(one, two), of(two, one)}) == 6


def test_chain_in_the_sidecar_equals_the_same_chain_in_the_configuration(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(folder / "mntp")
    by_configuration = fingerprint(EncoderConfig(model=str(folder), adapters=(adapter,)), cache)
    write_sidecar(folder, Sidecar(adapters=("mntp",)))
    assert of_folder(folder, cache) == by_configuration


def test_info_says_what_the_encoder_is(folder: Path, cache: Path) -> None:
    info = identify(EncoderConfig(model=str(folder), dim=8, pooling=Pooling.FIRST), cache=cache)
    assert (info.name, info.revision, info.dim, info.pooling) == (str(folder), "local", 8, "first")
    assert info.normalized
    assert len(info.fingerprint) == 64


@pytest.mark.parametrize(
    ("context", "sidecar", "asked", "expected"),
    [(256, 512, None, 256), (4096, 512, None, 512), (4096, 64, None, 64), (256, 64, 200, 200), (None, 64, 9999, 9999)],
)
def test_max_tokens_is_asked_for_or_the_models_own(
    folder: Path, *, context: int | None, sidecar: int, asked: int | None, expected: int, cache: Path
) -> None:
    edit_json("config.json", max_position_embeddings=context)(folder)
    write_sidecar(folder, Sidecar(max_tokens=sidecar))
    assert identify(EncoderConfig(model=str(folder), max_tokens=asked), cache=cache).max_tokens == expected


def test_more_than_the_model_has_is_an_error_naming_the_limit(folder: Path, cache: Path) -> None:
    with pytest.raises(EncoderError, match=r"dim is 33: .* has 32 components"):
        identify(EncoderConfig(model=str(folder), dim=33), cache=cache)
    with pytest.raises(EncoderError, match=r"max_tokens is 257: .* at most 256"):
        identify(EncoderConfig(model=str(folder), max_tokens=257), cache=cache)


def test_width_is_found_under_each_architectures_name(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for config, expected in [
        ({"hidden_size": 7}, 7),
        ({"n_embd": 9}, 9),
        ({"hidden_size": 1024, "word_embed_proj_dim": 512}, 512),
        ({"hidden_size": 1, "text_config": {"hidden_size": 11}}, 11),
    ]:
        with subtests.test(config=config, expected=expected):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            (folder / "config.json").write_text(json.dumps({"model_type": "x", **config}))
            assert identify(EncoderConfig(model=str(folder)), cache=cache).dim == expected


def test_config_without_a_width_is_an_error(folder: Path, cache: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "x"}')
    with pytest.raises(ModelFilesError, match=r"config\.json: no word_embed_proj_dim or hidden_size"):
        identify(EncoderConfig(model=str(folder)), cache=cache)


def test_identify_imports_no_torch(folder: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from searchctl.encoder.config import EncoderConfig;"
        "from searchctl.encoder.models.identity import identify;"
        "identify(EncoderConfig(model=sys.argv[1]), cache=Path(sys.argv[2]));"
        "print([m for m in ('torch', 'transformers', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(folder), str(cache)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def settle(path: Path) -> Path:
    """Wait until the file is old enough for its hash to be remembered."""
    time.sleep(0.06)
    return path


def test_hash_is_the_contents_and_is_remembered(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    settle(path)
    assert content_hash(path, cache=cache) == blake3(b"content").hexdigest()
    remembered = json.loads((cache / "hashes.json").read_text())
    (key,) = remembered
    (cache / "hashes.json").write_text(json.dumps({key: "f" * 64}))
    assert content_hash(path, cache=cache) == "f" * 64, "the remembered hash is used"
    path.rename(tmp_path / "moved")
    assert content_hash(tmp_path / "moved", cache=cache) == blake3(b"content").hexdigest()


def test_changed_file_of_the_same_size_and_time_is_hashed_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    settle(path)
    content_hash(path, cache=cache)
    stat = path.stat()
    path.write_bytes(b"after!")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_hash(path, cache=cache) == blake3(b"after!").hexdigest()


def test_file_that_may_still_change_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    content_hash(path, cache=cache)
    assert not (cache / "hashes.json").exists()


def test_damaged_hash_cache_is_ignored_and_mended(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for content in ["", "{", "[]", '{"a": 1}', "\x00\x01", '"x"']:
        with subtests.test(content=content):
            tmp_path = tmp_path_factory.mktemp("row")
            cache = tmp_path / "cache"
            path = tmp_path / "file"
            path.write_bytes(b"content")
            settle(path)
            cache.mkdir()
            (cache / "hashes.json").write_text(content)
            assert content_hash(path, cache=cache) == blake3(b"content").hexdigest()
            assert list(json.loads((cache / "hashes.json").read_text()).values()) == [blake3(b"content").hexdigest()]
            assert [each.name for each in cache.iterdir()] == ["hashes.json"]


def test_hash_cache_forgets_files_that_are_gone(tmp_path: Path, cache: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(name.encode())
        settle(tmp_path / name)
        content_hash(tmp_path / name, cache=cache)
        (tmp_path / name).unlink(missing_ok=name == "second")
    assert len(json.loads((cache / "hashes.json").read_text())) == 1


def test_cache_that_cannot_be_written_changes_no_result(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    settle(path)
    (tmp_path / "no-folder").write_text("")
    assert content_hash(path, cache=tmp_path / "no-folder") == blake3(b"content").hexdigest()


def test_empty_file_has_a_hash(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert content_hash(tmp_path / "empty", cache=cache) == blake3(b"").hexdigest()


def test_identify_does_not_hash_again_what_it_has_hashed(folder: Path, cache: Path) -> None:
    config = EncoderConfig(model=str(folder))
    settle(folder)
    true = identify(config, cache=cache).fingerprint
    store = cache / "hashes.json"
    known = json.loads(store.read_text())
    assert str(folder / "model.safetensors") in {key.split("|")[0] for key in known}
    # Other hashes in the cache give another fingerprint: it is the cache that is asked, and not the gigabytes.
    store.write_text(json.dumps(dict.fromkeys(known, "0" * 64)))
    assert identify(config, cache=cache).fingerprint != true
