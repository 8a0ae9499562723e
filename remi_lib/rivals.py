"""Estimators of 2024 and 2025 beside the paper's losses: ``name@remi_lib.rivals``.

All are defined on the B x B table of a batch, whose diagonal is joint and whose other cells are
product, and their critic T has log dP/dQ for its optimum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from remi_lib.bounds import Terms, js, off_diagonal_part, tuba
from remi_lib.losses import SQUARE, register
from remi_lib.scores import NEG_INF, Scores, logsumexp

LOG2 = math.log(2)


def deranged(scores: Scores) -> Scores:
    """The same table with Q on the B pairs (i, i + 1) alone, a permutation without fixed points.

    Letizia et al. 2024: of pairs drawn by a derangement none is joint.  Samples of a batch are
    exchangeable, so one derangement serves as well as another.
    """
    size = off_diagonal_part(scores, least=3).values.shape[-1]
    cell = torch.eye(size, dtype=torch.bool, device=scores.values.device).roll(1, -1)
    mass = torch.full_like(scores.log_product, NEG_INF)
    mass[..., :size, :] = torch.where(cell, -math.log(size), NEG_INF)
    return scores._replace(log_product=mass)


def kl_dime(scores: Scores) -> Terms:
    """Letizia et al. 2024, KL-DIME with a derangement: trained as TUBA, read as E_P[T]."""
    return tuba(deranged(scores))._replace(mi=scores.joint_mean())


def hd_dime(scores: Scores) -> Terms:
    """Letizia et al. 2024, HD-DIME with a derangement, from the squared Hellinger distance.

    Trained by 2 - E_P[e^(-T/2)] - E_Q[e^(T/2)], which is 2 - 2 E_Q[sqrt(dP/dQ)] at its optimum;
    read as E_P[T].
    """
    table = deranged(scores)
    joint = 1 - table.map((-table.values / 2).exp()).joint_mean()
    log_product = table.map(table.values / 2).log_mean_exp()
    product = torch.expm1(log_product)
    return Terms(joint, product, log_product, scores.joint_mean(), joint - product)


def jsd_bound(scores: Scores) -> Terms:
    """Dorent et al. 2025: trained by JS, read as the least KL(P || Q) that has this JS divergence.

    The divergence is at least log 2 - d with d half the classifier's cross-entropy, and
    :func:`least_kl` of that is a lower bound of MI.
    """
    terms = js(scores)
    return terms._replace(mi=least_kl(-terms.objective / 2))


@torch.no_grad()
def least_kl(shortfall: Tensor, largest: float = 80.0, steps: int = 60) -> Tensor:
    """The smallest KL(P || Q), nats, of two laws with Jensen-Shannon divergence log 2 - shortfall.

    It is attained by P = (1, 0), Q = (t, 1 - t): KL = -log t =: k where
    shortfall = (log(1 + t) + t log((1 + t) / t)) / 2.  Solved for k in [0, ``largest``] by
    bisection; a shortfall of log 2 or more is a KL of 0.
    """
    low = torch.zeros_like(shortfall)
    high = torch.full_like(shortfall, largest)
    for _ in range(steps):
        k = (low + high) / 2
        t = (-k).exp()
        too_small = (torch.log1p(t) + t * softplus(k)) / 2 > shortfall
        low, high = torch.where(too_small, k, low), torch.where(too_small, high, k)
    found = torch.where(shortfall >= LOG2, 0.0, (low + high) / 2)
    return torch.where(shortfall.isnan(), shortfall, found)


def infonce_anchor(scores: Scores) -> Terms:
    """Ryu et al. 2025, InfoNCE with an anchor class: which of K samples is joint, or none.

    With classes 1..K and "none" of equal prior weight (the source's prior of 1) the posterior is
    e^T_j / (1 + sum e^T) and 1 / (1 + sum e^T), so that unlike InfoNCE's the optimal T is log dP/dQ
    without a free constant.  The objective is the mean log posterior plus log(K + 1); read as
    E_P[T].  K = B - 1: a row's joint sample beside all but one of its
    product samples, or these B - 1 alone.
    """
    values = off_diagonal_part(scores, least=3).values
    size = values.shape[-1]
    joint_cell = torch.eye(size, dtype=torch.bool, device=values.device)
    left_out = joint_cell.roll(1, -1)
    none_at_0 = torch.zeros_like(values[..., 0])
    with_joint = logsumexp(values.masked_fill(left_out, NEG_INF), -1)
    without = logsumexp(values.masked_fill(joint_cell, NEG_INF), -1)
    hit = values.diagonal(dim1=-2, dim2=-1) - torch.logaddexp(with_joint, none_at_0)
    none = -torch.logaddexp(without, none_at_0)
    count = size - 1
    joint = count / size * hit.mean(-1)
    product = -1 / size * none.mean(-1) - math.log(size)
    return Terms(joint, product, product, scores.joint_mean(), joint - product)


RIVALS = {
    "kl_dime": (kl_dime, "KL-DIME"),
    "hd_dime": (hd_dime, "HD-DIME"),
    "jsd_bound": (jsd_bound, "JSD bound"),
    "infonce_anchor": (infonce_anchor, "InfoNCE-anchor"),
}
for _name, (_bound, _title) in RIVALS.items():
    register(_name, _bound, _title, needs=SQUARE)

NAMES = tuple(f"{name}@{__name__}" for name in RIVALS)
