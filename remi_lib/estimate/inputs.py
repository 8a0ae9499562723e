"""Two arrays of any kind, made into two data frames whose rows belong together."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from torch import Tensor, strided
from torch import stack as stacked

DENSE = 2**27  # cells that a sparse matrix may have once it is dense
FEWEST = 50  # samples of any estimate


def enough(name: str, samples: int, least: int = FEWEST) -> None:
    """Raise ValueError for fewer samples than ``least``, or than :data:`FEWEST`."""
    if samples < max(FEWEST, least):
        raise ValueError(f"{name}: has {samples} samples; needs at least {max(FEWEST, least)}")


def frame_of(name: str, values: Any) -> pd.DataFrame:
    """The samples of one variable, a row each, a column per quantity.

    Takes what holds numbers or labels: arrays of any byte order, masked arrays (a masked entry is
    missing), tensors, lists of them, sparse matrices, data frames and series, nested lists.

    Raises:
        ValueError: not a table of real or discrete values; the message begins with ``name``.
    """
    if isinstance(values, pd.DataFrame | pd.Series):
        frame = pd.DataFrame(values)
    elif hasattr(values, "to_pandas"):
        frame = pd.DataFrame(values.to_pandas())
    else:
        frame = _from_array(name, values)
    if len(frame) == 0:
        raise ValueError(f"{name}: has 0 samples")
    if frame.shape[1] == 0:
        raise ValueError(f"{name}: has no column")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name}: has two columns called {twice!r}; rename one")
    columns = {key: _plain(name, frame[key]) for key in frame}
    return pd.DataFrame(columns, index=frame.index)


def _from_array(name: str, values: Any) -> pd.DataFrame:
    if issparse(values):
        if math.prod(values.shape) > DENSE:
            raise ValueError(
                f"{name}: a sparse matrix {values.shape} is too large to be made dense"
            )
        values = values.toarray()
    if isinstance(values, str | bytes | Mapping | set | frozenset):
        raise ValueError(f"{name}: a {type(values).__name__} is not allowed; must be an array")
    if isinstance(values, np.ma.MaskedArray):
        entries = values.data.astype(object)
        entries[np.ma.getmaskarray(values)] = None
        masked = pd.DataFrame(entries)
        return masked.convert_dtypes() if values.dtype.kind != "f" else masked.astype(float)
    array = _array(name, values)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: has shape {array.shape}; must be (n,) or (n, d)")
    if array.dtype.kind == "V":
        raise ValueError(f"{name}: {array.dtype} has fields; pass a data frame")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    frame = pd.DataFrame(array)
    return frame.infer_objects() if array.dtype == object else frame


def _array(name: str, values: Any) -> np.ndarray:
    if isinstance(values, Iterator):
        values = list(values)
    if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
        try:
            values = stacked([v.detach() for v in values])
        except RuntimeError as error:
            raise ValueError(f"{name}: its tensors differ in shape") from error
        values = values.squeeze(1) if values.dim() == 2 and values.shape[1] == 1 else values
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values if values.layout == strided else values.to_dense()
        values = (values.double() if values.dtype.is_floating_point else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: its rows differ in length; must be (n,) or (n, d)") from error


def _plain(name: str, column: pd.Series) -> pd.Series:
    """A column of numbers as numbers; refuses what is neither real nor discrete."""
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    timed = isinstance(column.dtype, pd.DatetimeTZDtype | pd.PeriodDtype)
    if kind in "cmM" or timed:
        raise ValueError(f"{name}: {column.dtype} is neither real nor discrete")
    if kind == "f" and column.dtype.itemsize > 8:
        return column.astype(float)
    if column.dtype == object:
        given = column[column.notna()]
        for v in given:
            if isinstance(v, Tensor) or not isinstance(v, Hashable):
                raise ValueError(
                    f"{name}: a {type(v).__name__} is not allowed as a value; "
                    "must be (n,) or (n, d)"
                )
        numbers = all(isinstance(v, Real | Decimal) and not isinstance(v, bool) for v in given)
        if len(given) and numbers:
            return _numbers(column)
    return column


def _numbers(column: pd.Series) -> pd.Series:
    """A column of Python's numbers; large integers, which floats would join, as integers."""
    if all(isinstance(v, Integral) for v in column[column.notna()]):
        for kind in ("Int64", "UInt64"):
            with suppress(OverflowError):
                return column.astype(kind)
    return column.astype(float)


def paired(
    x: Any, y: Any, drop_missing: bool, name: str = "y"
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray]:
    """Both as frames of equally many rows, and which rows were kept (n,); ``name``: of y.

    Raises ValueError where the rows cannot belong together: other lengths, or two pandas objects
    whose indices differ (the index says which rows belong together, and it is not guessed at).
    """
    first, second = frame_of("x", x), frame_of(name, y)
    n = len(second)
    if len(first) != n:
        raise ValueError(f"{name}: has {n} samples, x has {len(first)}; they must be paired")
    same_index(name, y, x)
    keep = np.ones(len(first), bool)
    if drop_missing:
        for frame in (first, second):
            keep &= ~frame.replace([np.inf, -np.inf], np.nan).isna().any(axis=1).to_numpy()
        first, second = (frame[keep].infer_objects() for frame in (first, second))
    return first.reset_index(drop=True), second.reset_index(drop=True), keep


def same_index(name: str, values: Any, x: Any, other: str = "x") -> None:
    """Raise ValueError for two pandas objects whose indices differ; ``other``: what x is called."""
    labelled = all(isinstance(v, pd.DataFrame | pd.Series) for v in (x, values))
    if labelled and not x.index.equals(values.index):
        raise ValueError(
            f"{name}: its index differs from that of {other}; align them "
            f"({name}.loc[{other}.index]), or pass {name}.to_numpy() to pair the rows by position"
        )


def together(groups: ArrayLike, x: Any, n: int) -> NDArray:
    """The group of each of n samples of ``x`` as a number from 0 (n,).

    Raises ValueError for another shape, a missing value, or another index than that of ``x``.
    """
    same_index("groups", groups, x)
    names = np.asarray(groups)
    if names.shape != (n,):
        raise ValueError(f"groups: has shape {names.shape}; must be ({n},)")
    codes, _ = pd.factorize(names, sort=True)
    if (codes < 0).any():
        raise ValueError(f"groups: {(codes < 0).sum()} values are missing")
    return codes


def whole(name: str, value: Any, least: int | None = None) -> int:
    """``value`` as an int.  Raises ValueError if it is none, or less than ``least``."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: {value!r} is not allowed; must be an integer") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: {number} is not allowed; must be at least {least}")
    return number


def widths(name: str, value: Any) -> tuple[int, ...]:
    """Widths of layers as a tuple.  Raises ValueError unless it is a sequence of integers >= 1."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ValueError(f"{name}: {value!r} is not allowed; must be a sequence, such as (64, 64)")
    layers = tuple(whole(name, width, 1) for width in value)
    if not layers:
        raise ValueError(f"{name}: needs at least one layer")
    return layers
