"""From a configuration to a working encoder."""

from __future__ import annotations

from pathlib import Path

from .config import EncoderConfig
from .models.cache import PullCallback
from .models.identity import identify, identify_resolved
from .models.resolve import resolve
from .protocol import Encoder

__all__ = ["identify", "open_encoder"]


def open_encoder(
    config: EncoderConfig,
    *,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> Encoder:
    """Return the encoder that `config` means, loaded and proved; its `info` equals that of `identify`.

    A missing model is pulled first (`progress`). Choices made for the user are logged: what every
    load says at level INFO, what went another way than asked at WARNING. Raises what `resolve` and
    `load_transformer` raise.
    """
    if config.model == "hashing":
        from .hashing import hashing_encoder

        return hashing_encoder(config)
    # Files, sizes and settings are checked before torch is imported, which takes seconds.
    resolved = resolve(config, cache=cache, progress=progress)
    info = identify_resolved(resolved, config, cache=cache)
    from .load import load_transformer

    return load_transformer(resolved, config, info)
