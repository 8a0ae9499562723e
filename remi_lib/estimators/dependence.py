"""What a test of independence is tried on, and the test that ours is compared with.

Pairs that are independent, of every kind that estimate_mi tells apart, and 16 forms of
dependence.  They and their noise were fixed before anything was run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from remi_lib.estimate import estimate_mi
from remi_lib.estimators.distributions import Array, Distribution, Pair, sparse, student

PERMUTATIONS = 199  # as many as estimate_mi makes for one column against one


def _pair(name: str, draw: Callable[[Generator, int], Pair], mi: float = math.nan) -> Distribution:
    return Distribution(name, (1, 1), mi, draw, "independent" if mi == 0 else "not known")


def _apart(base: Distribution, name: str) -> Distribution:
    """x and y of two samples of ``base``, and so independent."""

    def draw(generator: Generator, n: int) -> Pair:
        return base.draw(generator, n)[0], base.draw(generator, n)[1]

    return replace(base, name=name, mi=0.0, draw=draw, truth="independent")


def _atoms(g: Generator, n: int) -> Pair:
    return np.round(g.normal(size=n), 1), np.maximum(g.normal(size=n), 0)


NULLS: tuple[Distribution, ...] = (
    _pair("normal columns", lambda g, n: (g.normal(size=n), g.normal(size=n)), 0),
    _apart(student(1, 1), "heavy-tailed columns (Cauchy)"),
    _pair("rounded column, column with an atom", _atoms, 0),
    _pair("class of 3, normal column", lambda g, n: (g.integers(3, size=n), g.normal(size=n)), 0),
    _apart(sparse(2, 0.0), "2x2 normal"),
    _apart(student(5, 3), "5x5 heavy-tailed (Student t, 3 dof)"),
)


def _curve(
    name: str, low: float, form: Callable[[Array], Array], noise: float | Callable[[Array], Array]
) -> Distribution:
    """y = form(x) + noise N(0, 1), x uniform on [low, 1]; a noise may depend on x."""

    def draw(g: Generator, n: int) -> Pair:
        x = g.uniform(low, 1, n)
        return x, form(x) + (noise(x) if callable(noise) else noise) * g.normal(size=n)

    return _pair(name, draw)


def _either(name: str, low: float, form: Callable[[Array], Array], noise: float) -> Distribution:
    """As :func:`_curve`, where form(x) has either sign."""

    def draw(g: Generator, n: int) -> Pair:
        x = g.uniform(low, 1, n)
        return x, g.choice([-1.0, 1.0], size=n) * form(x) + noise * g.normal(size=n)

    return _pair(name, draw)


def _cubic(u: Array) -> Array:
    return 128 * u**3 - 48 * u**2 - 12 * u


def _parabolas(g: Generator, n: int) -> Pair:
    x = g.uniform(-1, 1, n)
    return x, (x**2 + g.uniform(0, 0.5, n)) * g.choice([-1.0, 1.0], size=n)


def _checkerboard(g: Generator, n: int) -> Pair:
    column, row = g.integers(4, size=n), 2 * g.integers(2, size=n)
    y = row + column % 2 + g.random(n) + 0.3 * g.normal(size=n)
    return column + g.random(n), y


def _log(g: Generator, n: int) -> Pair:
    x = g.normal(size=n)
    return x, np.log(x**2) + 4 * g.normal(size=n)


def _classes(g: Generator, n: int) -> Pair:
    x = g.integers(3, size=n)
    return x, x / 4 + g.normal(size=n)


def _product(g: Generator, n: int) -> Pair:
    x = g.normal(size=(n, 5))
    return x, x * g.normal(size=(n, 5))


# Simon and Tibshirani 2014 (arXiv:1401.7645), each at a third of their range of noise ...
CURVES = (
    _curve("linear", 0, lambda x: x, 1),
    _curve("quadratic", 0, lambda x: 4 * (x - 1 / 2) ** 2, 1),
    _curve("cubic", 0, lambda x: _cubic(x - 1 / 3), 10),
    _curve("sine, 2 periods", 0, lambda x: np.sin(4 * math.pi * x), 2),
    _curve("sine, 8 periods", 0, lambda x: np.sin(16 * math.pi * x), 1),
    _either("circle", 0, lambda x: np.sqrt(1 - (2 * x - 1) ** 2), 1 / 4),
    _curve("step", 0, lambda x: (x > 1 / 2).astype(float), 5),
)
# ... shapes of Newton 2009, the W with noise, and of the literature since; log and product of
# Szekely, Rizzo and Bakirov 2007, the log with noise.
DEPENDENT: tuple[Distribution, ...] = (
    *CURVES,
    _curve("W", -1, lambda x: 4 * (x**2 - 1 / 2) ** 2, 1 / 2),
    _pair("two parabolas", _parabolas),
    _either("cross", -1, lambda x: x, 0.4),
    _pair("checkerboard, 4x4", _checkerboard),
    _curve("heteroscedastic", 0, np.zeros_like, lambda x: x + 1 / 2),
    _pair("log of the square", _log),
    _pair("class of 3, shifted means", _classes),
    replace(sparse(2, 0.2), name="2x2 normal, rho=0.2"),
    replace(_pair("5x5 product with noise", _product), dims=(5, 5)),
)


def centred_distances(values: NDArray) -> Array:
    """Distances between the rows of (n,) or (n, d), less the means of rows and columns (n, n).

    Whole numbers (n,) are labels: two of them are 0 or 1 apart.
    """
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        d = (values[:, None] != values).astype(float)
    else:
        rows = values.reshape(len(values), -1)
        d = cdist(rows, rows)
    return d - d.mean(0) - d.mean(1)[:, None] + d.mean()


def distance_correlation(x: NDArray, y: NDArray) -> float:
    """Distance correlation in [0, 1] (Szekely, Rizzo and Bakirov 2007, Definition 5)."""
    a, b = centred_distances(x), centred_distances(y)
    scale = math.sqrt((a * a).mean() * (b * b).mean())
    return math.sqrt(max((a * b).mean(), 0.0) / scale) if scale > 0 else 0.0


def distance_p(x: NDArray, y: NDArray, seed: int) -> float:
    """P-value of :func:`distance_correlation` against independence, the pairing permuted.

    Its denominator is the same of every permutation, and so is left out.
    """
    generator = np.random.default_rng([seed, 1])  # not the stream of the sample
    a, b = centred_distances(x), centred_distances(y)
    own, met = float((a * b).sum()), 0
    for _ in range(PERMUTATIONS):
        order = generator.permutation(len(b))
        met += float((a * b[np.ix_(order, order)]).sum()) >= own - 1e-9
    return (1 + met) / (1 + PERMUTATIONS)


def ours(case: Distribution, n: int, seed: int) -> dict[str, Any]:
    """A row: the p-value of estimate_mi on one sample."""
    x, y = case.sample(n, seed)
    found = estimate_mi(x, y, seed, label=None)
    return {"distribution": case.name, "seed": seed, "samples": n, "p_value": found.p_value}


def both(case: Distribution, n: int, seed: int) -> dict[str, Any]:
    """A row: :func:`ours`, and that of distance correlation on the same sample."""
    return {**ours(case, n, seed), "distance_p": distance_p(*case.sample(n, seed), seed)}
