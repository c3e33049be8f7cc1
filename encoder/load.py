"""From a resolved model folder to a proved encoder on a device."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as library_logging

from . import proof
from .batching import is_out_of_memory
from .bidirectional import set_attention
from .config import Attention, EncoderConfig, Pooling, Precision
from .depth import keep_layers
from .errors import EncoderError, ModelFilesError, NotBidirectionalError
from .models.folder import stored_weights, weight_files
from .models.projection import load_projection
from .models.resolve import ResolvedModel
from .protocol import EncoderInfo
from .tokenize import TextTokenizer, load_tokenizer
from .transformer import TransformerEncoder

_log = logging.getLogger(__name__)

# Padded tokens per forward pass. On a CPU more brings nothing once a matrix is larger than the caches; on a
# GPU it fills the chip.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
# Below this many parameters adapters are merged in fp32 and rounded once; above, fp32 weights would not fit a laptop.
MERGE_FP32_LIMIT = 2_000_000_000


def load_transformer(
    resolved: ResolvedModel,
    config: EncoderConfig,
    info: EncoderInfo,
    *,
    fp32_limit: int = MERGE_FP32_LIMIT,
) -> TransformerEncoder:
    """Return the encoder in `resolved.folder` as `config` wants it, proved.

    Adapters of a model with fewer than `fp32_limit` weights are merged in fp32 and rounded once, whatever it is in.

    Raises NotBidirectionalError when the proof fails, ModelFilesError for files that do not load, EncoderError for a
    device or precision that is not there.
    """
    device = choose_device(config.device)
    dtype, reason = choose_dtype(config.precision, device)
    model = _load_model(resolved, config, dtype, device, fp32_limit=fp32_limit)
    model, device = _place(model, device, automatic=config.device == "auto")
    if device.type == "cpu" and dtype is not choose_dtype(config.precision, device)[0]:
        dtype, reason = choose_dtype(config.precision, device)
        cast_weights(model, dtype)
    _log.info("%s: %s on %s (%s)", info.name, _dtype_name(dtype), device, reason)
    proof.require(model, config.attention, name=info.name)
    pooling = config.pooling or resolved.sidecar.pooling
    texts = TextTokenizer(
        tokenizer=load_tokenizer(resolved.folder),
        prompt=resolved.sidecar.prompt,
        max_tokens=info.max_tokens,
        method=config.method,
        eos=eos_token(model.config, resolved.folder) if pooling is Pooling.LAST else None,
    )
    return TransformerEncoder(
        model=model,
        texts=texts,
        info=info,
        pooling=pooling,
        projection=None if resolved.projection is None else load_projection(resolved.projection).to(model.device),
        batch_tokens=config.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]),
    )


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is CUDA where present. Raises EncoderError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"device is {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise EncoderError(
            f"device is {name!r}, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices: "
            "use --device cpu, or install a CUDA build of torch"
        )
    if device.type not in BATCH_TOKENS:
        raise EncoderError(f"device is {name!r}: expected auto, cpu, cuda or cuda:N")
    return device


def choose_dtype(precision: Precision, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the dtype to compute in and the reason. Raises EncoderError for bf16 on a GPU without it."""
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    where = "the GPU" if device.type == "cuda" else "the CPU"
    if precision is Precision.FP32:
        return torch.float32, "asked for"
    if precision is Precision.BF16:
        if device.type == "cuda" and not has_bf16:
            raise EncoderError("precision is bf16, but this GPU has no bf16 units: use --precision fp32")
        return torch.bfloat16, "asked for" if has_bf16 else f"asked for; {where} has no bf16 units, so it is slow"
    if has_bf16:
        return torch.bfloat16, f"{where} has bf16 units"
    return torch.float32, f"{where} has no bf16 units"


