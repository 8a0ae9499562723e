"""The critic in closed form: the log-density ratio of an elliptical copula, normal or Student t.

The normal is fitted to normal scores.  It is exact for jointly normal variables, and for all that
monotone maps make of them, where a network needs thousands of steps; and it is a start for the
network elsewhere.  In the Student t copula (Demarta and McNeil 2005) one length makes the other
likely, whatever the directions: heavy tails, in which a normal sees little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln, stdtrit
from torch import Tensor

from remi_lib.estimate.columns import Column, ranks_of, standardized
from remi_lib.estimate.folds import Rows
from remi_lib.estimate.pairs import partners_of

SHRUNK = (0.01, 0.1, 0.3)  # towards the identity, tried on held-out pairs
FREEDOM = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # degrees of freedom of Student t copulas
TAILED = 64  # columns on both sides, up to which they are tried
ROUNDS, STILL = 20, 1e-3  # of a dispersion matrix: steps at most, and a change that ends them
WIDE = 24  # columns on both sides, beyond which those without a trace of dependence are dropped
LARGEST = 0.9995  # canonical correlation: beyond, T turns one outlier into all there is
FEW = 2  # columns a side that are kept at least
JUDGED = 2000  # samples of a fit that say whether it is better than a constant, at most


@dataclass(frozen=True)
class Fit:
    """T(x_i, y_j) = a_i + b_j + f(c_i + d_j + sum_r u_ir v_jr), for n samples of each side.

    f(s) = s where ``tail`` is 0, as of a normal, else -tail log(1 + s).
    """

    a: NDArray
    b: NDArray
    c: NDArray
    d: NDArray
    u: NDArray
    v: NDArray
    tail: float

    def scores(self, own: NDArray) -> NDArray:
        """T of all pairs of the samples ``own`` (m, m)."""
        a, b, c, d, u, v = (part[own] for part in (self.a, self.b, self.c, self.d, self.u, self.v))
        s = c[:, None] + d + u @ v.T
        return a[:, None] + b + (-self.tail * np.log1p(s.clip(min=0)) if self.tail else s)

    def times(self, kept: float) -> Fit:
        """It, or 0 everywhere."""
        return Fit(*(kept * getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Base:
    """A :class:`Fit` for each of F folds, a row each; ``tail`` (F,).

    ``x``, ``y``: 1 for the columns that each fit uses, else 0 (F, d_x), (F, d_y).
    """

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    u: Tensor
    v: Tensor
    tail: Tensor
    x: Tensor
    y: Tensor

    @property
    def form(self) -> str:
        """Which copula the folds chose; "elliptical" where not all chose the same."""
        if self.tail.all():
            return "Student t"
        return "elliptical" if self.tail.any() else "normal"

    def pairs(self, fit: Tensor, index: Tensor, shifts: Tensor) -> Tensor:
        """Scores (M, m, S) of the samples ``index`` (M, m) with their neighbours at each shift."""
        f = fit.unsqueeze(1)
        met = partners_of(index.shape[1], shifts.to(index.device))
        a, c, u = (part[f, index].unsqueeze(-1) for part in (self.a, self.c, self.u))
        b, d = (part[f, index][:, met] for part in (self.b, self.d))
        u, v = u.squeeze(-1), self.v[f, index]
        if 2 * len(shifts) > index.shape[1]:  # all products cost less than gathering them
            product = (u @ v.mT).gather(-1, met.expand(len(index), -1, -1))
        else:
            product = torch.einsum("mir,misr->mis", u, v[:, met])
        tail = self.tail[fit].reshape(-1, 1, 1)
        if not tail.any():
            return a + b + product
        s = c + d + product
        return a + b + torch.where(tail > 0, -tail * s.clamp(min=0).log1p(), s)


@dataclass(frozen=True)
class Views:
    """Columns of x and of y (n, d) as an elliptical copula sees them.

    ``normal``: normal scores, and label by label; ``tailed``: by degrees of freedom the quantiles
    of a Student t, for numbers alone.
    """

    normal: tuple[NDArray, NDArray]
    tailed: dict[float, tuple[NDArray, NDArray]]


def views_of(x: Sequence[Column], y: Sequence[Column]) -> Views:
    """What the closed forms are fitted to."""
    plain = linear_views(x), linear_views(y)
    tailed = {}
    if 2 < len(x) + len(y) <= TAILED and not any(c.discrete for c in (*x, *y)):
        tailed = {nu: (_quantiles(x, nu), _quantiles(y, nu)) for nu in FREEDOM}
    return Views(plain, tailed)


def _quantiles(columns: Sequence[Column], nu: float) -> NDArray:
    """Student t scores of the ranks of numbers (n, d)."""
    n = len(columns[0])
    # Ranks are halves at the finest: ties share one.
    table = stdtrit(nu, (np.arange(1, n + 0.5, 0.5) - 0.5) / n)
    parts = [ranks_of(c.numbers) for c in columns if c.numbers is not None]
    return table[np.round(2 * np.stack(parts, axis=1)).astype(int) - 2]


def linear_views(columns: Sequence[Column]) -> NDArray:
    """The columns (n, d) of which the covariance is taken: normal scores, and label by label."""
    parts = []
    for column in columns:
        if column.codes is None:
            parts.append(column.scores()[:, None])
        else:
            labels = np.arange(column.values) == column.codes[:, None]
            parts.append(np.apply_along_axis(standardized, 0, labels.astype(float)))
    return np.concatenate(parts, axis=1)


def fit_bases(views: Views, rows: Rows, screen: bool) -> tuple[Base, Base]:
    """A closed form for each fold, and the same once more fitted to the watched samples as well.

    The first is fitted to the training samples.  The watched ones choose its shrinkage, and
    whether it is normal or Student t, and may still judge it; the second reads the test samples.
    With ``screen`` a normal of the columns only that the samples of the fit show to depend on the
    other side.
    """
    first, second = [], []
    for train, watch in zip(rows.train.cpu().numpy(), rows.watch.cpu().numpy(), strict=True):
        nu = 0.0 if screen else _freedom(views.tailed, train)
        kinds = [(0.0, amount) for amount in SHRUNK] + [(nu, SHRUNK[0])] * bool(nu)
        use = _screened(*views.normal, train, screen)
        tried = [_fit(views, use, train, *kind) for kind in kinds]
        best = int(np.argmax([_dv(one, watch) for one in tried]))
        # No closed form describes a rare label.  What does worse than a constant on its own samples
        # is none, whatever the few watched ones say.
        kept = float(_dv(tried[best], train[:JUDGED]) >= 0)
        first.append((tried[best].times(kept), *use))
        both = np.concatenate([train, watch])
        use = _screened(*views.normal, both, screen)
        second.append((_fit(views, use, both, *kinds[best]).times(kept), *use))
    return _joined(first, rows.train.device), _joined(second, rows.train.device)


def _joined(fits: Sequence[tuple[Fit, NDArray, NDArray]], device: torch.device) -> Base:
    rank = max(fit.u.shape[1] for fit, *_ in fits)

    def padded(w: NDArray) -> NDArray:
        return np.pad(w, ((0, 0), (0, rank - w.shape[1])))

    rows = [
        (fit.a, fit.b, fit.c, fit.d, padded(fit.u), padded(fit.v), fit.tail, *use)
        for fit, *use in fits
    ]
    parts = [np.stack(part) for part in zip(*rows, strict=True)]
    return Base(*(torch.as_tensor(part.astype(np.float32), device=device) for part in parts))


def _fit(views: Views, use: tuple[NDArray, NDArray], own: NDArray, nu: float, shrunk: float) -> Fit:
    """The normal of the columns ``use``, or the Student t of all, fitted to the samples ``own``.

    With canonical variables u, v and their correlations rho the squared length of a pair is that
    of x, that of y and a sum over canonical pairs of (rho^2 (u^2 + v^2) - 2 rho u v) / (1 - rho^2).
    T of a normal is minus half of the sum, T of a Student t a difference of log-densities; less
    sum log(1 - rho^2) / 2 both.
    """
    x, y = views.tailed[nu] if nu else (v[:, one] for v, one in zip(views.normal, use, strict=True))
    z = np.concatenate([x, y], 1)[own]
    if nu:
        s = _dispersion(z, nu)
    else:
        s = _shrunk(np.cov(z.T), shrunk)
        x, y = x - x[own].mean(0), y - y[own].mean(0)
    d = x.shape[1]
    roots = [np.linalg.inv(np.linalg.cholesky(part)).T for part in (s[:d, :d], s[d:, d:])]
    left, rho, right = np.linalg.svd(roots[0].T @ s[:d, d:] @ roots[1], full_matrices=False)
    rho = rho.clip(0, LARGEST)
    white = x @ roots[0], y @ roots[1]
    u, v = white[0] @ left, white[1] @ right.T
    share, cross = rho**2 / (1 - rho**2), -2 * rho / (1 - rho**2)
    more = u**2 @ share, v**2 @ share
    constant = -0.5 * np.log1p(-(rho**2)).sum()
    if not nu:
        none = np.zeros(len(x))
        return Fit(constant - more[0] / 2, -more[1] / 2, none, none, u, v * (-cross / 2), 0.0)
    of_x, of_y = ((side**2).sum(1) for side in white)
    both = d + y.shape[1]
    return Fit(
        constant + _log_density(np.zeros(1), nu, both) - _log_density(of_x, nu, d),
        -_log_density(of_y, nu, y.shape[1]),
        (of_x + more[0]) / nu,
        (of_y + more[1]) / nu,
        u,
        v * (cross / nu),
        (nu + both) / 2,
    )


def _log_density(q: NDArray, nu: float, d: int) -> NDArray:
    """Of a Student t in d columns at the squared length q, but for log |S| / 2 and for what is
    proportional to d, which the density of the pair has as those of its sides have."""
    return gammaln((nu + d) / 2) - gammaln(nu / 2) - (nu + d) / 2 * np.log1p(q / nu)


def _shrunk(s: NDArray, amount: float) -> NDArray:
    """Towards the identity."""
    return (1 - amount) * s + amount * np.eye(len(s))


def _dispersion(z: NDArray, nu: float) -> NDArray:
    """Of a Student t about 0 (d, d): each step weighs a sample of squared length q by
    (nu + d) / (nu + q), towards the maximum of the likelihood, and shrinks a little towards the
    identity, so that equal columns leave it invertible (Ollila and Tyler 2014)."""
    n, d = z.shape
    s = np.eye(d)
    for _ in range(ROUNDS):
        weights = (nu + d) / (nu + _lengths(z, s))
        before = s
        s = _shrunk((z.T * weights) @ z / n, SHRUNK[0])
        if np.abs(s - before).max() < STILL:
            break
    return s


def _lengths(z: NDArray, s: NDArray) -> NDArray:
    return (np.linalg.solve(np.linalg.cholesky(s), z.T) ** 2).sum(0)


def _freedom(tailed: dict[float, tuple[NDArray, NDArray]], own: NDArray) -> float:
    """Degrees of freedom whose copula makes the samples the likeliest; 0 if there are none."""

    def likelihood(nu: float) -> float:
        z = np.concatenate(tailed[nu], 1)[own[:JUDGED]]
        s, d = _dispersion(z, nu), z.shape[1]
        copula = _log_density(_lengths(z, s), nu, d) - _log_density(z**2, nu, 1).sum(1)
        return float(copula.mean() - np.linalg.slogdet(s)[1] / 2)

    return max(tailed, key=likelihood, default=0.0)


def _dv(fit: Fit, held: NDArray) -> float:
    t = fit.scores(held)
    own = t.diagonal().mean()
    # Left out, not taken off a sum: one pair of rare labels may be all of it.
    np.fill_diagonal(t, -np.inf)
    off = np.exp(t.clip(max=50)).sum()
    return float(own - np.log(off / (len(held) * (len(held) - 1))))


def _screened(x: NDArray, y: NDArray, own: NDArray, screen: bool) -> tuple[NDArray, NDArray]:
    """Columns whose correlation, plain or of squares, with one of the other side is no accident.

    The threshold is that of the largest of as many independent standard normals; at least two
    columns a side stay.  All without ``screen``.
    """
    if not screen:
        return np.ones(x.shape[1], bool), np.ones(y.shape[1], bool)
    x, y = x[own], y[own]
    sides = [(standardized(v), standardized(v**2)) for v in (x, y)]
    r = np.max([np.abs(a.T @ b) for a in sides[0] for b in sides[1]], axis=0) / np.sqrt(len(x))
    limit = np.sqrt(2 * np.log(4 * r.size))
    kept = []
    for strength in (r.max(1), r.max(0)):
        use = strength > limit
        use[np.argsort(-strength)[:FEW]] = True
        kept.append(use)
    return kept[0], kept[1]
