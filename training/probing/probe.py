"""Does this base model need MNTP before bidirectional attention pays? The proof and the paper's two analyses, joined.

LLM2Vec (arXiv 2404.05961), section 4. The rule is the paper's: on S-LLaMA-1.3B and LLaMA-2-7B bidirectional attention
changes almost every state (4.2), S-LLaMA does not separate the prefix test before MNTP (4.1), and untrained they lose
by looking ahead (table 5); Mistral-7B stays near 1, separates untrained and gains. The paper gives pictures and no
thresholds: the numbers below are this project's, and what lies between them is called unclear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ...encoder.config import Attention
from ...encoder.proof import LayerProof, Proof, prove
from ...encoder.protocol import EncoderInfo
from ...encoder.transformer import TransformerEncoder
from .prefix_test import PrefixScores, Triple, read_triples, run_prefix_test
from .tolerance import NEAR_ONE, PARAGRAPH, Tolerance, attending, measure_tolerance

LOW = 0.7
"""Mean similarity below which bidirectional attention makes other states of a text."""
SEPARATED = 0.75
"""AUC from which the two histograms of the prefix test stand apart."""
MIXED = 0.6
"""AUC below which they lie on each other."""
SIGNIFICANT = 0.05
"""p-value of the sign test from which the prefix test shows nothing."""

RULE = (
    "Rule after LLM2Vec (arXiv 2404.05961), section 4; thresholds by searchctl, as the paper gives pictures only. "
    f"Similarity is near 1 when the mean of every layer is at least {NEAR_ONE}, low when the mean of all is below "
    f"{LOW} (first token left out). The prefix test separates when AUC is at least {SEPARATED}, more triples are right "
    f"than wrong and the sign test has p < {SIGNIFICANT}; it does not when AUC is below {MIXED} or p >= {SIGNIFICANT}. "
    "Near 1 and separated, as Mistral-7B: tolerates bidirectional attention. Low and not separated, as S-LLaMA-1.3B: "
    "needs MNTP. A failed proof: cannot be bidirectional. Anything else: unclear. With adapters applied it is not the "
    "base that is measured, and the rule says nothing about it."
)


class Similarity(StrEnum):
    """How near bidirectional states are to causal ones."""

    NEAR_ONE = "near 1"
    BETWEEN = "in between"
    LOW = "low"


class Separation(StrEnum):
    """What the prefix test shows."""

    SEPARATES = "separates"
    WEAK = "separates weakly"
    NONE = "does not separate"


class Answer(StrEnum):
    """Does the model need MNTP?"""

    NEEDS_MNTP = "needs-mntp"
    TOLERATES = "tolerates"
    UNCLEAR = "unclear"
    CANNOT = "cannot"
    ADAPTED = "adapted"
    """Adapters are merged into it: what the base needs cannot be told from their states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer and what it rests on."""

    answer: Answer
    similarity: Similarity
    separation: Separation
    sentence: str


PARTS = ("proof", "tolerance", "prefix test, causal", "prefix test, bidirectional")
"""What a probe does, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeProgress:
    """How far a probe has come."""

    part: str
    """Of PARTS."""
    triples_done: int = 0
    """Of the prefix test, in both attention modes together."""
    triples_total: int

    @property
    def share(self) -> float:
        """Share that is done; the first two parts are taken to be a tenth of the work."""
        begin = 0.05 * min(PARTS.index(self.part), 2)
        return begin + 0.9 * self.triples_done / self.triples_total if self.triples_total else begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """All that was measured of one model."""

    info: EncoderInfo
    """Of the encoder as it was loaded; loaded causal, the fingerprint is that of the causal encoder."""
    architecture: str
    device: str
    dtype: str
    proof: Proof
    failures: tuple[str, ...]
    """What contradicts bidirectional attention; () when it is proved."""
    tolerance: Tolerance
    causal: PrefixScores
    bidirectional: PrefixScores
    triples: tuple[Triple, ...]
    verdict: Verdict


