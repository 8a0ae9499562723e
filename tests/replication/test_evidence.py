"""What may count as evidence, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from remi_lib.replication.evidence import (
    Evidence,
    exact,
    holm,
    measure,
    p_value,
    with_answers,
    with_test_images,
)
from tests.conftest import refuses


def test_each_estimand_by_hand():
    mean = measure("mean", [1.0, 3.0])
    assert (mean.value, mean.n) == (2.0, 2)
    assert mean.sees == pytest.approx(stats.t.ppf(0.975, 1))  # SD over the root of 2 is 1
    median = measure("median", range(1, 11))
    assert (median.value, median.low, median.high) == (5.5, 2, 9)
    share = measure("share", [True] * 5)
    assert (share.value, share.high) == (1.0, 1.0)
    assert share.low == pytest.approx(0.025 ** (1 / 5))
    assert exact(3).sees == 0
    assert measure("exact", 3.0) == exact(3)


test_what_cannot_be_estimated_is_refused = refuses(
    # Their range covers the median in 94%.
    (lambda: measure("median", [1.0] * 5), "a median needs 6"),
    (lambda: measure("mean", [1.0]), "a mean needs 2"),
    (lambda: measure("mean", [1.0, math.inf]), "finite"),  # a mean about the others
    (lambda: measure("mean", [1.0, math.nan]), "finite"),
    (lambda: measure("median", [math.inf] * 6), "share of runs that diverged"),
    (lambda: measure("share", [True]), "a share needs 2"),
)


def test_an_interval_from_minus_to_plus_infinity_is_refused():
    with pytest.raises(ValueError, match="tells nothing"):
        Evidence("median", 1.0, -math.inf, math.inf).checked()
    with pytest.raises(ValueError, match="tells nothing"):
        Evidence("median", math.inf, math.inf, math.inf).checked()
    assert Evidence("median", 1.0, 0.5, math.inf).sees == math.inf
    with pytest.raises(ValueError, match="'mode' is none of"):
        Evidence("mode", 1.0, 0.5, 2.0)


def test_few_samples_are_marked():
    assert measure("mean", [1.0, 2.0, 3.0]).few
    assert not measure("mean", [1.0] * 5).few
    assert not exact(1.0).few


def test_test_images_widen_an_accuracys_interval():
    """No spread over seeds: what is left is the images' binomial error."""
    found = with_test_images([0.1, 0.1], [0.9, [0.8, 0.8]], 100)
    assert found.sees == pytest.approx(1.959964 * math.sqrt((0.09 + 0.16) / 100))
    more = with_test_images([0.1, 0.1], [0.9, 0.8], 10_000)
    assert more.sees == pytest.approx(found.sees / 10)
    with pytest.raises(ValueError, match="images, accuracies: 0"):
        with_test_images([0.1, 0.1], [0.9, 0.8], 0)


def test_images_of_a_simulation_are_covered():
    """Two classifiers that err independently: the interval holds the truth in 95% of test sets."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        right = rng.random((2, 200)) < np.array([[0.8], [0.7]])
        first, second = right.mean(1)
        found = with_test_images([first - second] * 3, [first, second], 200)
        hits += found.low < 0.1 < found.high
    assert 0.9 < hits / 300 <= 1


def test_images_that_two_networks_share_are_covered_more_tightly():
    """Mistakes in common: the paired interval holds the truth in 95% and is the narrower one."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        hard = rng.random(200) < 0.2
        first, second = ~hard, ~(hard | (rng.random(200) < 0.1))  # 0.8 and 0.72
        rates = [first.mean(), second.mean()]
        gain = [rates[0] - rates[1]] * 3
        found = with_answers(gain, first.astype(float) - second)
        hits += found.low < 0.08 < found.high
        assert found.sees < with_test_images(gain, rates, 200).sees
    assert 0.9 < hits / 300 < 0.99


def test_answers_that_are_not_the_samples_are_refused():
    with pytest.raises(ValueError, match=r"answers: their mean, 0\.5"):
        with_answers([0.1, 0.1], [1.0, 0.0])


def test_holm_by_hand():
    """Smallest first: times 3, times 2, times 1, never below the one before."""
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03, "none": None})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06, "none": None})
    assert holm({"a": 0.9, "b": 0.8})["a"] == 1.0


def test_p_value_of_what_does_not_vary_is_none():
    assert p_value([1.0, 1.0], 0.0) is None
    assert p_value([1.0, math.inf], 0.0) is None
    assert p_value([1.0, 3.0], 2.0) == 1.0
