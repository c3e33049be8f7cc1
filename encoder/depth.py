"""A model cut to some of its layers, which are what its adapters were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from .errors import ModelFilesError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

Layers = tuple[int, ...]
"""Numbers of the layers that are kept, counted from 0, rising."""


def parse_layers(value: object) -> Layers:
    """Return the layers that a number (the first so many) or a list of numbers says. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(range(value))
    if isinstance(value, list | tuple) and value and all(type(item) is int and item >= 0 for item in value):
        numbers = tuple(value)
        if all(a < b for a, b in pairwise(numbers)):
            return numbers
    raise ValueError(
        f"layers is {value!r}: expected a number above 0, for the first so many, or a rising list of layer numbers "
        "counted from 0"
    )


def stated_layers(layers: Layers) -> int | list[int]:
    """Return the shortest way to say them, which `parse_layers` reads."""
    return len(layers) if layers == tuple(range(len(layers))) else list(layers)


def keep_layers(model: Model, layers: Layers) -> Model:
    """Return `model` itself with these of its decoder layers, the others gone, also from its config.

    Raises ModelFilesError for a layer that it does not have.
    """
    from torch import nn

    from .bidirectional import decoder_layers

    found = decoder_layers(model)
    count = len(found)
    if layers[-1] >= count:
        raise ModelFilesError(f"layers reach to number {layers[-1]}, and {type(model).__name__} has {count}, from 0 on")
    place, _, name = found[0][0].rsplit(".", 1)[0].rpartition(".")
    kept = [found[number][1] for number in layers]
    setattr(model.get_submodule(place), name, nn.ModuleList(kept))
    for at, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = at  # type: ignore[assignment]
    config = model.config.get_text_config()
    for key, value in list(vars(config).items()):
        # What is said layer by layer: layer_types and the like.
        if isinstance(value, list) and len(value) == count:
            setattr(config, key, [value[number] for number in layers])
    config.num_hidden_layers = len(layers)
    return model


def keep_adapter_layers(tensors: Mapping[str, Tensor], layers: Layers) -> dict[str, Tensor]:
    """Return the tensors of an adapter of the whole model that fit the cut one, under the names they have there."""
    places = {number: at for at, number in enumerate(layers)}
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        parts = name.split(".")
        # The first number in a name is that of the layer: peft's own parts come after it.
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is None:
            kept[name] = value
        elif int(parts[at]) in places:
            kept[".".join([*parts[:at], str(places[int(parts[at])]), *parts[at + 1 :]])] = value
    return kept
