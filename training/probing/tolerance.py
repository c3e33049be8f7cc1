"""How much a base model's states change when it is allowed to look ahead (LLM2Vec, arXiv 2404.05961, section 4.2).

Shape suffixes: R rows (embedding, then one per layer), B batch, L tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...encoder.bidirectional import decoder_layers, set_attention
from ...encoder.config import Attention
from ...encoder.errors import EmptyTextError, NonFiniteError
from ...encoder.transformer import TransformerEncoder
from ..errors import EvaluationError

Matrix = NDArray[np.float64]

NEAR_ONE = 0.9
"""A state this near to its causal self counts as unchanged."""
EMBEDDING = "embedding"

PARAGRAPH = (
    "Every autumn the lighthouse keeper repainted the iron stairs, although hardly anybody climbed them any more. He "
    "started at the top, beside the great lamp, and worked his way down with a narrow brush, so that by the time he "
    "reached the door the first steps were dry again. When the ministry finally replaced him with a small grey box, "
    "engineers from the capital found the staircase without a single spot of rust. One of them took a photograph, and "
    "it still hangs in the harbour office, next to the tide tables."
)
"""Text of the test unless the caller has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Cosine between the causal and the bidirectional state of each token in each layer."""

    text: str
    tokens: tuple[str, ...]
    """What the tokenizer makes of the text, special tokens of its own included; no chat template."""
    cut: int
    """Tokens beyond the length limit, which were left out."""
    rows: tuple[str, ...]
    """The embedding, then the layers by name, first layer first."""
    cosines: Matrix
    """(rows, tokens). Row 0 is what enters the first layer, so it is 1 throughout. The rows of the layers are their
    outputs before any final norm; only the last row is after the final norm, as in `output_hidden_states` of
    transformers: those are the states that an encoder pools. (Where a projection to another width follows the last
    layer, the last row is before it.)"""
    last_before_norm: NDArray[np.float64]
    """(tokens,): the last layer's output before the final norm, for comparison with the rows above it."""

    @property
    def by_row(self) -> NDArray[np.float64]:
        """Mean over all tokens, (rows,)."""
        means: NDArray[np.float64] = self.cosines.mean(axis=1)
        return means

    @property
    def last_layer(self) -> float:
        """Mean of the last row."""
        return float(self.cosines[-1].mean())

    @property
    def share_near_one(self) -> float:
        """Share of cells above NEAR_ONE; the embedding row, which is always 1, does not count."""
        return float((self.cosines[1:] > NEAR_ONE).mean())

    @property
    def first_token(self) -> float:
        """Mean over the layers of the first position: the attention sink, and the token that sees least when causal."""
        return float(self.cosines[1:, 0].mean())

    @property
    def by_row_after_first(self) -> NDArray[np.float64]:
        """Mean over all positions but the first, (rows,)."""
        means: NDArray[np.float64] = self.cosines[:, 1:].mean(axis=1)
        return means

    @property
    def similarity(self) -> float:
        """Mean over the layers and all positions but the first; with `lowest_layer` what the verdict looks at."""
        return float(self.by_row_after_first[1:].mean())

    @property
    def lowest_layer(self) -> float:
        """Least of the layers' means over all positions but the first."""
        return float(self.by_row_after_first[1:].min())


