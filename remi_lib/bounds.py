"""The bounds: a score table under two measures in, two terms of a lower bound on MI out.

Each formula stands here once and nowhere else: the six bounds of the paper, a variant with a
penalty per row, and the estimators that came before or after it.  What is done with a bound, the
clipping and the penalty, is :mod:`remi_lib.losses`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from remi_lib.checks import require_all
from remi_lib.scores import NEG_INF, Scores, split_head

Number = float | Tensor


class Terms(NamedTuple):
    """What a bound says of a table: its two terms, its MI reading and its training objective.

    ``anchor`` is the second term on the scale on which Table 1 measures the penalty's distance
    (the logarithm for the log-Euclidean losses), so that it stays finite where e^T overflows.
    ``spread`` is the variance of what the anchor is the mean of, for a penalty on every part of
    it (:func:`infonce_rows`).  All (...), in nats.
    """

    joint_term: Tensor
    product_term: Tensor
    anchor: Tensor
    mi: Tensor
    objective: Tensor
    spread: Number = 0.0


BoundFunction = Callable[[Scores], Terms]


def lower_bound(joint_term: Tensor, product_term: Tensor, anchor: Tensor | None = None) -> Terms:
    """Terms whose difference is both the MI reading and the objective; (...), in nats."""
    mi = joint_term - product_term
    return Terms(joint_term, product_term, product_term if anchor is None else anchor, mi, mi)


def dv(scores: Scores) -> Terms:
    """Donsker-Varadhan, Eq. 2 and 4 (MINE): E_P[T] - log E_Q[e^T]; T* = log dP/dQ + constant."""
    return lower_bound(scores.joint_mean(), scores.log_mean_exp())


def infonce(scores: Scores) -> Terms:
    """Eq. 5: mean over joint pairs of T - log mean over the pair's row of e^T.

    At most log K where each joint pair is one of its row's K product pairs.
    """
    return lower_bound(scores.joint_mean(), scores.row_log_mean_exp())


def infonce_rows(scores: Scores) -> Terms:
    """InfoNCE whose regularised twin penalises every row: lambda mean_i (log Z_i - C)^2.

    log Z_i is the log-mean-exp of row i and the mean one over joint pairs; :func:`infonce` has
    lambda (mean_i log Z_i - C)^2, so the two differ by lambda Var_i(log Z_i).  With K candidates
    in each row and C = -log K it is the z-loss of language models, lambda mean_i
    (log sum_k e^(T_ik))^2 (ST-MoE, PaLM).
    """
    return infonce(scores)._replace(spread=scores.row_variance())


def nwj(scores: Scores) -> Terms:
    """Eq. 3: E_P[T] - E_Q[e^(T-1)]; T* = log dP/dQ + 1, where the second term is 1."""
    log_second = scores.log_mean_exp() - 1
    return lower_bound(scores.joint_mean(), log_second.exp(), log_second)


def tuba(scores: Scores) -> Terms:
    """Eq. 6 with a(y) = 1: E_P[T] - (E_Q[e^T] - 1); T* = log dP/dQ, where E_Q[e^T] is 1."""
    log_second = scores.log_mean_exp()
    return lower_bound(scores.joint_mean(), torch.expm1(log_second), log_second)


def js(scores: Scores, mi_shift: float = 0.0) -> Terms:
    """Eq. 8: E_P[-softplus(-T)] - E_Q[softplus(T)]; T* = log dP/dQ.

    Its value is no MI, so MI is read as NWJ of T + ``mi_shift``.  As printed (shift 0) the
    reading is low by exactly 1/e at the optimum; at shift 1 it is unbiased.
    """
    joint = -scores.map(softplus(-scores.values)).joint_mean()
    product = scores.map(softplus(scores.values)).product_mean()
    mi = nwj(scores.map(scores.values + mi_shift)).mi
    return Terms(joint, product, product, mi, joint - product)


# Rivals of other papers, each on the same table: optional rows of Fig 7.


def smile_js(scores: Scores, tau: float = 5.0) -> Terms:
    """Song & Ermon 2020: trained by JS, read by DV with the product term clipped to tau."""
    read = dv(scores)
    clipped = scores.clip(tau).log_mean_exp()
    terms = lower_bound(read.joint_term, clipped)
    return terms._replace(objective=js(scores).objective)


def gan_dime(scores: Scores) -> Terms:
    """Letizia et al. 2024, GAN-DIME: trained by JS, whose T* is log dP/dQ, and read as E_P[T]."""
    return js(scores)._replace(mi=scores.joint_mean())


def i_alpha(scores: Scores, alpha: float = 0.01) -> Terms:
    """Poole et al. 2019, I_alpha: TUBA with baseline a = alpha m + 1 - alpha, of a B x B table.

    m(i, j) is the mean of e^T over row i without cell j, the diagonal being joint.  A joint pair
    i is measured against a(i, j), whose mean contains the pair, on average over j; a product
    pair of row i against a(i, i), whose mean does not.  Between TUBA (alpha 0, high variance)
    and InfoNCE (alpha 1, high bias).  The joint term is at most log((B - 1) / alpha).

    Raises ValueError for a table that is not that of :func:`~remi_lib.scores.off_diagonal`, or for
    an ``alpha`` that is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: {alpha} is not allowed; must be between 0 and 1")
    scores = off_diagonal_part(scores)
    values, size = scores.values, scores.values.shape[-1]
    none = torch.full_like(values[..., :1], NEG_INF)
    before = torch.cat([none, values.logcumsumexp(-1)[..., :-1]], -1)
    after = torch.cat([values.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:], none], -1)
    log_m = torch.logaddexp(before, after) - math.log(size - 1)
    floor = torch.full_like(log_m, math.log1p(-alpha))
    log_a = torch.logaddexp(log_m + math.log(alpha), floor)
    joint_values, row_a = (x.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) for x in (values, log_a))
    joint = scores.map(joint_values - log_a).product_mean()
    second = tuba(scores.map(values - row_a))
    return lower_bound(joint, second.product_term, second.anchor)


