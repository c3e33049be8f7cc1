"""LoRA chains: merged equals unmerged, order, and refusal of what does not fit."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from searchctl.encoder.adapters import merge_adapters
from searchctl.encoder.errors import ModelFilesError

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def base(folder: Path) -> PreTrainedModel:
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def states(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).last_hidden_state


def train_adapter(model: PreTrainedModel, folder: Path, *, seed: int) -> PeftModel:
    """Wrap `model` in a LoRA with random weights on both sides and save it."""
    torch.manual_seed(seed)
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    peft.save_pretrained(folder)
    return peft.eval()


def test_merged_equals_unmerged(tiny_folder: Path, tmp_path: Path) -> None:
    expected = states(train_adapter(base(tiny_folder), tmp_path / "a", seed=1))
    merged = merge_adapters(base(tiny_folder), [tmp_path / "a"])
    assert torch.allclose(states(merged), expected, atol=1e-5)
    assert not torch.allclose(states(base(tiny_folder)), expected, atol=1e-2)


def test_a_chain_is_merged_one_on_the_other(tiny_folder: Path, tmp_path: Path) -> None:
    first = train_adapter(base(tiny_folder), tmp_path / "a", seed=1).merge_and_unload()
    expected = states(train_adapter(first, tmp_path / "b", seed=2))
    merged = merge_adapters(base(tiny_folder), [tmp_path / "a", tmp_path / "b"])
    assert torch.allclose(states(merged), expected, atol=1e-5)


def test_merging_warns_of_nothing_that_a_user_can_mend(tiny_folder: Path, tmp_path: Path) -> None:
    train_adapter(base(tiny_folder), tmp_path / "a", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        merge_adapters(base(tiny_folder), [tmp_path / "a"])


def test_an_adapter_trained_on_the_causal_lm_fits_the_inner_model(tiny_folder: Path, tmp_path: Path) -> None:
    causal = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    peft = train_adapter(causal, tmp_path / "lm", seed=1)
    with torch.no_grad():
        expected = peft(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(states(merge_adapters(base(tiny_folder), [tmp_path / "lm"])), expected, atol=1e-5)


def test_an_adapter_of_nan_is_refused_by_name(tiny_folder: Path, tmp_path: Path) -> None:
    train_adapter(base(tiny_folder), tmp_path / "a", seed=1)
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    next(iter(weights.values()))[0] = float("nan")
    save_file(weights, tmp_path / "a" / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFilesError, match=r"adapter .*/a cannot be merged: .* Its weights are damaged"):
        merge_adapters(base(tiny_folder), [tmp_path / "a"])


def test_an_adapter_for_more_layers_is_refused(
    make_folder: Callable[..., Path], tiny_folder: Path, tmp_path: Path
) -> None:
    train_adapter(base(make_folder(num_hidden_layers=5)), tmp_path / "deep", seed=1)
    with pytest.raises(ModelFilesError, match="have no partner"):
        merge_adapters(base(tiny_folder), [tmp_path / "deep"])


def test_an_adapter_for_fewer_layers_is_refused(
    make_folder: Callable[..., Path], tiny_folder: Path, tmp_path: Path
) -> None:
    train_adapter(base(make_folder(num_hidden_layers=2)), tmp_path / "shallow", seed=1)
    with pytest.raises(ModelFilesError, match="have no partner"):
        merge_adapters(base(tiny_folder), [tmp_path / "shallow"])


def test_an_adapter_of_another_width_is_refused(
    make_folder: Callable[..., Path], tiny_folder: Path, tmp_path: Path
) -> None:
    train_adapter(base(make_folder(hidden_size=64)), tmp_path / "wide", seed=1)
    with pytest.raises(ModelFilesError, match="another base"):
        merge_adapters(base(tiny_folder), [tmp_path / "wide"])


def test_a_folder_that_is_no_adapter_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"adapter_config\.json"):
        merge_adapters(base(tiny_folder), [tmp_path])
