"""The critic in closed form: the log-density ratio of a normal fitted to normal scores.

It is exact for jointly normal variables, and for all that monotone maps make of them, where a
network needs thousands of steps; and it is a start for the network elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remi_lib.estimate.columns import Column, standardized
from remi_lib.estimate.folds import Rows
from remi_lib.estimate.pairs import partners_of

SHRUNK = (0.01, 0.1, 0.3)  # towards the identity, tried on held-out pairs
WIDE = 24  # columns on both sides, beyond which those without a trace of dependence are dropped
LARGEST = 0.9995  # canonical correlation: beyond, T turns one outlier into all there is
FEW = 2  # columns a side that are kept at least
JUDGED = 2000  # samples of a fit that say whether it is better than a constant, at most


@dataclass(frozen=True)
class Base:
    """T(x_i, y_j) = a_i + b_j + sum_r u_ir v_jr of each of F fits: (F, n), (F, n), (F, n, r).

    ``x``, ``y``: 1 for the columns that each fit uses, else 0 (F, d_x), (F, d_y).
    """

    a: Tensor
    b: Tensor
    u: Tensor
    v: Tensor
    x: Tensor
    y: Tensor

    def pairs(self, fit: Tensor, index: Tensor, shifts: Tensor) -> Tensor:
        """Scores (M, m, S) of the samples ``index`` (M, m) with their neighbours at each shift."""
        f = fit.unsqueeze(1)
        met = partners_of(index.shape[1], shifts.to(index.device))
        a, u = self.a[f, index].unsqueeze(-1), self.u[f, index]
        b, v = self.b[f, index][:, met], self.v[f, index]
        if 2 * len(shifts) > index.shape[1]:  # all products cost less than gathering them
            every = u @ v.mT
            return a + b + every.gather(-1, met.expand(len(index), -1, -1))
        return a + b + torch.einsum("mir,misr->mis", u, v[:, met])


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


def fit_bases(x: NDArray, y: NDArray, rows: Rows, screen: bool) -> tuple[Base, Base]:
    """A normal for each fold, and the same once more fitted to the watched samples as well.

    The first is fitted to the training samples, its shrinkage chosen by the watched ones, which
    may therefore still judge it; the second reads the test samples.  With ``screen`` only the
    columns that the samples of the fit show to depend on the other side.
    """
    first, second = [], []
    for train, watch in zip(rows.train.cpu().numpy(), rows.watch.cpu().numpy(), strict=True):
        use = _screened(x[train], y[train], screen)
        tried = [_fit(x, y, use, train, amount) for amount in SHRUNK]
        best = int(np.argmax([_dv(one, watch) for one in tried]))
        # No normal describes a rare label.  What does worse than a constant on its own samples is
        # none, whatever the few watched ones say.
        kept = float(_dv(tried[best], train[:JUDGED]) >= 0)
        first.append((*(kept * part for part in tried[best]), *use))
        both = np.concatenate([train, watch])
        use = _screened(x[both], y[both], screen)
        last = _fit(x, y, use, both, SHRUNK[best])
        second.append((*(kept * part for part in last), *use))
    return _joined(first, rows.train.device), _joined(second, rows.train.device)


def _joined(fits: Sequence[tuple[NDArray, ...]], device: torch.device) -> Base:
    rank = max(fit[2].shape[1] for fit in fits)
    padded = [
        (a, b, *(np.pad(w, ((0, 0), (0, rank - w.shape[1]))) for w in (u, v)), *use)
        for a, b, u, v, *use in fits
    ]
    parts = [np.stack(part) for part in zip(*padded, strict=True)]
    return Base(*(torch.as_tensor(part.astype(np.float32), device=device) for part in parts))


def _fit(
    x: NDArray, y: NDArray, use: tuple[NDArray, NDArray], own: NDArray, shrunk: float
) -> tuple[NDArray, ...]:
    """Canonical correlations rho of the shrunk covariance; T is a sum over canonical pairs of
    -log(1 - rho^2) / 2 - (rho^2 (u^2 + v^2) - 2 rho u v) / (2 (1 - rho^2))."""
    x, y = x[:, use[0]], y[:, use[1]]
    d = x.shape[1]
    mean_x, mean_y = x[own].mean(0), y[own].mean(0)
    s = np.cov(np.concatenate([x[own], y[own]], 1).T)
    s = (1 - shrunk) * s + shrunk * np.eye(len(s))
    roots = [np.linalg.inv(np.linalg.cholesky(part)).T for part in (s[:d, :d], s[d:, d:])]
    left, rho, right = np.linalg.svd(roots[0].T @ s[:d, d:] @ roots[1], full_matrices=False)
    rho = rho.clip(0, LARGEST)
    u, v = (x - mean_x) @ roots[0] @ left, (y - mean_y) @ roots[1] @ right.T
    share = rho**2 / (2 * (1 - rho**2))
    constant = -0.5 * np.log1p(-(rho**2)).sum()
    return constant - u**2 @ share, -(v**2) @ share, u, v * (rho / (1 - rho**2))


def _dv(fit: tuple[NDArray, ...], held: NDArray) -> float:
    a, b, u, v = (part[held] for part in fit)
    t = a[:, None] + b + u @ v.T
    own = t.diagonal().mean()
    # Left out, not taken off a sum: one pair of rare labels may be all of it.
    np.fill_diagonal(t, -np.inf)
    off = np.exp(t.clip(max=50)).sum()
    return float(own - np.log(off / (len(held) * (len(held) - 1))))


def _screened(x: NDArray, y: NDArray, screen: bool) -> tuple[NDArray, NDArray]:
    """Columns whose correlation, plain or of squares, with one of the other side is no accident.

    The threshold is that of the largest of as many independent standard normals; at least two
    columns a side stay.  All without ``screen``.
    """
    if not screen:
        return np.ones(x.shape[1], bool), np.ones(y.shape[1], bool)
    sides = [(_standardized(v), _standardized(v**2)) for v in (x, y)]
    r = np.max([np.abs(a.T @ b) for a in sides[0] for b in sides[1]], axis=0) / np.sqrt(len(x))
    limit = np.sqrt(2 * np.log(4 * r.size))
    kept = []
    for strength in (r.max(1), r.max(0)):
        use = strength > limit
        use[np.argsort(-strength)[:FEW]] = True
        kept.append(use)
    return kept[0], kept[1]


def _standardized(v: NDArray) -> NDArray:
    deviation = v.std(0)
    return (v - v.mean(0)) / np.where(deviation > 0, deviation, 1.0)
