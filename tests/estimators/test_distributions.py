"""Samplers whose MI is known: each formula against another way of getting it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import ndtr

from remi_lib.estimators import distributions as d

N = 200_000


def monte_carlo(log_ratio: np.ndarray, truth: float) -> None:
    """The mean of log dP/dQ over P is the MI, within five standard errors."""
    error = log_ratio.std() / math.sqrt(len(log_ratio))
    assert error < 0.01
    assert log_ratio.mean() == pytest.approx(truth, abs=5 * error)


def test_gaussians():
    assert d.bivariate(0.6).mi == pytest.approx(-0.5 * math.log(1 - 0.36))
    assert d.sparse(7, 0.6).mi == pytest.approx(2 * d.bivariate(0.6).mi)
    assert d.sparse(4, 0.6, 4).mi == pytest.approx(4 * d.bivariate(0.6).mi)
    assert d.dense(1, 0.3).mi == pytest.approx(d.bivariate(0.3).mi)
    # The sum of a dense X is all that Y sees of it: canonical correlation n rho / (1 + (n-1) rho).
    assert d.dense(5, 0.5).mi == pytest.approx(d.bivariate(2.5 / 3).mi)
    x, y = d.dense(3, 0.5).sample(N, 0)
    found = np.corrcoef(np.concatenate([x, y], 1).T)
    assert np.allclose(found, 0.5 + 0.5 * np.eye(6), atol=0.01)


@pytest.mark.parametrize(("dim", "dof", "rho"), [(1, 1, 0.0), (2, 3, 0.3), (3, 2, 0.5)])
def test_student(dim, dof, rho):
    distribution = d.student(dim, dof, rho)
    x, y = distribution.sample(N, 1)
    shape = np.eye(2 * dim) + rho * (np.eye(2 * dim, k=dim) + np.eye(2 * dim, k=-dim))
    joint = stats.multivariate_t(np.zeros(2 * dim), shape, dof)
    margin = stats.multivariate_t(np.zeros(dim), np.eye(dim), dof)
    log_ratio = joint.logpdf(np.concatenate([x, y], 1)) - margin.logpdf(x) - margin.logpdf(y)
    monte_carlo(log_ratio, distribution.mi)


def test_student_tends_to_the_normal():
    assert d.student(2, 10**6, 0.4).mi == pytest.approx(d.sparse(2, 0.4).mi, abs=1e-4)


@pytest.mark.parametrize("width", [0.1, 0.3, 0.5, 0.75, 2.0])
def test_additive_noise(width):
    """I = h(Y) - h(noise), with the trapezoidal density of Y integrated numerically."""

    def density(y: float) -> float:
        return max(min(1, y + width) - max(0, y - width), 0) / (2 * width)

    def integrand(y: float) -> float:
        return -density(y) * math.log(density(y)) if density(y) > 0 else 0.0

    edges = sorted({-width, width, 1 - width, 1 + width})
    entropy = sum(integrate.quad(integrand, a, b)[0] for a, b in pairwise(edges))
    assert d.additive_noise(width).mi == pytest.approx(entropy - math.log(2 * width), abs=1e-6)
    x, y = d.additive_noise(width).sample(1000, 0)
    assert np.abs(y - x).max() <= width


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_overlapping_intervals(classes):
    distribution = d.overlapping_intervals(classes)
    x, y = distribution.sample(N, 2)
    density = ((y >= np.arange(classes)) & (y < np.arange(classes) + 2)).sum(1) / (2 * classes)
    monte_carlo(np.log(0.5 / density), distribution.mi)
    assert np.issubdtype(x.dtype, np.integer)


@pytest.mark.parametrize(("bits", "noise"), [(1, 0.5), (2, 0.8), (3, 2.0)])
def test_gaussian_classes(bits, noise):
    distribution = d.gaussian_classes(bits, noise)
    x, y = distribution.sample(N, 3)
    corners = 2 * ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1) - 1
    log_density = -((y[:, None] - corners) ** 2).sum(-1) / (2 * noise**2)
    own = log_density[np.arange(N), x]
    monte_carlo(own - np.logaddexp.reduce(log_density, 1) + bits * math.log(2), distribution.mi)
    assert distribution.mi <= bits * math.log(2)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_atoms_and_gaussian(share):
    """dP/dQ is 2 / share on atoms; off them the normal ratio over 1 - share."""
    rho = 0.9
    distribution = d.atoms_and_gaussian(rho, share)
    x, y = (a[:, 0] for a in distribution.sample(N, 4))
    atom = np.abs(x) == 1
    assert atom.mean() == pytest.approx(share, abs=0.01)
    assert (x[atom] == y[atom]).all()
    normal = -0.5 * math.log(1 - rho**2) - (
        (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * (1 - rho**2))
    )
    # Atoms: P = share / 2, Q = (share / 2)^2.
    monte_carlo(np.where(atom, math.log(2 / share), normal - math.log(1 - share)), distribution.mi)


def test_maps_are_invertible_and_keep_the_mi():
    base = d.sparse(3, 0.7)
    x, y = base.sample(1000, 5)
    for make, back in (
        (d.half_cube, lambda t: np.sign(t) * np.abs(t) ** (2 / 3)),
        (d.asinh, np.sinh),
        (d.uniform_margins, stats.norm.ppf),
    ):
        mapped = make(base)
        assert mapped.mi == base.mi
        for found, given in zip(mapped.sample(1000, 5), (x, y), strict=True):
            assert np.allclose(back(found), given)


def test_maps_of_one_column():
    base = d.bivariate(0.75)
    (x, y), (a, b) = base.sample(N, 8), d.bimodal(base).sample(N, 8)
    for found, share, first, second in ((a, 0.3, 0, 5), (b, 0.5, -1, 3)):
        mixture = share * ndtr(found[:, 0] - first) + (1 - share) * ndtr(found[:, 0] - second)
        assert stats.kstest(mixture, "uniform").pvalue > 1e-4
    for bent, given in (*zip(d.wiggly(base).sample(N, 8), (x, y), strict=True), (a, x), (b, y)):
        assert (np.diff(bent[np.argsort(given[:, 0]), 0]) >= 0).all()
    u, v = d.uniform_margins(base).sample(100, 8)
    rolled, same = d.swiss_roll(d.uniform_margins(base)).sample(100, 8)
    turns = 21 * np.linalg.norm(rolled, axis=1) / (1.5 * math.pi)
    assert np.allclose((turns - 1) / 2, u[:, 0])
    assert (same == v).all()


def test_spiral_rotates_by_an_angle_that_the_length_tells():
    base = d.sparse(3, 0.7)
    (x, y), (u, v) = base.sample(1000, 6), d.spiral(base, 1.5).sample(1000, 6)
    assert d.spiral(base).mi == base.mi
    for before, after, (i, j) in ((x, u, (0, 1)), (y, v, (1, 2))):
        assert np.allclose((before**2).sum(1), (after**2).sum(1))
        angle = 0.5 * (before**2).sum(1)
        turned = (before[:, i] + 1j * before[:, j]) * np.exp(1j * angle)
        assert np.allclose(after[:, i] + 1j * after[:, j], turned)
        rest = ({0, 1, 2} - {i, j}).pop()
        assert np.allclose(before[:, rest], after[:, rest])
    with pytest.raises(ValueError, match="too narrow"):
        d.spiral(d.bivariate(0.5))


@pytest.mark.parametrize(
    "distribution", d.COMPARED + d.BENCHMARK + d.DEVELOPMENT, ids=lambda x: x.name
)
def test_sets(distribution):
    x, y = distribution.sample(50, 0)
    again = distribution.sample(50, 0)
    assert (x == again[0]).all()
    assert (y == again[1]).all()
    assert (x.reshape(50, -1).shape[1], y.shape[1]) == distribution.dims
    assert 0 <= distribution.mi < 5
    assert not np.array_equal(y, distribution.sample(50, 1)[1])


def test_the_defaults_are_not_chosen_on_what_they_are_compared_on():
    """But for one distribution, which the page names."""
    sets = (d.COMPARED, d.BENCHMARK, d.DEVELOPMENT)
    compared, benchmark, development = ({(x.name, x.mi) for x in s} for s in sets)
    assert [len(s) for s in (compared, benchmark, development)] == [len(s) for s in sets]
    assert len(d.beyond_normal()) == 40
    assert not benchmark & development
    assert {name for name, _ in compared & development} == {"dense Gaussian 3x3"}
