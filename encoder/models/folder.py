"""What a folder of model files holds, read without torch: complete or not, how wide, how long a context."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ModelFilesError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What sentence-transformers writes into each of its folders.
MODULES = "modules.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Names of the width of the final states; OPT projects from hidden_size to word_embed_proj_dim at the end.
WIDTH_KEYS = ("word_embed_proj_dim", "hidden_size", "n_embd", "d_model", "dim")
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
# A safetensors header longer than this is garbage read as a length (the format's own limit).
HEADER_LIMIT = 100_000_000


def has_weights(folder: Path) -> bool:
    """Return whether the folder holds a model's weights as safetensors, complete or not."""
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds a peft adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the weight files in order of name, each there. Raises ModelFilesError naming the first missing shard."""
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if not index.is_file():
        raise ModelFilesError(f"{folder}: no weights, expected {SINGLE} or {INDEX} with its shards")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelFilesError(f"{index}: weight_map is missing or empty, expected tensor names with file names")
    files = tuple(folder / name for name in sorted(set(shards.values())))
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ModelFilesError(
            f"{folder}: {len(missing)} of {len(files)} weight files named in {INDEX} are missing, first {missing[0]}. "
            "Fetch the model again."
        )
    return files


def check_model_folder(folder: Path) -> None:
    """Raise ModelFilesError naming the file unless config, tokenizer and all weights are there and whole."""
    read_config(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelFilesError(
            f"{folder}: no tokenizer.json. Expected a fast tokenizer; transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one."
        )
    for path in weight_files(folder):
        check_safetensors(path)


def check_whole_folder(folder: Path) -> None:
    """Raise ModelFilesError naming the file unless this is a complete model, or an adapter without one."""
    if is_adapter(folder) and not has_weights(folder):
        check_adapter_folder(folder)
    else:
        check_model_folder(folder)


def check_adapter_folder(folder: Path) -> None:
    """Raise ModelFilesError naming what is missing unless this is a complete peft adapter."""
    if not folder.is_dir():
        raise ModelFilesError(f"adapter {folder}: no such folder")
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise ModelFilesError(
                f"adapter {folder}: no {name}. Expected a peft folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}."
            )
    read_json(folder / ADAPTER_CONFIG)
    check_safetensors(folder / ADAPTER_WEIGHTS)


def check_safetensors(path: Path) -> None:
    """Return when the file is as long as its header says. Raises ModelFilesError for a truncated or foreign file."""
    size = path.stat().st_size
    again = "Fetch the file again."
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else HEADER_LIMIT + 1
        if length > HEADER_LIMIT or length + 8 > size:
            raise ModelFilesError(f"{path}: no safetensors file, or truncated ({size:,} bytes). {again}")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ModelFilesError(f"{path}: damaged safetensors header ({error}). {again}") from error
    if size != expected:
        raise ModelFilesError(f"{path}: {size:,} bytes long, but its header says {expected:,}. {again}")


def stored_weights(paths: Iterable[Path]) -> int:
    """Return how many numbers the tensors of whole safetensors files hold, from their headers: no tensor is read."""
    return sum(math.prod(shape) for path in paths for shape in tensor_shapes(path).values())


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor of a whole safetensors file by name, from its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json. Raises ModelFilesError when it is missing, damaged or names no model type."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelFilesError(f"{folder}: no config.json. Expected a model folder as transformers writes it.")
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelFilesError(f"{path}: no model_type. Expected the config of a decoder language model.")
    return config


def width(folder: Path) -> int:
    """Return how many components a final state has. Raises ModelFilesError when config.json does not say."""
    found = config_width(read_config(folder))
    if found is None:
        raise ModelFilesError(f"{folder / 'config.json'}: no {' or '.join(WIDTH_KEYS)}. Expected the model's width.")
    return found


def config_width(config: dict[str, Any]) -> int | None:
    """Return how many components a final state has by the content of config.json; None when that does not say."""
    return _text_value(config, WIDTH_KEYS)


def context(folder: Path) -> int | None:
    """Return the longest input in tokens that the model was made for; None when config.json sets no limit."""
    return _text_value(read_config(folder), CONTEXT_KEYS)


def hidden_layers(folder: Path) -> int | None:
    """Return how many decoder layers the model has; None when config.json does not say."""
    return _text_value(read_config(folder), ("num_hidden_layers", "n_layer", "num_layers", "n_layers"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises ModelFilesError naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path}: cannot be read as JSON ({error}). Fetch the file again.") from error
    if not isinstance(data, dict):
        raise ModelFilesError(f"{path}: holds a {type(data).__name__}, expected a JSON object. Fetch the file again.")
    return data


def _text_value(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    # Models that also see or hear keep the language model's settings one level deeper.
    inner = config.get("text_config")
    for level in (inner, config) if isinstance(inner, dict) else (config,):
        for key in keys:
            if isinstance(level.get(key), int):
                return int(level[key])
    return None
