"""The distill stage: the student embeds the texts of a batch, and is to find them as near to each other as its teacher.

Shape suffixes: N texts of a batch, side by side (all queries, then all positives), B anchors, C candidates, S and T the
widths of student and teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from ...encoder.errors import EncoderError
from ...encoder.protocol import Encoder, Role
from ...encoder.tokenize import TextTokenizer
from ..data.corpus import PairSource
from ..data.sentences import sentences
from ..distributed import Ranks, gather
from ..errors import TrainingError
from ..loop import StepResult
from ..recipe import DistillStage, SourceSettings, Stage
from ..trainable import Trainable
from .batch_supply import Supply, require_supply, source_supply
from .dev_pairs import spearman
from .embedding import TokenCache, Views, cut_share
from .mntp import step_seed
from .sampling import EVALUATION_TEXTS, plan_steps


def similarity_divergence(
    student_BS: Tensor,
    student_CS: Tensor,
    teacher_BT: Tensor,
    teacher_CT: Tensor,
    *,
    temperature: float,
    excluded_BC: Tensor,
) -> Tensor:
    """Return the mean over anchors of KL(teacher || student) of their softmaxes over cosine / temperature.

    Softened distributions after Hinton et al. (arXiv 1503.02531), over one text's similarities to the others as in SEED
    (Fang et al., arXiv 2101.04731): relations and not vectors are copied (Park et al., arXiv 1904.05068), so the widths
    may differ. `excluded_BC` True leaves a candidate out of an anchor's distribution: the anchor itself above all. An
    anchor with no candidate left counts as 0.
    """
    student_BC = _log_shares(student_BS, student_CS, temperature, excluded_BC)
    teacher_BC = _log_shares(teacher_BT, teacher_CT, temperature, excluded_BC)
    return (teacher_BC.exp() * (teacher_BC - student_BC)).masked_fill(excluded_BC, 0.0).sum(dim=1).mean()


def _log_shares(anchors: Tensor, candidates: Tensor, temperature: float, excluded_BC: Tensor) -> Tensor:
    """Return the log softmax (B, C) over the candidates that are not excluded, 0 for those that are."""
    cosines_BC = normalize(anchors.float(), dim=1) @ normalize(candidates.float(), dim=1).T
    shares_BC = log_softmax((cosines_BC / temperature).masked_fill(excluded_BC, float("-inf")), dim=1)
    # Also where a row has no candidate and its softmax is no number: neither value nor gradient comes through.
    return shares_BC.masked_fill(excluded_BC, 0.0)


def embedding_distance(student_BS: Tensor, teacher_BS: Tensor) -> Tensor:
    """Return the mean over texts of 1 - cosine to the teacher's vector, which has the student's width.

    Half the squared distance of unit vectors: the embedding matching of EmbeddingGemma (arXiv 2509.20354) and the
    cosine loss of Jasper and Stella (arXiv 2412.19048).
    """
    return 1 - cosine_similarity(student_BS.float(), teacher_BS.float(), dim=1).mean()


def other_similarities(vectors_BS: Tensor, excluded_BB: Tensor) -> Tensor:
    """Return the cosine of each pair of texts once, pairs that are excluded left out."""
    unit_BS = normalize(vectors_BS.float(), dim=1)
    wanted_BB = torch.ones_like(excluded_BB).triu(diagonal=1) & ~excluded_BB
    return (unit_BS @ unit_BS.T)[wanted_BB]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side of a source's rows is, for student and teacher alike."""

    texts: Sequence[str]
    role: Role
    instruction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonSource:
    """Rows of one kind: pairs, which have two sides, or plain texts, which have one."""

    name: str
    sides: tuple[Side, ...]
    weight: float = 1.0

    @property
    def count(self) -> int:
        return len(self.sides[0].texts)


def pair_lessons(sources: Sequence[PairSource], settings: Mapping[str, SourceSettings]) -> list[LessonSource]:
    """Return the sources of some weight, their queries and positives as in the supervised stage."""
    found = []
    for source in sources:
        said = settings.get(source.name, SourceSettings())
        queries = Side(texts=[pair.query for pair in source.pairs], role=Role.QUERY, instruction=said.instruction)
        positives = [pair.positive for pair in source.pairs]
        # A symmetric source has no documents: both sides are asked alike.
        other = Side(texts=positives, role=Role.DOCUMENT)
        if said.symmetric:
            other = Side(texts=positives, role=Role.QUERY, instruction=said.instruction)
        if said.weight > 0:
            found.append(LessonSource(name=source.name, sides=(queries, other), weight=said.weight))
    return found


def text_lessons(texts: Sequence[str], *, cut: bool) -> list[LessonSource]:
    """Return one source of plain texts, or of their sentences."""
    taken = list(dict.fromkeys(sentences(texts))) if cut else list(texts)
    return [LessonSource(name="texts", sides=(Side(texts=taken, role=Role.DOCUMENT),))]


def lesson_supply(sources: Sequence[LessonSource], unseen: Sequence[LessonSource]) -> Supply:
    """Return what there is for batches of `sources`."""
    kind = "texts" if any(len(source.sides) == 1 for source in sources) else "pairs"
    return source_supply(kind, {source.name: source.count for source in sources}, [part.count for part in unseen])


