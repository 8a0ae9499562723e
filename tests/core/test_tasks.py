"""Tasks and members: known laws, and what an ensemble makes of its members once."""

from __future__ import annotations

import math

import pytest

from remi_lib.losses import optimal_shift
from remi_lib.streams import generator
from remi_lib.tasks import CorrelatedGaussian, Ensemble, Member, OneHot, grid


def test_one_hot():
    data = OneHot(16)
    assert data.mi == math.log(16)
    joint, product = data.measures()
    assert joint.sum() == product.sum() == 1
    kl = (joint * (joint / product).log().nan_to_num()).sum()
    assert kl.item() == pytest.approx(data.mi)
    counts, pairs = data.sample(generator(0, "data"), steps=50, batch=32)
    assert (counts.sum((-2, -1)) == 32).all()
    assert (pairs.sum((-2, -1)) == 32).all()
    assert counts.diagonal(dim1=-2, dim2=-1).sum() == 50 * 32
    assert pairs.mean(0).std() < 0.1  # every pair about as often


def test_an_ensemble_is_its_members_with_what_follows_from_them():
    members = grid(loss=["nwj", "renwj", "infonce", "mine_ema"], seed=[3, 1])
    ensemble = Ensemble(members)
    assert list(ensemble) == members
    assert ensemble[1:3] == tuple(members[1:3])
    assert Ensemble.of(ensemble) is ensemble
    assert Ensemble.of(members)[0] == members[0]
    assert ensemble.seeds == [3, 1] * 4
    assert ensemble.shifts.tolist() == [optimal_shift(m.loss) for m in members]
    assert ensemble.contrastive.tolist() == [m.loss == "infonce" for m in members]
    assert ensemble.limits.tolist() == [math.inf] * 2 + [10.0] * 2 + [math.inf] * 4
    assert not ensemble.two_headed
    assert Ensemble([Member("flo")]).two_headed
    with pytest.raises(ValueError, match=r"^members: need at least one"):
        Ensemble([])


def test_infonce_by_rows_has_infonces_table():
    ensemble = Ensemble([Member("infonce"), Member("reinfonce_rows", weight=0.1), Member("nwj")])
    assert ensemble.contrastive.tolist() == [True, True, False]


def test_an_mi_that_float32_cannot_hold_is_refused():
    assert CorrelatedGaussian(1).rho(6.0) < 1
    for mi in (-1.0, 6.1):
        with pytest.raises(ValueError, match="mi: "):
            CorrelatedGaussian(1).rho(mi)
