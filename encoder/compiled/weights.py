"""A model's weights in numpy: read from safetensors, cut to its layers, adapters merged. No torch.

Shape suffixes: O outputs, I inputs, R rank.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..depth import Layers
from ..errors import ModelFilesError
from ..models.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json, weight_files
from ..models.resolve import ResolvedModel
from .errors import NotCompiledError

Weights = dict[str, NDArray[np.float32]]

_LAYER = "layers."
# Settings of a LoRA under which its merge is more than W + alpha / r * B A.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (None, False),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
}


def merged_weights(resolved: ResolvedModel) -> Weights:
    """Return the decoder's weights in fp32 by the names that they have in the inner model, adapters merged in order.

    Layers that the model does not keep are not read, and the others are numbered from 0. Raises NotCompiledError for
    adapters that only peft can merge, ModelFilesError for files that do not fit.
    """
    weights: Weights = {}
    layers = resolved.sidecar.layers
    for path in weight_files(resolved.folder):
        for name, read in _tensors(path):
            place = place_of(name, layers)
            if place is not None:
                weights[place] = read()
    for folder in resolved.adapters:
        _merge(weights, folder)
    return weights


def read_tensors(path: Path) -> Weights:
    """Return all tensors of a safetensors file in fp32."""
    return {name: read() for name, read in _tensors(path)}


def place_of(name: str, layers: Layers | None) -> str | None:
    """Return the name of a stored tensor in the inner model cut to `layers`, None for one that is not kept."""
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return None
    if layers is None or not name.startswith(_LAYER):
        return name
    number, _, rest = name.removeprefix(_LAYER).partition(".")
    return f"{_LAYER}{layers.index(int(number))}.{rest}" if int(number) in layers else None


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield name and reader of each tensor, mapped into memory: what is not read costs nothing."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, _reader(path, name, entry, data)


def _reader(path: Path, name: str, entry: Mapping[str, Any], data: NDArray[np.uint8]) -> Any:
    start, end = entry["data_offsets"]

    def read() -> NDArray[np.float32]:
        raw = data[start:end]
        if entry["dtype"] == "BF16":
            # The upper half of a float32.
            wide = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in {"F32", "F16"}:
            wide = raw.view({"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
        else:
            raise NotCompiledError(f"{path.name} holds {name} as {entry['dtype']}")
        return wide.reshape(entry["shape"])

    return read


def plain_lora(folder: Path) -> dict[str, Any]:
    """Return the config of an adapter. Raises NotCompiledError for one that only peft can merge."""
    config = read_json(folder / ADAPTER_CONFIG)
    odd = [key for key, plain in _PLAIN.items() if config.get(key) not in plain]
    odd += [key for key in ("rank_pattern", "alpha_pattern") if config.get(key)]
    if odd:
        raise NotCompiledError(f"the adapter {folder.name} is no plain LoRA ({', '.join(odd)})")
    return config


def _merge(weights: Weights, folder: Path) -> None:
    """Add a LoRA to `weights`: W + alpha / r * B A, all of its tensors or an error."""
    config = plain_lora(folder)
    tensors = read_tensors(folder / ADAPTER_WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    left = dict(tensors)
    for name in tensors:
        if not name.endswith(".lora_A.weight"):
            continue
        other = name.replace(".lora_A.", ".lora_B.")
        place = name.removeprefix("base_model.model.").removeprefix("model.").replace(".lora_A.weight", ".weight")
        if place not in weights or other not in tensors:
            break
        a_RI, b_OR = left.pop(name), left.pop(other)
        if weights[place].shape != (len(b_OR), a_RI.shape[1]):
            raise ModelFilesError(
                f"adapter {folder} was trained on another base: {place} has shape {weights[place].shape}, and the "
                f"adapter's is {(len(b_OR), a_RI.shape[1])}"
            )
        weights[place] = weights[place] + scale * (b_OR @ a_RI)
    if left:
        raise ModelFilesError(
            f"adapter {folder} does not fit: {len(left)} of {len(tensors)} tensors have no partner, first "
            f"{next(iter(left))}. Use the base model it was trained on."
        )
