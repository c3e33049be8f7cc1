"""What a student copies of its teacher: how near the texts of a batch are to each other, or the vectors themselves.

Shape suffixes: B anchors, C candidates, S width of the student, T width of the teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize


def similarity_divergence(
    student_BS: Tensor,
    student_CS: Tensor,
    teacher_BT: Tensor,
    teacher_CT: Tensor,
    *,
    temperature: float,
    excluded_BC: Tensor,
) -> Tensor:
    """Return the mean over anchors of KL(teacher || student) of their softmaxes over cosine / temperature.

    Softened distributions after Hinton et al. (arXiv 1503.02531), over one text's similarities to the others as in SEED
    (Fang et al., arXiv 2101.04731): relations and not vectors are copied (Park et al., arXiv 1904.05068), so the widths
    may differ. `excluded_BC` True leaves a candidate out of an anchor's distribution: the anchor itself above all. An
    anchor with no candidate left counts as 0.
    """
    student_BC = _log_shares(student_BS, student_CS, temperature, excluded_BC)
    teacher_BC = _log_shares(teacher_BT, teacher_CT, temperature, excluded_BC)
    return (teacher_BC.exp() * (teacher_BC - student_BC)).masked_fill(excluded_BC, 0.0).sum(dim=1).mean()


def _log_shares(anchors: Tensor, candidates: Tensor, temperature: float, excluded_BC: Tensor) -> Tensor:
    """Return the log softmax (B, C) over the candidates that are not excluded, 0 for those that are."""
    cosines_BC = normalize(anchors.float(), dim=1) @ normalize(candidates.float(), dim=1).T
    shares_BC = log_softmax((cosines_BC / temperature).masked_fill(excluded_BC, float("-inf")), dim=1)
    # Also where a row has no candidate and its softmax is no number: neither value nor gradient comes through.
    return shares_BC.masked_fill(excluded_BC, 0.0)


def embedding_distance(student_BS: Tensor, teacher_BS: Tensor) -> Tensor:
    """Return the mean over texts of 1 - cosine to the teacher's vector, which has the student's width.

    Half the squared distance of unit vectors: the embedding matching of EmbeddingGemma (arXiv 2509.20354) and the
    cosine loss of Jasper and Stella (arXiv 2412.19048).
    """
    return 1 - cosine_similarity(student_BS.float(), teacher_BS.float(), dim=1).mean()


def other_similarities(vectors_BS: Tensor, excluded_BB: Tensor) -> Tensor:
    """Return the cosine of each pair of texts once, pairs that are excluded left out."""
    unit_BS = normalize(vectors_BS.float(), dim=1)
    wanted_BB = torch.ones_like(excluded_BB).triu(diagonal=1) & ~excluded_BB
    return (unit_BS @ unit_BS.T)[wanted_BB]
