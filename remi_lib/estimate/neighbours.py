"""Nearest-neighbour estimates for one column against one.

No training, milliseconds, and level with any critic where both sides have one column.  Columns
are replaced by the normal scores of their ranks first: MI does not change, and neither units nor
tails matter to the distances.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from remi_lib.estimate.result import interval_of

K = 3  # neighbours
MANY = 8  # of the estimate whose distance from that of K measures the bias
# Local values of near samples depend on each other: on development distributions (n = 300 to 1000)
# the estimates scatter 1.1 to 1.4 times as much as independent ones would.
SPREAD = 1.4


def mean_and_interval(local: NDArray, more: NDArray) -> tuple[float, tuple[float, float]]:
    """The estimate of local contributions (n,) at :data:`K` neighbours, and its 95% interval.

    ``more`` (n,): those at :data:`MANY`; what the estimate loses with them raises the upper end.
    """
    value, error = float(local.mean()), SPREAD * error_of(local)
    return value, interval_of(value, 1.96 * error, value - float(more.mean()))


def error_of(local: NDArray) -> float:
    """The standard error of the mean of independent values (n,)."""
    return float(local.std(ddof=1)) / math.sqrt(len(local))


def numeric_pair(x: NDArray, y: NDArray, k: int = K) -> NDArray:
    """Local contributions (n,), nats, whose mean estimates I(X; Y) of numeric x (n, .), y (n, .).

    psi(k_i) + log n - psi(x_i) - psi(y_i), with x_i and y_i how many samples lie within the
    distance of the k-th neighbour of sample i in each variable, itself included, and k_i = k, or
    the number of equal samples where that distance is 0.  Kraskov et al. 2004, Eq. 8, with log n
    for its psi(n), and with equal samples as in Gao et al. 2017, Algorithm 1 (which has log for
    psi of x_i and y_i, too).
    """
    n = len(x)
    joint = np.column_stack([x, y])
    radius = cKDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, -1]
    own = np.where(radius > 0, k, _equal(joint))
    within = [_within(side, radius) for side in (x, y)]
    return digamma(own) + np.log(n) - digamma(within[0]) - digamma(within[1])


def class_and_number(codes: NDArray, y: NDArray, k: int = K) -> NDArray:
    """Local contributions (n,) for a class and a numeric y (n, .); NaN for a class of one sample.

    psi(n) + psi(k_i) - psi(n_c) - psi(m_i): k neighbours within the class c of the sample, n_c
    its size, m_i how many of all samples lie as close.  Ross 2014, Eq. 3.
    """
    y = y.reshape(len(y), -1)
    counts = np.bincount(codes)[codes]
    left = counts > 1
    local = np.full(len(codes), np.nan)
    radius, own = np.zeros(len(codes)), np.ones(len(codes))
    for code in np.unique(codes[left]):
        member = codes == code
        points = y[member]
        nearest = min(k, len(points) - 1)
        radius[member] = cKDTree(points).query(points, k=nearest + 1, p=np.inf)[0][:, -1]
        own[member] = np.where(radius[member] > 0, nearest, _equal(points))
    within = _within(y[left], radius[left])
    total = digamma(left.sum()) + digamma(own[left])
    local[left] = total - digamma(counts[left]) - digamma(within)
    return local


def contributions(x: NDArray, y: NDArray, labels: tuple[bool, bool], k: int = K) -> NDArray:
    """:func:`numeric_pair` of numbers, or :func:`class_and_number` where one side is ``labels``.

    That side's are codes (n,).
    """
    if labels[0]:
        return class_and_number(x, y, k)
    return class_and_number(y, x, k) if labels[1] else numeric_pair(x, y, k)


def _within(values: NDArray, radius: NDArray) -> NDArray:
    """How many samples lie closer than ``radius`` to each, itself included; equal ones if it is 0.

    ``values`` (n, d), distances in the largest coordinate.
    """
    values = values.reshape(len(values), -1)
    # Strictly closer, by more than v + radius is rounded by: the k-th neighbour itself lies on the
    # edge, and one sample more among three is a bias of a third of a nat.
    closer = radius * (1 - 1e-9)
    if values.shape[1] > 1:
        return cKDTree(values).query_ball_point(values, closer, p=np.inf, return_length=True)
    v = values[:, 0]
    order = np.sort(v)
    high = np.searchsorted(order, v + closer, side="right")
    return np.maximum(high - np.searchsorted(order, v - closer, side="left"), 1)


def _equal(points: NDArray) -> NDArray:
    """How many samples equal each, itself included (n,)."""
    _, inverse, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    return counts[inverse.ravel()]
