"""The contrastive stages: SimCSE over plain texts, supervised training over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...encoder.protocol import Encoder, Role
from ...encoder.tokenize import TextTokenizer
from ..data.corpus import Pair, PairSource
from ..data.sentences import sentences
from ..distributed import Ranks, gather
from ..loop import StepResult
from ..recipe import SimcseStage, SourceSettings, Stage, SupervisedStage
from ..trainable import Trainable
from .batch_supply import require_negatives, require_supply, source_supply, text_supply
from .contrastive_loss import info_nce, same_texts, uniformity_alignment
from .distill import embedding_distance
from .embedding import TokenCache, Views, cut_share, embed
from .mntp import step_seed
from .sampling import EVALUATION_TEXTS, batch_rows, plan_steps
from .teacher_target import Lesson, TeacherTarget, lessons


class SimcseTraining:
    """An `Objective`: each text twice under different dropout, the other texts of the batch as negatives."""

    def __init__(
        self,
        trainable: Trainable,
        stage: SimcseStage,
        tokenizer: TextTokenizer,
        *,
        texts: Sequence[str],
        held_out: Sequence[str],
        seed: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    ) -> None:
        self._trainable, self._stage, self._seed, self._ranks = trainable, stage, seed, ranks
        self._tokenizer = TokenCache(tokenizer)
        ranks.share(stage.batch, "simcse.batch")
        self._texts = sentences(texts) if stage.sentences else list(texts)
        self._unseen = (sentences(held_out) if stage.sentences else list(held_out))[:EVALUATION_TEXTS]
        require_supply(Stage.SIMCSE, stage.batch, text_supply(len(self._texts), len(self._unseen)), ranks.count)
        self._unseen_rows = tokenizer(self._unseen, role=Role.DOCUMENT, instruction=None)

    def step(self, number: int) -> StepResult:
        parts = self._batch(number)
        texts = parts[self._ranks.rank]
        rows = self._tokenizer(texts, role=Role.DOCUMENT, instruction=None)
        torch.manual_seed(step_seed(self._seed, number, self._ranks.rank))
        views = Views(self._trainable, rows + rows, self._stage.pooling, self._stage.chunk, cached=self._stage.cached)
        everyone = [text for part in parts for text in part]
        loss, embeddings = views.backward(lambda both: self._loss(both, texts, everyone, self._ranks))
        uniformity, alignment = uniformity_alignment(embeddings[: len(texts)], embeddings[len(texts) :])
        return StepResult(
            loss=float(loss),
            tokens=2 * sum(len(row.ids) for row in rows),
            metrics={"uniformity": uniformity, "alignment": alignment, "cut": cut_share(rows)},
        )

    def held_out(self) -> dict[str, float]:
        """Return the loss and alignment between two halves' views with dropout, and uniformity without.

        Dropout is sampled from the same numbers each time.
        """
        rows = self._unseen_rows
        still = Views(self._trainable, rows, self._stage.pooling, self._stage.chunk).evaluate()
        self._trainable.decoder.train()
        with torch.no_grad(), torch.random.fork_rng(), self._trainable.autocast():
            torch.manual_seed(self._seed)
            views = [
                torch.cat(
                    [embed(self._trainable, rows[at : at + 32], self._stage.pooling) for at in range(0, len(rows), 32)]
                )
                for _ in range(2)
            ]
            loss = float(self._loss(torch.cat(views), self._unseen, self._unseen, Ranks()))
        _, alignment = uniformity_alignment(views[0], views[1])
        uniformity, _ = uniformity_alignment(still, still)
        return {"loss": loss, "uniformity": uniformity, "alignment": alignment}

    def describe(self, number: int) -> list[dict[str, Any]]:
        return [{"text": text} for part in self._batch(number) for text in part]

    def _batch(self, number: int) -> list[list[str]]:
        """Return the texts of each process."""
        taken = batch_rows(len(self._texts), self._stage.batch, number, self._seed)
        return [[self._texts[i] for i in taken[rank :: self._ranks.count]] for rank in range(self._ranks.count)]

    def _loss(self, both_BD: Tensor, texts: Sequence[str], everyone: Sequence[str], ranks: Ranks) -> Tensor:
        first_BD, second_BD = both_BD.chunk(2)
        device = both_BD.device
        return info_nce(
            first_BD,
            gather(second_BD, ranks),
            temperature=self._stage.temperature,
            targets_B=torch.arange(len(texts), device=device) + ranks.rank * len(texts),
            excluded_BC=same_texts(texts, texts, everyone).to(device),
        )


class SupervisedTraining:
    """An `Objective`: queries against their positives, hard negatives and the rest of the batch, one source a batch."""

    def __init__(
        self,
        trainable: Trainable,
        stage: SupervisedStage,
        tokenizer: TextTokenizer,
        *,
        sources: Sequence[PairSource],
        held_out: Sequence[PairSource],
        seed: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
        teacher: Encoder | None = None,
        folder: Path = Path(),
        begun: bool = False,
    ) -> None:
        """`teacher` is needed with a teacher_weight; `folder` and `begun` are those of TeacherTarget."""
        self._trainable, self._stage, self._seed, self._ranks = trainable, stage, seed, ranks
        self._tokenizer, self._plain = TokenCache(tokenizer), tokenizer
        ranks.share(stage.batch, "supervised.batch")
        self._sources = [source for source in sources if self._settings(source.name).weight > 0]
        self._unseen = [source for source in held_out if len(source.pairs) > 1 and self._settings(source.name).weight]
        counts = {source.name: len(source.pairs) for source in self._sources}
        supply = source_supply("pairs", counts, [len(source.pairs) for source in self._unseen])
        require_supply(Stage.SUPERVISED, stage.batch, supply, ranks.count)
        require_negatives(self._sources, stage.hard_negatives)
        self._plan = plan_steps(
            [len(source.pairs) for source in self._sources],
            [self._settings(source.name).weight for source in self._sources],
            batch=stage.batch,
            steps=stage.schedule.steps,
            seed=seed,
        )
        self._target = None
        if teacher is not None:
            self._target = TeacherTarget(
                trainable, teacher, self._sample, self._views, folder=folder, begun=begun, ranks=ranks
            )
        self._evaluation: list[_Contrast] = []

    def step(self, number: int) -> StepResult:
        source, parts = self._batch(number)
        torch.manual_seed(step_seed(self._seed, number, self._ranks.rank))
        batch = self._contrast(source.name, parts, number, self._ranks)
        rows = batch.views.rows
        metrics = {"cut": cut_share(rows)}
        taught = None if self._target is None else self._target.of(batch.lessons)

        def loss_of(embeddings: Tensor) -> Tensor:
            loss = self._loss(embeddings, batch, self._ranks)
            if taught is None:
                return loss
            distance = embedding_distance(embeddings, taught)
            metrics["distance"] = float(distance.detach())
            return loss + self._stage.teacher_weight * distance

        loss, _ = batch.views.backward(loss_of)
        return StepResult(loss=float(loss), tokens=sum(len(row.ids) for row in rows), metrics=metrics)

    def held_out(self) -> dict[str, float]:
        """Return the mean over sources of the loss and of the share of queries whose own positive is nearest.

        The pairs are the same each time. Candidates that the data say are right too are left out of both.
        """
        if not self._evaluation:
            self._evaluation = [
                self._contrast(source.name, [pairs], 0, Ranks())
                for source, pairs in evaluation_pairs(self._unseen, self._stage.evaluation_pairs)
            ]
        losses, hits = [], []
        for batch in self._evaluation:
            embeddings = torch.nn.functional.normalize(batch.views.evaluate(), dim=1)
            losses.append(float(self._loss(embeddings, batch, Ranks())))
            queries, candidates = embeddings[: batch.queries], embeddings[batch.queries : 2 * batch.queries]
            own = torch.arange(batch.queries, device=embeddings.device)
            excluded = batch.excluded[:, : batch.queries].clone()
            excluded[own, own] = False
            nearest = (queries @ candidates.T).masked_fill(excluded, float("-inf")).argmax(dim=1)
            hits.append(float((nearest == own).float().mean()))
        return {"loss": float(np.mean(losses)), "accuracy": float(np.mean(hits))}

    def describe(self, number: int) -> list[dict[str, Any]]:
        source, parts = self._batch(number)
        return [{"source": source.name, **asdict(pair)} for part in parts for pair in part]

    def _settings(self, name: str) -> SourceSettings:
        return self._stage.sources.get(name, SourceSettings())

    def _batch(self, number: int) -> tuple[PairSource, list[Sequence[Pair]]]:
        """Return the source and the pairs of each process."""
        source, rows = self._sources[int(self._plan.sources[number])], self._plan.rows(number)
        parts = [rows[rank :: self._ranks.count] for rank in range(self._ranks.count)]
        return source, [[source.pairs[i] for i in part] for part in parts]

    def _contrast(self, name: str, parts: Sequence[Sequence[Pair]], number: int, ranks: Ranks) -> _Contrast:
        """Return queries, positives and hard negatives of this process, and what all processes' candidates are."""
        settings, stage, device = self._settings(name), self._stage, self._trainable.device
        pairs = parts[ranks.rank]
        queries = [pair.query for pair in pairs]
        documents = [_documents(part, stage.hard_negatives, number) for part in parts]
        # A symmetric source has no documents: both sides are asked alike.
        role = Role.QUERY if settings.symmetric else Role.DOCUMENT
        asked = settings.instruction if settings.symmetric else None
        read = partial(lessons, self._tokenizer, self._plain)
        texts = read(queries, role=Role.QUERY, instruction=settings.instruction)
        texts += read(documents[ranks.rank], role=role, instruction=asked)
        most = max(len(part) for part in documents)
        candidates = [text for part in documents for text in [*part, *[""] * (most - len(part))]]
        excluded_BC = same_texts(
            queries,
            [pair.positive for pair in pairs],
            candidates,
            known=[(pair.query, pair.positive) for part in parts for pair in part],
        )
        # All processes must give equally many rows: what fills up is no candidate.
        excluded_BC |= torch.tensor([not text for text in candidates])
        return _Contrast(
            views=self._views(texts),
            lessons=texts,
            queries=len(pairs),
            most=most,
            excluded=excluded_BC.to(device),
        )

    def _views(self, texts: Sequence[Lesson]) -> Views:
        rows, stage = [text.row for text in texts], self._stage
        return Views(self._trainable, rows, stage.pooling, stage.chunk, cached=stage.cached)

    def _sample(self, count: int) -> list[Lesson]:
        """Return about `count` texts as they will be sampled, of all sources."""
        found: list[Lesson] = []
        for number in range(self._stage.schedule.steps):
            if len(found) >= count:
                break
            source, parts = self._batch(number)
            found += self._contrast(source.name, [[pair for part in parts for pair in part]], number, Ranks()).lessons
        return found

    def _loss(self, embeddings: Tensor, batch: _Contrast, ranks: Ranks) -> Tensor:
        local = embeddings[batch.queries :]
        filled = torch.cat([local, local.new_ones(batch.most - len(local), local.shape[1])])
        return info_nce(
            embeddings[: batch.queries],
            gather(filled, ranks),
            temperature=self._stage.temperature,
            targets_B=torch.arange(batch.queries, device=local.device) + ranks.rank * batch.most,
            excluded_BC=batch.excluded,
            margin=self._stage.false_negative_margin,
            dimensions=self._stage.dimensions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contrast:
    """The queries of this process, its candidates, and which of all processes' candidates are no negatives."""

    views: Views
    """Queries, then positives in their order, then hard negatives."""
    lessons: list[Lesson]
    """The same texts."""
    queries: int
    most: int
    """Candidates of the process that has most of them."""
    excluded: Tensor
    """Bool (queries, candidates)."""


def evaluation_pairs(sources: Sequence[PairSource], most: int) -> list[tuple[PairSource, tuple[Pair, ...]]]:
    """Return the first pairs of each source, equally many where there are, `most` in all, and at least two of each."""
    each = min(EVALUATION_TEXTS, max(2, most // max(1, len(sources))))
    return [(source, source.pairs[:each]) for source in sources[: max(1, most // 2)]]


def _documents(pairs: Sequence[Pair], most: int, number: int) -> list[str]:
    """Return the positives, then up to `most` hard negatives of each pair, others of them at other steps."""
    negatives = [
        pair.negatives[(number + k) % len(pair.negatives)]
        for pair in pairs
        for k in range(min(most, len(pair.negatives)))
    ]
    return [*(pair.positive for pair in pairs), *negatives]
