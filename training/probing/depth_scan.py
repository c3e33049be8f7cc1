"""What an encoder would score with only the first of its layers: all depths measured in one pass over the texts.

L3Prune (arXiv 2410.14578) finds how much of a decoder an encoder needs by looking at every layer's states at once.
Here a state goes through the model's final norm before it is pooled, as in a model cut there (`encoder/depth.py`): row
N is the encoder of the first N layers, and row 0 the embeddings alone. A projection that the encoder has is of its full
depth and plays no part.

Shape suffixes: R rows (embeddings, then one a layer), N texts, B batch, L tokens (right-padded), D width of a state.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...encoder.batching import plan_batches, run_halving
from ...encoder.bidirectional import decoder_layers
from ...encoder.config import Pooling
from ...encoder.errors import NonFiniteError
from ...encoder.pooling import pool
from ...encoder.protocol import Encoder, Role
from ...encoder.tokenize import TokenRow
from ...encoder.transformer import TransformerEncoder
from ..errors import TrainingError
from ..objectives.dev_pairs import DevPairs, spearman
from ..objectives.projection_fit import fit_ridge
from ..objectives.teacher_target import FITTED

_log = logging.getLogger(__name__)

WITHIN = 0.005
"""Spearman that fewer layers may lose against the best: half a point of 100."""
FEWEST_PAIRS = 3
FEWEST_TEXTS = 20
"""That a map is fitted on; a good one takes thousands."""
PARTS = ("states", "teacher", "maps")
"""What a scan does, in order; the last two with a teacher only."""

Scores = Mapping[str, float | None]
"""Spearman by name of the pairs, -1 to 1; None where it is undefined, as of vectors that are all the same."""
Progress = Callable[[str, float], None]
"""Gets a part of PARTS and the share of it that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthRow:
    """One depth."""

    layers: int
    """0 is the embeddings alone."""
    plain: Scores
    mapped: Scores | None
    """After the map to the teacher's vectors; None without a teacher."""

    @property
    def deciding(self) -> float | None:
        """Mean over all pairs of what decides: the mapped scores where there is a teacher, else the plain ones."""
        return mean_score(self.plain if self.mapped is None else self.mapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthScan:
    """Every depth of one encoder, embeddings first."""

    rows: tuple[DepthRow, ...]
    best: int
    """Layers of the best score; of equals the fewest."""
    fewest: int
    """Fewest layers that score within WITHIN of the best."""


def mean_score(scores: Scores) -> float | None:
    """Return the mean, None where one is undefined."""
    values = [score for score in scores.values() if score is not None]
    return fmean(values) if len(values) == len(scores) else None


def require_scorable(dev: Sequence[DevPairs]) -> None:
    """Raise TrainingError for too few pairs of a file, and for two files of one name."""
    names = [pairs.name for pairs in dev]
    for pairs in dev:
        if names.count(pairs.name) > 1:
            raise TrainingError(f"two --dev files are called {pairs.name}: expected a name each; rename one")
        if len(pairs.gold) < FEWEST_PAIRS:
            raise TrainingError(
                f"development pairs {pairs.name}: {len(pairs.gold)} in the file, expected at least {FEWEST_PAIRS}, "
                "better some hundreds"
            )


def fit_texts(texts: Iterable[str], dev: Sequence[DevPairs]) -> list[str]:
    """Return each text once, those of the development pairs left out; of more than FITTED that many, evenly spread.

    Raises TrainingError where fewer than FEWEST_TEXTS are left.
    """
    asked = {text.strip() for pairs in dev for text in (*pairs.first, *pairs.second)}
    found = [text for text in dict.fromkeys(texts) if text.strip() not in asked]
    if len(found) < FEWEST_TEXTS:
        raise TrainingError(
            f"--texts has {len(found)} different texts that are not in the development pairs: expected at least "
            f"{FEWEST_TEXTS}, better some thousands"
        )
    count = min(len(found), FITTED)
    return [found[number * len(found) // count] for number in range(count)]


def scan_depth(
    encoder: TransformerEncoder,
    dev: Sequence[DevPairs],
    *,
    teacher: Encoder | None = None,
    texts: Sequence[str] = (),
    progress: Progress = lambda part, share: None,
) -> DepthScan:
    """Return the score of every depth: Spearman's correlation of the cosines of both texts with the given scores.

    Texts are read as documents, without an instruction. With a `teacher` a second score: each depth's pooled state
    through the ridge map to the teacher's vectors that fits best on `texts` (closed form, `fit_ridge`), which is where
    a projection begins before any training. The teacher reads a text as far as its own limit. Holds layers + 1 vectors
    of each text, in fp32, on the CPU. Raises TrainingError for a model whose states cannot be taken and where no depth
    has a score, EncoderError for a text with no room, NonFiniteError.
    """
    asked = list(dict.fromkeys(text for pairs in dev for text in (*pairs.first, *pairs.second)))
    token_rows = encoder.texts([*asked, *texts], role=Role.DOCUMENT, instruction=None)
    if cut := sum(row.truncated for row in token_rows):
        limit = f"{encoder.info.max_tokens:,} tokens and were cut there: --max-tokens sets the limit"
        _log.warning("%d of %d texts are longer than %s", cut, len(token_rows), limit)
    pooled_RND = pooled_by_layer(encoder, token_rows, progress=lambda share: progress("states", share))
    mapped: list[Scores | None] = [None] * len(pooled_RND)
    if teacher is not None:
        vectors = teacher.encode(texts, role=Role.DOCUMENT, progress=lambda done: progress("teacher", done.share))
        teacher_NT = torch.from_numpy(vectors)
        for layers, pooled_ND in enumerate(pooled_RND):
            linear = nn.Linear(pooled_ND.shape[1], teacher_NT.shape[1]).requires_grad_(False)
            fit_ridge(linear, pooled_ND[len(asked) :], teacher_NT)
            mapped[layers] = _scores(dev, asked, linear(pooled_ND[: len(asked)]))
            progress("maps", (layers + 1) / len(pooled_RND))
    rows = tuple(
        DepthRow(layers=layers, plain=_scores(dev, asked, pooled_ND[: len(asked)]), mapped=mapped[layers])
        for layers, pooled_ND in enumerate(pooled_RND)
    )
    best, fewest = fewest_layers(rows)
    return DepthScan(rows=rows, best=best, fewest=fewest)


def _scores(dev: Sequence[DevPairs], texts: Sequence[str], vectors_ND: Tensor) -> Scores:
    """Return the scores of vectors, which are those of `texts` in order."""
    unit_of = dict(zip(texts, normalize(vectors_ND.double(), dim=1), strict=True))
    found: dict[str, float | None] = {}
    for pairs in dev:
        cosines = [float(unit_of[a] @ unit_of[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
        score = spearman(cosines, pairs.gold)
        found[pairs.name] = None if math.isnan(score) else score
    return found


def fewest_layers(rows: Sequence[DepthRow]) -> tuple[int, int]:
    """Return the layers of the best deciding score, and the fewest within WITHIN of it; the embeddings do not count.

    Raises TrainingError where no layer has a score.
    """
    found = {row.layers: row.deciding for row in rows if row.layers and row.deciding is not None}
    if not found:
        raise TrainingError(
            "no layer tells the development pairs apart: every pair has the same cosine. Expected pairs of different "
            "texts"
        )
    best = max(found, key=lambda layers: found[layers])
    return best, min(layers for layers, score in found.items() if score >= found[best] - WITHIN)


def pooled_by_layer(
    encoder: TransformerEncoder,
    rows: Sequence[TokenRow],
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Return fp32 (R, N, D) on the CPU: for each depth the texts' vectors as `encode` pools them, not normalised.

    Before any projection. Each batch is pooled layer by layer as it passes, so that no more states are held than in
    encoding. Raises TrainingError for an architecture whose states cannot be taken, NonFiniteError naming the depth.
    """
    layers = decoder_layers(encoder.model)
    pooling = Pooling(encoder.info.pooling)
    lengths = [len(row.ids) for row in rows]
    finish, width = _final_norm(encoder, layers, rows[lengths.index(min(lengths))])
    out_RND = torch.empty(len(layers) + 1, len(rows), width)
    tokens_done, total = 0, sum(lengths)
    batch: list[int] = []

    def keep(row: int, passed: Any) -> None:
        states_BLD = _states(passed, layers[max(0, row - 1)][0])
        spans_B2 = torch.tensor([(rows[i].start, rows[i].end) for i in batch], device=states_BLD.device)
        out_RND[row, batch] = pool(finish(states_BLD), spans_B2, pooling).cpu()

    def entering(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, args[0] if args else kwargs.get("hidden_states"))

    def leaving(row: int) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, out: keep(row, out)

    def forward(part: list[int]) -> None:
        nonlocal batch, tokens_done
        batch = part
        encoder.states([rows[i] for i in part])
        tokens_done += sum(lengths[i] for i in part)
        progress(tokens_done / total)

    def halved(count: int) -> None:
        encoder.batch_tokens = max(1, encoder.batch_tokens // 2)
        _log.warning("out of memory: going on with %d texts, then %d tokens a batch", count, encoder.batch_tokens)

    hooks = [layers[0][1].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [layer.register_forward_hook(leaving(row)) for row, (_, layer) in enumerate(layers, start=1)]
    try:
        with torch.inference_mode():
            for planned in plan_batches(lengths, encoder.batch_tokens):
                run_halving(planned, forward, halved=halved)
    finally:
        for hook in hooks:
            hook.remove()
    bad = [row for row in range(len(out_RND)) if not out_RND[row].isfinite().all()]
    if bad:
        raise NonFiniteError(f"{encoder.info.name} returned NaN or Inf at {bad[0]} layers. Try --precision fp32.")
    return out_RND


def _final_norm(
    encoder: TransformerEncoder, layers: Sequence[tuple[str, nn.Module]], row: TokenRow
) -> tuple[nn.Module, int]:
    """Return what the model does to the states of its last layer, and how wide they are after it.

    Its name differs from model to model: taken are the modules beside the layers that are called after the last one,
    and the result is held against the model's own. Raises TrainingError where they differ.
    """
    last: list[Tensor] = []
    called: list[nn.Module] = []

    def after(module: nn.Module, args: tuple[Any, ...], _out: Any) -> None:
        if last and len(args) == 1:
            called.append(module)

    stack = f"{layers[0][0].rpartition('.')[0]}."
    hooks = [layers[-1][1].register_forward_hook(lambda _module, _args, out: last.append(_states(out, layers[-1][0])))]
    hooks += [
        module.register_forward_hook(after)
        for name, module in encoder.model.named_modules()
        if name and not f"{name}.".startswith(stack) and not stack.startswith(f"{name}.")
    ]
    try:
        with torch.inference_mode():
            final_BLD, _ = encoder.states([row])
    finally:
        for hook in hooks:
            hook.remove()
    finish = nn.Sequential(*called)
    with torch.inference_mode():
        again_BLD = finish(last[0])
    if again_BLD.shape != final_BLD.shape or not torch.allclose(
        again_BLD, final_BLD, rtol=1e-2, atol=1e-3, equal_nan=True
    ):
        raise TrainingError(
            f"{type(encoder.model).__name__} does more to the states of its last layer than a final norm: what fewer "
            "layers score cannot be told without cutting it, as training with --layers does, whose --dev scores it",
            next_command=("train", "run", "--layers", "N"),
        )
    return finish, final_BLD.shape[-1]


def _states(passed: Any, name: str) -> Tensor:
    """Return the states (B, L, D) of what a layer takes or gives. Raises TrainingError for anything else."""
    states = passed[0] if isinstance(passed, tuple) else passed
    if not isinstance(states, Tensor) or states.ndim != 3:
        shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise TrainingError(
            f"layer {name} passes on {shape}: expected one state per token, (texts, tokens, width); what fewer layers "
            "of this architecture score cannot be told"
        )
    return states
