"""Pairs of random variables whose mutual information is known, to try estimators on.

Names and constructions follow the benchmark of Czyz et al., "Beyond Normal" (NeurIPS 2023) and
Gao et al., "Estimating mutual information for discrete-continuous mixtures" (NeurIPS 2017).
Mutual information does not change under an invertible map of either variable, so one formula
serves a whole family of hard distributions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, psi

Array = NDArray[np.float64]
Pair = tuple[NDArray, NDArray]


@dataclass(frozen=True)
class Distribution:
    """X and Y with their true MI in nats, and where that comes from, ``truth``.

    ``draw(generator, n)`` gives x (n, dim_x) and y (n, dim_y); a class label is an integer (n,).
    """

    name: str
    dims: tuple[int, int]
    mi: float
    draw: Callable[[Generator, int], Pair]
    truth: str = "closed form"

    def sample(self, n: int, seed: int) -> Pair:
        """``n`` independent pairs of the stream ``seed``."""
        return self.draw(np.random.default_rng(seed), n)


def gaussian(name: str, covariance: Array, dim_x: int) -> Distribution:
    """Jointly normal, mean 0; I = log(det S_xx det S_yy / det S) / 2."""
    x, y = slice(None, dim_x), slice(dim_x, None)
    blocks = covariance[x, x], covariance[y, y], covariance
    determinants = [np.linalg.slogdet(s)[1] for s in blocks]
    mi = (determinants[0] + determinants[1] - determinants[2]) / 2
    root = np.linalg.cholesky(covariance)

    def draw(generator: Generator, n: int) -> Pair:
        z = generator.standard_normal((n, len(root))) @ root.T
        return z[:, x], z[:, y]

    return Distribution(name, (dim_x, len(root) - dim_x), float(mi), draw)


def bivariate(rho: float) -> Distribution:
    """1 x 1 normal with correlation rho; I = -log(1 - rho^2) / 2."""
    return gaussian(f"Gaussian 1x1, rho={rho:g}", np.array([[1.0, rho], [rho, 1.0]]), 1)


def sparse(dim: int, rho: float, pairs: int = 2) -> Distribution:
    """dim x dim normal in which only the first ``pairs`` coordinates of X and Y correlate."""
    s = np.eye(2 * dim)
    for i in range(pairs):
        s[i, dim + i] = s[dim + i, i] = rho
    return gaussian(f"sparse Gaussian {dim}x{dim}", s, dim)


def dense(dim: int, rho: float) -> Distribution:
    """dim x dim normal in which any two coordinates, also within X, have correlation rho."""
    s = np.full((2 * dim, 2 * dim), rho) + (1 - rho) * np.eye(2 * dim)
    return gaussian(f"dense Gaussian {dim}x{dim}", s, dim)


def student(dim: int, dof: int, rho: float = 0.0) -> Distribution:
    """dim x dim multivariate Student t; ``rho`` correlates coordinate i of X with i of Y.

    I is that of the normal with the same dispersion plus a term of its own, positive even at rho
    = 0: extreme X makes extreme Y likely.  It follows from the entropy of the multivariate t
    (Arellano-Valle, Contreras-Reyes and Genton 2013, Eq. 7).
    """
    normal = sparse(dim, rho, dim)

    def entropy(k: int) -> float:
        half = (dof + k) / 2
        constant = gammaln(dof / 2) - gammaln(half) + k / 2 * math.log(dof * math.pi)
        return float(constant + half * (psi(half) - psi(dof / 2)))

    def draw(generator: Generator, n: int) -> Pair:
        x, y = normal.draw(generator, n)
        scale = np.sqrt(dof / generator.chisquare(dof, (n, 1)))
        return x * scale, y * scale

    mi = normal.mi + 2 * entropy(dim) - entropy(2 * dim)
    return Distribution(f"Student t {dim}x{dim}, {dof} dof", (dim, dim), mi, draw)


def mapped(
    base: Distribution,
    name: str,
    of_x: Callable[[Array], Array],
    of_y: Callable[[Array], Array] | None = None,
) -> Distribution:
    """``base`` with X and Y passed through invertible maps, which leaves the MI as it is."""

    def draw(generator: Generator, n: int) -> Pair:
        x, y = base.draw(generator, n)
        return of_x(x), (of_y or of_x)(y)

    return replace(base, name=f"{name} of {base.name}", draw=draw)


def half_cube(base: Distribution) -> Distribution:
    """Every coordinate to sign(t) |t|^(3/2): longer tails."""
    return mapped(base, "half-cube", lambda t: t * np.sqrt(np.abs(t)))


def asinh(base: Distribution) -> Distribution:
    """Every coordinate through asinh: shorter tails."""
    return mapped(base, "asinh", np.arcsinh)


def uniform_margins(base: Distribution) -> Distribution:
    """Every coordinate through the normal distribution function: of a normal base, its copula."""
    return mapped(base, "uniform margins", ndtr)


def spiral(base: Distribution, speed: float = 1.0) -> Distribution:
    """X wound up in its first two coordinates, Y in its 2nd and 3rd, by its squared length."""

    def wind(t: Array, i: int, j: int) -> Array:
        angle = speed / t.shape[1] * (t**2).sum(1)
        out = t.copy()
        out[:, i] = np.cos(angle) * t[:, i] - np.sin(angle) * t[:, j]
        out[:, j] = np.sin(angle) * t[:, i] + np.cos(angle) * t[:, j]
        return out

    if base.dims[0] < 2 or base.dims[1] < 3:
        raise ValueError(f"spiral: {base.name} is too narrow, needs at least 2 x 3")
    return mapped(base, "spiral", lambda x: wind(x, 0, 1), lambda y: wind(y, 1, 2))


def wiggly(base: Distribution) -> Distribution:
    """Every coordinate bent by sines, differently for X and Y, and rising all the same."""

    def bend(t: Array, waves: tuple[tuple[float, float, float], ...]) -> Array:
        return t + sum(height * np.sin(speed * t + start) for height, speed, start in waves)

    of_x = ((0.4, 1.0, 0.0), (0.2, 1.7, 1.0), (0.03, 3.3, -2.5))
    of_y = ((-0.4, 0.4, 0.0), (0.17, 1.3, 3.5), (0.02, 4.3, -2.5))
    return mapped(base, "wiggly", lambda t: bend(t, of_x), lambda t: bend(t, of_y))


def bimodal(base: Distribution) -> Distribution:
    """Standard normal coordinates to two modes: 0 and 5 (3 : 7) in X, -1 and 3 (1 : 1) in Y."""
    grid = np.linspace(-10, 15, 100_001)

    def to(share: float, first: float, second: float) -> Callable[[Array], Array]:
        cdf = share * ndtr(grid - first) + (1 - share) * ndtr(grid - second)
        return lambda t: np.interp(ndtr(t), cdf, grid)

    return mapped(base, "bimodal", to(0.3, 0, 5), to(0.5, -1, 3))


def swiss_roll(base: Distribution) -> Distribution:
    """X from [0, 1] to the plane, rolled up; Y as it is."""

    def roll(x: Array) -> Array:
        t = 1.5 * math.pi * (1 + 2 * x)
        return np.concatenate([t * np.cos(t), t * np.sin(t)], axis=1) / 21

    rolled = mapped(base, "Swiss roll", roll, lambda y: y)
    return replace(rolled, dims=(2, base.dims[1]))


def additive_noise(width: float) -> Distribution:
    """X uniform on [0, 1], Y = X + noise on [-w, w]; I = w - log(2 w), or 1 / (4 w) if w > 1/2."""
    mi = width - math.log(2 * width) if width <= 0.5 else 1 / (4 * width)

    def draw(generator: Generator, n: int) -> Pair:
        x = generator.random((n, 1))
        return x, x + generator.uniform(-width, width, (n, 1))

    return Distribution(f"uniform noise, width {width:g}", (1, 1), mi, draw)


def overlapping_intervals(classes: int) -> Distribution:
    """X of m classes, Y uniform on [X, X + 2] (Gao et al. 2017); I = log m - (m - 1) / m log 2."""

    def draw(generator: Generator, n: int) -> Pair:
        x = generator.integers(classes, size=n)
        return x, x[:, None] + generator.uniform(0, 2, (n, 1))

    mi = math.log(classes) - (classes - 1) / classes * math.log(2)
    return Distribution(f"{classes} classes, overlapping intervals", (1, 1), mi, draw)


def gaussian_classes(bits: int, noise: float) -> Distribution:
    """X a class of 2^bits, Y its corner of the cube {-1, 1}^bits plus N(0, noise^2) in each.

    The bits are independent, so I is ``bits`` times that of a sign in Gaussian noise: the
    expectation of log 2 - log(1 + e^(-2 (1 + noise z) / noise^2)) over z normal, by Gauss-Hermite
    quadrature.
    """

    def draw(generator: Generator, n: int) -> Pair:
        signs = generator.integers(2, size=(n, bits))
        y = 2 * signs - 1 + noise * generator.standard_normal((n, bits))
        return signs @ (2 ** np.arange(bits)), y

    z, weight = np.polynomial.hermite_e.hermegauss(200)
    loss = np.logaddexp(0, -2 * (1 + noise * z) / noise**2)
    mi = bits * (math.log(2) - float(weight @ loss / weight.sum()))
    name = f"{2**bits} Gaussian classes in {bits}-D"
    return Distribution(name, (1, bits), mi, draw, "Gauss-Hermite quadrature, 200 nodes")


def atoms_and_gaussian(rho: float, share: float = 0.5) -> Distribution:
    """A mixture: with probability ``share`` (X, Y) is an atom, X = Y = -1 or 1, else normal.

    Neither discrete nor continuous.  Whether a pair is an atom is visible in X and in Y alike, so
    I = H(share) + share log 2 + (1 - share) (-log(1 - rho^2) / 2).
    """
    normal = bivariate(rho)

    def draw(generator: Generator, n: int) -> Pair:
        x, y = normal.draw(generator, n)
        sign = generator.choice([-1.0, 1.0], size=(n, 1))
        atom = generator.random((n, 1)) < share
        return np.where(atom, sign, x), np.where(atom, sign, y)

    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    mi = entropy + share * math.log(2) + (1 - share) * normal.mi
    return Distribution(f"atoms and Gaussian, rho={rho:g}", (1, 1), mi, draw)


def beyond_normal() -> tuple[Distribution, ...]:
    """The 40 tasks of Czyz et al. 2023 (Fig. 2)."""
    normal, cauchy = bivariate(0.75), student(1, 1)
    pairs = {dim: sparse(dim, 0.8) for dim in (2, 3, 5, 25)}
    wide = [pairs[dim] for dim in (3, 5, 25)]
    return (
        normal,
        uniform_margins(normal),
        additive_noise(0.1),
        additive_noise(0.75),
        bimodal(normal),
        wiggly(normal),
        half_cube(normal),
        cauchy,
        asinh(cauchy),
        swiss_roll(uniform_margins(normal)),
        *(dense(dim, 0.5) for dim in (2, 3, 5, 25, 50)),
        *pairs.values(),
        *(student(dim, dof) for dim, dof in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *(uniform_margins(one) for one in wide),
        *(half_cube(one) for one in wide),
        *(spiral(one) for one in wide),
        *(spiral(uniform_margins(one)) for one in wide),
        *(asinh(student(dim, dof)) for dim, dof in ((2, 1), (3, 2), (5, 2))),
    )


INDEPENDENT = replace(sparse(3, 0.0), name="independent 3x3")
STRONG = replace(sparse(5, 0.9, 5), name="strong Gaussian 5x5")

# A few of every family, which the tests and the first notebook sample from ...
BENCHMARK: tuple[Distribution, ...] = (
    bivariate(0.75),
    uniform_margins(bivariate(0.9)),
    half_cube(bivariate(0.9)),
    additive_noise(0.1),
    student(1, 1),
    overlapping_intervals(5),
    atoms_and_gaussian(0.9),
    gaussian_classes(2, 0.8),
    INDEPENDENT,
    sparse(5, 0.8),
    dense(5, 0.5),
    dense(20, 0.5),
    STRONG,
    student(3, 2, 0.5),
    asinh(student(3, 2, 0.5)),
    spiral(sparse(3, 0.8)),
)

# ... what estimators are compared on ...
COMPARED: tuple[Distribution, ...] = (
    *beyond_normal(),
    overlapping_intervals(5),
    atoms_and_gaussian(0.9),
    gaussian_classes(2, 0.8),
    INDEPENDENT,
    STRONG,
    dense(16, 0.5),
)


def _at(distribution: Distribution, where: str) -> Distribution:
    """It, under a name that says where: another law of the same family is compared."""
    return replace(distribution, name=f"{distribution.name}, {where}")


# ... and what the defaults of estimate_mi are chosen on: the same families, but for dense(3, 0.5)
# none of the same laws.
DEVELOPMENT: tuple[Distribution, ...] = (
    bivariate(0.5),
    uniform_margins(bivariate(0.8)),
    _at(half_cube(sparse(3, 0.7)), "rho=0.7"),
    additive_noise(0.3),
    overlapping_intervals(3),
    gaussian_classes(1, 0.5),
    replace(sparse(5, 0.0), name="independent 5x5"),
    sparse(8, 0.7),
    dense(3, 0.5),
    dense(10, 0.3),
    replace(sparse(3, 0.9, 3), name="strong Gaussian 3x3"),
    _at(student(2, 1, 0.3), "rho=0.3"),
    _at(asinh(student(2, 3, 0.3)), "rho=0.3"),
    _at(spiral(sparse(3, 0.6, 3), 0.7), "rho=0.6"),
)
