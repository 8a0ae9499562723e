"""The optimum oracle: where a loss ends if training is perfect.

On a problem where a pair either shares its label or does not, a critic has two values to choose:
T on joint cells and T off them.  The objective is then a function of two numbers, and its
maximum over them, with exact sums over a law of tables, is the best that any network can do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from torch import Tensor

from remi_lib.losses import Loss
from remi_lib.scores import Scores, class_pairs, support_counts
from remi_lib.streams import numpy_generator

LARGEST = 50.0  # bound on |T|, which stands for infinity where the supremum is not attained


class Optimum(NamedTuple):
    """What is read at the two-valued critic that maximises an objective (nats)."""

    mi: float
    product_term: float
    penalty: float
    objective: float


class Law(NamedTuple):
    """Tables (n, R, K) whose values are 1 on joint cells and 0 off them, and how likely each is."""

    tables: Scores
    probability: Tensor


def one_hot_law(symbols: int) -> Law:
    """The one-hot problem under its exact measures."""
    eye = torch.eye(symbols, dtype=torch.float64)
    return _certain(support_counts(eye, eye, torch.ones_like(eye)))


def supervised_law(classes: int) -> Law:
    """SLB with balanced labels: one row per class."""
    return _certain(class_pairs(torch.eye(classes, dtype=torch.float64), torch.arange(classes)))


def _certain(table: Scores) -> Law:
    return Law(Scores(*(x.unsqueeze(0) for x in table)), torch.ones(1, dtype=torch.float64))


def contrastive_law(class_counts: ArrayLike, batch: int, draws: int = 20_000, seed: int = 0) -> Law:
    """CLB's in-batch law: ``draws`` batches, without replacement, from a set of these classes.

    Images of a batch whose label comes m times see the same: m - 1 that share it, batch - m that
    do not.  A batch is therefore a table with a row per m and two cells, weighed by how many
    pairs of the batch are there; batches of equal composition are one table.
    """
    drawn = numpy_generator(seed, "contrastive law").multivariate_hypergeometric(
        np.asarray(class_counts), batch, size=draws
    )
    m = np.arange(1, drawn.max() + 1)
    classes = (drawn[:, None, :] == m[:, None]).sum(-1)  # how many come m times (draws, m)
    classes, times = np.unique(classes, axis=0, return_counts=True)
    pairs = torch.from_numpy(classes[..., None] * m[:, None] * np.stack([m - 1, batch - m], -1))
    same = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(pairs.shape)
    return Law(support_counts(same, pairs * same, pairs), torch.from_numpy(times / draws))


def optimum(loss: Loss, law: Law, nonnegative: bool = False) -> Optimum:
    """Maximise the mean objective of ``loss`` over the tables of a ``law``, by exact sums.

    Args:
        loss: any of :func:`~remi_lib.losses.make_loss`, with float settings.
        law: of the tables that a batch can be.
        nonnegative: the critic cannot fall below 0, as an inner product of ReLU features.

    Returns:
        The best of several starts of L-BFGS-B; :class:`Optimum` of mean values over the law.
    """
    low = 0.0 if nonnegative else -LARGEST

    def table(x: Tensor) -> Scores:
        return law.tables.map(x[1] + (x[0] - x[1]) * law.tables.values)

    def mean(x: Tensor) -> Tensor:
        return (x * law.probability).sum()

    def negative(point: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        value = -mean(loss(table(x)).objective)
        (gradient,) = torch.autograd.grad(value, x)
        return value.item(), gradient.numpy()

    bounds = [(low, LARGEST)] * 2
    found = [
        minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
        for start in ([1.0, 0.5], [3.0, max(low, -2.0)], [8.0, max(low, -8.0)])
    ]
    best = torch.tensor(min(found, key=lambda result: result.fun).x)
    at = loss(table(best))
    return Optimum(*(mean(x).item() for x in (at.mi, at.product_term, at.penalty, at.objective)))
