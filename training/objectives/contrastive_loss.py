"""Contrastive losses, and their gradients in a memory that does not grow with the batch.

Shape suffixes: B queries, C candidates, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

Forward = Callable[[int], Tensor]
"""From the number of a chunk to its embeddings (n, D), with gradient when grad mode is on."""


def info_nce(
    queries_BD: Tensor,
    candidates_CD: Tensor,
    *,
    temperature: float,
    targets_B: Tensor | None = None,
    excluded_BC: Tensor | None = None,
    margin: float | None = None,
    dimensions: Sequence[int] = (),
) -> Tensor:
    """Return the mean over queries of cross-entropy over cosine / temperature (van den Oord et al., arXiv 1807.03748).

    Query i's positive is candidate `targets_B`[i], i itself by default. `excluded_BC` True leaves a candidate out of
    that query's sum, as does a cosine more than `margin` above the positive's (Qwen3-Embedding, arXiv 2506.05176);
    never the positive. `dimensions`: the mean of the losses of these prefixes and of the full width D, which is none of
    them (Matryoshka, arXiv 2205.13147). Raises ValueError for a prefix that is not shorter than D.
    """
    if targets_B is None:
        targets_B = torch.arange(len(queries_BD), device=queries_BD.device)
    whole = queries_BD.shape[1]
    if any(width >= whole for width in dimensions):
        raise ValueError(f"dimensions are {tuple(dimensions)}: expected less than the width, {whole}")
    widths = [*dimensions, whole]
    losses = [
        cross_entropy(
            _scores(queries_BD[:, :width], candidates_CD[:, :width], targets_B, excluded_BC, margin) / temperature,
            targets_B,
        )
        for width in widths
    ]
    return torch.stack(losses).mean()


def _scores(
    queries_BD: Tensor, candidates_CD: Tensor, targets_B: Tensor, excluded_BC: Tensor | None, margin: float | None
) -> Tensor:
    """Return the cosines (B, C), minus infinity for a candidate that is left out."""
    cosines_BC = normalize(queries_BD.float(), dim=1) @ normalize(candidates_CD.float(), dim=1).T
    out_BC = torch.zeros_like(cosines_BC, dtype=torch.bool) if excluded_BC is None else excluded_BC.clone()
    if margin is not None:
        positive_B1 = cosines_BC.detach().gather(1, targets_B[:, None])
        out_BC |= cosines_BC.detach() > positive_B1 + margin
    out_BC.scatter_(1, targets_B[:, None], False)
    return cosines_BC.masked_fill(out_BC, float("-inf"))


def same_texts(
    queries: Sequence[str],
    positives: Sequence[str],
    candidates: Sequence[str],
    *,
    known: Sequence[tuple[str, str]] = (),
) -> Tensor:
    """Return bool (B, C): the data themselves say that candidate c is no negative of query i.

    That is when it is query i's text, or a positive of that text: its own `positives`[i], or the positive in a pair
    (query, positive) of `known` that asks the same. `known` are the pairs of the whole batch, those of other processes
    too, since their documents are candidates here. A query's target is True as well; `info_nce` keeps it.
    """
    numbers: dict[str, int] = {}

    def numbered(texts: Iterable[str]) -> NDArray[np.int64]:
        return np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), dtype=np.int64)

    found_C = numbered(candidates)
    pairs = [*zip(queries, positives, strict=True), *known]
    pair_queries, pair_positives = numbered(query for query, _ in pairs), numbered(text for _, text in pairs)
    # Rows of the table are texts that ask, all texts are its columns: a text answers itself and what it is paired with.
    rows, row_of = np.unique(pair_queries, return_inverse=True)
    answers = np.zeros((len(rows), len(numbers)), dtype=np.bool_)
    answers[row_of, pair_positives] = True
    answers[np.arange(len(rows)), rows] = True
    return torch.from_numpy(answers[:, found_C][row_of[: len(queries)]])


class RandomState:
    """The random numbers of a forward pass, to sample them a second time (dropout must be the same in both)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng([self._device] if self._cuda is not None else [])
        self._fork.__enter__()
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(None, None, None)


def cached_backward(
    chunks: int,
    forward: Forward,
    loss_of: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    cached: bool = True,
) -> tuple[Tensor, Tensor]:
    """Add the gradients of `loss_of(all embeddings)` to the parameters, one chunk in memory at a time.

    GradCache (Gao et al., arXiv 2101.06983): embeddings without graph, the loss's gradient with respect to them, then
    each chunk again with its graph and the same random numbers. Not `cached`: every chunk once, all graphs in memory
    together. Returns the loss and the embeddings, both detached.
    """
    if chunks == 1 or not cached:
        with autocast():
            embeddings = torch.cat([forward(chunk) for chunk in range(chunks)])
        loss = loss_of(embeddings)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), embeddings.detach()
    states, parts = [], []
    with torch.no_grad():
        for chunk in range(chunks):
            states.append(RandomState(device))
            with autocast():
                parts.append(forward(chunk))
    embeddings = torch.cat(parts).detach().requires_grad_()
    loss = loss_of(embeddings)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    pieces = torch.split(gradient, [len(part) for part in parts])
    for chunk, (state, piece) in enumerate(zip(states, pieces, strict=True)):
        with state:
            with autocast():
                again = forward(chunk)
            again.backward(piece)  # type: ignore[no-untyped-call]
    return loss.detach(), embeddings.detach()


def uniformity_alignment(first_BD: Tensor, second_BD: Tensor) -> tuple[float, float]:
    """Return uniformity and alignment of unit vectors (Wang and Isola, arXiv 2005.10242): both lower is better.

    Alignment is the mean squared distance of the pairs, uniformity the log of the mean Gaussian potential of all pairs
    of different rows of `first_BD`; needs at least two rows.
    """
    first_BD, second_BD = normalize(first_BD.float(), dim=1), normalize(second_BD.float(), dim=1)
    alignment = float((first_BD - second_BD).norm(dim=1).pow(2).mean())
    uniformity = float(torch.pdist(first_BD).pow(2).mul(-2).exp().mean().log())
    return uniformity, alignment
