"""Columns of any kind, made into what an estimator can learn from.

Ranks, means and deviations are taken over all samples of one variable; the pairing, which is what
is estimated, plays no part in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

Margins = Literal["both", "ranks", "standard", "raw"]
MARGINS: dict[str, str] = {
    "both": "standardised by median and quartiles, beside the normal scores of its ranks",
    "ranks": "replaced by the normal scores of its ranks",
    "standard": "standardised",
    "raw": "as it is",
}
ATOM = 0.1  # share of the samples from where on a number that repeats is an atom
EDGE = 4.0  # of a column standardised by its quartiles
LEAVE_OUT = "leave such rows out (estimate_mi does with drop_missing=True)"
EXACT = 2**53  # the largest of the whole numbers that floats tell from their neighbours
FEWEST_EACH = 3  # samples of a discrete value, on average
ONE_HOT = 2**27  # cells that the one-hot columns of one discrete column may have


@dataclass(frozen=True)
class Column:
    """One column: ``codes`` of a discrete one (n,), or ``numbers`` of a numeric one (n,).

    ``label`` names it in messages; ``values`` is how many different ones a discrete one has;
    ``integer``: a numeric column of whole numbers, which may be ids.
    """

    label: str
    codes: NDArray | None = None
    values: int = 0
    numbers: NDArray | None = None
    integer: bool = False

    def __len__(self) -> int:
        values = self.numbers if self.codes is None else self.codes
        assert values is not None
        return len(values)

    @property
    def discrete(self) -> bool:
        """Whether its values are labels."""
        return self.codes is not None

    def scores(self) -> NDArray:
        """Normal scores of a numeric column's ranks (n,), standardised; ties share one."""
        assert self.numbers is not None
        return standardized(ndtri((ranks_of(self.numbers) - 0.5) / len(self.numbers)))

    def spread_scores(self, generator: np.random.Generator) -> NDArray:
        """:meth:`scores`, in which only atoms share one; other ties are broken at random.

        Rounded numbers repeat, and neighbours cannot be told from equal distances.  MI does not
        change: what is added depends on the value alone.
        """
        v = self.numbers
        assert v is not None
        order = generator.permutation(len(v))
        ranks = np.empty(len(v))
        ranks[order] = np.argsort(np.argsort(v[order], kind="stable")) + 1.0
        _, kinds, counts = np.unique(v, return_inverse=True, return_counts=True)
        ranks = np.where(counts[kinds] >= ATOM * len(v), ranks_of(v), ranks)
        return standardized(ndtri((ranks - 0.5) / len(v)))

    def take(self, index: NDArray) -> Column:
        """The column of some of its samples."""
        if self.codes is None:
            assert self.numbers is not None
            return replace(self, numbers=self.numbers[index])
        names, codes = np.unique(self.codes[index], return_inverse=True)
        return Column(self.label, codes, len(names))

    def as_category(self) -> Column:
        """A numeric column whose numbers are taken as labels."""
        codes, names = pd.factorize(self.numbers, sort=True)
        return Column(self.label, codes, len(names))


def columns_of(name: str, frame: pd.DataFrame, categories: int = 32) -> list[Column]:
    """What each column is.  Numbers of few values are labels, see :func:`~remi_lib.estimate_mi`.

    Raises ValueError for a missing or infinite value; the message begins with ``name``.
    """
    return [_column(name, frame.iloc[:, i], categories) for i in range(frame.shape[1])]


