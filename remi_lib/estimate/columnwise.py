"""One column against one: neighbours for numbers, the table of counts for categories."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import digamma

from remi_lib.estimate.columns import Column
from remi_lib.estimate.fit import COLUMNS
from remi_lib.estimate.independence import permutation_p
from remi_lib.estimate.inputs import FEWEST
from remi_lib.estimate.neighbours import MANY, K, contributions, error_of, mean_and_interval
from remi_lib.estimate.result import MutualInformation, interval_of
from remi_lib.estimate.tables import category_pair, lower_bound
from remi_lib.streams import numpy_generator

NEAR = 0.7  # of the largest value that so many samples can show, from where on it is suspected
FOLDS = 5  # of the lower bound
Found = tuple[float, tuple[float, float], float, str]  # value, interval, p-value, method


def columnwise(
    x: Column, y: Column, seed: int, test: bool = True, notes: Iterable[str] = (), **about: Any
) -> MutualInformation:
    """I(X; Y) of two columns.

    Whole numbers of many values may be numbers or ids: what the lower bound sees clearly more of
    is taken.  Without ``test`` there is no p-value, and numbers take a fifth of the time.
    ``notes`` are the first of the warnings, ``about`` goes to the result as it is.
    """
    notes = [*notes]
    bound = _bound(x, y, seed)
    for name in ("x", "y"):
        here = x if name == "x" else y
        if not _may_be_ids(here):
            continue
        labelled = (here.as_category(), y) if name == "x" else (x, here.as_category())
        other = _bound(*labelled, seed)
        if (other - bound).mean() > 1.96 * error_of(other - bound):
            x, y = labelled
            bound = other
            notes.append(
                f"{name}: its {here.as_category().values} whole numbers say more as labels than as "
                "numbers, and were taken as labels"
            )
    lower = max(0.0, float(bound.mean() - 1.96 * error_of(bound)))
    if x.discrete and y.discrete:
        value, interval, p, method = _categories(x, y, seed, notes)
    else:
        value, interval, p, method = _neighbours(x, y, seed, test, notes)
    return MutualInformation(
        value,
        lower=min(lower, max(value, 0.0)),
        interval=interval,
        p_value=p,
        method=method,
        history=pd.DataFrame(columns=list(COLUMNS)),
        warnings=notes,
        **about,
    )


def once(x: Column, y: Column, groups: NDArray | None) -> tuple[Column, Column]:
    """One row of each group of copies (n,) of two columns; all rows where there are none (None).

    Raises ValueError where fewer than :data:`~.inputs.FEWEST` are left.
    """
    if groups is None:
        return x, y
    first = np.sort(np.unique(groups, return_index=True)[1])
    if len(first) < FEWEST:
        raise ValueError(f"x: has {len(first)} different rows; needs at least {FEWEST}")
    return x.take(first), y.take(first)


def _bound(x: Column, y: Column, seed: int) -> NDArray:
    return lower_bound(x, y, FOLDS, numpy_generator(seed, "estimate: folds"))


def _may_be_ids(column: Column) -> bool:
    if column.numbers is None or not column.integer:
        return False
    return len(np.unique(column.numbers)) <= len(column.numbers) / 10


def _categories(x: Column, y: Column, seed: int, notes: list[str]) -> Found:
    assert x.codes is not None and y.codes is not None  # noqa: PT018
    stream = numpy_generator(seed, "estimate: permutations")
    value, error, p = category_pair(x.codes, y.codes, stream)
    rare = [np.bincount(c.codes)[np.bincount(c.codes) > 0] for c in (x, y) if c.codes is not None]
    for name, counts in zip("xy", rare, strict=True):
        if (counts < 5).sum() > 0.05 * len(counts) and len(counts) > 1:
            notes.append(
                f"{name}: {(counts < 5).sum()} of its {len(counts)} values come fewer than 5 times"
            )
    method = f"table of counts, {x.values} x {y.values} values, corrected for its bias"
    return value, interval_of(value, 1.96 * error), p, method


def _neighbours(x: Column, y: Column, seed: int, test: bool, notes: list[str]) -> Found:
    ties = numpy_generator(seed, "estimate: ties")
    scores = [c.spread_scores(ties) if c.codes is None else c.codes for c in (x, y)]
    labels = x.discrete, y.discrete
    local, more = (contributions(scores[0], scores[1], labels, k) for k in (K, MANY))
    used = np.isfinite(local)
    if not used.all():
        notes.append(f"{(~used).sum()} samples whose value occurs once were left out")
    local, more = local[used], more[used]
    value, interval = mean_and_interval(local, more)
    ceiling = math.log(len(local)) - float(digamma(K))
    if value > NEAR * ceiling:
        notes.append(
            f"near {ceiling:.2f} nats, the largest value that {len(local)} samples can show with "
            f"{K} neighbours; the true MI may be larger, or infinite if one side is a function of "
            "the other"
        )
    stream = numpy_generator(seed, "estimate: permutations")
    p = permutation_p([x], [y], stream) if test else math.nan
    kind = "within classes (Ross 2014)" if x.discrete or y.discrete else "(Gao et al. 2017)"
    return value, interval, p, f"{K} nearest neighbours {kind}"