class DistillTraining:
    """An `Objective`: the texts of a batch of one source, as near to each other as the teacher has them."""

    def __init__(
        self,
        trainable: Trainable,
        stage: DistillStage,
        tokenizer: TextTokenizer,
        teacher: Encoder,
        *,
        sources: Sequence[LessonSource],
        held_out: Sequence[LessonSource],
        seed: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    ) -> None:
        self._trainable, self._stage, self._seed, self._ranks = trainable, stage, seed, ranks
        self._tokenizer, self._teacher = TokenCache(tokenizer), teacher
        self._sources = list(sources)
        self._unseen = [source for source in held_out if source.count > 1]
        ranks.share(stage.batch, "distill.batch")
        require_supply(Stage.DISTILL, stage.batch, lesson_supply(self._sources, self._unseen), ranks.count)
        self._plan = plan_steps(
            [source.count for source in self._sources],
            [source.weight for source in self._sources],
            batch=stage.batch,
            steps=stage.schedule.steps,
            seed=seed,
        )
        self._evaluation: list[tuple[_Lesson, Tensor]] = []

    def step(self, number: int) -> StepResult:
        source, parts = self._batch(number)
        lesson = self._lesson(source, parts, self._ranks)
        teacher_NT = self._on_device(self._taught(source, parts[self._ranks.rank]))
        torch.manual_seed(step_seed(self._seed, number, self._ranks.rank))
        loss, _ = lesson.views.backward(lambda student_NS: self._loss(student_NS, teacher_NT, lesson, self._ranks))
        rows = lesson.views.rows
        return StepResult(loss=float(loss), tokens=sum(len(row.ids) for row in rows), metrics={"cut": cut_share(rows)})

    def held_out(self) -> dict[str, float]:
        """Return the mean over sources of the loss, and of Spearman's correlation of student and teacher.

        The correlation is that of the similarities of all pairs of texts. The texts are the same each time.
        """
        if not self._evaluation:
            each = min(EVALUATION_TEXTS, max(2, self._stage.evaluation_pairs // max(1, len(self._unseen))))
            for source in self._unseen[: max(1, self._stage.evaluation_pairs // 2)]:
                rows = range(min(each, source.count))
                lesson = self._lesson(source, [rows], Ranks())
                self._evaluation.append((lesson, self._on_device(self._taught(source, rows))))
        losses, agreements = [], []
        for lesson, teacher_NT in self._evaluation:
            student_NS = lesson.views.evaluate()
            losses.append(float(self._loss(student_NS, teacher_NT, lesson, Ranks())))
            ours, theirs = (other_similarities(vectors, lesson.excluded) for vectors in (student_NS, teacher_NT))
            agreements.append(spearman(ours.cpu().numpy(), theirs.cpu().numpy()))
        return {"loss": float(np.mean(losses)), "spearman": float(np.mean(agreements))}

    def describe(self, number: int) -> list[dict[str, Any]]:
        source, parts = self._batch(number)
        keys = ("query", "positive") if len(source.sides) > 1 else ("text",)
        return [
            {"source": source.name, **{key: side.texts[row] for key, side in zip(keys, source.sides, strict=True)}}
            for part in parts
            for row in part
        ]

    def _batch(self, number: int) -> tuple[LessonSource, list[Sequence[int]]]:
        """Return the source and the rows of each process."""
        rows = self._plan.rows(number)
        source = self._sources[int(self._plan.sources[number])]
        return source, [rows[rank :: self._ranks.count] for rank in range(self._ranks.count)]

    def _lesson(self, source: LessonSource, parts: Sequence[Sequence[int]], ranks: Ranks) -> _Lesson:
        """Return the texts of this process, and which of all processes' texts each is not compared with."""
        rows = [
            row
            for side in source.sides
            for row in self._tokenizer(
                [side.texts[i] for i in parts[ranks.rank]], role=side.role, instruction=side.instruction
            )
        ]
        numbers: dict[tuple[str, Role, str | None], int] = {}

        def numbered(part: Sequence[int]) -> list[int]:
            keys = ((side.texts[i], side.role, side.instruction) for side in source.sides for i in part)
            return [numbers.setdefault(key, len(numbers)) for key in keys]

        own = torch.tensor(numbered(parts[ranks.rank]))
        everyone = torch.tensor([number for part in parts for number in numbered(part)])
        stage = self._stage
        return _Lesson(
            views=Views(self._trainable, rows, stage.pooling, stage.chunk, cached=stage.cached),
            # The same text, asked in the same way, is at 1 in both spaces: there is nothing to learn from it.
            excluded=(own[:, None] == everyone[None, :]).to(self._trainable.device),
        )

    def _taught(self, source: LessonSource, rows: Iterable[int]) -> NDArray[np.float32]:
        """Return the teacher's vectors, float32 (rows, sides, T), in its own format and with its own instructions."""
        taken = list(rows)
        try:
            sides = [
                self._teacher.encode([side.texts[row] for row in taken], role=side.role, instruction=side.instruction)
                for side in source.sides
            ]
        except EncoderError as error:
            raise TrainingError(f"the teacher {self._teacher.info.name} on {source.name}: {error}") from error
        return np.stack(sides, axis=1)

    def _on_device(self, vectors: NDArray[np.float32]) -> Tensor:
        """Return (rows, sides, T) as (N, T), side by side."""
        return torch.from_numpy(np.concatenate(list(vectors.swapaxes(0, 1)))).to(self._trainable.device)

    def _loss(self, student_NS: Tensor, teacher_NT: Tensor, lesson: _Lesson, ranks: Ranks) -> Tensor:
        return similarity_divergence(
            student_NS,
            gather(student_NS, ranks),
            teacher_NT,
            gather(teacher_NT, ranks),
            temperature=self._stage.temperature,
            excluded_BC=lesson.excluded,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """The texts of this process, and what each of them is compared with."""

    views: Views
    excluded: Tensor
    """Bool (texts of this process, texts of all)."""
