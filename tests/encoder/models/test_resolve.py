"""From what the user calls a model to its files: every kind of name, chains of adapters, and broken folders."""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from searchctl.encoder.config import EncoderConfig, Pooling
from searchctl.encoder.errors import ModelFilesError, PullError, UnknownModelError
from searchctl.encoder.models.registry import find
from searchctl.encoder.models.resolve import resolve, shipped_adapters
from searchctl.encoder.models.sidecar import Sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make_adapter(folder: Path, base: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    save_file({"lora_A": np.ones((2, 2), dtype=np.float32)}, folder / "adapter_model.safetensors")
    return folder


def config(model: object, *adapters: Path) -> EncoderConfig:
    return EncoderConfig(model=str(model), adapters=adapters)


def test_local_folder_without_sidecar_takes_the_defaults(folder: Path, cache: Path) -> None:
    model = resolve(config(folder), cache=cache)
    assert (model.name, model.revision, model.folder, model.adapters) == (str(folder), "local", folder, ())
    assert (model.sidecar, model.licence, model.entry) == (Sidecar(), None, None)
    assert not cache.exists(), "a local folder needs nothing in the cache"


def test_chain_is_the_folders_own_then_the_configurations(folder: Path, cache: Path, tmp_path: Path) -> None:
    first, second = make_adapter(folder / "mntp", "x"), make_adapter(folder / "deep" / "simcse", "x")
    extra, more = make_adapter(tmp_path / "extra", "x"), make_adapter(tmp_path / "more", "x")
    write_sidecar(folder, Sidecar(adapters=("mntp", "deep/simcse"), pooling=Pooling.LAST))
    model = resolve(config(folder, more, extra), cache=cache)
    assert model.adapters == (first, second, more, extra)
    assert model.sidecar.pooling is Pooling.LAST


def test_settings_of_sentence_transformers_are_not_ignored(folder: Path, cache: Path, tmp_path: Path) -> None:
    (folder / "modules.json").write_text("[]")
    adapter = make_adapter(tmp_path / "adapter", str(folder))
    for place in (folder, adapter):
        with pytest.raises(ModelFilesError, match=r"--format merged.*write searchctl.json") as caught:
            resolve(config(place), cache=cache)
        assert caught.value.next_command == ("eval", "run", "--baseline", str(folder))
    # Whoever trained on these weights has said how they are used.
    write_sidecar(adapter, Sidecar(pooling=Pooling.LAST))
    trained = tmp_path / "trained"
    make_adapter(trained / "mntp", "x")
    write_sidecar(trained, Sidecar(pooling=Pooling.LAST, base=str(folder), adapters=("mntp",)))
    for place in (adapter, trained):
        assert resolve(config(place), cache=cache).sidecar.pooling is Pooling.LAST
    write_sidecar(folder, Sidecar(pooling=Pooling.FIRST))
    assert resolve(config(folder), cache=cache).sidecar.pooling is Pooling.FIRST


def test_the_plain_weights_keep_their_name_below_adapters(folder: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, cache / "models" / f"some--base-{COMMIT}")
    pulled = make_adapter(cache / "models" / f"some--adapter-{COMMIT}", "some/base")
    make_adapter(tmp_path / "trained" / "mntp", "x")
    write_sidecar(tmp_path / "trained", Sidecar(base="../tiny", adapters=("mntp",)))
    for place in ("some/base", "some/adapter", pulled):
        assert "some/base" == resolve(config(place), cache=cache).plain
    for place in (folder, tmp_path / "trained", make_adapter(tmp_path / "adapter", "../tiny")):
        assert folder == Path(resolve(config(place), cache=cache).plain).resolve()


def test_folder_of_adapters_that_names_its_base_is_a_model(folder: Path, cache: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    first, second = make_adapter(trained / "mntp", "x"), make_adapter(trained / "supervised", "x")
    written = Sidecar(base="../tiny", adapters=("mntp", "supervised"), dense_weight=0.5)
    write_sidecar(trained, written)
    model = resolve(config(trained), cache=cache)
    assert (model.folder.resolve(), model.adapters, model.sidecar) == (folder, (first, second), written)


def test_base_by_name_means_the_plain_weights(folder: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, cache / "models" / "smollm2-135m-0.1.2")
    make_adapter(tmp_path / "shipped" / "smollm2-135m" / "theirs", "smollm2-135m")
    write_sidecar(tmp_path / "shipped" / "smollm2-135m", Sidecar(base="smollm2-135m", adapters=("theirs",)))
    mine = make_adapter(tmp_path / "trained" / "mntp", "smollm2-135m")
    write_sidecar(tmp_path / "trained", Sidecar(base="smollm2-135m", adapters=("mntp",)))
    model = resolve(config(tmp_path / "trained"), cache=cache, shipped=tmp_path / "shipped")
    assert model.adapters == (mine,)


@pytest.mark.parametrize(("base", "said"), [("nowhere", "base is 'nowhere', which is not here"), (".", "leads back")])
def test_folder_of_adapters_without_its_base_is_an_error(base: str, said: str, cache: Path, tmp_path: Path) -> None:
    write_sidecar(tmp_path, Sidecar(base=base))
    with pytest.raises((UnknownModelError, ModelFilesError), match=said):
        resolve(config(tmp_path), cache=cache)


def test_chain_takes_the_first_adapters_of_the_model_and_all_that_were_added(folder: Path, cache: Path) -> None:
    first, second = make_adapter(folder / "mntp", "x"), make_adapter(folder / "simcse", "x")
    extra = make_adapter(folder.parent / "extra", "x")
    write_sidecar(folder, Sidecar(adapters=("mntp", "simcse")))
    for chain, own in [(None, (first, second)), (0, ()), (1, (first,)), (2, (first, second))]:
        assert resolve(replace(config(folder, extra), chain=chain), cache=cache).adapters == (*own, extra)
    with pytest.raises(ModelFilesError, match=r"chain is 3: .* names 2 adapters"):
        resolve(replace(config(folder), chain=3), cache=cache)
    with pytest.raises(ValueError, match="chain is -1"):
        replace(config(folder), chain=-1)


def test_adapter_folder_as_model_brings_its_base_and_the_bases_chain(folder: Path, cache: Path, tmp_path: Path) -> None:
    own = make_adapter(folder / "mntp", "x")
    write_sidecar(folder, Sidecar(adapters=("mntp",), max_tokens=99))
    first = make_adapter(tmp_path / "first", str(folder))
    earlier = make_adapter(tmp_path / "second" / "earlier", "x")
    second = tmp_path / "second"
    make_adapter(tmp_path / "temporary", str(first))
    for path in (tmp_path / "temporary").iterdir():
        shutil.move(path, second / path.name)
    write_sidecar(second, Sidecar(adapters=("earlier",), max_tokens=77))
    one = resolve(config(first), cache=cache)
    assert (one.folder, one.adapters, one.sidecar.max_tokens) == (folder, (own, first), 99)
    two = resolve(config(second), cache=cache)
    assert (two.folder, two.adapters, two.sidecar.max_tokens) == (folder, (own, first, earlier, second), 77)
    assert (two.name, two.revision) == (str(second), "local")


def test_base_may_be_named_relative_to_the_adapter(folder: Path, cache: Path) -> None:
    adapter = make_adapter(folder / "later", "..")
    assert resolve(config(adapter), cache=cache).folder.resolve() == folder.resolve()


def place_default(cache: Path, folder: Path) -> Path:
    """Put a folder where a pull of the default model would have put it."""
    return Path(shutil.copytree(folder, cache / "models" / "smollm2-135m-0.1.2"))


def test_registry_name_that_is_pulled_needs_no_network(folder: Path, cache: Path) -> None:
    placed = place_default(cache, folder)
    write_sidecar(placed, Sidecar(max_tokens=7))
    model = resolve(config("smollm2-135m"), cache=cache, shipped=cache / "nothing")
    entry = find("smollm2-135m")
    assert entry is not None
    assert (model.folder, model.revision, model.licence, model.entry) == (placed, "0.1.2", "Apache-2.0", entry)
    assert model.sidecar == entry.sidecar, "the registry's settings, not those of an old pull"


def test_shipped_adapters_come_in_training_order_and_only_with_the_name(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    assert shipped_adapters("smollm2-135m", shipped=shipped) == ((), None)
    stages = [make_adapter(shipped / "smollm2-135m" / stage, "x") for stage in ("mntp", "supervised")]
    settings = Sidecar(base="smollm2-135m", adapters=("mntp", "supervised"), dense_weight=0.4)
    write_sidecar(shipped / "smollm2-135m", settings)
    assert shipped_adapters("smollm2-135m", shipped=shipped) == (tuple(stages), settings)
    placed = place_default(cache, folder)
    extra = make_adapter(tmp_path / "extra", "smollm2-135m")
    made = resolve(config("smollm2-135m", extra), cache=cache, shipped=shipped)
    assert (made.adapters, made.sidecar) == ((*stages, extra), settings)
    # The plain weights by their path, and as the base of an adapter, which was trained on them.
    assert resolve(config(placed), cache=cache, shipped=shipped).adapters == ()
    assert resolve(config(extra), cache=cache, shipped=shipped).adapters == (extra,)


def test_hub_model_that_is_pulled_needs_no_network(folder: Path, cache: Path) -> None:
    placed = Path(shutil.copytree(folder, cache / "models" / f"someone--tiny-{COMMIT}"))
    shutil.copytree(folder, cache / "models" / f"someone--tiny-base-{COMMIT}")
    model = resolve(config("someone/tiny"), cache=cache)
    assert (model.folder, model.revision, model.name) == (placed, COMMIT, "someone/tiny")
    by_entry = Path(shutil.copytree(folder, cache / "models" / f"qwen3-0.6b-{COMMIT}"))
    for name in ("qwen3-0.6b", "Qwen/Qwen3-0.6B"):
        model = resolve(config(name), cache=cache)
        assert (model.folder, model.revision, model.licence) == (by_entry, COMMIT, "Apache-2.0")


def test_template_of_a_copied_model_is_not_lost(folder: Path, cache: Path, tmp_path: Path) -> None:
    """A template keyed on the model's name is lost when the folder moves."""
    prompt = PromptFormat(prefix="[INST] ", suffix=" [/INST]")
    write_sidecar(folder, Sidecar(prompt=prompt))
    moved = Path(shutil.copytree(folder, tmp_path / "another-name"))
    assert resolve(config(moved), cache=cache).sidecar.prompt == prompt


def test_existing_folder_comes_before_a_hub_name(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_folder, tmp_path / "owner" / "model")
    assert resolve(config("owner/model"), cache=tmp_path / "cache").revision == "local"


def test_unknown_name_is_an_error_with_the_nearest_name(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name, hint in [
        ("smollm2-135n", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("qwen3", "qwen3-"),
        ("./nowhere/at/all", ""),
        ("zzz", ""),
        ("", ""),
    ]:
        with subtests.test(name=name, hint=hint):
            tmp_path = tmp_path_factory.mktemp("row")
            cache = tmp_path / "cache"
            with pytest.raises(UnknownModelError) as caught:
                resolve(config(name or "-"), cache=cache)
            message = str(caught.value)
            assert caught.value.next_command == ("models", "list")
            assert ("Did you mean" in message) == bool(hint)
            assert hint in message


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lengthen_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 8)


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:40])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def foreign_weights(folder: Path) -> None:
    # What git leaves of a large file when git-lfs is not installed.
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def bad_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"[1]]")


def test_broken_folder_is_an_error_naming_the_file(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, subtests: pytest.Subtests
) -> None:
    for damage, part in [
        (remove("config.json"), "no config.json"),
        (write("config.json", "{"), "config.json: cannot be read as JSON"),
        (write("config.json", "[]"), "config.json: holds a list"),
        (write("config.json", "{}"), "config.json: no model_type"),
        (remove("tokenizer.json"), "no tokenizer.json"),
        (remove("model.safetensors"), "no weights"),
        (cut_weights, "model.safetensors: "),
        (lengthen_weights, "but its header says"),
        (cut_header, "truncated"),
        (empty_weights, "truncated"),
        (foreign_weights, "no safetensors file"),
        (bad_header, "damaged safetensors header"),
        (write("searchctl.json", '{"x": 1}'), "unknown key 'x'"),
        (write("searchctl.json", '{"adapters": ["gone"]}'), "no such folder"),
    ]:
        with subtests.test(damage=damage, part=part):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
            cache = tmp_path / "cache"
            resolve(config(folder), cache=cache)
            damage(folder)
            with pytest.raises(ModelFilesError) as caught:
                resolve(config(folder), cache=cache)
            assert str(folder) in str(caught.value)
            assert part in str(caught.value)


@pytest.fixture
def sharded(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(folder, max_shard_size="50KB")
    return folder


def test_missing_shard_is_an_error_naming_it(sharded: Path, cache: Path) -> None:
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 1
    resolve(config(sharded), cache=cache)
    shards[1].unlink()
    with pytest.raises(ModelFilesError, match=f"1 of {len(shards)} weight files.*{shards[1].name}"):
        resolve(config(sharded), cache=cache)


def test_index_without_shards_is_an_error(sharded: Path, cache: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ModelFilesError, match="weight_map"):
        resolve(config(sharded), cache=cache)


def test_model_and_adapter_in_one_folder_are_refused_since_both_would_apply_it(folder: Path, cache: Path) -> None:
    adapter = make_adapter(folder / "a", "x")
    shutil.move(adapter / "adapter_config.json", folder / "adapter_config.json")
    with pytest.raises(ModelFilesError, match="a model and an adapter"):
        resolve(config(folder), cache=cache)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapter_without_a_file_is_an_error_naming_it(folder: Path, cache: Path, tmp_path: Path, name: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(folder))
    (adapter / name).unlink()
    with pytest.raises(ModelFilesError, match=f"adapter .*no {name}"):
        resolve(config(folder, adapter), cache=cache)


def test_truncated_adapter_is_an_error(folder: Path, cache: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(folder))
    assert load_file(adapter / "adapter_model.safetensors")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFilesError, match=r"adapter_model\.safetensors: .*header says"):
        resolve(config(adapter), cache=cache)


def test_adapter_without_a_base_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for base in [None, "", 3]:
        with subtests.test(base=base):
            tmp_path = tmp_path_factory.mktemp("row")
            cache = tmp_path / "cache"
            adapter = make_adapter(tmp_path / "adapter", base)
            with pytest.raises(ModelFilesError, match="base_model_name_or_path is"):
                resolve(config(adapter), cache=cache)


def test_adapter_whose_base_is_gone_is_an_error_naming_both(cache: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", "/gone/base/model")
    with pytest.raises(UnknownModelError, match=r"adapter .*/adapter was trained on /gone/base/model"):
        resolve(config(adapter), cache=cache)


def test_adapters_that_name_each_other_are_an_error(cache: Path, tmp_path: Path) -> None:
    first = make_adapter(tmp_path / "first", str(tmp_path / "second"))
    make_adapter(tmp_path / "second", str(first))
    with pytest.raises(ModelFilesError, match="leads back to itself"):
        resolve(config(first), cache=cache)


def test_two_ggufs_in_a_folder_are_an_error_naming_them(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "two").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "two" / name).write_bytes(b"GGUF")
    with pytest.raises(ModelFilesError, match=r"2 GGUF files \(a\.gguf, b\.gguf\)"):
        resolve(config(tmp_path / "two"), cache=cache)


def test_file_of_another_kind_is_an_error(folder: Path, cache: Path) -> None:
    with pytest.raises(ModelFilesError, match="expected a GGUF file or a model folder"):
        resolve(config(folder / "model.safetensors"), cache=cache)


def test_builtin_has_no_files(cache: Path) -> None:
    with pytest.raises(ModelFilesError, match="built in"):
        resolve(config("hashing"), cache=cache)


def test_damaged_pull_is_an_error_and_not_used(folder: Path, cache: Path) -> None:
    placed = place_default(cache, folder)
    cut_weights(placed)
    with pytest.raises(ModelFilesError, match=r"smollm2-135m-0\.1\.2/model\.safetensors"):
        resolve(config("smollm2-135m"), cache=cache)


def test_settings_of_the_configuration_stay_in_the_configuration(folder: Path, cache: Path) -> None:
    wanted = replace(config(folder), pooling=Pooling.FIRST, max_tokens=5)
    assert resolve(wanted, cache=cache) == resolve(config(folder), cache=cache)


def test_hub_model_that_cannot_be_fetched_says_that_there_is_no_such_folder_either(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullError, match=r"Qwen/Qwen3-0\.7B.*no folder.*did you mean Qwen/Qwen3-0\.6B"):
        resolve(config("Qwen/Qwen3-0.7B"), cache=cache)
