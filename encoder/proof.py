"""The proof at load: a model said to be bidirectional is one, in every layer, with any padding and batch.

"Looked bidirectional, was causal" is the commonest bug of this field (Qwen2 in llm2vec 0.2.3 was fully causal).
The proof takes milliseconds, needs no trained weights and works on the weights and kernels that will be used.

Shape suffixes: B batch, L tokens, D hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .bidirectional import decoder_layers
from .config import Attention
from .errors import ModelFilesError, NotBidirectionalError

LENGTH = 8
PADDING = 5
# Relative L2 error between two kernels or batch shapes that compute the same: rounding, not leakage.
# bf16 measured on SmolLM2-135M: 0.05; a chunked or causal path differs by 0.3 and more.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}
# Influence that is rounding: mixture-of-experts layers group tokens, so another token moves the last bits.
NOISE = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 2e-3}

Call = tuple[tuple[Any, ...], dict[str, Any]]
Calls = dict[str, Call]
NamedLayer = tuple[str, nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProof:
    """Influence of the last token on the ones before it in one layer taken alone."""

    name: str
    kind: str
    """Layer class and, where the config tells, its layer type."""
    least_influence: float
    """Largest relative change of an earlier position's output when only the last position's input changes; the least
    of the ways the layer is called (with and without padding)."""
    most_influence: float
    causal_parts: tuple[str, ...]
    """Parts of the layer that mix tokens without looking ahead."""
    noise: float
    """Influence up to this is rounding."""

    @property
    def is_bidirectional(self) -> bool:
        return self.least_influence > self.noise

    @property
    def is_causal(self) -> bool:
        return self.most_influence <= self.noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was measured; every error is a relative L2 distance between final hidden states."""

    layers: tuple[LayerProof, ...]
    pad_influence: float
    """Change of text states when only the padding tokens change (same shapes): 0.0 when padding is masked."""
    pad_error: float
    """Padded against unpadded."""
    mask_error: float
    """No mask against a mask of ones."""
    batch_error: float
    """Alone against in a batch."""
    tolerance: float

    def failures(self, attention: Attention) -> list[str]:
        """Return what contradicts `attention`, each as a sentence part; [] when proved."""
        found = []
        for layer in self.layers:
            if attention is Attention.BIDIRECTIONAL and not layer.is_bidirectional:
                found.append(f"layer {layer.name} ({layer.kind}) does not see the future")
            elif attention is Attention.BIDIRECTIONAL:
                found += [f"in layer {layer.name} ({layer.kind}) {p} stays causal" for p in layer.causal_parts]
            elif not layer.is_causal:
                found.append(f"layer {layer.name} ({layer.kind}) sees the future by {layer.most_influence:.1e}")
        checks = (
            ("padding tokens change the text's states", self.pad_influence, self.tolerance / 100),
            ("right padding changes the text's states", self.pad_error, self.tolerance),
            ("no mask and a mask of ones differ", self.mask_error, self.tolerance),
            ("a batch of one and a batch of three differ", self.batch_error, self.tolerance),
        )
        found += [f"{what} by {value:.1e} (at most {limit:.0e})" for what, value, limit in checks if not value <= limit]
        return found


def prove(model: PreTrainedModel) -> Proof:
    """Return the proof of `model` in its present attention mode, on its device and in its precision."""
    was_training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            return _measure(model)
    finally:
        model.train(was_training)


def require(model: PreTrainedModel, attention: Attention, *, name: str) -> Proof:
    """Return the proof, or raise NotBidirectionalError naming each layer or property that fails.

    Raises ModelFilesError for a model that computes NaN.
    """
    proof = prove(model)
    errors = (proof.pad_influence, proof.pad_error, proof.mask_error, proof.batch_error)
    if not all(math.isfinite(error) for error in errors):
        raise ModelFilesError(
            f"{name} ({type(model).__name__}): its states are NaN or infinite, so weights are damaged, or too large "
            f"for {str(model.dtype).removeprefix('torch.')}. Fetch the model again, or try --precision fp32."
        )
    failures = proof.failures(attention)
    if failures:
        shown = "; ".join(failures[:4]) + (f"; and {len(failures) - 4} more" if len(failures) > 4 else "")
        raise NotBidirectionalError(
            f"{name} ({type(model).__name__}) cannot be used with {attention} attention: {shown}. "
            "Chunked, linear, convolutional and state-space layers stay causal whatever the mask says: "
            "choose a model with plain attention"
            + (", or use it causally with --attention causal" if attention is Attention.BIDIRECTIONAL else ""),
            next_command=("models", "list"),
        )
    return proof


def _measure(model: PreTrainedModel) -> Proof:
    """Five passes over the model and three over its layers: few, because this runs before every query."""
    ids_BL = _probe_ids(model)
    batch, length = ids_BL.shape
    ones_BL = torch.ones_like(ids_BL)
    # Three different paddings; the rows' texts differ too, so padding is compared on the first row's text alone.
    same_BL = ids_BL[:1].expand(batch, -1)
    pads_BL = torch.arange(batch, device=ids_BL.device)[:, None].expand(-1, PADDING)
    padded_ids_BL = torch.cat([same_BL, pads_BL], dim=1)
    padded_mask_BL = torch.cat([ones_BL, torch.zeros_like(pads_BL)], dim=1)
    layers = decoder_layers(model)
    plain, calls = _record_calls(model, layers, ids_BL, ones_BL)
    padded, padded_calls = _record_calls(model, layers, padded_ids_BL, padded_mask_BL)
    padded = padded[:, :length]
    single = _states(model, ids_BL[:1], ones_BL[:1])
    return Proof(
        layers=_isolated_layers(model, layers, (calls, padded_calls), length),
        pad_influence=_relative(padded[1:], padded[:1].expand(batch - 1, -1, -1)),
        pad_error=_relative(padded[:1], plain[:1]),
        # On the single row too: kernels choose their path by batch size (llm2vec was causal for a batch of one).
        mask_error=max(
            _relative(_states(model, ids_BL, None), plain), _relative(_states(model, ids_BL[:1], None), single)
        ),
        batch_error=_relative(plain[:1], single),
        tolerance=TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16]),
    )


