"""Statistics over seeds with their intervals, each saying what it estimates and how surely.

Ground, which imports nothing of the library.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Estimand = Literal["mean", "median", "share", "missing"]
LEVEL = 0.95


class _Interval(NamedTuple):
    value: float
    low: float
    high: float


class Estimate(_Interval):
    """A number and its interval: a tuple (value, low, high) that knows where it comes from.

    Attributes:
        estimand: what the number estimates: "mean" or "median" over seeds, "share" of the seeds,
            or "missing".
        level: the confidence of [low, high].  Of a median of fewer than 6 samples it is below
            0.95 (:func:`median_interval`); of a missing number 0.
        n: how many samples it rests on; None for a missing number.

    Equality is the tuple's, so that numbers compare with numbers.
    """

    estimand: Estimand
    level: float
    n: int | None

    def __new__(
        cls,
        value: float,
        low: float,
        high: float,
        estimand: Estimand = "mean",
        level: float = LEVEL,
        n: int | None = None,
    ) -> Estimate:
        self = super().__new__(cls, value, low, high)
        self.estimand = estimand
        self.level = level
        self.n = n
        return self

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def missing() -> Estimate:
    """No number: NaN three times, at level 0."""
    return Estimate(math.nan, math.nan, math.nan, "missing", 0.0)


def mean_interval(samples: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean over seeds with Student's t interval.

    Raises ValueError for fewer than two samples or a non-finite one: a mean over runs of which
    some diverged is a number about the others.
    """
    x = np.asarray(samples, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"mean_interval: needs two or more finite samples, got {x}")
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    mean = float(x.mean())
    return Estimate(mean, float(x.mean() - half), float(x.mean() + half), "mean", level, len(x))


def median_interval(samples: ArrayLike, level: float = LEVEL) -> Estimate:
    """Median over seeds with the distribution-free interval of order statistics.

    Infinite samples are welcome (a diverged member is worse than any number).  With 10 samples
    the interval runs from the 2nd to the 9th (coverage 97.9%).  Below 6 samples no interval of
    order statistics reaches 95%: the whole range is given with the level it has, 1 - 2^(1 - n),
    and no verdict rests on it.

    Raises ValueError for fewer than two samples or a NaN.
    """
    x = np.sort(np.asarray(samples, dtype=float))
    if len(x) < 2 or np.isnan(x).any():
        raise ValueError(f"median_interval: needs two or more samples and no NaN, got {x}")
    n = len(x)
    # The largest k >= 1 with P(Binomial(n, 1/2) <= k - 1) below (1 - level) / 2.
    k = max(int(stats.binom.ppf((1 - level) / 2, n, 0.5)), 1)
    reached = min(level, 1 - 2.0 ** (1 - n))
    return Estimate(float(np.median(x)), float(x[k - 1]), float(x[n - k]), "median", reached, n)


def interval(samples: ArrayLike, estimand: Literal["mean", "median"] | None = None) -> Estimate:
    """:func:`mean_interval` or :func:`median_interval`, as ``estimand`` names it.

    Without a name it is the mean if every sample is finite and else the median, for statistics
    that a diverged run makes infinite; the estimate's ``estimand`` says which it became.
    """
    if estimand not in (None, "mean", "median"):
        raise ValueError(f"estimand: {estimand!r} is not allowed; 'mean' or 'median'")
    if estimand is None:
        finite = np.isfinite(np.asarray(samples, dtype=float)).all()
        estimand = "mean" if finite else "median"
    return {"mean": mean_interval, "median": median_interval}[estimand](samples)


def difference(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """first - second, where two equal infinities (both runs worthless) differ by 0."""
    a, b = (np.asarray(x, dtype=float) for x in (first, second))
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def fraction_interval(successes: ArrayLike, level: float = LEVEL) -> Estimate:
    """Share of true samples with the exact interval of Clopper and Pearson (1934).

    It covers the share in 95% of the cases or more, whatever the share is; Wilson's score does so
    on average, and at ten seeds of which none is true it ends too early.

    Raises ValueError without a sample, or for one that is neither true nor false.
    """
    x = np.asarray(successes)
    if not len(x) or not np.isin(x, (0, 1)).all():
        raise ValueError(f"fraction_interval: needs samples that are true or false, got {x}")
    x = x.astype(bool)
    result = stats.binomtest(int(x.sum()), len(x)).proportion_ci(level, method="exact")
    low, high = float(result.low), float(result.high)
    return Estimate(float(x.mean()), low, high, "share", level, len(x))
