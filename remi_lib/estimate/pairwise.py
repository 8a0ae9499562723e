"""Which two of many columns depend most, found without training.

I(X; Y) is at least I of any column of X with any of Y.  Critics of many columns do not see one that
turns often, and neighbours of many columns see no better; neighbours of these two do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from remi_lib.estimate.columns import Column
from remi_lib.estimate.tables import Codes, coded, counts_of, entropy, frequent, pairs_of

MOST = 3000  # pairs of columns that are looked at; where there are more, none is
FINE = 3  # of the tables of a number, the finest that are looked at


def strongest(x: Sequence[Column], y: Sequence[Column]) -> tuple[Column, Column] | None:
    """The pair, not both labels, whose tables are the least likely by chance; None if none is."""
    if len(x) * len(y) > MOST:
        return None
    tables = [[coded(frequent(column))[-FINE:] for column in side] for side in (x, y)]
    best, found = 0.0, None
    for a, of_a in zip(x, tables[0], strict=True):
        for b, of_b in zip(y, tables[1], strict=True):
            seen = 0.0 if a.discrete and b.discrete else _strength(of_a, of_b)
            if seen > best:
                best, found = seen, (a, b)
    return found


def _strength(of_a: list[Codes], of_b: list[Codes]) -> float:
    """Of the likelihood ratio statistics of tables, by how many SDs the largest exceeds chance."""
    z = []
    for i, j, (k, m) in pairs_of(of_a, of_b):
        counts = counts_of(i, j, (k, m))
        freedom = max((k - 1) * (m - 1), 1)
        mi = entropy(counts.sum(1)) + entropy(counts.sum(0)) - entropy(counts.ravel())
        statistic = 2 * len(i) * mi
        z.append((statistic - freedom) / np.sqrt(2 * freedom))
    return max(z)
