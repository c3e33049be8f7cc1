"""The stage MNTP over plain texts: tokenised once, packed again each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..data.corpus import order
from ..distributed import Ranks, add_up
from ..errors import TrainingError
from ..loop import StepResult
from ..recipe import MntpStage
from ..trainable import Trainable
from .batch_supply import largest_batch
from .mntp_loss import HiddenRows, MntpLoss, require_apart
from .packing import PackedRows, Slice, join, pack

EVALUATION_ROWS = 64
_BLOCK = 1024


class MntpTraining:
    """An `Objective`: batch `n` is the n-th slice of the packed rows of endless epochs."""

    def __init__(
        self,
        trainable: Trainable,
        stage: MntpStage,
        tokenizer: Tokenizer,
        *,
        texts: Sequence[str],
        held_out: Sequence[str],
        seed: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    ) -> None:
        """Raises TrainingError when there is too little text, no such mask token, or packing leaks."""
        self._trainable, self._stage, self._seed = trainable, stage, seed
        self._ranks = ranks
        ranks.share(stage.batch, "mntp.batch")
        self._tokenizer = tokenizer
        self._documents, self._unseen = _Tokens(tokenizer, texts), _Tokens(tokenizer, held_out)
        self._loss = MntpLoss(
            trainable, stage, mask_id=self._mask_id(), special_ids=list(tokenizer.get_added_tokens_decoder())
        )
        require_apart(trainable, stage.length)
        self._evaluation = self._held_out_rows()
        self._packed: dict[int, list[list[Slice]]] = {}
        self._counts: dict[int, int] = {}
        if not self._batches_of(0):
            most = largest_batch(len(self._epoch(0)), ranks.count)
            lower = "" if most is None else f"set mntp.batch to {most} or less in the recipe, or "
            raise TrainingError(
                f"mntp: a step takes {stage.batch:,} rows (mntp.batch), and the texts make {len(self._epoch(0)):,} of "
                f"{stage.length:,} tokens: {lower}a smaller mntp.length, or give more text"
            )

    def step(self, number: int) -> StepResult:
        """Compute loss and gradients; with several processes each prediction of any of them weighs the same."""
        seed = step_seed(self._seed, number, self._ranks.rank)
        rows = self._loss.hide(self._batch(number, self._ranks.rank), seed=seed)
        torch.manual_seed(seed)
        count = max(1.0, add_up([float(rows.chosen.sum())], self._ranks)[0])
        total = right = 0.0
        for start in range(0, len(rows.chosen), self._stage.chunk):
            loss, hits = self._loss(_part(rows, start, start + self._stage.chunk), step=number)
            if loss.requires_grad:
                # The processes' gradients are averaged afterwards: times their number, so that they add up.
                (loss * (self._ranks.count / count)).backward()  # type: ignore[no-untyped-call]
            total, right = total + float(loss.detach()), right + hits
        total, right = add_up([total, right], self._ranks)
        return StepResult(
            loss=total / count, tokens=int((rows.packed.documents > 0).sum()), metrics={"accuracy": right / count}
        )

    def held_out(self) -> dict[str, float]:
        """Return the loss and the accuracy on held-out rows, the same tokens hidden each time."""
        self._trainable.decoder.eval()
        total = right = count = 0.0
        with torch.no_grad():
            for rows in self._evaluation:
                loss, hits = self._loss(rows, step=None)
                total, right, count = total + float(loss), right + hits, count + int(rows.chosen.sum())
        return {"loss": total / count, "accuracy": right / count}

    def describe(self, number: int) -> list[dict[str, Any]]:
        parts = [self._batch(number, rank) for rank in range(self._ranks.count)]
        return [
            {"text": self._tokenizer.decode(ids[documents > 0].tolist())}
            for packed in parts
            for ids, documents in zip(packed.ids, packed.documents, strict=True)
        ]

    def _mask_id(self) -> int:
        found = self._tokenizer.token_to_id(self._stage.mask_token)
        if found is None:
            raise TrainingError(
                f"mntp.mask_token is {self._stage.mask_token!r}: not in this model's vocabulary, expected one of its "
                'tokens (the paper takes "_")'
            )
        return found

    def _held_out_rows(self) -> list[HiddenRows]:
        slices = pack(((i, len(self._unseen[i])) for i in range(len(self._unseen))), self._stage.length)
        slices = slices[:EVALUATION_ROWS]
        if not slices:
            raise TrainingError("mntp: no held-out text of two tokens or more: give more texts")
        rows = [
            self._loss.hide(
                _joined(self._unseen, slices[at : at + self._stage.chunk]), seed=step_seed(self._seed, at, 0)
            )
            for at in range(0, len(slices), self._stage.chunk)
        ]
        if not any(bool(part.chosen.any()) for part in rows):
            raise TrainingError("mntp: the held-out text has no token that can be hidden: give more texts")
        return rows

    def _batch(self, number: int, rank: int) -> PackedRows:
        epoch = 0
        while number >= self._batches_of(epoch):
            number -= self._batches_of(epoch)
            epoch += 1
        size = self._stage.batch
        return _joined(
            self._documents,
            self._epoch(epoch)[number * size : (number + 1) * size][rank :: self._ranks.count],
        )

    def _batches_of(self, epoch: int) -> int:
        """Return the full batches of an epoch; the rows that are left over come again in the next one."""
        if epoch not in self._counts:
            self._counts[epoch] = len(self._epoch(epoch)) // self._stage.batch
        return self._counts[epoch]

    def _epoch(self, epoch: int) -> list[list[Slice]]:
        if epoch not in self._packed:
            shuffled = order(len(self._documents), self._seed, epoch)
            rows = pack(((int(i), len(self._documents[int(i)])) for i in shuffled), self._stage.length)
            self._packed = {epoch: rows}  # one at a time
        return self._packed[epoch]


def _part(rows: HiddenRows, start: int, end: int) -> HiddenRows:
    return HiddenRows(
        packed=rows.packed.rows(start, end), hidden_ids=rows.hidden_ids[start:end], chosen=rows.chosen[start:end]
    )


def _joined(documents: _Tokens, rows: Sequence[Sequence[Slice]]) -> PackedRows:
    return join([[documents[number][start:end] for number, start, end in row] for row in rows])


class _Tokens:
    """Token ids of many documents in one array: 4 bytes a token instead of some 30 as Python integers."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        parts, lengths = [np.zeros(0, dtype=np.int32)], [0]
        for at in range(0, len(texts), _BLOCK):
            for encoding in tokenizer.encode_batch(list(texts[at : at + _BLOCK])):
                parts.append(np.asarray(encoding.ids, dtype=np.int32))
                lengths.append(len(encoding.ids))
        self._ids = np.concatenate(parts)
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> NDArray[np.int32]:
        return self._ids[self._ends[number] : self._ends[number + 1]]


def step_seed(seed: int, number: int, rank: int) -> int:
    """Return a seed for one step and process that no other shares."""
    return int(np.random.SeedSequence([seed, number, rank]).generate_state(1, dtype=np.uint64)[0] >> 1)