def _probe_ids(model: PreTrainedModel) -> Tensor:
    """Return three rows of distinct ordinary token ids, short enough for every attention window."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    length = min(LENGTH, window) if isinstance(window, int) and window > 1 else LENGTH
    step = max(1, (config.vocab_size - 8) // (3 * length + 1))
    ids_BL: Tensor = (torch.arange(3 * length) * step + 5).clamp(max=config.vocab_size - 1).reshape(3, length)
    return ids_BL.to(model.device)


def _states(model: PreTrainedModel, ids_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
    states: Tensor = model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
    return states.float()


def _isolated_layers(
    model: PreTrainedModel, layers: Sequence[NamedLayer], ways: tuple[Calls, Calls], length: int
) -> tuple[LayerProof, ...]:
    """Call each layer, and each part of it, by itself with the very arguments the model gave it.

    Only isolation finds a causal layer behind a bidirectional one, whose outputs already carry the future; and only
    parts find a causal mixer (a state-space head, say) that runs beside bidirectional attention in one layer. Done
    without and with padding: kernels and mask builders take different ways (chunked layers of llama4 do).
    """
    noise = NOISE.get(model.dtype, NOISE[torch.bfloat16])
    types = getattr(model.config.get_text_config(), "layer_types", None)
    proofs = []
    for i, (name, layer) in enumerate(layers):
        kind = type(layer).__name__ + (f", {types[i]}" if types and i < len(types) else "")
        ahead = [_influences(layer, calls[name], length)[0] for calls in ways]
        proofs.append(
            LayerProof(
                name=name,
                kind=kind,
                least_influence=min(ahead),
                most_influence=max(ahead),
                causal_parts=_causal_parts(name, layer, ways[0], length, noise),
                noise=noise,
            )
        )
    return tuple(proofs)


def _record_calls(
    model: PreTrainedModel, layers: Sequence[NamedLayer], ids_BL: Tensor, mask_BL: Tensor
) -> tuple[Tensor, Calls]:
    """Return the final states and the arguments with which the model called its layers and their direct parts."""
    modules = dict(layers)
    modules |= {f"{name}.{part}": module for name, layer in layers for part, module in layer.named_children()}
    calls: Calls = {}

    def remember(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[name] = (args, dict(kwargs))

        return hook

    hooks = [module.register_forward_pre_hook(remember(name), with_kwargs=True) for name, module in modules.items()]
    try:
        return _states(model, ids_BL, mask_BL), calls
    finally:
        for hook in hooks:
            hook.remove()


def _causal_parts(name: str, layer: nn.Module, calls: Calls, length: int, noise: float) -> tuple[str, ...]:
    """Return the parts of a layer that mix tokens but never look ahead."""
    found = []
    for part, module in layer.named_children():
        call = calls.get(f"{name}.{part}")
        if call is None or not _takes_states(call):
            continue
        ahead, back = _influences(module, call, length)
        if back > noise and not ahead > noise:
            found.append(f"{part} ({type(module).__name__})")
    return tuple(found)


def _hidden(call: Call) -> Any:
    args, kwargs = call
    return args[0] if args else kwargs.get("hidden_states")


def _takes_states(call: Call) -> bool:
    hidden = _hidden(call)
    return isinstance(hidden, Tensor) and hidden.ndim == 3 and hidden.is_floating_point()


def _influences(module: nn.Module, call: Call, length: int) -> tuple[float, float]:
    """Return how much positions before the last see the last one, and how much positions after the first see the first.

    The largest relative change over positions: the first one alone hardly moves in trained models, where it is the
    attention sink with a residual stream hundreds of times larger than what attention adds. One call of three rows:
    as it was, last position changed, first position changed.
    """
    args, kwargs = call
    rows_BLD = _hidden(call)[:1].repeat(3, 1, 1)
    # Reversing the features keeps the scale and turns the direction: a norm inside the module cannot cancel it.
    rows_BLD[1, length - 1] = rows_BLD[0, length - 1].flip(-1)
    rows_BLD[2, 0] = rows_BLD[0, 0].flip(-1)
    out = module(rows_BLD, *args[1:], **kwargs) if args else module(**{**kwargs, "hidden_states": rows_BLD})
    states_BLD = (out[0] if isinstance(out, tuple) else out)[:, :length].float()

    def change(row: int, positions: slice) -> float:
        before_LD, after_LD = states_BLD[0, positions], states_BLD[row, positions]
        return float(((after_LD - before_LD).norm(dim=-1) / before_LD.norm(dim=-1).clamp_min(1e-30)).max())

    return change(1, slice(0, length - 1)), change(2, slice(1, length))


def _relative(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm().clamp_min(1e-30))
