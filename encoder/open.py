"""From a configuration to a working encoder."""

from __future__ import annotations

import ctypes
import logging
from importlib.util import find_spec
from pathlib import Path

from .compiled.errors import NotCompiledError
from .config import EncoderConfig, Runtime
from .errors import EncoderError
from .models.cache import PullCallback
from .models.identity import identify, identify_resolved
from .models.resolve import ResolvedModel, resolve
from .protocol import Encoder

__all__ = ["identify", "open_encoder"]

_log = logging.getLogger(__name__)


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
    # Files, sizes and settings are checked before anything heavy is imported.
    resolved = resolve(config, cache=cache, progress=progress)
    info = identify_resolved(resolved, config, cache=cache)
    runtime, reason = choose_runtime(resolved, config)
    if runtime is Runtime.COMPILED:
        from .compiled.open import open_compiled

        try:
            return open_compiled(resolved, config, info, cache=cache, progress=progress)
        except NotCompiledError as error:
            if config.runtime is Runtime.COMPILED:
                raise
            reason = str(error)
    if find_spec("torch") is None:
        raise EncoderError(
            f"{info.name} runs on torch ({reason}), which is not installed: `pip install 'searchctl[torch]'`"
        )
    if config.runtime is Runtime.AUTO:
        _log.info("%s runs on torch: %s", info.name, reason)
    from .load import load_transformer

    return load_transformer(resolved, config, info)


def choose_runtime(resolved: ResolvedModel, config: EncoderConfig) -> tuple[Runtime, str]:
    """Return what will compute, TORCH or COMPILED, and why; nothing heavy is imported.

    Raises NotCompiledError where COMPILED is asked for and this model, or this way to use it, needs torch.
    """
    if config.runtime is Runtime.TORCH:
        return Runtime.TORCH, "asked for"
    has_gpu = config.runtime is Runtime.AUTO and _has_gpu(config)
    lacks_torch = config.device == "auto" and find_spec("torch") is None
    if has_gpu and not lacks_torch:
        return Runtime.TORCH, "there is a GPU"
    from .compiled.open import require_fit

    try:
        require_fit(resolved, config)
    except NotCompiledError as error:
        if config.runtime is Runtime.COMPILED:
            raise
        return Runtime.TORCH, str(error)
    if config.runtime is Runtime.COMPILED:
        return Runtime.COMPILED, "asked for"
    return Runtime.COMPILED, "the CPU computes" + (": torch, which the GPU needs, is not installed" if has_gpu else "")


def _has_gpu(config: EncoderConfig) -> bool:
    """Return whether device "auto" would find a GPU; asked of NVIDIA's driver, since torch takes seconds to import."""
    if config.device != "auto":
        return config.device != "cpu"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
