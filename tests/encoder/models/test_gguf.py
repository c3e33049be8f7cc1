"""Both ways to convert a GGUF file give the same folder, and a damaged file is an error."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from searchctl.encoder.errors import ModelFilesError
from searchctl.encoder.models.gguf_convert import _convert_by_transformers
from searchctl.encoder.models.gguf_file import GgufFile
from searchctl.encoder.models.gguf_llama import convert_plain_llama, is_plain_llama
from searchctl.encoder.models.identity import PASSING_CONFIG

from .test_pull import write_gguf

ODD_TEXTS = [
    *("", " ", "12 345.6e-7", "\t\n\r\n", "naïve café", "東京、大阪"),
    *("🦀👩\u200d👩\u200d👧", "<|im_start|>x", "a\u0301", "don't", "__x__"),
]


def test_both_converters_write_the_same_folder(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source)
    opened = GgufFile(source)
    assert is_plain_llama(opened)
    convert_plain_llama(opened, tmp_path / "numpy")
    _convert_by_transformers(source, tmp_path / "torch")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "numpy" / name).read_bytes() == (tmp_path / "torch" / name).read_bytes(), name
    configs = [json.loads((tmp_path / kind / "config.json").read_text()) for kind in ("numpy", "torch")]
    decisive = [{k: v for k, v in config.items() if k not in PASSING_CONFIG and v is not None} for config in configs]
    assert decisive[0] == decisive[1]
    ours, theirs = (Tokenizer.from_file(str(tmp_path / kind / "tokenizer.json")) for kind in ("numpy", "torch"))
    assert [ours.encode(text).ids for text in ODD_TEXTS] == [theirs.encode(text).ids for text in ODD_TEXTS]


def test_fields_and_tensors_are_those_that_the_gguf_package_reads(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source, scaling=gguf.RopeScalingType.LINEAR, parts=2)
    reader, opened = gguf.GGUFReader(str(source)), GgufFile(source)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert opened.fields == fields
    assert [tensor.name for tensor in reader.tensors] == list(opened.tensors)
    for tensor in reader.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(opened.read(opened.tensors[tensor.name]), expected), tensor.name


@pytest.mark.parametrize("scaling", [gguf.RopeScalingType.LINEAR, gguf.RopeScalingType.YARN])
def test_what_the_numpy_converter_does_not_know_is_left_to_transformers(
    tmp_path: Path, scaling: gguf.RopeScalingType
) -> None:
    for name, options in {
        "scaled": {"scaling": scaling},
        "frequencies": {"frequencies": True},
        "splitting": {"pre": "qwen2"},
        "missing": {"without": "up_proj"},
    }.items():
        write_gguf(tmp_path / name, **options)  # type: ignore[arg-type]
        assert not is_plain_llama(GgufFile(tmp_path / name)), name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + b"\0" * 60,
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**40) + b"x" * 40,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 99) + b"\0" * 9,
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0),
    ],
    ids=["empty", "magic alone", "a zip", "version 9", "a key of a terabyte", "an unknown type", "no tensor"],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFilesError, match=r"odd\.gguf"):
        GgufFile(path)


def test_a_tensor_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:-2000])
    opened = GgufFile(path)
    with pytest.raises(ModelFilesError, match="cannot be read"):
        for tensor in opened.tensors.values():
            opened.read(tensor)


def test_weights_are_rounded_as_torch_rounds(tmp_path: Path) -> None:
    """Ties to even: the half way between two bf16 numbers."""
    from searchctl.encoder.models.gguf_llama import _bf16

    torch = pytest.importorskip("torch")
    values = np.array([1.00390625, 1.01171875, -1.00390625, 3.4e38, 1e-40, 0.0], dtype=np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert _bf16(values).tolist() == expected.tolist()


def test_the_safetensors_file_is_one(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    convert_plain_llama(GgufFile(tmp_path / "m.gguf"), tmp_path / "out")
    with safe_open(tmp_path / "out/model.safetensors", framework="np") as file:
        assert "model.layers.1.mlp.down_proj.weight" in file.keys()  # noqa: SIM118  (no mapping)
