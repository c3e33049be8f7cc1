"""What a user may choose about an encoder. Plain data: importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Attention(StrEnum):
    BIDIRECTIONAL = "bidirectional"
    CAUSAL = "causal"
    """The paper's Uni baseline."""


class Method(StrEnum):
    PLAIN = "plain"
    ECHO = "echo"
    """Echo embeddings (arXiv 2402.15449): the text twice, pooled over the second copy."""


class Pooling(StrEnum):
    MEAN = "mean"
    WEIGHTED_MEAN = "weighted_mean"
    """Weights i / sum(i) over the text's tokens (SGPT, arXiv 2202.08904)."""
    LAST = "last"
    """State of an EOS token appended after the text."""
    FIRST = "first"
    """State of the first token of the row, BOS where the tokenizer has one."""


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Runtime(StrEnum):
    AUTO = "auto"
    """Compiled on a CPU wherever the model can be, else torch."""
    TORCH = "torch"
    COMPILED = "compiled"


class ExportFormat(StrEnum):
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    MERGED = "merged"
    """transformers' own format, adapters merged into the weights, with searchctl.json beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which encoder to load and how; `None` means the model's own setting."""

    model: str = "smollm2-135m"
    """Registry name, local folder (safetensors or GGUF inside), or a hub name `owner/name`."""
    adapters: tuple[Path, ...] = ()
    """Extra LoRA adapter folders, applied and merged in this order after those the model itself names."""
    chain: int | None = None
    """Apply only the first `chain` of the adapters that the model itself names (0: the bare base); None: all of them.
    For measuring what each training step brings."""
    attention: Attention = Attention.BIDIRECTIONAL
    method: Method = Method.PLAIN
    pooling: Pooling | None = None
    max_tokens: int | None = None
    dim: int | None = None
    """Keep the first `dim` components and renormalise (Matryoshka, arXiv 2205.13147)."""
    precision: Precision = Precision.AUTO
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:N"."""
    runtime: Runtime = Runtime.AUTO
    batch_tokens: int | None = None
    """Padded tokens per forward pass; None picks one for the device."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "dim", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: expected a whole number of at least 1")
        if self.chain is not None and self.chain < 0:
            raise ValueError(f"chain is {self.chain}: expected a whole number of at least 0")
