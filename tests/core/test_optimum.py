"""The oracle against closed forms and against SPEC-free arithmetic."""

from __future__ import annotations

import math

import pytest

from remi_lib import LOSSES, make_loss
from remi_lib.losses import split_name
from remi_lib.optimum import contrastive_law, one_hot_law, optimum, supervised_law


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_optimum_is_log_k(name):
    family, regularized = split_name(name)
    if family == "js":
        pytest.skip("JS reads low by 1/e, tested below")
    options = {"weight": 1.0} if regularized else {}
    found = optimum(make_loss(name, **options), one_hot_law(16))
    assert found.mi == pytest.approx(math.log(16), abs=2e-3)
    assert found.penalty == pytest.approx(0, abs=1e-4)


def test_js_and_official_renwj_are_biased_by_what_the_mathematics_says():
    js = optimum(make_loss("js"), supervised_law(10))
    assert js.mi == pytest.approx(math.log(10) - 1 / math.e, abs=1e-4)
    # NWJ at log r + 1 + s with lambda (s + 1)^2: s solves 1 - e^s = 2 lambda (s + 1).
    for weight, bias in ((1.0, -0.217), (0.1, -0.015), (0.01, -0.0002)):
        loss = make_loss("renwj", weight=weight, variant="official", tau=math.inf)
        found = optimum(loss, one_hot_law(16))
        assert found.mi - math.log(16) == pytest.approx(bias, abs=5e-4)


def test_non_negative_contrastive_optima():
    """NWJ and TUBA at T >= 0 in closed form: log r + (1 or 0) on joint cells, 0 off them."""
    n, classes, batch = 5000, 10, 10
    law = contrastive_law([n] * classes, batch)
    share = (n - 1) / (n * classes - 1)
    r = 1 / share
    nwj = math.log(r) + 1 - share * r - (1 - share) / math.e
    tuba = math.log(r) - share * r - (1 - share) + 1
    assert optimum(make_loss("nwj"), law, nonnegative=True).mi == pytest.approx(nwj, abs=0.01)
    assert optimum(make_loss("tuba"), law, nonnegative=True).mi == pytest.approx(tuba, abs=0.01)


def test_contrastive_law_is_the_law_of_batches():
    law = contrastive_law([40, 30, 30], 4, draws=4000)
    assert law.probability.sum().item() == pytest.approx(1)
    share = law.tables.log_product.exp()[..., 0].sum(-1)
    mean_share = (share * law.probability).sum().item()
    exact = sum(c * (c - 1) for c in (40, 30, 30)) / (100 * 99)
    assert mean_share == pytest.approx(exact, abs=0.01)


def test_a_heavy_penalty_costs_what_it_must():
    """In CLB the penalty of ReMINE cannot vanish on a non-negative critic."""
    law = contrastive_law([100] * 10, 10, draws=2000)
    light, heavy = (
        optimum(make_loss("remine", weight=w), law, nonnegative=True) for w in (0.01, 1)
    )
    assert heavy.mi < light.mi - 0.1
    assert heavy.penalty > light.penalty
