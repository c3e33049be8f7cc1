"""The distill stage with vectors: each text by itself, its vector as near to its teacher's as can be.

Nothing is compared within a batch, so a step takes texts of about one length, and hardly anything is padded.

Shape suffixes: N texts of a step, P components of a vector, T of the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..encoder.errors import EncoderError
from ..encoder.protocol import Encoder, Role
from ..encoder.tokenize import TextTokenizer, TokenRow
from .contrastive_objective import EVALUATION_TEXTS, sentences
from .corpus import PairSource
from .dev_pairs import spearman
from .distill_objective import Side
from .distillation import embedding_distance, other_similarities
from .distributed import Ranks, barrier, broadcast
from .drawing import draw_rows
from .embedder import Views
from .errors import TrainingError
from .loop import StepResult
from .mntp_objective import step_seed
from .projection_fit import fit_ridge, nearest_basis, principal_basis
from .recipe import DistillStage, SourceSettings
from .supply import Supply, source_supply
from .token_cache import cut_share
from .trainable import Trainable
from .whole_files import write_whole

WINDOW = 32
"""Steps whose texts are drawn together and then sorted by length: enough for texts of one length, few enough that the
kinds of texts come evenly."""
FITTED = 8192
"""Texts that the projection is fitted on before the first step."""
BASIS = "teacher-basis.npy"


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
    """Return what there is to draw: texts of all kinds together, since a step takes them from all."""
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
        self._tokenizer, self._teacher = tokenizer, teacher
        self._kinds, self._unseen = list(kinds), [kind for kind in held_out if len(kind.side.texts) > 1]
        ranks.share(stage.batch, "distill.batch")
        self._drawn = draw_rows(
            [len(kind.side.texts) for kind in self._kinds],
            [kind.weight for kind in self._kinds],
            count=stage.schedule.steps * stage.batch,
            seed=seed,
        )
        self._window: tuple[int, list[list[_Text]]] | None = None
        self._evaluation: list[tuple[Views, Tensor]] = []
        self._basis_TP: NDArray[np.float32] | None = None
        if trainable.projection is not None or trainable.width != teacher.info.dim:
            self._begin_basis(folder, begun)

    def step(self, number: int) -> StepResult:
        texts = self._texts(number)[self._ranks.rank :: self._ranks.count]
        teacher_NP = self._taught(texts)
        torch.manual_seed(step_seed(self._seed, number, self._ranks.rank))
        rows = [text.row for text in texts]
        views = Views(self._trainable, rows, self._stage.pooling, self._stage.chunk, cached=self._stage.cached)
        loss, _ = views.backward(lambda student_NP: embedding_distance(student_NP, teacher_NP))
        return StepResult(loss=float(loss), tokens=sum(len(row.ids) for row in rows), metrics={"cut": cut_share(rows)})

    def held_out(self) -> dict[str, float]:
        """Return the mean over kinds of the loss, and of Spearman's correlation of all cosines with the teacher's.

        The texts are the same each time.
        """
        if not self._evaluation:
            each = min(EVALUATION_TEXTS, max(2, self._stage.evaluation_pairs // max(1, len(self._unseen))))
            for kind in self._unseen[: max(1, self._stage.evaluation_pairs // 2)]:
                texts = self._tokenized([(kind, at) for at in range(min(each, len(kind.side.texts)))])
                views = Views(self._trainable, [text.row for text in texts], self._stage.pooling, self._stage.chunk)
                self._evaluation.append((views, self._taught(texts)))
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
        return [{"source": text.kind.name, "text": text.text} for text in self._texts(number)]

    def _texts(self, number: int) -> list[_Text]:
        """Return the texts of a step, of about one length, for all processes together."""
        at = number // WINDOW
        if self._window is None or self._window[0] != at:
            self._window = (at, self._made_window(at))
        return self._window[1][number % WINDOW]

    def _made_window(self, at: int) -> list[list[_Text]]:
        """Return the texts of the steps of window `at`: as many tokens in each, and the steps in an order by chance."""
        first, steps = at * WINDOW, min(WINDOW, self._stage.schedule.steps - at * WINDOW)
        batch = self._stage.batch
        drawn = self._drawn[first * batch : (first + steps) * batch]
        texts = sorted(
            self._tokenized([(self._kinds[kind], row) for kind, row in drawn]), key=lambda text: len(text.row.ids)
        )
        ends = np.cumsum([len(text.row.ids) for text in texts])
        # Cut where the tokens before reach each step's share; a process has at least one text of each step.
        cuts = [round(float(np.searchsorted(ends, ends[-1] * step / steps))) for step in range(steps + 1)]
        cuts[-1] = len(texts)
        least = self._ranks.count
        for step in range(1, steps):
            cuts[step] = min(max(cuts[step], cuts[step - 1] + least), len(texts) - least * (steps - step))
        parts = [texts[a:b] for a, b in pairwise(cuts)]
        order = np.random.default_rng([self._seed, 0x57, at]).permutation(steps)
        return [parts[int(place)] for place in order]

    def _tokenized(self, drawn: Sequence[tuple[TextKind, int]]) -> list[_Text]:
        """Return the texts with their tokens, in the order in which they were drawn."""
        by_kind: dict[int, list[int]] = {}
        for place, (kind, _) in enumerate(drawn):
            by_kind.setdefault(id(kind), []).append(place)
        found: dict[int, _Text] = {}
        for places in by_kind.values():
            kind = drawn[places[0]][0]
            taken = [kind.side.texts[drawn[place][1]] for place in places]
            rows = self._rows(taken, kind.side)
            # What the student does not read its teacher does not either.
            cut = [at for at, row in enumerate(rows) if row.truncated]
            for at in cut:
                taken[at] = self._read_part(taken[at], rows[at])
            for at, row in zip(cut, self._rows([taken[at] for at in cut], kind.side), strict=True):
                rows[at] = replace(row, truncated=True)
            for place, text, row in zip(places, taken, rows, strict=True):
                found[place] = _Text(kind=kind, text=text, row=row)
        return [found[place] for place in range(len(drawn))]

    def _rows(self, texts: Sequence[str], side: Side) -> list[TokenRow]:
        return self._tokenizer(texts, role=side.role, instruction=side.instruction)

    def _read_part(self, text: str, row: TokenRow) -> str:
        """Return the beginning of a text that was cut, as far as `row` holds it."""
        ends = [end for _, end in self._tokenizer.tokenizer.encode(text).offsets]
        return text[: ends[row.end - row.start - 1]].rstrip() or text[:1]

    def _taught(self, texts: Sequence[_Text]) -> Tensor:
        """Return what the student is to give, (N, P): the teacher's vectors, in their own basis where there is one."""
        vectors_NT = self._teacher_vectors(texts)
        found = vectors_NT if self._basis_TP is None else vectors_NT @ self._basis_TP
        return torch.from_numpy(found).to(self._trainable.device)

    def _teacher_vectors(self, texts: Sequence[_Text]) -> NDArray[np.float32]:
        out = np.empty((len(texts), self._teacher.info.dim), dtype=np.float32)
        asked: dict[tuple[Role, str | None], list[int]] = {}
        for place, text in enumerate(texts):
            asked.setdefault((text.kind.side.role, text.kind.side.instruction), []).append(place)
        for (role, instruction), places in asked.items():
            try:
                out[places] = self._teacher.encode(
                    [texts[place].text for place in places], role=role, instruction=instruction
                )
            except EncoderError as error:
                raise TrainingError(f"the teacher {self._teacher.info.name}: {error}") from error
        return out

    def _begin_basis(self, folder: Path, begun: bool) -> None:
        """Find the basis in which the student learns the teacher's vectors, on texts as they will be drawn.

        Where the projection is new, the teacher's main directions, and the projection is fitted to them; else the one
        nearest to the vectors that the student gives already, so that nothing learnt has to turn.
        """
        path, linear = folder / BASIS, self._trainable.projection
        if not begun or not path.is_file():
            texts = self._tokenized([(self._kinds[kind], row) for kind, row in self._drawn[:FITTED]])
            views = Views(self._trainable, [text.row for text in texts], self._stage.pooling, self._stage.chunk)
            vectors_NT = torch.from_numpy(self._teacher_vectors(texts))
            if linear is not None and self._trainable.fresh_projection and not begun:
                basis_TP = principal_basis(vectors_NT, linear.out_features)
                fit_ridge(linear, views.pooled().cpu(), vectors_NT @ basis_TP)
                broadcast([value for _, value in linear.named_parameters()], self._ranks)
            else:
                basis_TP = nearest_basis(vectors_NT, views.evaluate().cpu())
            if self._ranks.is_main:
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, _npy(basis_TP.numpy()))
            barrier()
        self._basis_TP = np.load(path, allow_pickle=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    kind: TextKind
    text: str
    row: TokenRow


def _npy(array: NDArray[np.float32]) -> bytes:
    from io import BytesIO

    out = BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
