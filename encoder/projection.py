"""A learned linear map from a pooled state to the vector of a text, in the tensors of sentence-transformers' Dense.

Shape suffixes: D hidden width, P components of a vector.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelFilesError
from .model_folder import check_safetensors

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "projection.safetensors"
WEIGHT, BIAS = "linear.weight", "linear.bias"
"""(P, D), and (P,) where there is one."""


def projection_shape(path: Path) -> tuple[int, int]:
    """Return (P, D) of a whole projection file, from its header. Raises ModelFilesError for any other file."""
    if not path.is_file():
        raise ModelFilesError(f"{path}: no such file, and searchctl.json beside it names it as the projection")
    check_safetensors(path)
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    weight = shapes.pop(WEIGHT, [])
    bias = shapes.pop(BIAS, None)
    if len(weight) != 2 or min(weight) < 1 or bias not in (None, weight[:1]) or shapes:
        raise ModelFilesError(
            f"{path}: expected {WEIGHT} of two dimensions, and {BIAS} as long as its first or none, and no other tensor"
        )
    return weight[0], weight[1]


def load_projection(path: Path) -> nn.Linear:
    """Return the projection in fp32, without gradients. Raises ModelFilesError."""
    import torch
    from safetensors.torch import load_file

    out, width = projection_shape(path)
    tensors = load_file(path)
    linear = torch.nn.Linear(width, out, bias=BIAS in tensors)
    linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in tensors.items()})
    return linear.requires_grad_(False)


def save_projection(path: Path, linear: nn.Linear, *, components: int | None = None) -> None:
    """Write the projection as it is, or the first `components` of what it gives."""
    from safetensors.torch import save_file

    tensors = {f"linear.{name}": value.detach().cpu()[:components] for name, value in linear.named_parameters()}
    # A slice shares its storage, which safetensors refuses.
    save_file({name: value.clone() for name, value in tensors.items()}, path, metadata={"format": "pt"})
