"""The distill stage with vectors: each text by itself, its vector as near to its teacher's as can be.

Nothing is compared within a batch, so a step takes texts of about one length, and hardly anything is padded.

Shape suffixes: N texts of a step, P components of a vector, T of the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...encoder.protocol import Encoder, Role
from ...encoder.tokenize import TextTokenizer
from ..data.corpus import PairSource
from ..data.sentences import sentences
from ..distributed import Ranks
from ..loop import StepResult
from ..recipe import DistillStage, SourceSettings
from ..trainable import Trainable
from .batch_supply import Supply, source_supply
from .dev_pairs import spearman
from .distill import Side, embedding_distance, other_similarities
from .embedding import Views, cut_share
from .mntp import step_seed
from .sampling import EVALUATION_TEXTS, draw_rows
from .teacher_target import Lesson, TeacherTarget, lessons

WINDOW = 32
"""Steps whose texts are sampled together and then sorted by length: enough for texts of one length, few enough that the
kinds of texts come evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKind:
    """Texts of one kind; `weight` times their number is their share of a step."""

    name: str
    side: Side
    weight: float = 1.0


def text_kinds(
    sources: Sequence[PairSource], texts: Sequence[str], settings: Mapping[str, SourceSettings], *, cut: bool
) -> list[TextKind]:
    """Return every text of pairs and plain texts once, by kind; plain texts `cut` into sentences.

    A source's weight counts for each of its sides, and its instruction for its queries, as in supervised training.
    """
    kinds: list[TextKind] = []
    for source in sources:
        said = settings.get(source.name, SourceSettings())
        asked = Side(texts=_once(pair.query for pair in source.pairs), role=Role.QUERY, instruction=said.instruction)
        positives = _once(pair.positive for pair in source.pairs)
        role, instruction = (Role.QUERY, said.instruction) if said.symmetric else (Role.DOCUMENT, None)
        sides = {
            "query": asked,
            "positive": Side(texts=positives, role=role, instruction=instruction),
            "negative": Side(texts=_once(text for pair in source.pairs for text in pair.negatives), role=Role.DOCUMENT),
        }
        kinds += [
            TextKind(name=f"{source.name} {name}", side=side, weight=said.weight)
            for name, side in sides.items()
            if side.texts and said.weight > 0
        ]
    plain = _once(sentences(texts)) if cut else _once(texts)
    return [*kinds, TextKind(name="texts", side=Side(texts=plain, role=Role.DOCUMENT))] if plain else kinds


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def kind_supply(kinds: Sequence[TextKind], unseen: Sequence[TextKind]) -> Supply:
    """Return what there is to sample: texts of all kinds together, since a step takes them from all."""
    total = sum(len(kind.side.texts) for kind in kinds)
    return source_supply("texts", {"all kinds": total} if kinds else {}, [len(kind.side.texts) for kind in unseen])


