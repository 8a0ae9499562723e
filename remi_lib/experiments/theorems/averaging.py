"""Theorems 5 and 6: the variance of the second term, and averaging over batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import binom
from torch import Tensor

from remi_lib.evaluation import windowed
from remi_lib.experiments.theorems.finite import Problem
from remi_lib.losses import dv
from remi_lib.scores import logsumexp
from remi_lib.streams import numpy_generator


def second_term_variance(
    problems: Problem, shifts: Sequence[float], n: int, draws: int, seed: int
) -> pd.DataFrame:
    """Var over samples of Q of E_Qn[e^T] and of log E_Qn[e^T], at T = log dP/dQ + C.

    The same samples at every C: a slope is not noise.  ``mean_exact``: e^(2C) Var_Q(dP/dQ) / n.
    """
    stream = numpy_generator(seed, "samples of Q")
    rows = []
    for index, (p, q) in enumerate(zip(*problems, strict=True)):
        law, ratio = q.flatten().numpy(), (p / q).flatten().numpy()
        chi_square = float((law * (ratio - 1) ** 2).sum())
        at_zero = stream.multinomial(n, law, size=draws) @ ratio / n
        for shift in shifts:
            means = at_zero * math.exp(shift)
            variances = (means.var(), np.log(means).var(), math.exp(2 * shift) * chi_square / n)
            rows.append([index, shift, *variances])
    return pd.DataFrame(rows, columns=["problem", "C", "mean", "log", "mean_exact"])


def log_slopes(table: pd.DataFrame, column: str) -> np.ndarray:
    """Slope of log ``column`` against C for each problem."""
    return np.array(
        [np.polyfit(rows["C"], np.log(rows[column]), 1)[0] for _, rows in table.groupby("problem")]
    )


class Moments(NamedTuple):
    """Exact mean and variance of log E_Qn[e^T], beside the limit log E_Q[e^T] of large n."""

    mean: float
    variance: float
    limit: float


def two_valued(on: float, off: float, share: float, n: int) -> Moments:
    """Moments of log E_Qn[e^T] where T is ``on`` on a cell of Q-mass ``share`` and ``off`` else.

    The number of samples in the cell is binomial, so the sums are exact.
    """
    hits = np.arange(n + 1)
    if n > 5000:  # beyond 12 SDs the binomial's mass is below the rounding of the sum
        spread = 12 * math.sqrt(n * share * (1 - share)) + 12
        hits = hits[(hits > n * share - spread) & (hits < n * share + spread)]
    mass = binom.pmf(hits, n, share)
    value = np.log(hits / n * math.exp(on - off) + (n - hits) / n) + off
    mean = float(mass @ value)
    limit = math.log(share * math.exp(on - off) + 1 - share) + off
    return Moments(mean, float(mass @ (value - mean) ** 2), limit)


def drift_bias(log_partition: Tensor) -> Tensor:
    """What drift of C = log E_Q[e^T] does to a micro-average: mean C - log mean e^C <= 0."""
    pooled = logsumexp(log_partition, -1) - math.log(log_partition.shape[-1])
    return log_partition.mean(-1) - pooled


def _wide(terms: pd.DataFrame, column: str) -> Tensor:
    """A column of a tidy history as (members, steps)."""
    values = terms[column].to_numpy(dtype=float).reshape(terms["member"].nunique(), -1)
    return torch.from_numpy(values.copy())


def averages(terms: pd.DataFrame, windows: Iterable[int], symbols: int, batch: int) -> pd.DataFrame:
    """Readings of :class:`DriftTask` runs of one batch size: a row per member and window (nats).

    ``bias``: the windowed estimate minus the mean exact MI of the same critics (window 1: macro).
    ``bias_centred``: with every batch freed of drift, T - log E_Q[e^T].  In closed form, ``drift``:
    :func:`drift_bias`, and ``jensen``: log E_Q[e^T] - E[log E_Qn[e^T]] with n = window * batch, of
    a critic that has the run's mean gap on and off the support.
    """
    joint, second, constant, exact_joint, gap = (
        _wide(terms, column)
        for column in ("joint_term", "batch_partition", "log_partition", "exact_joint", "gap")
    )
    members = terms[["member", "loss", "seed"]].drop_duplicates("member")
    truth = (exact_joint - constant).mean(-1)
    tables = []
    for window in windows:
        cut = constant[:, : constant.shape[1] // window * window].unflatten(-1, (-1, window))
        jensen = [
            (moments := two_valued(g, 0.0, 1 / symbols, window * batch)).limit - moments.mean
            for g in gap.mean(-1).tolist()
        ]
        columns = {
            "window": window,
            "bias": windowed(dv, joint, second, window) - truth,
            "bias_centred": windowed(dv, joint - constant, second - constant, window) - truth,
            "drift": drift_bias(cut).mean(-1),
            "jensen": jensen,
        }
        arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in columns.items()}
        tables.append(members.assign(**arrays))
    return pd.concat(tables, ignore_index=True)


def sharpness(terms: pd.DataFrame, symbols: int, batch: int) -> pd.DataFrame:
    """Why one estimate scatters more than another: a row per loss and seed of DriftTask runs.

    ``SD of the gap``: exact for a critic that has that gap on the support and is flat elsewhere.
    """
    grouped = terms.assign(exact=terms["exact_joint"] - terms["log_partition"])
    grouped = grouped.groupby(["loss", "seed"], sort=False)
    gap = grouped["gap"].mean()
    predicted = [math.sqrt(two_valued(g, 0.0, 1 / symbols, batch).variance) for g in gap]
    columns = {"exact MI": grouped["exact"].mean(), "gap": gap, "SD": grouped["mi"].std()}
    return pd.DataFrame(columns).assign(**{"SD of the gap": predicted})


def reading_error(symbols: int, sizes: Iterable[int], floor: float = 0.01) -> pd.DataFrame:
    """Error of log E_Qn[e^T] for a perfect one-hot critic, by the number n of product pairs (nats).

    e^T is N on the diagonal and ``floor`` off it.  Pooling W batches of B pairs is one draw of W B.
    """
    rows = []
    for n in sizes:
        found = two_valued(math.log(symbols), math.log(floor), 1 / symbols, n)
        bias = found.mean - found.limit
        rows.append([symbols, n, bias, math.sqrt(found.variance + bias**2)])
    return pd.DataFrame(rows, columns=["symbols", "n", "bias", "rms"])


def averages_by_name(
    terms: pd.DataFrame, windows: Sequence[int], weight: float, symbols: int, batch: int
) -> pd.DataFrame:
    """:func:`averages` of MINE and of ReMINE at each lambda, with the printed ``name`` of each."""
    tables = []
    for (loss, own), part in terms.groupby(["loss", "weight"], sort=False):
        if loss == "remine" or own == weight:  # MINE has no lambda: one of its copies is enough
            name = "MINE" if loss == "mine" else f"ReMINE, $\\lambda={own:g}$"
            tables.append(averages(part, windows, symbols, batch).assign(name=name))
    return pd.concat(tables, ignore_index=True)
