"""The rivals at known answers: optima on finite laws, and the bounds that they are."""

import math

import numpy as np
import pytest
import torch

from remi_lib import rivals
from remi_lib.losses import make_loss, split_name
from remi_lib.scores import class_pairs, off_diagonal, same_label_pairs, support_counts


def finite_law(seed=0, size=5):
    """A joint P and a product Q on a grid, as log ratio and masses."""
    weights = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(size * size)))
    joint = weights.view(size, size)
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (joint / product).log(), joint, product


def test_least_kl_at_its_own_pairs():
    k = torch.tensor([0.01, 0.5, 2.0, 5.0, 10.0], dtype=torch.float64)
    t = (-k).exp()
    p, q = torch.stack([torch.ones_like(t), 0 * t]), torch.stack([t, 1 - t])
    m = (p + q) / 2
    divergence = (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum(0) / 2
    torch.testing.assert_close(rivals.least_kl(math.log(2) - divergence), k)


def test_no_pair_of_laws_has_a_smaller_kl():
    rng = np.random.default_rng(0)
    p, q = (torch.from_numpy(rng.dirichlet(np.full(4, 0.3), 2000)) + 1e-9 for _ in range(2))
    m = (p + q) / 2
    divergence = ((p * (p / m).log()) + (q * (q / m).log())).sum(-1) / 2
    kl = (p * (p / q).log()).sum(-1)
    assert (rivals.least_kl(math.log(2) - divergence) <= kl + 1e-6).all()


def test_least_kl_at_the_ends():
    shortfall = torch.tensor([math.log(2), 5.0, math.nan])
    found = rivals.least_kl(shortfall)
    assert found[:2].tolist() == [0.0, 0.0]
    assert found[2].isnan()


def test_jsd_bound_is_below_the_mi_at_the_optimum_and_anywhere_else():
    ratio, joint, product = finite_law()
    mi = (joint * ratio).sum()
    at_optimum = rivals.jsd_bound(support_counts(ratio, joint, product)).mi
    assert 0.5 * mi < at_optimum <= mi
    for seed in range(5):
        noise = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, ratio.shape))
        assert rivals.jsd_bound(support_counts(ratio + noise, joint, product)).mi <= at_optimum


def one_batch(values, size=4):
    """A table whose joint cells are ``values[0]`` and whose others are ``values[1]``."""
    t = torch.full((size, size), float(values[1]), dtype=torch.float64)
    t.fill_diagonal_(float(values[0]))
    return off_diagonal(t)


def test_a_derangement_sees_b_pairs_and_none_of_them_joint():
    table = one_batch((1.0, 0.0), 5)
    mass = rivals.deranged(table).log_product.exp()
    assert mass.sum() == pytest.approx(1.0)
    assert (mass > 0).sum() == 5
    assert mass.diagonal().sum() == 0
    assert (mass.sum(0) == mass.sum(1)).all()


def test_dime_by_hand():
    table = one_batch((2.0, -1.0))
    kl, hd = rivals.kl_dime(table), rivals.hd_dime(table)
    assert kl.mi == pytest.approx(2.0)
    assert hd.mi == pytest.approx(2.0)
    assert kl.objective == pytest.approx(2.0 - (math.exp(-1.0) - 1))
    assert hd.objective == pytest.approx(2 - math.exp(-1.0) - math.exp(-0.5))


def test_infonce_anchor_by_hand():
    size, prior = 4, 1.0
    table = one_batch((2.0, -1.0), size)
    e, o = math.exp(2.0), math.exp(-1.0)
    hit = 2.0 - math.log(prior + e + 2 * o)
    none = -math.log(prior + 3 * o)
    wanted = 3 / 4 * hit + 1 / 4 * none + math.log(4)
    found = rivals.infonce_anchor(table)
    assert found.objective == pytest.approx(wanted)
    assert found.mi == pytest.approx(2.0)


def test_the_anchor_holds_the_constant_that_infonce_leaves_free():
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(64, 64, generator=generator, dtype=torch.float64) / 10
    free = [make_loss("infonce")(off_diagonal(t + c)).objective for c in (0.0, 3.0)]
    held = [rivals.infonce_anchor(off_diagonal(t + c)).objective for c in (0.0, 3.0, -3.0)]
    assert free[0] == pytest.approx(free[1])
    assert held[0] > max(held[1:])  # the ratio of independent samples is 1


@pytest.mark.parametrize("name", rivals.NAMES)
def test_each_is_a_loss_by_name_with_a_finite_gradient(name):
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(3, 8, 8, generator=generator).requires_grad_()
    bound = make_loss(name)(off_diagonal(t))
    assert bound.mi.shape == (3,)
    bound.objective.sum().backward()
    assert t.grad.isfinite().all()
    assert split_name(name) == (name, False)
    # Members do not see each other.
    alone = make_loss(name)(off_diagonal(t.detach()[1]))
    torch.testing.assert_close(alone.objective, bound.objective[1].detach())


def test_a_table_of_no_batch_is_refused():
    with pytest.raises(ValueError, match="scores: need a B x B table"):
        rivals.kl_dime(support_counts(torch.zeros(2, 5), torch.ones(2, 5), torch.ones(2, 5)))


@pytest.mark.parametrize("name", ["kl_dime", "hd_dime", "infonce_anchor"])
def test_a_table_whose_diagonal_is_not_joint_is_refused(name):
    labels = torch.tensor([0, 0, 1, 1, 2])
    for table in (
        same_label_pairs(torch.randn(5, 3), labels),
        class_pairs(torch.randn(5, 5), labels),
    ):
        with pytest.raises(ValueError, match="whose diagonal is joint"):
            make_loss(f"{name}@remi_lib.rivals")(table)
