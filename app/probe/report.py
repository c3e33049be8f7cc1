"""What `searchctl probe` reports: its JSON, and the lines that the terminal and the page share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ...training.probing.prefix_test import PrefixScores, histogram
from ...training.probing.probe import LOW, MIXED, RULE, SEPARATED, SIGNIFICANT, Answer, Probe, layer_failures
from ...training.probing.tolerance import NEAR_ONE, Tolerance

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A probe and what was merged into the model before it."""

    probe: Probe
    adapters: tuple[str, ...]
    bare: str
    """The command that probes the model without adapters."""

    @property
    def title(self) -> str:
        """The model's name, and how many adapters are in it."""
        count = len(self.adapters)
        merged = f" with {count} adapter{'' if count == 1 else 's'}" if count else ""
        return f"{self.probe.info.name}{merged}"

    @property
    def sentence(self) -> str:
        """The verdict, and how to have one on the base where adapters stood before it."""
        verdict = self.probe.verdict
        more = f": `{self.bare}` probes it" if verdict.answer is Answer.ADAPTED else ""
        return f"{verdict.sentence}{more}"

    @property
    def facts(self) -> str:
        """One line about the model and how it was computed."""
        probe = self.probe
        return (
            f"{probe.architecture}, {len(probe.proof.layers)} layers, {probe.info.dim} dimensions, {probe.dtype} on "
            f"{probe.device}"
        )


def probe_to_json(subject: Subject) -> str:
    """Return the JSON document of the command."""
    probe = subject.probe
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": probe.info.name,
        "revision": probe.info.revision,
        "architecture": probe.architecture,
        "fingerprint": probe.info.fingerprint,
        "adapters": list(subject.adapters),
        "device": probe.device,
        "precision": probe.dtype,
        "verdict": {
            "answer": probe.verdict.answer.value,
            "sentence": subject.sentence,
            "similarity": probe.verdict.similarity.value,
            "prefix_test": probe.verdict.separation.value,
            "rule": RULE,
            "thresholds": {
                "near_one": NEAR_ONE,
                "low": LOW,
                "auc_separated": SEPARATED,
                "auc_mixed": MIXED,
                "p_value": SIGNIFICANT,
            },
        },
        "proof": _proof(probe),
        "tolerance": _tolerance(probe.tolerance),
        "prefix_test": {
            "triples": [asdict(triple) for triple in probe.triples],
            "causal": _scores(probe.causal),
            "bidirectional": _scores(probe.bidirectional),
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _proof(probe: Probe) -> dict[str, Any]:
    proof = probe.proof
    return {
        "passed": not probe.failures,
        "failures": list(probe.failures),
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "least_influence": layer.least_influence,
                "most_influence": layer.most_influence,
                "causal_parts": list(layer.causal_parts),
                "noise": layer.noise,
                "passed": not layer_failures(layer),
            }
            for layer in proof.layers
        ],
        "pad_influence": proof.pad_influence,
        "pad_error": proof.pad_error,
        "mask_error": proof.mask_error,
        "batch_error": proof.batch_error,
        "tolerance": proof.tolerance,
    }


def _tolerance(tolerance: Tolerance) -> dict[str, Any]:
    return {
        "text": tolerance.text,
        "tokens": list(tolerance.tokens),
        "tokens_cut": tolerance.cut,
        "rows": list(tolerance.rows),
        "cosines": tolerance.cosines.tolist(),
        "row_means": tolerance.by_row.tolist(),
        "last_layer": tolerance.last_layer,
        "last_layer_before_norm": float(tolerance.last_before_norm.mean()),
        "share_above": tolerance.share_near_one,
        "first_token": tolerance.first_token,
        "similarity": tolerance.similarity,
        "lowest_layer": tolerance.lowest_layer,
    }


def _scores(scores: PrefixScores) -> dict[str, Any]:
    interval = scores.interval
    return {
        "cos_positive": list(scores.positive),
        "cos_negative": list(scores.negative),
        "right": scores.right,
        "wrong": scores.wrong,
        "undecided": scores.undecided,
        "undecided_below": scores.undecided_below,
        "auc": scores.auc,
        "mean_difference": scores.mean_difference,
        "mean_difference_interval": [interval.low, interval.high],
        "sign_test_p": scores.p_value,
        "prefix_error": scores.prefix_error,
        "histogram": asdict(histogram(scores)),
    }


def influence(least: float, most: float) -> str:
    """Return the range over the ways a layer is called; one number where both are the same."""
    low, high = f"{least:.2g}", f"{most:.2g}"
    return low if low == high else f"{low} to {high}"


def error(value: float) -> str:
    """Return an error of rounding as a person reads it."""
    return "0" if value == 0 else f"{value:.1e}"


def proof_line(probe: Probe) -> str:
    """Return what the rest of the proof measured."""
    proof = probe.proof
    return (
        f"relative errors: padding's content {error(proof.pad_influence)} (at most {proof.tolerance / 100:.0e}), "
        f"padding {error(proof.pad_error)}, no mask against ones {error(proof.mask_error)}, alone against in a batch "
        f"{error(proof.batch_error)} (at most {proof.tolerance:.0e})"
    )


def tolerance_line(tolerance: Tolerance) -> str:
    """Return the summary of the similarity."""
    before_norm = tolerance.last_before_norm.mean()
    return (
        f"similarity {tolerance.similarity:.3f} without the first token, lowest layer {tolerance.lowest_layer:.3f}; "
        f"last layer {tolerance.last_layer:.3f} after the final norm ({before_norm:.3f} before it); "
        f"{tolerance.share_near_one:.0%} of the cells above {NEAR_ONE}; first token (attention sink) "
        f"{tolerance.first_token:.3f}"
    )


def scores_line(scores: PrefixScores) -> str:
    """Return the summary of the prefix test in one attention mode."""
    low, high = scores.interval.low, scores.interval.high
    return (
        f"{scores.attention}: {scores.right} of {len(scores.positive)} right, {scores.wrong} wrong, "
        f"{scores.undecided} undecided; AUC {scores.auc:.3f}; mean difference {scores.mean_difference:+.4f} "
        f"[{low:+.4f}, {high:+.4f}]; sign test p = {scores.p_value:.2g}; prefix states differ by "
        f"{error(scores.prefix_error)} at most"
    )
