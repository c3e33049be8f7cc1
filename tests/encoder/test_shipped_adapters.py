"""The adapters that ship: complete, small enough, made of data that may be published, and told where they come from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from searchctl.encoder.models.registry import find
from searchctl.encoder.models.resolve import SHIPPED, shipped_adapters

LIMIT_BYTES = 12_000_000
MODELS = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()) if SHIPPED.is_dir() else []
EVALUATION = re.compile(r"scifact|cranfield|npl|xquad|cosqa|sts|mrpc|twitter|20news|stackoverflow|banking|trec|conll")


def manifest(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((SHIPPED / name / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_the_default_has_adapters() -> None:
    assert "smollm2-135m" in MODELS


def test_all_adapters_together_are_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= LIMIT_BYTES


@pytest.mark.parametrize("name", MODELS)
def test_chain_is_complete_in_bf16_and_on_top_of_its_base(name: str) -> None:
    adapters, sidecar = shipped_adapters(name)
    assert sidecar is not None
    assert (sidecar.base, find(name) is not None) == (name, True)
    assert {path.parent for path in (SHIPPED / name).rglob("adapter_config.json")} == set(adapters), "none is unused"
    below = name
    for adapter in adapters:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == below
        below = f"../{adapter.name}"
        with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
            dtypes = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
        assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize("name", MODELS)
def test_data_have_licences_and_are_none_of_the_evaluation(name: str) -> None:
    data = manifest(name)["data"]
    assert isinstance(data, dict)
    assert data
    for source, said in data.items():
        assert said["licence"], source
        assert re.fullmatch(r"[0-9a-f]{64}", said["blake3"]), source
        assert not EVALUATION.search(source), source
    assert manifest(name)["base"] == name


@pytest.mark.parametrize("name", MODELS)
def test_nothing_tells_of_the_machine_it_was_made_on(name: str) -> None:
    for path in (SHIPPED / name).rglob("*.json"):
        assert not re.search(r"\"/|[ =]/(home|root|work|tmp|usr)\b", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", MODELS)
def test_model_card_names_base_licence_and_data(name: str) -> None:
    card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    entry = find(name)
    assert entry is not None
    data = manifest(name)["data"]
    assert isinstance(data, dict)
    for word in (name, entry.licence, *data):
        assert word in card, word


def test_folder_of_adapters_is_package_data() -> None:
    tree = Path(__file__).resolve().parents[2]
    assert SHIPPED.resolve() == (tree / "encoder" / "adapters")
