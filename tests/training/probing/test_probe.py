"""The parts of a probe joined: the verdict's rule, a model that fails the proof, one that passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from searchctl.encoder.config import Attention, EncoderConfig, Precision, Runtime
from searchctl.encoder.open import open_encoder
from searchctl.encoder.proof import LayerProof, Proof
from searchctl.encoder.transformer import TransformerEncoder
from searchctl.training.probing.prefix_test import PrefixScores, read_triples
from searchctl.training.probing.probe import (
    PARTS,
    Answer,
    ProbeProgress,
    Separation,
    Similarity,
    judge,
    layer_failures,
    probe_model,
)
from searchctl.training.probing.tolerance import Tolerance

MakeFolder = Callable[..., Path]
TEXT = "The heron waits in shallow water; nobody knows for what."
FEW = read_triples()[:2]
CONV = {"layer_types": ["full_attention", "conv", "full_attention"]}


def opened(folder: Path) -> TransformerEncoder:
    config = EncoderConfig(
        model=str(folder),
        attention=Attention.CAUSAL,
        precision=Precision.FP32,
        runtime=Runtime.TORCH,
        device="cpu",
        max_tokens=64,
    )
    encoder = open_encoder(config)
    assert isinstance(encoder, TransformerEncoder)
    return encoder


def layer(number: int, *, influence: float = 0.3, parts: tuple[str, ...] = ()) -> LayerProof:
    return LayerProof(
        name=f"layers.{number}",
        kind="SomeLayer",
        least_influence=influence,
        most_influence=max(influence, 0.1),
        causal_parts=parts,
        noise=1e-6,
    )


def proof_of(*layers: LayerProof, pad_influence: float = 0.0) -> Proof:
    return Proof(
        layers=layers, pad_influence=pad_influence, pad_error=0.0, mask_error=0.0, batch_error=0.0, tolerance=1e-3
    )


def tolerance_of(*means: float) -> Tolerance:
    """Layers with these cosines throughout, but for the first token, which must not count."""
    cosines = np.array([[1.0] * 4, *([0.0] + [mean] * 3 for mean in means)])
    return Tolerance(
        text="a b c d",
        tokens=("a", " b", " c", " d"),
        cut=0,
        rows=("embedding", *(f"layers.{number}" for number in range(len(means)))),
        cosines=cosines,
        last_before_norm=cosines[-1],
    )


def prefix_scores(positive: np.ndarray, negative: np.ndarray) -> PrefixScores:
    return PrefixScores(
        attention=Attention.BIDIRECTIONAL,
        positive=tuple(positive.tolist()),
        negative=tuple(negative.tolist()),
        prefix_error=0.1,
        undecided_below=1e-6,
    )


def scores_of(right: int, wrong: int, *, gap: float, spread: float = 0.1) -> PrefixScores:
    """cos(q, s-) spread evenly from 0.5 on; cos(q, s+) of a triple is `gap` above its own for `right`, else below."""
    negative = np.linspace(0.5, 0.5 + spread, right + wrong)
    return prefix_scores(negative + np.array([gap] * right + [-gap] * wrong), negative)


GOOD = proof_of(layer(0), layer(1))
STRONG = scores_of(20, 0, gap=0.2)  # every cos(q, s+) above every cos(q, s-): AUC 1
WEAK = scores_of(20, 0, gap=0.02)  # all right, but the histograms overlap
NONE = scores_of(10, 10, gap=0.2)


def test_verdict(subtests: pytest.Subtests) -> None:
    for proof, tolerance, scores, answer in [
        (GOOD, tolerance_of(0.95, 0.91), STRONG, Answer.TOLERATES),
        (GOOD, tolerance_of(0.99, 0.89), STRONG, Answer.UNCLEAR),  # near 1 on the mean, but not in every layer
        (GOOD, tolerance_of(0.95, 0.95), WEAK, Answer.UNCLEAR),
        (GOOD, tolerance_of(0.95, 0.95), NONE, Answer.UNCLEAR),
        (GOOD, tolerance_of(0.69, 0.69), NONE, Answer.NEEDS_MNTP),
        (GOOD, tolerance_of(0.71, 0.71), NONE, Answer.UNCLEAR),
        (GOOD, tolerance_of(0.2, 0.2), WEAK, Answer.UNCLEAR),
        (GOOD, tolerance_of(0.2, 0.2), STRONG, Answer.UNCLEAR),
        (proof_of(layer(0), layer(1, influence=0.0)), tolerance_of(0.95, 0.95), STRONG, Answer.CANNOT),
        (proof_of(layer(0), layer(1, parts=("mixer (Running)",))), tolerance_of(0.1), NONE, Answer.CANNOT),
        (proof_of(layer(0), layer(1), pad_influence=0.5), tolerance_of(0.95), STRONG, Answer.CANNOT),
    ]:
        with subtests.test(proof=proof, tolerance=tolerance, scores=scores, answer=answer):
            verdict = judge(proof, tolerance, scores)
            assert answer is verdict.answer
            assert "\n" not in verdict.sentence


def test_separation_of_the_samples_above() -> None:
    assert 1.0 == STRONG.auc
    assert 0.6 < WEAK.auc < 0.75
    found = [judge(GOOD, tolerance_of(0.5), scores).separation for scores in (STRONG, WEAK, NONE)]
    assert [Separation.SEPARATES, Separation.WEAK, Separation.NONE] == found
    # Mostly wrong is as uneven as mostly right, and no separation.
    assert Separation.NONE is judge(GOOD, tolerance_of(0.5), scores_of(0, 20, gap=0.2)).separation
    # All right by a hair, where triples differ a hundred times more: AUC 0.525.
    assert Separation.NONE is judge(GOOD, tolerance_of(0.5), scores_of(20, 0, gap=1e-3, spread=0.4)).separation
    # Five far above everything and fifteen just below their own: AUC 0.7, p 0.04, yet most are wrong.
    negative = np.linspace(0.5, 0.6, 20)
    few_right = prefix_scores(np.where(np.arange(20) < 5, 0.9, negative - 1e-3), negative)
    assert (0.7, True) == (few_right.auc, few_right.p_value < 0.05)
    assert Separation.NONE is judge(GOOD, tolerance_of(0.5), few_right).separation
    # Four of four right is within chance: p = 2 / 16.
    assert Separation.NONE is judge(GOOD, tolerance_of(0.5), scores_of(4, 0, gap=0.2)).separation


def test_verdict_names_what_failed() -> None:
    proof = proof_of(layer(0), layer(1, influence=0.0), layer(2, influence=0.0))
    sentence = judge(proof, tolerance_of(0.9), STRONG).sentence
    assert sentence.startswith("cannot be bidirectional: 2 of 3 layers fail the proof, first layers.1 (SomeLayer). ")
    padded = judge(proof_of(layer(0), pad_influence=0.5), tolerance_of(0.9), STRONG).sentence
    assert "padding tokens change the text's states by 5.0e-01" in padded


def test_with_adapters_nothing_is_said_about_needing_mntp(subtests: pytest.Subtests) -> None:
    for scores in [STRONG, NONE]:
        for mean in [0.95, 0.2]:
            with subtests.test(scores=scores, mean=mean):
                verdict = judge(GOOD, tolerance_of(mean), scores, ["mntp-a", "supervised"])
                assert Answer.ADAPTED is verdict.answer
                separates = "separates" if scores is STRONG else "does not separate"
                assert verdict.sentence.startswith(
                    "with the adapters mntp-a and supervised applied, causal and bidirectional states"
                )
                assert f"a similarity of {mean:.2f}" in verdict.sentence
                assert f"prefix test {separates} (AUC" in verdict.sentence
                assert "MNTP" not in verdict.sentence


def test_adapters_do_not_hide_a_failed_proof() -> None:
    assert Answer.CANNOT is judge(proof_of(layer(0, influence=0.0)), tolerance_of(0.9), STRONG, ["mntp"]).answer


def test_layer_failures() -> None:
    assert () == layer_failures(layer(0))
    assert ("does not see the future",) == layer_failures(layer(0, influence=0.0))
    assert ("mixer (Running) stays causal",) == layer_failures(layer(0, parts=("mixer (Running)",)))


def test_a_good_model_is_probed(make_folder: MakeFolder) -> None:
    encoder = opened(make_folder("llama", bos=True))
    told: list[ProbeProgress] = []
    probe = probe_model(encoder, text=TEXT, triples=FEW, progress=told.append)
    assert () == probe.failures
    assert ["layers.0", "layers.1", "layers.2"] == [layer.name for layer in probe.proof.layers]
    assert all(layer.is_bidirectional for layer in probe.proof.layers)
    assert ("LlamaModel", "cpu", "float32") == (probe.architecture, probe.device, probe.dtype)
    assert len(FEW) == probe.causal.undecided
    assert 0 == probe.bidirectional.undecided
    heard = [(step.part, step.triples_done) for step in told]
    assert [(PARTS[0], 0), (PARTS[1], 0), (PARTS[2], 0)] == heard[:3]
    assert [(PARTS[2], 1), (PARTS[2], 2), (PARTS[3], 3), (PARTS[3], 4)] == heard[3:]
    assert {4} == {step.triples_total for step in told}
    assert [0.0, 0.05, 0.1, 0.325, 0.55, 0.775, 1.0] == pytest.approx([step.share for step in told])
    assert encoder.model.config.is_causal


def test_a_model_that_fails_the_proof_is_reported_and_not_refused(make_folder: MakeFolder) -> None:
    """lfm2 has convolutions, which see only what is before a token, whatever the mask says."""
    probe = probe_model(opened(make_folder("lfm2", **CONV)), text=TEXT, triples=FEW)
    assert Answer.CANNOT is probe.verdict.answer
    assert [(), ("does not see the future",), ()] == [layer_failures(layer) for layer in probe.proof.layers]
    assert "1 of 3 layers fail the proof, first layers.1 (Lfm2DecoderLayer, conv)" in probe.verdict.sentence
    assert (4, len(probe.tolerance.tokens)) == probe.tolerance.cosines.shape


def test_all_of_the_projects_triples_by_default(make_folder: MakeFolder) -> None:
    probe = probe_model(opened(make_folder("llama", num_hidden_layers=1)), text=TEXT)
    assert read_triples() == probe.triples
    assert len(probe.triples) == probe.causal.undecided == len(probe.bidirectional.positive)


def test_similarity_levels() -> None:
    levels = [judge(GOOD, tolerance_of(mean), STRONG).similarity for mean in (0.91, 0.89, 0.71, 0.69)]
    assert [Similarity.NEAR_ONE, Similarity.BETWEEN, Similarity.BETWEEN, Similarity.LOW] == levels
