"""More than one estimate at a time: given a third variable, of every pair, of every feature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remi_lib.estimate.columns import Column, columns_of
from remi_lib.estimate.columnwise import columnwise, once
from remi_lib.estimate.estimator import PER_VALUE, sampled
from remi_lib.estimate.folds import copies
from remi_lib.estimate.inputs import enough, frame_of, same_index
from remi_lib.estimate.neighbours import error_of
from remi_lib.estimate.networks import Networks, Sample, train_and_read, warnings_of
from remi_lib.estimate.options import Options
from remi_lib.estimate.result import MutualInformation, interval_of
from remi_lib.estimate.tables import categories_of, jackknifed_entropy
from remi_lib.progress import progress


def conditional_mi(
    x: Any, y: Any, z: Any, seed: int = 0, *, categories: int = 32, **options: Any
) -> MutualInformation:
    """Estimate I(X; Y | Z) = I(X; (Y, Z)) - I(X; Z), in nats unless ``bits``.

    Labels on all three sides, of few combinations, are read from their tables.  Otherwise both
    terms are estimated by critics on the same folds; the interval is that of the difference,
    sample by sample.  A difference of two lower bounds is neither a lower nor an upper bound, so
    ``lower`` is that of the interval, and nothing is tested (``p_value`` is NaN).

    Args:
        x, y, z: paired samples, as :func:`~remi_lib.estimate_mi` takes them.
        seed, categories, options: as there (not ``method``, ``groups``, ``drop_missing``).

    Raises:
        TypeError: an argument that there is not.
        ValueError: one that does not fit; either message begins with its name.
    """
    if "method" in options:
        raise ValueError("method: conditional_mi takes none; tables or critics, as the columns are")
    for name in options.keys() - Options.__dataclass_fields__:
        raise TypeError(f"{name}: conditional_mi takes no such argument")
    checked = Options(seed=seed, categories=categories, **options)
    least = 4 * checked.folds
    x = [*x] if isinstance(x, Iterator) else x  # it is read twice
    with_z, notes = sampled(x, z, categories, least=least, second="z")
    with_y, of_y = sampled(x, y, categories, least=least)
    same_index("z", z, y, "y")
    columns = (with_z.x, with_y.y, with_z.y)
    if all(c.discrete for side in columns for c in side):
        joined = categories_of([c for side in columns for c in side])
        if joined.values <= len(with_z) // PER_VALUE:
            return _of_tables(*columns, checked)
    groups = with_z.groups
    if groups is None:
        groups, notes = with_y.groups, of_y
    both = Sample(with_z.x, [*with_y.y, *with_z.y], groups)
    alone = Sample(with_z.x, with_z.y, groups)
    first, second = (train_and_read(sample, checked) for sample in (both, alone))
    return _difference(first, second, checked, notes)


def _difference(
    first: Networks, second: Networks, options: Options, notes: list[str]
) -> MutualInformation:
    value = first.reading.value - second.reading.value
    apart = first.reading.gains - second.reading.gains
    within = apart - apart.mean(-1, keepdim=True)
    half = 1.96 * math.sqrt(within.var().item() / apart.numel())
    seeds = zip(first.reading.by_seed, second.reading.by_seed, strict=True)
    warnings = [
        f"I(X; {name}): {text}"
        for name, part in (("Y, Z", first), ("Z", second))
        for text in warnings_of(part, options)
    ]
    return MutualInformation(
        value,
        lower=max(0.0, value - half),
        interval=interval_of(value, half),
        p_value=math.nan,
        method="I(X; Y, Z) - I(X; Z) by critics on the same folds",
        history=first.fitted.history,
        warnings=(*notes, *warnings),
        by_seed=[a - b for a, b in seeds],
        settings={"seed": options.seed, "folds": options.folds, "loss": options.name},
        bits=options.bits,
        of="X; Y | Z",
    )


def _of_tables(
    x: list[Column], y: list[Column], z: list[Column], options: Options
) -> MutualInformation:
    """H(X, Z) + H(Y, Z) - H(Z) - H(X, Y, Z), each without its bias of order 1/n."""
    parts = [(1, [*x, *z]), (1, [*y, *z]), (-1, z), (-1, [*x, *y, *z])]
    value, local = 0.0, np.zeros(len(z[0]))
    for sign, columns in parts:
        codes = categories_of(columns).codes
        assert codes is not None
        counts = np.bincount(codes).astype(float)
        value += sign * jackknifed_entropy(counts[counts > 0])
        local -= sign * np.log(counts[codes])
    half = 1.96 * error_of(local)
    value = max(0.0, value)
    return MutualInformation(
        value,
        lower=max(0.0, value - half),
        interval=interval_of(value, half),
        p_value=math.nan,
        method="tables of counts, corrected for their bias",
        history=pd.DataFrame(),
        settings={"seed": options.seed},
        bits=options.bits,
        of="X; Y | Z",
    )


def mi_matrix(
    frame: Any,
    seed: int = 0,
    *,
    categories: int = 32,
    bits: bool = False,
    label: str | None = "mi_matrix",
) -> pd.DataFrame:
    """I of every two columns of a data frame (nats): symmetric, a row and a column for each.

    One column against one, as :func:`~remi_lib.estimate_mi` estimates it.  The diagonal is the
    entropy of a column of labels, and infinite for a column of numbers.

    Raises ValueError for fewer than 50 rows, or a missing or infinite value.
    """
    table = frame_of("frame", frame)
    enough("frame", len(table))
    columns = columns_of("frame", table, categories)
    out = np.full((len(columns),) * 2, math.inf)
    for i, column in enumerate(columns):
        if column.codes is not None:
            out[i, i] = jackknifed_entropy(np.bincount(column.codes).astype(float))
    pairs = list(combinations(range(len(columns)), 2))
    with progress(len(pairs), label, unit="pair") as bar:
        for i, j in pairs:
            out[i, j] = out[j, i] = _of_pair(columns[i], columns[j], seed)
            bar.update()
    return pd.DataFrame(out / (math.log(2) if bits else 1), table.columns, table.columns)


def mi_scores(X: Any, y: Any) -> NDArray:
    """I of each column of X (n, d) with y (nats), (d,): a ``score_func`` for scikit-learn.

    ``SelectKBest(mi_scores, k=5)``; one column against one, as :func:`~remi_lib.estimate_mi`
    estimates it at its defaults.

    Raises ValueError for fewer than 50 samples, a missing or infinite value, a y that is not one
    column of as many, or two pandas objects whose indices differ.
    """
    columns = columns_of("X", frame_of("X", X))
    enough("X", len(columns[0]))
    target = frame_of("y", y)
    if target.shape[1] > 1:
        raise ValueError(f"y: has {target.shape[1]} columns; must have one")
    if len(target) != len(columns[0]):
        raise ValueError(f"y: has {len(target)} samples, X has {len(columns[0])}")
    same_index("y", y, X, "X")
    goal = columns_of("y", target)[0]
    return np.array([_of_pair(column, goal, 0) for column in columns])


def _of_pair(x: Column, y: Column, seed: int) -> float:
    """I of two columns (nats) without a test; of rows that are copies of each other one counts."""
    same = copies(*(None if c.discrete else pd.DataFrame(c.numbers) for c in (x, y)))
    return columnwise(*once(x, y, same), seed, test=False).value