def _column(name: str, column: pd.Series, categories: int) -> Column:
    label = f"column {column.name!r}" if column.name not in (0, None) else "its column"
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric:
        return Column(label, *_factorized(name, label, column))
    v = _floats(column)
    bad = np.flatnonzero(~np.isfinite(v))
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} values are NaN or infinite, the first in row {bad[0]}; {LEAVE_OUT}"
        )
    whole = bool((v == np.round(v)).all())
    if len(np.unique(v)) <= min(categories, len(v) // FEWEST_EACH):
        return Column(label, *_factorized(name, label, pd.Series(v)))
    return Column(label, numbers=v, integer=whole)


def _floats(column: pd.Series) -> NDArray:
    """Numbers as floats (n,); where those would join large integers, their distances from the least
    one, which say as much of another variable."""
    if pd.api.types.is_integer_dtype(column) and not column.hasnans:
        low, high = int(column.min()), int(column.max())
        if max(abs(low), abs(high)) > EXACT:
            whole = column.to_numpy(np.int64 if low < 0 else np.uint64).astype(np.uint64)
            return (whole - whole.dtype.type(low % 2**64)).astype(float)  # differences wrap around
    return column.to_numpy(dtype=float, na_value=np.nan)


def _factorized(name: str, label: str, column: pd.Series) -> tuple[NDArray, int]:
    codes, names = pd.factorize(column, sort=False)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"{name}: {len(missing)} values are missing, the first in row {missing[0]}; {LEAVE_OUT}"
        )
    if len(names) > max(len(codes) // FEWEST_EACH, 1):
        hint = ""
        if not pd.to_numeric(pd.Series(names).astype(str), errors="coerce").isna().any():
            hint = "; they are numbers written as text, convert them with astype(float)"
        raise ValueError(
            f"{name}: {label} is discrete and has {len(names)} values in {len(codes)} samples, too "
            f"many; each must come {FEWEST_EACH} times on average{hint}"
        )
    return codes, len(names)


def encoded(name: str, columns: list[Column], margins: Margins = "both") -> NDArray:
    """The columns side by side (n, d): views of the numeric ones, one-hot the discrete ones."""
    parts = [_one_hot(name, c) if c.discrete else _numeric(c, margins) for c in columns]
    return np.concatenate(parts, axis=1)


def described(columns: list[Column], numeric: str, discrete: str = "one-hot") -> str:
    """In words: how many columns of which kind, and what became of each."""
    labels = sum(c.discrete for c in columns)
    done = []
    if len(columns) - labels:
        done.append(f"{_count(len(columns) - labels, 'numeric')}, each {numeric}")
    if labels:
        done.append(f"{_count(labels, 'discrete')}, {discrete}")
    return "; ".join(done)


def _count(count: int, kind: str) -> str:
    return f"{count} {kind} column" + ("s" if count > 1 else "")


def _numeric(column: Column, margins: Margins) -> NDArray:
    v = column.numbers
    assert v is not None
    # A critic that has seen one outlier says anything of the next: they end at the edge, and ranks,
    # beside it, still see where they lie.
    views = {
        "both": lambda: (_robust(v).clip(-EDGE, EDGE), column.scores()),
        "ranks": lambda: (column.scores(),),
        "standard": lambda: (standardized(v),),
        "raw": lambda: (v,),
    }
    return np.stack(views[margins](), axis=1)


def ranks_of(v: NDArray) -> NDArray:
    """Ranks from 1, ties averaged."""
    return pd.Series(v).rank().to_numpy()


def _robust(v: NDArray) -> NDArray:
    """Median 0 and the quartiles of a standard normal; the SD where the quartiles coincide."""
    low, middle, high = np.quantile(v, [0.25, 0.5, 0.75])
    return (v - middle) / ((high - low) / (2 * ndtri(0.75))) if high > low else standardized(v)


def standardized(v: NDArray) -> NDArray:
    """Mean 0 and standard deviation 1, of each column; a constant becomes 0."""
    deviation = v.std(0)
    return (v - v.mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _one_hot(name: str, column: Column) -> NDArray:
    assert column.codes is not None
    n = len(column.codes)
    if n * column.values > ONE_HOT:
        raise ValueError(
            f"{name}: {column.label} has {column.values} values in {n} samples, too many for the "
            "critics; join the rare ones"
        )
    out = np.zeros((n, column.values), dtype=np.float32)
    # Scaled so that a column of K equally likely values has about the length of a standard one.
    out[np.arange(n), column.codes] = math.sqrt(column.values)
    return out
