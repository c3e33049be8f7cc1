"""Which encoder a configuration means, without loading it: width, length, and the fingerprint of all that shapes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from ..config import EncoderConfig
from ..errors import EncoderError, ModelFilesError
from ..protocol import EncoderInfo
from .cache import PullCallback
from .folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, context, read_config, read_json, weight_files, width
from .hash_cache import content_hash, content_hashes
from .projection import projection_shape
from .resolve import ResolvedModel, resolve

# 2: bf16 keeps the rotary frequencies in fp32 (encoder/load.cast_weights), which changed bf16 vectors.
FINGERPRINT_VERSION = 2
# Keys that tell who wrote the file where, or how to load it, and nothing of the vectors.
PASSING_CONFIG = frozenset(
    [
        *("transformers_version", "_name_or_path", "_model_name_or_path", "name_or_path"),
        *("dtype", "torch_dtype", "use_cache", "architectures", "auto_map", "is_causal"),
    ]
)
PASSING_ADAPTER = frozenset(
    [
        *("base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping"),
        *("lora_dropout", "init_lora_weights", "peft_version", "parent_library"),
    ]
)


def identify(config: EncoderConfig, *, cache: Path | None = None, progress: PullCallback | None = None) -> EncoderInfo:
    """Return what a collection remembers of this encoder; never imports torch. Pulls a missing model first.

    Raises what `resolve` raises, and EncoderError for a `dim` or `max_tokens` that the model does not have.
    """
    if config.model == "hashing":
        from ..hashing import hashing_encoder

        return hashing_encoder(config).info
    return identify_resolved(resolve(config, cache=cache, progress=progress), config, cache=cache)


def identify_resolved(resolved: ResolvedModel, config: EncoderConfig, *, cache: Path | None = None) -> EncoderInfo:
    """Return the same for files already found."""
    full = full_width(resolved)
    if config.dim is not None and config.dim > full:
        raise EncoderError(f"dim is {config.dim}: {resolved.name} has {full} components, expected at most that")
    dim = config.dim or full
    pooling = config.pooling or resolved.sidecar.pooling
    return EncoderInfo(
        name=resolved.name,
        revision=resolved.revision,
        dim=dim,
        max_tokens=_max_tokens(resolved, config),
        pooling=pooling.value,
        normalized=True,
        fingerprint=_fingerprint(resolved, config, dim=dim, pooling=pooling.value, cache=cache),
    )


def full_width(resolved: ResolvedModel) -> int:
    """Return how many components its vectors have. Raises ModelFilesError for a projection that does not fit."""
    states = width(resolved.folder)
    if resolved.projection is None:
        return states
    out, expected = projection_shape(resolved.projection)
    if expected != states:
        raise ModelFilesError(
            f"{resolved.projection}: projects states of {expected} components, and those of {resolved.name} have "
            f"{states}: it belongs to another model"
        )
    return out


def _max_tokens(resolved: ResolvedModel, config: EncoderConfig) -> int:
    limit = context(resolved.folder)
    if config.max_tokens is None:
        wanted = resolved.sidecar.max_tokens
        return wanted if limit is None else min(wanted, limit)
    if limit is not None and config.max_tokens > limit:
        raise EncoderError(
            f"max_tokens is {config.max_tokens}: {resolved.name} was made for at most {limit}, expected 1 to {limit}"
        )
    return config.max_tokens


def _fingerprint(resolved: ResolvedModel, config: EncoderConfig, *, dim: int, pooling: str, cache: Path | None) -> str:
    """Return the digest of everything that changes vectors; where the files lie and how they are run does not."""
    parts = {
        "version": FINGERPRINT_VERSION,
        **weight_parts(resolved, cache=cache),
        "tokenizer": content_hash(resolved.folder / "tokenizer.json", cache=cache),
        "prompt": resolved.sidecar.prompt.to_dict(),
        "pooling": pooling,
        "attention": config.attention.value,
        "method": config.method.value,
        "dim": dim,
    }
    return digest_of(parts)


def weight_parts(resolved: ResolvedModel, *, cache: Path | None) -> dict[str, Any]:
    """Return what decides the vector of given tokens, by digests: weights, config, adapters, layers, projection."""
    weights = weight_files(resolved.folder)
    adapters = [folder / ADAPTER_WEIGHTS for folder in resolved.adapters]
    last = [] if resolved.projection is None else [resolved.projection]
    digests = content_hashes([*weights, *adapters, *last], cache=cache)
    adapter_digests = digests[len(weights) :][: len(adapters)]
    layers = resolved.sidecar.layers
    return {
        "weights": digests[: len(weights)],
        "config": _without(read_config(resolved.folder), PASSING_CONFIG),
        "adapters": [
            [digest, _without(read_json(folder / ADAPTER_CONFIG), PASSING_ADAPTER)]
            for digest, folder in zip(adapter_digests, resolved.adapters, strict=True)
        ],
        # Named only where there is one, so that the others keep the fingerprint of their collections.
        **({} if layers is None else {"layers": list(layers)}),
        **({} if resolved.projection is None else {"projection": digests[-1]}),
    }


def digest_of(parts: dict[str, Any]) -> str:
    """Return the blake3 hex digest of the canonical JSON of `parts`."""
    try:
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError as error:
        raise ModelFilesError(f"the model's config.json holds NaN or Infinity ({error}): fetch it again") from error
    return blake3(text.encode("ascii")).hexdigest()


def _without(data: Any, keys: frozenset[str]) -> Any:
    """Return the JSON value without these keys at any depth; null says the same as no key and is left out too."""
    if isinstance(data, dict):
        return {key: _without(value, keys) for key, value in data.items() if key not in keys and value is not None}
    if isinstance(data, list):
        return [_without(value, keys) for value in data]
    return data
