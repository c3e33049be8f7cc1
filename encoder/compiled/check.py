"""The proof of a graph: every layer sees the future, its parts are the whole, and no text depends on its batch.

What encoder/proof.py shows of a torch model, measured on the files that will be run. Padding needs no proof: the graph
has none.

Shape suffixes: B batch, L tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFilesError, NotBidirectionalError

ROWS, LENGTH = 3, 8
TOLERANCE = 1e-4
"""Relative L2 error between two ways to compute the same in fp32: rounding."""
NOISE = 1e-6
"""Influence up to this is rounding."""

Array = NDArray[np.float32] | NDArray[np.int64]


class Run(Protocol):
    """A graph that is ready to run: its inputs in order, its one output."""

    def __call__(self, *inputs: Array) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphProof:
    """What was measured."""

    influences: tuple[float, ...]
    """For each layer taken alone: the largest relative change of an earlier token's state when only the last token's
    input changes."""
    parts_error: float
    """The layers one after another against the whole graph, as a relative L2 distance."""
    batch_error: float
    """A text alone against the same in a batch."""

    def failures(self) -> list[str]:
        """Return what is not as it must be, each as a sentence part; [] when proved."""
        found = [
            f"layer {number} does not see the future"
            for number, influence in enumerate(self.influences)
            if not influence > NOISE
        ]
        checks = (
            ("its layers are not the graph", self.parts_error),
            ("a vector depends on its batch", self.batch_error),
        )
        return found + [
            f"{what}: {value:.1e} (at most {TOLERANCE:.0e})" for what, value in checks if not value <= TOLERANCE
        ]


def require(name: str, parts: Sequence[Run], whole: Run, known: int) -> GraphProof:
    """Return the proof of the graph `whole`; its parts are the token table, each layer, and pooling with what follows.

    `known` is the number of tokens in the table. Raises NotBidirectionalError naming what fails, ModelFilesError for
    weights that compute NaN.
    """
    step = max(1, known // (ROWS * LENGTH + 1))
    ids_BL = np.array([(i * step + 5) % known for i in range(ROWS * LENGTH)], dtype=np.int64).reshape(ROWS, LENGTH)
    pool_BL = np.full(ids_BL.shape, 1 / LENGTH, dtype=np.float32)
    states = parts[0](ids_BL)
    influences = []
    for layer in parts[1:-1]:
        influences.append(_influence(layer, states))
        states = layer(states)
    together = whole(ids_BL, pool_BL)
    if not (np.isfinite(states).all() and np.isfinite(together).all()):
        raise ModelFilesError(f"{name}: its states are NaN or infinite, so weights are damaged. Fetch the model again.")
    proof = GraphProof(
        influences=tuple(influences),
        parts_error=_relative(parts[-1](pool_BL, states), together),
        batch_error=_relative(whole(ids_BL[:1], pool_BL[:1]), together[:1]),
    )
    failures = proof.failures()
    if failures:
        raise NotBidirectionalError(f"{name}: its graph cannot be used: {'; '.join(failures[:4])}")
    return proof


def _influence(layer: Run, states_BLD: NDArray[np.float32]) -> float:
    rows_BLD = states_BLD[:1].repeat(2, axis=0)
    # Reversing the features keeps the scale and turns the direction: a norm inside the layer cannot cancel it.
    rows_BLD[1, -1] = rows_BLD[0, -1, ::-1]
    before_LD, after_LD = layer(rows_BLD)[:, :-1]
    change_L = np.linalg.norm(after_LD - before_LD, axis=-1)
    return float((change_L / np.maximum(np.linalg.norm(before_LD, axis=-1), 1e-30)).max())


def _relative(value: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(value - reference) / max(float(np.linalg.norm(reference)), 1e-30))
