"""A learned linear map from a pooled state to the vector of a text, in the tensors of sentence-transformers' Dense.

Shape suffixes: D hidden width, P components of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelFilesError
from .folder import check_safetensors, tensor_shapes

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
    shapes = tensor_shapes(path)
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


def save_projection(path: Path, linear: nn.Linear) -> None:
    """Write the projection in the precision it is in."""
    from safetensors.torch import save_file

    tensors = {f"linear.{name}": value.detach().cpu().contiguous() for name, value in linear.named_parameters()}
    save_file(tensors, path, metadata={"format": "pt"})
