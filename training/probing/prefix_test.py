"""Whether a prefix's states know what follows it (LLM2Vec, arXiv 2404.05961, section 4.1; after arXiv 2402.15449).

Three texts share the prefix A: q = A B, s+ = A C, s- = A D, with B close to C in meaning and not to D. Only tokens of A
are pooled. A causal model gives them the same states in all three; a bidirectional one that makes use of what it sees
brings q nearer to s+ than to s-.

Shape suffixes: B batch, L tokens (right-padded), D hidden width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from ...encoder.config import Attention, Pooling
from ...encoder.errors import NonFiniteError
from ...encoder.pooling import pool
from ...encoder.tokenize import TokenRow
from ...encoder.transformer import TransformerEncoder
from ..errors import DataError, EvaluationError
from ..evaluation.intervals import Interval, difference_interval
from ..evaluation.measurement import Samples
from .tolerance import attending, cosine_matrix

TRIPLES = Path(__file__).with_name("prefix_triples.jsonl")
"""Triples written for this project."""
FIELDS = ("prefix", "query", "positive", "negative")
BINS = 15
"""Of the histogram, as in the paper's figure."""
# Cosines that differ by less are equal: the rounding of two kernels or batch shapes is below it by far.
UNDECIDED = {torch.float32: 1e-6, torch.float16: 1e-5, torch.bfloat16: 1e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """A prefix with three continuations, each joined to it by one space."""

    prefix: str
    query: str
    positive: str
    """Means what `query` means."""
    negative: str

    @property
    def texts(self) -> tuple[str, str, str]:
        """q, s+ and s-."""
        return (
            f"{self.prefix} {self.query}",
            f"{self.prefix} {self.positive}",
            f"{self.prefix} {self.negative}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixScores:
    """The prefix test of one model in one attention mode; item i of the tuples belongs to triple i."""

    attention: Attention
    positive: tuple[float, ...]
    """cos(q, s+) over the prefix."""
    negative: tuple[float, ...]
    """cos(q, s-) over the prefix."""
    prefix_error: float
    """Largest relative L2 distance between the prefix states of q and those of s+ or s-; rounding when causal."""
    undecided_below: float
    """Differences of cosines up to this are rounding."""

    @property
    def differences(self) -> NDArray[np.float64]:
        """cos(q, s+) - cos(q, s-), one per triple."""
        return np.subtract(self.positive, self.negative, dtype=np.float64)

    @property
    def right(self) -> int:
        """Triples whose q is nearer to s+."""
        return int((self.differences > self.undecided_below).sum())

    @property
    def wrong(self) -> int:
        """Triples whose q is nearer to s-."""
        return int((self.differences < -self.undecided_below).sum())

    @property
    def undecided(self) -> int:
        return len(self.positive) - self.right - self.wrong

    @property
    def auc(self) -> float:
        """Area under the ROC curve of all cos(q, s+) against all cos(q, s-)."""
        return auc(self.positive, self.negative, equal_within=self.undecided_below)

    @property
    def mean_difference(self) -> float:
        return float(self.differences.mean())

    @property
    def interval(self) -> Interval:
        """95 % bootstrap interval of the mean difference, over triples."""
        ids = tuple(str(number) for number in range(len(self.positive)))
        return difference_interval(
            Samples(kind="mean", ids=ids, values=self.positive), Samples(kind="mean", ids=ids, values=self.negative)
        )

    @property
    def p_value(self) -> float:
        return sign_test(self.right, self.wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of both cosines in the same bins."""

    edges: tuple[float, ...]
    """BINS + 1, ascending, from the least to the greatest cosine of either kind."""
    positive: tuple[int, ...]
    negative: tuple[int, ...]


def read_triples(path: Path = TRIPLES) -> tuple[Triple, ...]:
    """Return the triples of a file of JSON lines with the keys of FIELDS. Raises DataError with file and line."""
    triples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(path, f"not JSON ({error})", line=number) from error
        if not isinstance(row, dict) or set(row) != set(FIELDS):
            raise DataError(path, f"expected an object with the keys {', '.join(FIELDS)}", line=number)
        for field in FIELDS:
            if not isinstance(row[field], str) or not row[field].strip():
                raise DataError(path, f"{field} is {row[field]!r}, expected a text", line=number)
        triples.append(Triple(**row))
    if len(triples) < 2:
        raise DataError(path, f"{len(triples)} triples, expected at least 2")
    return tuple(triples)


def run_prefix_test(
    encoder: TransformerEncoder,
    triples: Sequence[Triple],
    attention: Attention,
    *,
    progress: Callable[[int], None] | None = None,
) -> PrefixScores:
    """Return the scores of `encoder` in this attention mode; the model is left as it was.

    No instruction and no chat template. `progress` is told the number of triples done. Raises EvaluationError for a
    triple that is too long or whose prefix has no token of its own, NonFiniteError.
    """
    positive, negative, errors = [], [], []
    with attending(encoder.model, attention), torch.inference_mode():
        for number, triple in enumerate(triples, start=1):
            rows = prefix_rows(encoder.tokenizer, triple)
            _check_length(encoder, number, rows)
            states_BLD, spans_B2 = encoder.states(rows)
            pooled_BD = pool(states_BLD, spans_B2, Pooling.MEAN)
            near, far = cosine_matrix(pooled_BD[:1].expand(2, -1), pooled_BD[1:])
            if not math.isfinite(near) or not math.isfinite(far):
                raise NonFiniteError(
                    f"{encoder.info.name} returned NaN or Inf in triple {number}: try --precision fp32"
                )
            positive.append(float(near))
            negative.append(float(far))
            errors.append(_largest_distance(states_BLD[:, rows[0].start : rows[0].end].float()))
            if progress is not None:
                progress(number)
    return PrefixScores(
        attention=attention,
        positive=tuple(positive),
        negative=tuple(negative),
        prefix_error=max(errors),
        undecided_below=UNDECIDED[encoder.model.dtype],
    )


def _check_length(encoder: TransformerEncoder, number: int, rows: Sequence[TokenRow]) -> None:
    """Triples are never cut: without its end a text may mean something else."""
    longest = max(len(row.ids) for row in rows)
    limit = getattr(encoder.model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and longest > limit:
        raise EvaluationError(
            f"triple {number} has {longest} tokens: {encoder.info.name} was made for at most {limit}, expected a "
            "shorter one"
        )


def prefix_rows(tokenizer: Tokenizer, triple: Triple) -> list[TokenRow]:
    """Return q, s+ and s- as token ids, each with the same span of prefix tokens.

    Tokenised whole; the span holds the tokens that lie wholly inside the prefix by their offsets, up to the first at
    which the three texts differ. A token across the border is left out: it holds characters of what follows, and a
    causal model could tell the texts apart by it. Special tokens are no part of the prefix. Raises EvaluationError for
    a prefix without such a token.
    """
    encodings = tokenizer.encode_batch(list(triple.texts))
    common = 0
    for ids in zip(*(encoding.ids for encoding in encodings), strict=False):
        if len(set(ids)) > 1:
            break
        common += 1
    inside = [i for i in range(common) if _is_inside(encodings[0], i, len(triple.prefix))]
    if not inside:
        raise EvaluationError(f"prefix {triple.prefix!r}: no token lies wholly inside it, expected a longer prefix")
    return [
        TokenRow(ids=np.asarray(encoding.ids, dtype=np.int32), start=inside[0], end=inside[-1] + 1, truncated=False)
        for encoding in encodings
    ]


def _is_inside(encoding: Encoding, token: int, length: int) -> bool:
    # Special tokens (BOS) stand for no characters: start == end.
    start, end = encoding.offsets[token]
    return start < end <= length


def _largest_distance(prefix_BLD: Tensor) -> float:
    distances = (prefix_BLD[1:] - prefix_BLD[:1]).norm(dim=(1, 2)) / prefix_BLD[0].norm()
    return float(distances.max())


def auc(positive: Sequence[float], negative: Sequence[float], *, equal_within: float = 0.0) -> float:
    """Return the share of pairs (one of each) whose positive is greater, pairs equal within the tolerance by half."""
    differences = np.subtract.outer(positive, negative)
    greater, equal = differences > equal_within, np.abs(differences) <= equal_within
    return float((greater + 0.5 * equal).mean())


def sign_test(right: int, wrong: int) -> float:
    """Return the exact two-sided p-value of a fair coin giving counts at least this uneven; 1 without any."""
    trials = right + wrong
    tail = sum(math.comb(trials, k) for k in range(max(right, wrong), trials + 1))
    return float(min(1.0, 2 * tail / 2**trials))


def histogram(scores: PrefixScores) -> Histogram:
    """Return both cosines counted in BINS bins of equal width over their common range."""
    edges = np.histogram_bin_edges([*scores.positive, *scores.negative], bins=BINS)
    positive, _ = np.histogram(scores.positive, bins=edges)
    negative, _ = np.histogram(scores.negative, bins=edges)
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        positive=tuple(int(count) for count in positive),
        negative=tuple(int(count) for count in negative),
    )
