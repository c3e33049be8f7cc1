"""Masked next-token prediction (arXiv 2404.05961, section 2.1): a hidden token is predicted from the state before it.

Shape suffixes: B rows, L tokens, M masked tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...encoder.proof import TOLERANCE
from ..errors import TrainingError
from ..recipe import Masking, MntpStage
from ..trainable import Trainable
from .packing import PackedRows, annealed_mask, attention_mask, join

# Devlin et al. 2019, section 3.1: of the chosen tokens 80 % are masked, 10 % replaced, 10 % kept.
BERT_MASKED, BERT_RANDOM = 0.8, 0.1


def mask_tokens(
    ids_BL: Tensor,
    maskable_BL: Tensor,
    *,
    probability: float,
    masking: Masking,
    mask_id: int,
    vocabulary: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the input ids with tokens hidden, and the boolean places (B, L) whose original tokens are to be predicted.

    `maskable_BL` is False for padding, special tokens and the first token of each document, which has no state before
    it. Each maskable token is chosen with `probability`, independently.
    """
    chosen_BL = (torch.rand(ids_BL.shape, generator=generator) < probability) & maskable_BL
    hidden_BL = ids_BL.clone()
    if masking is Masking.ALL:
        hidden_BL[chosen_BL] = mask_id
        return hidden_BL, chosen_BL
    fate_BL = torch.rand(ids_BL.shape, generator=generator)
    hidden_BL[chosen_BL & (fate_BL < BERT_MASKED)] = mask_id
    random_BL = chosen_BL & (fate_BL >= BERT_MASKED) & (fate_BL < BERT_MASKED + BERT_RANDOM)
    others_BL = torch.randint(vocabulary, ids_BL.shape, generator=generator, dtype=ids_BL.dtype)
    hidden_BL[random_BL] = others_BL[random_BL]
    return hidden_BL, chosen_BL


