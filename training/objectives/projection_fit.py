"""Where a projection begins: at the linear map that fits best, in a basis whose first components matter most.

Shape suffixes: N texts, D width of the student's states, T components of the teacher, P of the projection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties that are tried, as shares of the mean diagonal of X^T X."""
_HELD_OUT = 5
"""Every so manieth text judges the penalty."""


def principal_basis(teacher_NT: Tensor, components: int) -> Tensor:
    """Return (T, P) with orthonormal columns: the main directions of unit vectors, largest first, no mean removed.

    Cosines of rotated vectors are those of the vectors, so a rotation costs nothing, and leading components are the
    best of their number (Matryoshka order without a loss of its own). Raises ValueError for more than T.
    """
    width = teacher_NT.shape[1]
    if components > width:
        raise ValueError(f"components is {components}: expected at most the teacher's {width}")
    moments_TT = teacher_NT.double().T @ teacher_NT.double()
    _, vectors_TT = torch.linalg.eigh(moments_TT)
    basis_TP = vectors_TT.flip(1)[:, :components]
    # An eigenvector's sign is any: fixed, so that two runs begin alike.
    signs_P = torch.sign(basis_TP.gather(0, basis_TP.abs().argmax(dim=0, keepdim=True))[0])
    oriented: Tensor = (basis_TP * signs_P).float().contiguous()
    return oriented


def nearest_basis(teacher_NT: Tensor, student_NP: Tensor) -> Tensor:
    """Return (T, P) with orthonormal columns: the basis in which the teacher's vectors are nearest to the student's.

    Orthogonal Procrustes (Schoenemann 1966): U V^T of the singular value decomposition of T^T S. Raises ValueError
    where the student's vectors are wider than the teacher's.
    """
    if student_NP.shape[1] > teacher_NT.shape[1]:
        raise ValueError(f"the student has {student_NP.shape[1]} components: expected at most {teacher_NT.shape[1]}")
    student_NP = normalize(student_NP.double(), dim=1)
    left, _, right = torch.linalg.svd(teacher_NT.double().T @ student_NP, full_matrices=False)
    basis: Tensor = (left @ right).float().contiguous()
    return basis


def fit_ridge(linear: nn.Linear, states_ND: Tensor, targets_NP: Tensor) -> float:
    """Set `linear` to the ridge regression from states to targets, and return its mean cosine on texts held out of it.

    (X^T X + penalty I)^-1 X^T Y, the bias among the inputs; of RIDGES the penalty with the best cosine. The weights are
    scaled to a root mean square of 1 / sqrt(D), at which an optimiser's step changes them no faster than other layers
    (as solved they were ten times smaller, and a step of the usual size ten times too large); cosines stay the same.
    """
    inputs_NE = torch.cat([states_ND, states_ND.new_ones(len(states_ND), 1)], dim=1).double()
    targets_NP = targets_NP.double()
    held = torch.arange(len(inputs_NE)) % _HELD_OUT == 0
    best, share = -math.inf, RIDGES[-1]
    for candidate in RIDGES:
        solved_EP = _solve(inputs_NE[~held], targets_NP[~held], candidate)
        cosine = float(cosine_similarity(inputs_NE[held] @ solved_EP, targets_NP[held]).mean())
        if cosine > best:
            best, share = cosine, candidate
    solved_EP = _solve(inputs_NE, targets_NP, share)
    weight_PD = solved_EP[:-1].T
    solved_EP /= weight_PD.pow(2).mean().sqrt() * math.sqrt(linear.in_features)
    with torch.no_grad():
        linear.weight.copy_(solved_EP[:-1].T)
        if linear.bias is not None:
            linear.bias.copy_(solved_EP[-1])
    return best


def _solve(inputs_NE: Tensor, targets_NP: Tensor, share: float) -> Tensor:
    moments_EE = inputs_NE.T @ inputs_NE
    penalty = share * moments_EE.diagonal().mean()
    solved: Tensor = torch.linalg.solve(
        moments_EE + penalty * torch.eye(len(moments_EE), dtype=moments_EE.dtype), inputs_NE.T @ targets_NP
    )
    return solved
