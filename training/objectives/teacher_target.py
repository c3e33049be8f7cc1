"""What a student is to give for a text: the teacher's vector, turned to a basis of the student's width.

Shape suffixes: N texts, T components of the teacher, P of the student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...encoder.errors import EncoderError
from ...encoder.protocol import Encoder, Role
from ...encoder.tokenize import TextTokenizer, TokenRow
from ...index.durable import write_whole
from ..distributed import Ranks, barrier, broadcast
from ..errors import TrainingError
from ..trainable import Trainable
from .embedding import Views
from .projection_fit import fit_ridge, nearest_basis, principal_basis

FITTED = 8192
"""Texts that basis and projection are fitted on before the first step."""
BASIS = "teacher-basis.npy"
Tokenize = Callable[..., list[TokenRow]]
"""A TextTokenizer, or a TokenCache of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One text as student and teacher read it."""

    text: str
    role: Role
    instruction: str | None
    row: TokenRow
    plain: TextTokenizer

    @property
    def read(self) -> str:
        """The text as far as the student reads it: what it does not read of a text its teacher does not either."""
        if not self.row.truncated:
            return self.text
        ends = [end for _, end in self.plain.tokenizer.encode(self.text).offsets]
        kept = self.row.end - self.row.start
        return self.text[: ends[min(kept, len(ends)) - 1]].rstrip() or self.text[:1]


def lessons(
    tokenize: Tokenize, plain: TextTokenizer, texts: Sequence[str], *, role: Role, instruction: str | None
) -> list[Lesson]:
    """Return the texts with their tokens."""
    rows = tokenize(texts, role=role, instruction=instruction)
    return [
        Lesson(text=text, role=role, instruction=instruction, row=row, plain=plain)
        for text, row in zip(texts, rows, strict=True)
    ]


class TeacherTarget:
    """The teacher's vectors in the student's width; the same for a text whenever it is asked for."""

    def __init__(
        self,
        trainable: Trainable,
        teacher: Encoder,
        sample: Callable[[int], Sequence[Lesson]],
        views: Callable[[Sequence[Lesson]], Views],
        *,
        folder: Path,
        begun: bool,
        ranks: Ranks,
    ) -> None:
        """Find the basis on `sample`(FITTED) texts, or read the one that `folder` keeps of a run that has `begun`.

        Where the projection is new, the basis is the teacher's main directions, and the projection is fitted to them;
        else it is the one nearest to the vectors that the student gives already, so that nothing learnt has to turn.
        """
        self._trainable, self._teacher = trainable, teacher
        self._basis_TP: NDArray[np.float32] | None = None
        if trainable.projection is None and trainable.width == teacher.info.dim:
            return
        path = folder / BASIS
        if not begun or not path.is_file():
            basis_TP = self._found_basis(sample(FITTED), views, fresh=trainable.fresh_projection and not begun)
            if trainable.projection is not None:
                broadcast([value for _, value in trainable.projection.named_parameters()], ranks)
            if ranks.is_main:
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, _npy(basis_TP))
            barrier()
        self._basis_TP = np.load(path, allow_pickle=False)

    def of(self, texts: Sequence[Lesson]) -> Tensor:
        """Return fp32 (N, P). Raises TrainingError where the teacher fails."""
        vectors_NT = self._vectors(texts)
        found = vectors_NT if self._basis_TP is None else vectors_NT @ self._basis_TP
        return torch.from_numpy(found).to(self._trainable.device)

    def _found_basis(
        self, texts: Sequence[Lesson], views: Callable[[Sequence[Lesson]], Views], *, fresh: bool
    ) -> NDArray[np.float32]:
        vectors_NT = torch.from_numpy(self._vectors(texts))
        linear = self._trainable.projection
        if linear is None or not fresh:
            return nearest_basis(vectors_NT, views(texts).evaluate().cpu()).numpy()
        basis_TP = principal_basis(vectors_NT, linear.out_features)
        fit_ridge(linear, views(texts).pooled().cpu(), vectors_NT @ basis_TP)
        return basis_TP.numpy()

    def _vectors(self, texts: Sequence[Lesson]) -> NDArray[np.float32]:
        out = np.empty((len(texts), self._teacher.info.dim), dtype=np.float32)
        asked: dict[tuple[Role, str | None], list[int]] = {}
        for place, text in enumerate(texts):
            asked.setdefault((text.role, text.instruction), []).append(place)
        for (role, instruction), places in asked.items():
            try:
                out[places] = self._teacher.encode(
                    [texts[place].read for place in places], role=role, instruction=instruction
                )
            except EncoderError as error:
                raise TrainingError(f"the teacher {self._teacher.info.name}: {error}") from error
        return out


def _npy(array: NDArray[np.float32]) -> bytes:
    out = BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
