"""A test of independence that trains nothing: correlations of waves of ranks, permuted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from remi_lib.estimate.columns import Column, ranks_of, standardized
from remi_lib.estimate.tables import coded, counts_of, entropy, frequent, pairs_of

PERMUTATIONS = 199
WAVES, FEW = 6, 2  # of a number: one column against one, several columns
MOST = 5000  # rows of several columns that are permuted


def permutation_p(
    x: Sequence[Column], y: Sequence[Column], generator: np.random.Generator
) -> float:
    """P-value against independence, exact: the pairing is permuted 199 times.

    The statistics: the squared correlations of normal scores; those of cos(pi j F(x)) and
    cos(pi k G(y)), F and G the ranks in [0, 1], summed with weights 1 / j^2 k^2 (the distance
    covariance of ranks), with 1 / j k, over j, k <= 2 and over all; the MI of the finest table of
    one column against one, the largest square of several.  A label is its indicators.  Looking at
    several statistics costs no level, see :func:`joined_p`.
    """
    if all(column.discrete for column in y):
        x, y = y, x  # indicators stay sparse where they are not permuted
    return joined_p(np.array(list(_statistics(x, y, generator))))


def joined_p(statistics: NDArray) -> float:
    """One p-value of statistics (1 + permutations, S), large if dependent; row 0 is the sample's.

    Each is ranked among the rows, and a row's ranks make its Cauchy combination (Liu and Xie
    2020).  Without dependence the rows can be exchanged, so the rank of the first one is exact.
    """
    draws = len(statistics)
    p = [((own[:, None] <= own).sum(1) - 0.5) / draws for own in statistics.T]
    angle = np.tan((0.5 - np.array(p)) * math.pi).mean(0)
    return float((angle >= angle[0] - 1e-9).sum() / draws)


def _statistics(
    x: Sequence[Column], y: Sequence[Column], generator: np.random.Generator
) -> Iterator[list[float]]:
    n, one = len(x[0]), len(x) == len(y) == 1
    (waves_x, line_x, turns_x), (waves_y, line_y, turns_y) = (
        _side(columns, WAVES if one else FEW) for columns in (x, y)
    )
    weight = 1 / np.outer(turns_x, turns_y)
    slow = np.maximum.outer(turns_x, turns_y) <= FEW
    moved, line = waves_y.toarray().T, line_y.toarray().T
    finest = [*pairs_of(coded(frequent(x[0])), coded(frequent(y[0])))][-1] if one else None
    for draw in range(PERMUTATIONS + 1):
        order = generator.permutation(n) if draw else np.arange(n)
        square = (waves_x @ moved[order]) ** 2
        sums = [(square * w).sum() for w in (weight**2, weight, slow, 1.0)]
        if finest is None:
            last = square.max()
        else:
            a, b, shape = finest
            last = -entropy(counts_of(a, b[order], shape).ravel())
        yield [((line_x @ line[order]) ** 2).sum(), *sums, last]


def _side(columns: Sequence[Column], waves: int) -> tuple[csr_array, csr_array, NDArray]:
    """Waves (k, n) and lines (m, n) of all columns, of length 1, and how often each wave turns."""
    turns, wavy, lines = [], list[Any](), list[Any]()
    n = len(columns[0])
    for column in columns:
        if column.numbers is not None:
            turn = np.arange(1, waves + 1)
            wave = np.cos(math.pi * np.outer(turn, (ranks_of(column.numbers) - 0.5) / n))
            own = np.stack([standardized(w) for w in wave]) / math.sqrt(n)
            lines.append(csr_array(column.scores()[None] / math.sqrt(n)))
        else:
            codes = frequent(column).codes
            assert codes is not None
            size = np.bincount(codes)
            own = csr_array((1 / np.sqrt(size[codes]), (codes, np.arange(n))), (len(size), n))
            turn = np.ones(len(size), int)
            lines.append(own)
        turns.append(turn)
        wavy.append(csr_array(own))
    numbers = [column.scores() for column in columns if not column.discrete]
    if len(numbers) > 1:  # in heavy tails one length makes the other likely
        length = np.log(np.linalg.norm(numbers, axis=0).clip(1e-3))
        wavy.append(csr_array(standardized(length)[None] / math.sqrt(n)))
        turns.append(np.ones(1, int))
    return vstack(wavy, "csr"), vstack(lines, "csr"), np.concatenate(turns)
