"""Intervals: textbook values, coverage, and what an estimate says of itself."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy import stats

from remi_lib.intervals import (
    Estimate,
    fraction_interval,
    interval,
    mean_interval,
    median_interval,
    missing,
)


def test_mean_interval_is_students():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    half = 2.7764451 * np.std(x, ddof=1) / math.sqrt(5)
    assert mean_interval(x) == pytest.approx((3, 3 - half, 3 + half))
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.inf])


def test_mean_interval_covers():
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(2000, 5))
    hits = [low <= 0 <= high for _, low, high in map(mean_interval, samples)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_median_interval_is_of_order_statistics():
    assert median_interval(range(10)) == (4.5, 1, 8)
    assert median_interval([0, 1, 2, 3, math.inf])[2] == math.inf
    assert interval([0.0, 1.0, math.inf]) == (1.0, 0.0, math.inf)
    with pytest.raises(ValueError, match="no NaN"):
        median_interval([0.0, math.nan])


def test_fraction_interval_is_exact():
    low, high = fraction_interval([False] * 10)[1:]
    assert (low, high) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))  # the rule of three, at 2.5%


@pytest.mark.parametrize("n", [5, 10, 20])
def test_fraction_interval_covers_every_share(n):
    intervals = [fraction_interval([True] * k + [False] * (n - k)) for k in range(n + 1)]
    for share in np.linspace(0, 1, 101):
        chances = stats.binom.pmf(range(n + 1), n, share)
        hit = [found.low <= share <= found.high for found in intervals]
        assert chances[hit].sum() >= 0.95


def test_an_estimate_says_what_it_estimates():
    samples = [0.0, 1.0, math.inf]
    assert interval(samples[:2], "mean").estimand == interval(samples[:2]).estimand == "mean"
    assert interval(samples, "median").estimand == interval(samples).estimand == "median"
    with pytest.raises(ValueError, match="finite"):  # no median in place of the mean asked for
        interval(samples, "mean")
    assert fraction_interval([True, False]).estimand == "share"
    assert Estimate(*mean_interval([1, 2])) == mean_interval([1, 2])


@pytest.mark.parametrize(("samples", "level"), [(2, 0.5), (5, 0.9375), (6, 0.95), (10, 0.95)])
def test_a_median_of_few_samples_has_no_95_percent_interval(samples, level):
    found = median_interval(range(samples))
    assert found.level == level
    if samples < 6:
        assert found[1:] == (0, samples - 1)


def test_the_level_of_a_short_median_is_its_coverage():
    samples = np.random.default_rng(0).normal(size=(20_000, 3))
    hits = [low <= 0 <= high for _, low, high in map(median_interval, samples)]
    assert np.mean(hits) == pytest.approx(median_interval([0, 1, 2]).level, abs=0.01)


def test_a_missing_number():
    assert all(map(math.isnan, missing()))
    assert (missing().estimand, missing().level) == ("missing", 0.0)


def test_an_estimate_travels_whole():
    found = pickle.loads(pickle.dumps(median_interval([1, 2, 3])))
    assert (found, found.estimand, found.level) == ((2.0, 1.0, 3.0), "median", 0.75)


def test_a_share_of_what_is_neither_true_nor_false_is_refused():
    for bad in ([math.nan, 0, 0], [0.2, 0.3], []):
        with pytest.raises(ValueError, match="fraction_interval: needs samples that are true"):
            fraction_interval(bad)


def test_an_interval_knows_its_samples():
    assert fraction_interval([True] * 3).n == 3
    assert mean_interval([1.0, 2.0]).n == 2
    assert median_interval(range(7)).n == 7