def probe_model(
    encoder: TransformerEncoder,
    *,
    text: str = PARAGRAPH,
    triples: Sequence[Triple] | None = None,
    adapters: Sequence[str] = (),
    progress: Callable[[ProbeProgress], None] | None = None,
) -> Probe:
    """Return what the proof and both analyses say of `encoder`, which need not pass the proof.

    The model is switched for each part and left as it was; what instruction, template or pooling the encoder has does
    not matter. `triples` None takes those written for this project. `adapters` names those that are merged
    into it. `progress` is told each step.
    Raises what `measure_tolerance` and `run_prefix_test` raise.
    """
    chosen = tuple(read_triples() if triples is None else triples)

    def tell(part: int, done: int = 0) -> None:
        if progress is not None:
            progress(ProbeProgress(part=PARTS[part], triples_done=done, triples_total=2 * len(chosen)))

    tell(0)
    with attending(encoder.model, Attention.BIDIRECTIONAL):
        proof = prove(encoder.model)
    tell(1)
    tolerance = measure_tolerance(encoder, text)

    tell(2)
    causal = run_prefix_test(encoder, chosen, Attention.CAUSAL, progress=lambda done: tell(2, done))
    bidirectional = run_prefix_test(
        encoder, chosen, Attention.BIDIRECTIONAL, progress=lambda done: tell(3, len(chosen) + done)
    )
    return Probe(
        info=encoder.info,
        architecture=type(encoder.model).__name__,
        device=str(encoder.model.device),
        dtype=str(encoder.model.dtype).removeprefix("torch."),
        proof=proof,
        failures=tuple(proof.failures(Attention.BIDIRECTIONAL)),
        tolerance=tolerance,
        causal=causal,
        bidirectional=bidirectional,
        triples=chosen,
        verdict=judge(proof, tolerance, bidirectional, adapters),
    )


def layer_failures(layer: LayerProof) -> tuple[str, ...]:
    """Return why a layer is not bidirectional, () when it is."""
    if not layer.is_bidirectional:
        return ("does not see the future",)
    return tuple(f"{part} stays causal" for part in layer.causal_parts)


def judge(proof: Proof, tolerance: Tolerance, bidirectional: PrefixScores, adapters: Sequence[str] = ()) -> Verdict:
    """Return the verdict by RULE, where its source and thresholds are stated; of `adapters`, how they leave the model.

    MNTP may be among them: such a model shows nothing of what its base needs.
    """
    similarity, separation = similarity_of(tolerance), separation_of(bidirectional)
    failures = proof.failures(Attention.BIDIRECTIONAL)
    numbers = (
        f"causal and bidirectional states have a similarity of {tolerance.similarity:.2f} ({similarity}; lowest layer "
        f"{tolerance.lowest_layer:.2f}), and the prefix test {separation} (AUC {bidirectional.auc:.2f}, "
        f"{bidirectional.right} of {len(bidirectional.positive)} right)"
    )
    answer = Answer.UNCLEAR
    if failures:
        answer = Answer.CANNOT
        sentence = f"cannot be bidirectional: {_named(proof, failures)}. MNTP does not change that"
    elif adapters:
        answer = Answer.ADAPTED
        noun = "adapter" if len(adapters) == 1 else "adapters"
        sentence = f"with the {noun} {' and '.join(adapters)} applied, {numbers}. This says nothing about the bare base"
    elif similarity is Similarity.NEAR_ONE and separation is Separation.SEPARATES:
        answer = Answer.TOLERATES
        sentence = f"tolerates bidirectional attention without MNTP: {numbers}"
    elif similarity is Similarity.LOW and separation is Separation.NONE:
        answer = Answer.NEEDS_MNTP
        sentence = f"needs MNTP before bidirectional attention pays: {numbers}"
    else:
        sentence = f"unclear whether it needs MNTP: {numbers}. Measure both ways"
    return Verdict(answer=answer, similarity=similarity, separation=separation, sentence=sentence)


def similarity_of(tolerance: Tolerance) -> Similarity:
    """Return which side of NEAR_ONE and LOW the states are on."""
    if tolerance.lowest_layer >= NEAR_ONE:
        return Similarity.NEAR_ONE
    return Similarity.LOW if tolerance.similarity < LOW else Similarity.BETWEEN


def separation_of(scores: PrefixScores) -> Separation:
    """Return what the prefix test shows by SEPARATED, MIXED and SIGNIFICANT."""
    if scores.right <= scores.wrong or scores.p_value >= SIGNIFICANT or scores.auc < MIXED:
        return Separation.NONE
    return Separation.SEPARATES if scores.auc >= SEPARATED else Separation.WEAK


def _named(proof: Proof, failures: Sequence[str]) -> str:
    bad = [layer for layer in proof.layers if layer_failures(layer)]
    if not bad:
        return failures[0]
    return f"{len(bad)} of {len(proof.layers)} layers fail the proof, first {bad[0].name} ({bad[0].kind})"
