"""What a claim is judged by: one statistic with its 95% interval, and what it could have seen.

Every statistic names its estimand.  What cannot be estimated is refused: a mean over runs of which
some diverged, a median of five seeds, an interval that has no end on either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from remi_lib.intervals import fraction_interval, mean_interval, median_interval

ESTIMANDS = ("mean", "median", "share", "exact")
FEWEST = {"mean": 2, "median": 6, "share": 2}  # 6: the fewest whose range covers the median at 95%
FEW = 5  # an interval of fewer samples is marked in the ledger


@dataclass(frozen=True)
class Evidence:
    """A statistic with its 95% interval; ``n`` samples (None for an exact number)."""

    estimand: str
    value: float
    low: float
    high: float
    n: int | None = None

    def __post_init__(self) -> None:
        if self.estimand not in ESTIMANDS:
            raise ValueError(f"estimand: {self.estimand!r} is none of {ESTIMANDS}")

    def checked(self) -> Evidence:
        """Itself, for the ledger.  Raises ValueError if no verdict can rest on it."""
        if any(math.isnan(x) for x in (self.value, self.low, self.high)):
            raise ValueError("evidence: NaN; say how a run that diverged counts")
        if not math.isfinite(self.value) or (math.isinf(self.low) and math.isinf(self.high)):
            raise ValueError(
                f"evidence: {self.value} [{self.low}, {self.high}] tells nothing; "
                "judge the share of runs that diverged instead"
            )
        return self

    @property
    def sees(self) -> float:
        """The smallest effect the comparison could have seen: half its interval's width.

        A true effect of this size lies outside the threshold's side of the interval in half of all
        repetitions; a smaller one usually does not.
        """
        return (self.high - self.low) / 2

    @property
    def few(self) -> bool:
        """Whether the interval rests on fewer than five samples."""
        return self.n is not None and self.n < FEW


def exact(value: float) -> Evidence:
    """A number that no sampling stands behind: it is its own interval."""
    return Evidence("exact", float(value), float(value), float(value))


def measure(estimand: str, samples: ArrayLike) -> Evidence:
    """The estimate of ``estimand`` from one sample per seed (for a share: true or false)."""
    if estimand == "exact":
        return exact(float(np.asarray(samples, dtype=float)))
    x = np.asarray(samples).ravel()
    if len(x) < FEWEST[estimand]:
        raise ValueError(f"samples: a {estimand} needs {FEWEST[estimand]} or more, got {len(x)}")
    interval = {"mean": mean_interval, "median": median_interval, "share": fraction_interval}
    return Evidence(estimand, *interval[estimand](x), len(x)).checked()


def with_test_images(samples: ArrayLike, accuracies: Sequence[ArrayLike], images: int) -> Evidence:
    """A mean difference of accuracies whose interval also knows that the test images are a sample.

    ``samples``: the difference of each seed.  ``accuracies``: those that were subtracted.  All
    seeds share the ``images``, so averaging does not lessen that error: the variance of a
    difference of two proportions, [p(1-p) + q(1-q)] / images, is added to the variance over
    seeds.  It treats the two networks' mistakes as independent; they mostly fall on the same
    images, so the interval is on the wide side.
    """
    over_seeds = measure("mean", samples)
    rates = [float(np.mean(np.asarray(a, dtype=float))) for a in accuracies]
    if images < 1 or not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"images, accuracies: {images}, {rates} are no test result")
    return _widened(over_seeds, sum(p * (1 - p) for p in rates) / images)


def with_answers(samples: ArrayLike, answers: ArrayLike) -> Evidence:
    """:func:`with_test_images` where it is known which test images each network got right.

    ``answers``: the same difference at each test image, its mean over seeds (and losses); their
    variance / images takes the place of the binomial one, so mistakes that two networks share
    cancel.  What seeds add to it is counted twice, on the wide side.
    """
    over_seeds, each = measure("mean", samples), np.asarray(answers, dtype=float)
    if len(each) < 2 or not math.isclose(each.mean(), over_seeds.value, abs_tol=1e-6):
        raise ValueError(f"answers: their mean, {each.mean()}, is not that of the samples")
    return _widened(over_seeds, each.var(ddof=1) / len(each))


def _widened(over_seeds: Evidence, variance: float) -> Evidence:
    """A mean over seeds whose interval also has a normal error of this variance."""
    half = math.hypot(over_seeds.sees, stats.norm.ppf(0.975) * math.sqrt(variance))
    value = over_seeds.value
    return Evidence("mean", value, value - half, value + half, over_seeds.n)


def p_value(samples: ArrayLike, threshold: float) -> float | None:
    """Two-sided t test of the mean against a threshold; None where there is no spread to test."""
    x = np.asarray(samples, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all() or x.std() == 0:
        return None
    return float(stats.ttest_1samp(x, threshold).pvalue)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's adjusted p-values: what holds at 0.05 among all of them, holds together.

    The i-th smallest of m is multiplied by m - i + 1 and is never below one before it.
    """
    ranked = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, name) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        adjusted[name] = largest
    return adjusted