def masked_loss(states_BLD: Tensor, targets_BL: Tensor, chosen_BL: Tensor, head: torch.nn.Module) -> tuple[Tensor, int]:
    """Return the mean cross-entropy over chosen tokens and how many of them are predicted right.

    The token at i is predicted from the state at i - 1, as the model learnt to predict the next one. Logits are made
    for the chosen tokens only, (M, V): the same loss as over all, with a fifth of the memory at 20 % masking. No token
    at position 0 may be chosen.
    """
    assert not bool(chosen_BL[:, 0].any()), "the first token of a row has no state before it"
    before_MD = states_BLD[:, :-1][chosen_BL[:, 1:]]
    targets_M = targets_BL[:, 1:][chosen_BL[:, 1:]]
    logits_MV = head(before_MD).float()
    loss = cross_entropy(logits_MV, targets_M)
    return loss, int((logits_MV.argmax(dim=1) == targets_M).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenRows:
    """Packed rows with some of their tokens hidden."""

    packed: PackedRows
    hidden_ids: Tensor
    """int64 (B, L): what the model reads."""
    chosen: Tensor
    """bool (B, L): the tokens to predict."""


class MntpLoss:
    """Hides tokens and scores their prediction under a stage's settings."""

    def __init__(self, trainable: Trainable, stage: MntpStage, *, mask_id: int, special_ids: Sequence[int]) -> None:
        self._trainable = trainable
        self._stage = stage
        self._mask_id = mask_id
        self._special = torch.tensor(sorted(special_ids), dtype=torch.long)

    def hide(self, packed: PackedRows, *, seed: int) -> HiddenRows:
        """Return the rows with the tokens hidden that `seed` chooses: at least one, where any can be hidden at all."""
        generator = torch.Generator().manual_seed(seed)
        maskable_BL = (packed.positions > 0) & (packed.documents > 0) & ~torch.isin(packed.ids, self._special)
        hidden_BL, chosen_BL = mask_tokens(
            packed.ids,
            maskable_BL,
            probability=self._stage.mask_probability,
            masking=self._stage.masking,
            mask_id=self._mask_id,
            vocabulary=vocabulary_of(self._trainable),
            generator=generator,
        )
        if not chosen_BL.any():
            chosen_BL = _one(maskable_BL, generator)
            hidden_BL = torch.where(chosen_BL, self._mask_id, packed.ids)
        return HiddenRows(packed=packed, hidden_ids=hidden_BL, chosen=chosen_BL)

    def __call__(self, rows: HiddenRows, *, step: int | None) -> tuple[Tensor, int]:
        """Return the sum of the losses of the chosen tokens, and how many were predicted right.

        `step` None is evaluation: the mask is as at the end of the stage.
        """
        device, packed = self._trainable.device, rows.packed
        if not rows.chosen.any():
            return torch.zeros((), device=device), 0
        with self._trainable.autocast():
            states_BLD = self._trainable.states(
                rows.hidden_ids.to(device), self._mask(packed.documents.to(device), step), packed.positions.to(device)
            )
            loss, right = masked_loss(states_BLD, packed.ids.to(device), rows.chosen.to(device), self._trainable.head)
        return loss * int(rows.chosen.sum()), right

    def _mask(self, documents_BL: Tensor, step: int | None) -> Tensor:
        if step is None or step >= self._stage.anneal_steps:
            return packing_mask(self._trainable, documents_BL)
        return annealed_mask(documents_BL, (step + 1) / (self._stage.anneal_steps + 1), self._trainable.dtype)


def vocabulary_of(trainable: Trainable) -> int:
    """Return how many tokens the model knows."""
    return int(trainable.decoder.config.get_text_config().vocab_size)


def packing_mask(trainable: Trainable, documents_BL: Tensor) -> Tensor:
    """Return the mask that keeps documents apart for this model's attention. Raises TrainingError where none does."""
    implementation = trainable.decoder.config.get_text_config()._attn_implementation
    return attention_mask(documents_BL, implementation, trainable.dtype)


def require_apart(trainable: Trainable, length: int) -> None:
    """Raise TrainingError unless two documents in one row have the states that each has alone.

    Where the model has a window shorter than a row, the second document is longer than it: a mask of ours replaces
    the window's.
    """
    config = trainable.decoder.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    first = min(6, max(2, length // 2))
    second = min(max(2, length), 10 if not isinstance(window, int) else max(10, window + 8))
    last = vocabulary_of(trainable) - 1
    ids = ((torch.arange(first + second) * 37 + 5) % max(1, last - 8) + 5).clamp(max=last)
    documents = [ids[:first].tolist(), ids[first:].tolist()]
    was_training = trainable.decoder.training
    trainable.decoder.eval()
    with torch.no_grad(), trainable.autocast():
        together = _probe(trainable, [documents])[0]
        alone = torch.cat([_probe(trainable, [[document]])[0] for document in documents])
    trainable.decoder.train(was_training)
    error = float(((together - alone).norm(dim=1) / alone.norm(dim=1).clamp_min(1e-30)).mean())
    limit = TOLERANCE[trainable.dtype]
    if not error <= limit:
        longest = f", or mntp.length of at most {window}" if isinstance(window, int) and window < length else ""
        raise TrainingError(
            f"{trainable.base_name}: a document packed with another has other states than alone (relative difference "
            f"{error:.1e}, expected at most {limit:.0e}): this model's attention does not keep to the mask of MNTP. "
            f"Choose another model{longest}",
            next_command=("models", "list"),
        )


def _probe(trainable: Trainable, rows: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    packed, device = join(rows), trainable.device
    alone = all(len(row) == 1 for row in rows)
    mask = None if alone else packing_mask(trainable, packed.documents.to(device))
    return trainable.states(packed.ids.to(device), mask, packed.positions.to(device)).float()


def _one(maskable_BL: Tensor, generator: torch.Generator) -> Tensor:
    """Return a choice of a single token: a tiny batch may by chance have none, and a mean over none is NaN."""
    places = maskable_BL.flatten().nonzero().flatten()
    chosen = torch.zeros(maskable_BL.numel(), dtype=torch.bool)
    if len(places):
        chosen[places[torch.randint(len(places), (1,), generator=generator)]] = True
    return chosen.reshape(maskable_BL.shape)