def _cpu_has_bf16() -> bool:
    # mkldnn says yes on any AVX-512 CPU, where bf16 is emulated and slower than fp32: ask for the instructions.
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _dtype_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def _load_model(
    resolved: ResolvedModel, config: EncoderConfig, dtype: torch.dtype, device: torch.device, *, fp32_limit: int
) -> PreTrainedModel:
    try:
        model_config = AutoConfig.from_pretrained(str(resolved.folder), trust_remote_code=False)
        # Set before loading so that mask builders and attention are made for it; see bidirectional.py.
        model_config.get_text_config().is_causal = config.attention is Attention.CAUSAL
        wide = dtype
        if resolved.adapters and stored_weights(weight_files(resolved.folder)) < fp32_limit:
            wide = torch.float32
        with quiet_loading():
            model, loading = AutoModel.from_pretrained(
                str(resolved.folder),
                config=model_config,
                # Named, or transformers asks on the terminal whether to run the folder's code, and reads stdin.
                trust_remote_code=False,
                dtype=wide,
                attn_implementation=choose_attention(dtype, device),
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        _refuse_known_causal(error)
        raise ModelFilesError(
            f"{resolved.name}: {_first_line(error)}. Expected a decoder language model in transformers' format "
            f"in {resolved.folder}."
        ) from error
    require_complete(resolved, loading)
    if resolved.sidecar.layers is not None:
        model = keep_layers(model, resolved.sidecar.layers)
    if resolved.adapters:
        # Here and not above: peft takes seconds to import, and a query without adapters need not wait for it.
        from .adapters import merge_adapters

        model = merge_adapters(model, resolved.adapters)
    cast_weights(model, dtype).eval().requires_grad_(False)
    set_attention(model, config.attention)
    text: PreTrainedModel = model.get_decoder() if hasattr(model, "language_model") else model
    return text


def cast_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Return `model` itself with its weights in `dtype` and its buffers as they were.

    Rotary frequencies are buffers that transformers keeps in fp32: `model.to(torch.bfloat16)` would round them, and
    turn late positions by up to a radian (SmolLM2-135M, 512 tokens: cosine 0.9977 to the exact ones).
    """
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def require_complete(resolved: ResolvedModel, loading: Mapping[str, Any]) -> None:
    """Raise ModelFilesError naming the first unless transformers' loading info names no missing tensor."""
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelFilesError(
            f"{resolved.name}: {len(missing)} tensors are not in the weights of {resolved.folder}, first {missing[0]}: "
            "transformers would fill them with random numbers. Fetch the model again."
        )


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' bar and load report off the terminal: rooms do not print, and the keys are checked here."""
    verbosity, had_bar = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
        if had_bar:
            library_logging.enable_progress_bar()


def _refuse_known_causal(error: Exception) -> None:
    """Name missing kernels of linear-attention models for what they are."""
    if "mamba" in str(error).lower() or "causal_conv1d" in str(error).lower():
        raise NotBidirectionalError(
            f"this model has state-space or convolutional layers ({_first_line(error)}), which stay causal: "
            "choose a model with plain attention",
            next_command=("models", "list"),
        ) from error


def choose_attention(
    dtype: torch.dtype, device: torch.device, *, installed: Callable[[str], object] = find_spec
) -> str | None:
    """Return FlashAttention 2 where installed and usable, else None: transformers' own choice (sdpa, else eager)."""
    fits = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    return "flash_attention_2" if fits and installed("flash_attn") is not None else None


def _place(model: PreTrainedModel, device: torch.device, *, automatic: bool) -> tuple[PreTrainedModel, torch.device]:
    """Return the model on `device`, or on the CPU, with a warning, when an automatically chosen GPU is full."""
    try:
        return model.to(device), device  # type: ignore[arg-type]
    except (RuntimeError, MemoryError) as error:
        if not (is_out_of_memory(error) and automatic and device.type == "cuda"):
            if is_out_of_memory(error):
                raise EncoderError(f"{device} has too little free memory for the model: use --device cpu") from error
            raise
    torch.cuda.empty_cache()
    _log.warning("%s has too little free memory for the model; going on on the CPU, many times slower", device)
    return model.to("cpu"), torch.device("cpu")  # type: ignore[arg-type]


def eos_token(config: PretrainedConfig, folder: Path) -> int:
    """Return the token that pooling "last" appends. Raises ModelFilesError when the config names none."""
    eos = config.get_text_config().eos_token_id
    eos = eos[0] if isinstance(eos, list) else eos
    if not isinstance(eos, int):
        raise ModelFilesError(
            f"{folder / 'config.json'}: eos_token_id is {eos!r}, and pooling 'last' appends it: set it, or use mean"
        )
    return eos


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