class VectorTraining:
    """An `Objective`: 1 - cosine of the student's vector to the teacher's."""

    def __init__(
        self,
        trainable: Trainable,
        stage: DistillStage,
        tokenizer: TextTokenizer,
        teacher: Encoder,
        *,
        kinds: Sequence[TextKind],
        held_out: Sequence[TextKind],
        folder: Path,
        begun: bool,
        seed: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    ) -> None:
        """`folder` keeps the basis of the teacher's vectors; `begun`: a checkpoint holds the projection already."""
        self._trainable, self._stage, self._seed, self._ranks = trainable, stage, seed, ranks
        self._tokenizer = tokenizer
        self._kinds, self._unseen = list(kinds), [kind for kind in held_out if len(kind.side.texts) > 1]
        ranks.share(stage.batch, "distill.batch")
        self._sampled = draw_rows(
            [len(kind.side.texts) for kind in self._kinds],
            [kind.weight for kind in self._kinds],
            count=stage.schedule.steps * stage.batch,
            seed=seed,
        )
        self._window: tuple[int, list[list[tuple[TextKind, Lesson]]]] | None = None
        self._evaluation: list[tuple[Views, Tensor]] = []
        self._target = TeacherTarget(
            trainable,
            teacher,
            lambda count: self._lessons([(self._kinds[kind], row) for kind, row in self._sampled[:count]]),
            self._views,
            folder=folder,
            begun=begun,
            ranks=ranks,
        )

    def step(self, number: int) -> StepResult:
        texts = [lesson for _, lesson in self._texts(number)][self._ranks.rank :: self._ranks.count]
        teacher_NP = self._target.of(texts)
        torch.manual_seed(step_seed(self._seed, number, self._ranks.rank))
        views = self._views(texts)
        loss, _ = views.backward(lambda student_NP: embedding_distance(student_NP, teacher_NP))
        rows = views.rows
        return StepResult(loss=float(loss), tokens=sum(len(row.ids) for row in rows), metrics={"cut": cut_share(rows)})

    def held_out(self) -> dict[str, float]:
        """Return the mean over kinds of the loss, and of Spearman's correlation of all cosines with the teacher's.

        The texts are the same each time.
        """
        if not self._evaluation:
            each = min(EVALUATION_TEXTS, max(2, self._stage.evaluation_pairs // max(1, len(self._unseen))))
            for kind in self._unseen[: max(1, self._stage.evaluation_pairs // 2)]:
                texts = self._lessons([(kind, at) for at in range(min(each, len(kind.side.texts)))])
                self._evaluation.append((self._views(texts), self._target.of(texts)))
        losses, agreements = [], []
        for views, teacher_NP in self._evaluation:
            student_NP = views.evaluate()
            losses.append(float(embedding_distance(student_NP, teacher_NP)))
            none = torch.zeros(len(student_NP), len(student_NP), dtype=torch.bool, device=student_NP.device)
            ours, theirs = (other_similarities(vectors, none) for vectors in (student_NP, teacher_NP))
            # Two texts have one cosine, which has no order.
            if len(student_NP) > 2:
                agreements.append(spearman(ours.cpu().numpy(), theirs.cpu().numpy()))
        return {
            "loss": float(np.mean(losses)),
            "spearman": float(np.mean(agreements)) if agreements else float("nan"),
        }

    def describe(self, number: int) -> list[dict[str, Any]]:
        return [{"source": kind.name, "text": lesson.text} for kind, lesson in self._texts(number)]

    def _texts(self, number: int) -> list[tuple[TextKind, Lesson]]:
        """Return the texts of a step, of about one length, for all processes together."""
        at = number // WINDOW
        if self._window is None or self._window[0] != at:
            self._window = (at, self._made_window(at))
        return self._window[1][number % WINDOW]

    def _made_window(self, at: int) -> list[list[tuple[TextKind, Lesson]]]:
        """Return the texts of the steps of window `at`: as many tokens in each, and the steps in an order by chance."""
        first, steps = at * WINDOW, min(WINDOW, self._stage.schedule.steps - at * WINDOW)
        batch = self._stage.batch
        sampled = [(self._kinds[kind], row) for kind, row in self._sampled[first * batch : (first + steps) * batch]]
        texts = [(kind, lesson) for (kind, _), lesson in zip(sampled, self._lessons(sampled), strict=True)]
        texts.sort(key=lambda text: len(text[1].row.ids))
        ends = np.cumsum([len(lesson.row.ids) for _, lesson in texts])
        # Cut where the tokens before reach each step's share; a process has at least one text of each step.
        cuts = [int(np.searchsorted(ends, ends[-1] * step / steps)) for step in range(steps + 1)]
        cuts[-1] = len(texts)
        least = self._ranks.count
        for step in range(1, steps):
            cuts[step] = min(max(cuts[step], cuts[step - 1] + least), len(texts) - least * (steps - step))
        parts = [texts[a:b] for a, b in pairwise(cuts)]
        order = np.random.default_rng([self._seed, 0x57, at]).permutation(steps)
        return [parts[int(place)] for place in order]

    def _lessons(self, sampled: Sequence[tuple[TextKind, int]]) -> list[Lesson]:
        """Return the texts with their tokens, in the order in which they were sampled."""
        by_kind: dict[int, list[int]] = {}
        for place, (kind, _) in enumerate(sampled):
            by_kind.setdefault(id(kind), []).append(place)
        found: dict[int, Lesson] = {}
        for places in by_kind.values():
            side = sampled[places[0]][0].side
            taken = [side.texts[sampled[place][1]] for place in places]
            made = lessons(self._tokenizer, self._tokenizer, taken, role=side.role, instruction=side.instruction)
            found.update(zip(places, made, strict=True))
        return [found[place] for place in range(len(sampled))]

    def _views(self, texts: Sequence[Lesson]) -> Views:
        rows = [lesson.row for lesson in texts]
        return Views(self._trainable, rows, self._stage.pooling, self._stage.chunk, cached=self._stage.cached)
