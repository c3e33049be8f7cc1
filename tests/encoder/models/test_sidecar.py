"""searchctl.json beside the weights: written and read alike, and strict."""

import json
from pathlib import Path

import pytest

from searchctl.encoder.config import Pooling
from searchctl.encoder.errors import ModelFilesError
from searchctl.encoder.models.sidecar import Sidecar, read_sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat

FULL = Sidecar(
    pooling=Pooling.LAST,
    max_tokens=128,
    prompt=PromptFormat(prefix="[INST] ", suffix=" [/INST]", query_instruction="Find é 東"),
    adapters=("mntp", "later/supervised"),
    dense_weight=0.25,
    base="smollm2-135m",
)


def test_written_sidecar_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for sidecar in [Sidecar(), FULL]:
        with subtests.test(sidecar=sidecar):
            tmp_path = tmp_path_factory.mktemp("row")
            write_sidecar(tmp_path, sidecar)
            assert read_sidecar(tmp_path) == sidecar
            assert [path.name for path in tmp_path.iterdir()] == ["searchctl.json"]


def test_folder_without_one_gives_none(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path) is None


def test_missing_keys_take_defaults(tmp_path: Path) -> None:
    (tmp_path / "searchctl.json").write_text('{"pooling": "first", "dense_weight": 1}')
    assert read_sidecar(tmp_path) == Sidecar(pooling=Pooling.FIRST, dense_weight=1.0)


def test_wrong_content_is_an_error_naming_file_and_key(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for text, part in [
        ('{"poolin": "mean"}', "unknown key 'poolin'"),
        ('{"pooling": "max"}', "pooling is 'max'"),
        ('{"max_tokens": 0}', "max_tokens is 0"),
        ('{"max_tokens": true}', "max_tokens is True"),
        ('{"max_tokens": 1.5}', "max_tokens is 1.5"),
        ('{"prompt": "x"}', "prompt is 'x'"),
        ('{"prompt": {"prefx": "x"}}', "'prefx'"),
        ('{"prompt": {"prefix": 3}}', "prefix is 3"),
        ('{"prompt": {"prefix": null}}', "prompt.prefix is null"),
        ('{"prompt": {"instruction": "no place"}}', "instruction is 'no place'"),
        ('{"adapters": "mntp"}', "adapters is 'mntp'"),
        ('{"adapters": [""]}', "adapters holds ''"),
        ('{"adapters": [1]}', "adapters holds 1"),
        ('{"adapters": ["/abs"]}', "adapters holds '/abs'"),
        ('{"adapters": ["../out"]}', "adapters holds '../out'"),
        ('{"adapters": ["a\\\\b"]}', "adapters holds"),
        ('{"adapters": ["C:/x"]}', "adapters holds 'C:/x'"),
        ('{"dense_weight": 1.5}', "dense_weight is 1.5"),
        ('{"base": ""}', "base is ''"),
        ('{"base": 3}', "base is 3"),
        ('{"dense_weight": "0.5"}', "dense_weight is '0.5'"),
        ('{"dense_weight": NaN}', "dense_weight is nan"),
        ("[]", "holds a list"),
        ("{", "no valid JSON"),
        ("", "no valid JSON"),
    ]:
        with subtests.test(text=text, part=part):
            tmp_path = tmp_path_factory.mktemp("row")
            path = tmp_path / "searchctl.json"
            path.write_text(text)
            with pytest.raises(ModelFilesError) as caught:
                read_sidecar(tmp_path)
            assert str(path) in str(caught.value)
            assert part in str(caught.value)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "searchctl.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelFilesError, match=r"searchctl\.json: cannot be read"):
        read_sidecar(tmp_path)


def test_writing_nonsense_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_sidecar(tmp_path, FULL)
    with pytest.raises(ModelFilesError, match="max_tokens is 0"):
        write_sidecar(tmp_path, Sidecar(max_tokens=0))
    assert read_sidecar(tmp_path) == FULL


def test_file_is_readable_text(tmp_path: Path) -> None:
    write_sidecar(tmp_path, FULL)
    text = (tmp_path / "searchctl.json").read_text(encoding="utf-8")
    assert json.loads(text)["prompt"]["query_instruction"] == "Find é 東"
    assert "é 東" in text
