"""Averages of per-batch estimates, retrieval accuracies, and intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from remi_lib.losses import Terms
from remi_lib.scores import Scores, independent, logsumexp


class Estimate(NamedTuple):
    """A statistic over seeds with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(samples: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean over seeds with Student's t interval."""
    x = _finite(samples)
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def median_interval(samples: ArrayLike, level: float = 0.95) -> Estimate:
    """Median over seeds with the distribution-free interval of order statistics.

    Infinite samples are welcome (a diverged member is worse than any number).  With 10 samples
    the interval runs from the 2nd to the 9th (coverage 97.9%); below 6 no interval of order
    statistics reaches 95% and the whole range is given.
    """
    x = np.sort(np.asarray(samples, dtype=float))
    if len(x) < 2 or np.isnan(x).any():
        raise ValueError(f"median_interval: needs two or more samples and no NaN, got {x}")
    n = len(x)
    k = max(int(stats.binom.ppf((1 - level) / 2, n, 0.5)), 1)  # P(Bin < k) <= alpha / 2
    while k > 1 and stats.binom.cdf(k - 1, n, 0.5) > (1 - level) / 2:
        k -= 1
    return Estimate(float(np.median(x)), float(x[k - 1]), float(x[n - k]))


def fraction_interval(successes: ArrayLike, level: float = 0.95) -> Estimate:
    """Fraction of true samples with Wilson's score interval."""
    x = np.asarray(successes, dtype=bool)
    result = stats.binomtest(int(x.sum()), len(x)).proportion_ci(level, method="wilson")
    return Estimate(float(x.mean()), float(result.low), float(result.high))


def _finite(samples: ArrayLike) -> np.ndarray:
    x = np.asarray(samples, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"interval: needs two or more finite samples, got {x}")
    return x


def pooled(joint_term: Tensor, log_partition: Tensor, pairs: Tensor | None = None) -> Scores:
    """Batches (..., n) pooled into one table, for the micro-averaged estimate of any bound.

    The pool's E_P[T] is the mean of the batches' (weighted by their number of joint ``pairs``)
    and its log E_Q[e^T] the log-mean of their partition functions.  A table with these two terms
    is a single joint cell beside a single product cell, so every bound reads it as it reads a
    batch.
    """
    weight = torch.ones_like(joint_term) if pairs is None else pairs.to(joint_term.dtype)
    joint = (joint_term.nan_to_num() * weight).sum(-1) / weight.sum(-1)
    second = logsumexp(log_partition, -1) - np.log(log_partition.shape[-1])
    return independent(joint.unsqueeze(-1), second.unsqueeze(-1))


def micro(
    bound: Callable[[Scores], Terms],
    joint_term: Tensor,
    log_partition: Tensor,
    pairs: Tensor | None = None,
) -> Tensor:
    """One estimate from all batches pooled (Section 4, micro-averaging): (..., n) -> (...)."""
    return bound(pooled(joint_term, log_partition, pairs)).mi


def windowed(
    bound: Callable[[Scores], Terms],
    joint_term: Tensor,
    log_partition: Tensor,
    window: int,
    pairs: Tensor | None = None,
) -> Tensor:
    """Mean over windows of ``window`` batches of each window's pooled estimate: (..., n) -> (...).

    Window 1 is macro-averaging, window n micro-averaging.  A last, incomplete window is left out.
    """
    count = joint_term.shape[-1] // window
    if window < 1 or count == 0:
        raise ValueError(f"window: {window} does not fit {joint_term.shape[-1]} batches")

    def cut(x: Tensor) -> Tensor:
        return x[..., : count * window].unflatten(-1, (count, window))

    shares = None if pairs is None else cut(pairs)
    return micro(bound, cut(joint_term), cut(log_partition), shares).mean(-1)


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """SLB: fraction of rows whose largest logit is the label's; (..., B, K), (B,) -> (...).

    A row with a NaN logit counts as wrong.
    """
    right = (logits.argmax(-1) == labels) & logits.isfinite().all(-1)
    return right.double().mean(-1)


def neighbour_accuracy(
    queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, block: int = 2048
) -> Tensor:
    """CLB: label of the training image with the largest inner product, (..., n, d) -> (...).

    The (n, N) product table is taken in blocks of queries.  A query with a non-finite score
    counts as wrong.
    """
    right = []
    for start in range(0, queries.shape[-2], block):
        t = queries[..., start : start + block, :] @ bank.mT
        guess = bank_labels[t.argmax(-1)]
        right.append((guess == labels[start : start + block]) & t.isfinite().all(-1))
    return torch.cat(right, -1).double().mean(-1)
