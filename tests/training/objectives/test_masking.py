"""Masked next-token prediction in its parts: what is hidden, what is to be predicted, and under which mask."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from searchctl.training.objectives.mntp_loss import MntpLoss, mask_tokens
from searchctl.training.objectives.packing import annealed_mask, block_mask, join
from searchctl.training.recipe import Masking, MntpStage

MASK, VOCABULARY = 3, 50
SPECIAL = (0, 1, 2)


def hidden(masking: Masking, probability: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.randint(4, VOCABULARY, (100, 1000), generator=torch.Generator().manual_seed(1))
    found, chosen = mask_tokens(
        ids,
        torch.ones_like(ids, dtype=torch.bool),
        probability=probability,
        masking=masking,
        mask_id=MASK,
        vocabulary=VOCABULARY,
        generator=torch.Generator().manual_seed(2),
    )
    return ids, found, chosen


def test_of_the_chosen_tokens_80_percent_are_masked_10_replaced_10_kept(subtests: pytest.Subtests) -> None:
    for probability in [0.2, 0.8]:
        with subtests.test(probability=probability):
            ids, found, chosen = hidden(Masking.BERT, probability)
            count = int(chosen.sum())
            assert count / ids.numel() == pytest.approx(probability, abs=0.005)
            assert torch.equal(found[~chosen], ids[~chosen])
            masked, kept = found[chosen] == MASK, found[chosen] == ids[chosen]
            # A random token is now and then the mask token or the one that was there.
            by_chance = 0.1 / VOCABULARY
            assert int(masked.sum()) / count == pytest.approx(0.8 + by_chance, abs=0.01)
            assert int(kept.sum()) / count == pytest.approx(0.1 + by_chance, abs=0.01)
            replaced = found[chosen][~masked & ~kept]
            assert set(replaced.tolist()) == set(range(VOCABULARY)) - {MASK}


def test_all_masking_hides_every_chosen_token() -> None:
    ids, found, chosen = hidden(Masking.ALL)
    assert int(chosen.sum()) / ids.numel() == pytest.approx(0.2, abs=0.005)
    assert bool((found[chosen] == MASK).all())
    assert torch.equal(found[~chosen], ids[~chosen])


class Model:
    """Stands for a model in training: its state at i says which token is at i + 1, whatever it reads."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, truth: Tensor | None = None) -> None:
        config = SimpleNamespace(vocab_size=VOCABULARY, _attn_implementation="sdpa")
        self.decoder = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config))
        self.truth, self.masks, self.heads = truth, [], []  # type: ignore[var-annotated]

    def autocast(self) -> Any:
        return nullcontext()

    def states(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        self.masks.append(mask)
        assert self.truth is not None
        return torch.nn.functional.one_hot(self.truth.roll(-1, dims=1), VOCABULARY).float()

    def head(self, states: Tensor) -> Tensor:
        self.heads.append(tuple(states.shape))
        return states * 100


def loss_of(model: Model, **settings: Any) -> MntpLoss:
    return MntpLoss(model, MntpStage(**settings), mask_id=MASK, special_ids=SPECIAL)  # type: ignore[arg-type]


ROWS = join([[[10, 11, 1, 12, 13], [20, 21, 2]], [[30, 0, 31, 32], [40]]])


def test_first_tokens_special_tokens_and_padding_are_never_chosen() -> None:
    loss = loss_of(Model(), mask_probability=1.0)
    rows = loss.hide(ROWS, seed=1)
    assert sorted(ROWS.ids[rows.chosen].tolist()) == [11, 12, 13, 21, 31, 32]
    seldom = loss_of(Model(), mask_probability=0.3)
    for seed in range(50):
        assert not seldom.hide(ROWS, seed=seed).chosen[~rows.chosen].any()


def test_the_targets_are_the_tokens_as_they_were_and_the_head_sees_no_other() -> None:
    model = Model(ROWS.ids)
    loss = loss_of(model, mask_probability=1.0)
    rows = loss.hide(ROWS, seed=1)
    assert not torch.equal(rows.hidden_ids, ROWS.ids)
    total, right = loss(rows, step=None)
    assert (right, float(total)) == (6, pytest.approx(0.0, abs=1e-6))
    assert model.heads == [(6, VOCABULARY)]


def test_the_mask_is_annealed_over_its_steps_and_not_in_evaluation() -> None:
    model = Model(ROWS.ids)
    loss = loss_of(model, mask_probability=1.0, anneal_steps=3)
    rows = loss.hide(ROWS, seed=1)
    for step in (0, 2, 3, None):
        loss(rows, step=step)
    first, last, after, evaluated = model.masks
    torch.testing.assert_close(first, annealed_mask(ROWS.documents, 1 / 4, torch.float32))
    torch.testing.assert_close(last, annealed_mask(ROWS.documents, 3 / 4, torch.float32))
    assert torch.equal(after, block_mask(ROWS.documents)) and torch.equal(evaluated, after)