def measure_tolerance(encoder: TransformerEncoder, text: str = PARAGRAPH) -> Tolerance:
    """Return the similarity of causal and bidirectional states of `text`, from the one model switched in between.

    Leaves the model as it was. Raises EmptyTextError, EvaluationError for a text of a single token, NonFiniteError.
    """
    if not text.strip():
        raise EmptyTextError(0, text)
    encoding = encoder.tokenizer.encode(text)
    ids, limit = encoding.ids[: encoder.info.max_tokens], encoder.info.max_tokens
    if len(ids) < 2:
        raise EvaluationError(
            f"the text for the tolerance test has {len(ids)} tokens (limit {limit}): expected at least 2, better 50"
        )
    ids_BL = torch.tensor([ids], device=encoder.model.device)
    causal, causal_raw = _states_of(encoder.model, ids_BL, Attention.CAUSAL)
    both, both_raw = _states_of(encoder.model, ids_BL, Attention.BIDIRECTIONAL)
    cosines = cosine_matrix(causal, both)
    last = cosine_matrix(causal_raw[None], both_raw[None])[0]
    if not (np.isfinite(cosines).all() and np.isfinite(last).all()):
        raise NonFiniteError(f"{encoder.info.name} returned NaN, Inf or zero states: try --precision fp32")
    return Tolerance(
        text=text,
        tokens=_surfaces(encoder, text, encoding.offsets[: len(ids)], ids),
        cut=len(encoding.ids) - len(ids),
        rows=(EMBEDDING, *(name for name, _ in decoder_layers(encoder.model))),
        cosines=cosines,
        last_before_norm=last,
    )


def cosine_matrix(one_RLD: Tensor, other_RLD: Tensor) -> Matrix:
    """Return float64 (R, L); equal states give exactly 1, a zero state gives nan."""
    one, other = one_RLD.double(), other_RLD.double()
    # The root of the product, not the product of the roots: for equal states it is exactly the numerator.
    squares = (one * one).sum(-1) * (other * other).sum(-1)
    cosines: Matrix = ((one * other).sum(-1) / squares.sqrt()).cpu().numpy()
    return cosines


@contextmanager
def attending(model: PreTrainedModel, attention: Attention) -> Iterator[None]:
    """Switch `model` to `attention` while inside."""
    was_causal = getattr(model.config.get_text_config(), "is_causal", None) is not False
    set_attention(model, attention)
    try:
        yield
    finally:
        set_attention(model, Attention.CAUSAL if was_causal else Attention.BIDIRECTIONAL)


def _states_of(model: PreTrainedModel, ids_BL: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    with attending(model, attention), torch.inference_mode():
        return layer_states(model, ids_BL)


def layer_states(model: PreTrainedModel, ids_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states (layers + 1, L, D) of the one text in `ids_BL`, and the last layer's before the final norm.

    Taken by hooks on the decoder layers: `output_hidden_states` is not kept by every architecture.
    """
    layers = decoder_layers(model)
    caught: dict[int, Tensor] = {}

    def entering(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught[0] = _plain(args[0] if args else kwargs.get("hidden_states"), layers[0][0])

    def leaving(row: int) -> Any:
        def hook(_module: nn.Module, _args: object, out: Any) -> None:
            caught[row] = _plain(out[0] if isinstance(out, tuple) else out, layers[row - 1][0])

        return hook

    hooks = [layers[0][1].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [layer.register_forward_hook(leaving(row)) for row, (_, layer) in enumerate(layers, start=1)]
    try:
        final: Tensor = model(input_ids=ids_BL, attention_mask=None, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    raw = caught[len(layers)]
    if final.shape[-1] != raw.shape[-1]:
        # Small OPT models project to another width after their layers.
        final = raw[None]
    return torch.stack([*(caught[row] for row in range(len(layers))), final[0]]).float(), raw.float()


def _plain(states: Any, name: str) -> Tensor:
    """Return the states (L, D) of the only text, copied: some layers write into their input."""
    if not isinstance(states, Tensor) or states.ndim != 3:
        shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise EvaluationError(
            f"layer {name} passes on {shape}: expected one state per token, (1, tokens, width); this architecture's "
            "states cannot be compared"
        )
    return states[0].clone()


def _surfaces(
    encoder: TransformerEncoder, text: str, offsets: list[tuple[int, int]], ids: list[int]
) -> tuple[str, ...]:
    """Return each token as its piece of the text; one without a piece (BOS, say) by its name in the vocabulary."""
    return tuple(
        text[start:end] if end > start else encoder.tokenizer.id_to_token(id_) or f"<{id_}>"
        for (start, end), id_ in zip(offsets, ids, strict=True)
    )
