"""An encoder of this project, or an ablation of it, as something to measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...encoder.config import EncoderConfig, Precision, Runtime
from ...encoder.models.folder import stored_weights, weight_files
from ...encoder.models.identity import digest_of, identify, identify_resolved
from ...encoder.models.resolve import ResolvedModel, resolve
from ...encoder.open import choose_runtime, open_encoder
from ...encoder.protocol import Encoder, EncoderInfo
from ..errors import EvaluationError
from ..recipe import adapter_name
from .measurement import EvalTask, Identity, Json, Meter
from .mteb_encoder import MeteredEncoder, MtebEncoder, OpenedModel
from .vector_cache import BLOCK_CHARS, CachedEncoder

if TYPE_CHECKING:
    from ...encoder.models.cache import PullCallback


VECTORS = "vectors.sqlite"
GPU_BLOCK_CHARS = 16 * BLOCK_CHARS
"""Many full batches of a GPU between two commits, and still seconds."""


class EncoderModel:
    """Measures one configuration of an encoder; the model is loaded once, at the first task, and kept until `close`."""

    def __init__(
        self,
        label: str,
        config: EncoderConfig,
        *,
        cache: Path | None = None,
        progress: PullCallback | None = None,
    ) -> None:
        self.label = label
        self.config = config
        self._cache = cache
        self._progress = progress
        self._info: EncoderInfo | None = None
        self._identity: Identity | None = None
        self._encoder: Encoder | None = None

    def identify(self) -> Identity:
        """Return who it is; pulls a missing model. Raises what `encoder.resolve.resolve` raises."""
        if self._identity is None:
            self._info, details = self._describe()
            # These two change vectors, and a collection's fingerprint leaves them out.
            beyond = {"precision": details["precision"], "max_tokens": details["max_tokens"]}
            self._identity = Identity(
                label=self.label,
                kind="encoder",
                name=self.config.model,
                fingerprint=digest_of({"encoder": self._info.fingerprint, **beyond}),
                details=details,
            )
        return self._identity

    def _describe(self) -> tuple[EncoderInfo, dict[str, Json]]:
        if self.config.model == "hashing":
            info = identify(self.config)
            return info, {**_sizes(info), "precision": "fp32", "parameters": 0}
        resolved = resolve(self.config, cache=self._cache, progress=self._progress)
        info = identify_resolved(resolved, self.config, cache=self._cache)
        return info, {
            **_sizes(info),
            "attention": self.config.attention.value,
            "method": self.config.method.value,
            "chain": [adapter_name(folder) for folder in resolved.adapters],
            "precision": _precision(resolved, self.config),
            "parameters": _parameters(resolved),
        }

    def supports(self, task_type: str) -> bool:
        """Return True: any task on text."""
        return True

    @contextmanager
    def open(self, task: EvalTask, workspace: Path) -> Iterator[OpenedModel]:
        """Yield it for `task`. Its vectors are kept in `workspace`, so that a killed task goes on where it was.

        Raises what `encoder.open.open_encoder` raises, and EvaluationError when the model is no longer the identified.
        """
        identity = self.identify()
        encoder = self._loaded()
        meter = Meter()
        cached = CachedEncoder(
            MeteredEncoder(encoder, meter),
            workspace / VECTORS,
            kind=f"{identity.details['precision']} {identity.details['max_tokens']}",
            block_chars=GPU_BLOCK_CHARS if device_type(encoder) == "cuda" else BLOCK_CHARS,
        )
        try:
            model = MtebEncoder(cached, identity=identity, instructions=task.instructions, meter=meter)
            yield OpenedModel(model=model, meter=meter)
        finally:
            cached.close()

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            identity = self.identify()
            encoder = open_encoder(self.config, cache=self._cache, progress=self._progress)
            if encoder.info != self._info:
                raise EvaluationError(f"{self.label}: the files of {self.config.model} changed meanwhile: run again")
            check_precision(self.label, encoder, expected=identity.details["precision"])
            self._encoder = encoder
        return self._encoder

    def close(self) -> None:
        """Let the model go; the next `open` loads it again."""
        if self._encoder is not None:
            on_gpu = device_type(self._encoder) == "cuda"
            self._encoder = None
            if on_gpu:
                import torch

                torch.cuda.empty_cache()


def _sizes(info: EncoderInfo) -> dict[str, Json]:
    return {"pooling": info.pooling, "max_tokens": info.max_tokens, "dim": info.dim}


def _precision(resolved: ResolvedModel, config: EncoderConfig) -> str:
    """Return the number format that loading will choose; for torch `auto` asks the hardware."""
    if config.precision is not Precision.AUTO:
        return config.precision.value
    if choose_runtime(resolved, config)[0] is Runtime.COMPILED:
        return Precision.FP32.value
    import torch

    from ...encoder.load import choose_device, choose_dtype

    dtype, _ = choose_dtype(config.precision, choose_device(config.device))
    return (Precision.BF16 if dtype is torch.bfloat16 else Precision.FP32).value


def check_precision(label: str, encoder: Encoder, *, expected: Json) -> None:
    """Raise EvaluationError where an automatic choice fell back from a full GPU to the CPU and its number format.

    `expected` is the precision that the model's identity names: a score in another would be kept under it.
    """
    used = used_precision(encoder)
    if used != expected:
        raise EvaluationError(
            f"{label}: loaded in {used}, expected {expected}: free the GPU, or use --device cpu or --precision {used}"
        )


def used_precision(encoder: Encoder) -> str:
    """Return the number format that a loaded encoder computes in."""
    model = torch_model(encoder)
    is_bf16 = model is not None and str(model.dtype) == "torch.bfloat16"
    return (Precision.BF16 if is_bf16 else Precision.FP32).value


def device_type(encoder: Encoder) -> str:
    """Return "cpu" or "cuda", where a loaded encoder computes."""
    model = torch_model(encoder)
    return "cpu" if model is None else str(model.device.type)


def torch_model(encoder: Encoder) -> Any:
    """Return the model that torch runs, None for an encoder that something else runs; torch is not imported."""
    return getattr(encoder, "model", None)


def _parameters(resolved: ResolvedModel) -> int:
    """Return how many weights the base has: the registry's number, else what its files hold, an output head included.

    Adapters are merged and add none.
    """
    if resolved.entry is not None:
        return resolved.entry.parameters
    return stored_weights(weight_files(resolved.folder))
