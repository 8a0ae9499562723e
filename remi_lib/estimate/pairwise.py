"""Which two of many columns depend most, found without training.

I(X; Y) is at least I of any column of X with any of Y.  Critics of many columns do not see one that
turns often, and neighbours of many columns see no better; neighbours of these two do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from remi_lib.estimate.columns import Column
from remi_lib.estimate.neighbours import class_and_number, numeric_pair
from remi_lib.estimate.tables import coded, counts_of, frequent

MOST = 3000  # pairs of columns that are looked at; where there are more, none is
FINE = 3  # of the tables of a number, the finest that are looked at


@dataclass(frozen=True)
class Strongest:
    """Two columns, and what each sample adds to a nearest-neighbour estimate of their MI."""

    x: Column
    y: Column
    local: NDArray


def strongest(x: Sequence[Column], y: Sequence[Column], some: slice) -> Strongest | None:
    """The pair, not both labels, whose tables are the least likely by chance; None if none is.

    ``some``: samples that neighbours are asked about.
    """
    if len(x) * len(y) > MOST:
        return None
    tables = [[coded(frequent(column))[-FINE:] for column in side] for side in (x, y)]
    best, found = 0.0, None
    for a, of_a in zip(x, tables[0], strict=True):
        for b, of_b in zip(y, tables[1], strict=True):
            seen = 0.0 if a.discrete and b.discrete else _strength(of_a, of_b)
            if seen > best:
                best, found = seen, (a, b)
    if found is None:
        return None
    return Strongest(*found, _local(*found, some))


def _strength(of_a: list[tuple[NDArray, int]], of_b: list[tuple[NDArray, int]]) -> float:
    """Of the likelihood ratio statistics of tables, by how many SDs the largest exceeds chance."""
    z = []
    for step in range(max(len(of_a), len(of_b))):
        (i, k), (j, m) = of_a[min(step, len(of_a) - 1)], of_b[min(step, len(of_b) - 1)]
        if step and k * m > len(i):
            continue
        counts = counts_of(i, j, (k, m))
        even = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
        freedom = max((k - 1) * (m - 1), 1)
        statistic = 2 * float((xlogy(counts, counts) - xlogy(counts, even + (even == 0))).sum())
        z.append((statistic - freedom) / np.sqrt(2 * freedom))
    return max(z)


def _local(x: Column, y: Column, some: slice) -> NDArray:
    if x.codes is not None:
        local = class_and_number(x.codes[some], y.scores()[some])
    elif y.codes is not None:
        local = class_and_number(y.codes[some], x.scores()[some])
    else:
        local = numeric_pair(x.scores()[some], y.scores()[some])
    return local[np.isfinite(local)]