def off_diagonal_part(scores: Scores, least: int = 2) -> Scores:
    """The B x B table of :func:`~remi_lib.scores.off_diagonal`, without another's second head.

    Raises ValueError for any other table, or for B less than ``least``.
    """
    rows, size = scores.values.shape[-2:]
    wrong = "scores: need a B x B table whose diagonal is joint and the rest product"
    if rows not in (size, 2 * size) or size < least:
        raise ValueError(f"{wrong}, B at least {least}, got {tuple(scores.values.shape)}")
    eye = torch.eye(rows, size, dtype=torch.bool, device=scores.values.device)
    off = ~eye
    off[size:] = False
    for log_mass, seen in ((scores.log_joint, eye), (scores.log_product, off)):
        require_all((log_mass > NEG_INF) == seen, wrong)
    return Scores(*(x[..., :size, :] for x in scores))


def flo(scores: Scores) -> Terms:
    """Guo et al. 2022, FLO: 1 - E_P[u + e^(log E_{Q(.|x)}[e^T] - T - u)], u a second head.

    At u* = log E_{Q(.|x)}[e^T] - T it is the leave-one-out contrastive bound.  Needs a table made
    by :func:`~remi_lib.scores.with_head`.
    """
    table, u = split_head(scores)
    log_ratio = table.rows().unsqueeze(-1) - table.values
    bound = table.map(1 - u - (log_ratio - u).exp()).joint_mean()
    return lower_bound(bound, torch.zeros_like(bound))


class EmaMine:
    """Belghazi et al. 2018: MINE whose gradient divides by a moving average of E_Q[e^T].

    The reading is DV; of the objective only the gradient has a meaning.  The average (in
    logarithms, one per member) is the only state, so each training needs its own instance.  A
    batch whose second term is not finite leaves the average as it was, so that training goes on
    where its step is skipped (by a GradScaler).  No ``state_dict`` has the average: training that
    is resumed from one starts it anew.
    """

    def __init__(self, rate: float = 0.01) -> None:
        self.rate = rate
        self.log_average: Tensor | None = None

    def __call__(self, scores: Scores) -> Terms:
        terms = dv(scores)
        now = terms.product_term.detach()
        if not torch.is_grad_enabled():  # a look is no step
            return terms
        if self.log_average is None:
            self.log_average = now.clone()
        else:
            mixed = torch.logaddexp(
                self.log_average + math.log1p(-self.rate), now + math.log(self.rate)
            )
            kept = torch.where(now.isfinite(), mixed, self.log_average)
            # Nothing to keep if the first batch was not finite.
            self.log_average.copy_(torch.where(self.log_average.isfinite(), kept, now))
        corrected = (terms.product_term - self.log_average).exp()
        return terms._replace(objective=terms.joint_term - corrected)
